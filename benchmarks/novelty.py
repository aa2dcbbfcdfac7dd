"""How long does it take to find out whether a piece is a copy, and what do songs share by chance?

    python -m benchmarks.novelty [--source=chorales] [--elements=30000000]

What bounds it. An index is built of decoded songs. Tokens are decoded by arrays, song by song: 0.1
to 0.5 microseconds an element where songs have hundreds, two where they have 67, for each song
costs a hundred; processes share that, as many as there are cores. To hash the onsets takes 0.1 to
0.4, as does sorting the suffixes of each view, or 0.7 without AVX-512, most of it argsort of 64-bit
keys and looking up ranks. A piece is looked up by bisection: each of its onsets takes some five
steps behind the table, twice, and one or two for each further onset that is shared. What is not in
memory comes from the disk, a few pages of 4 KiB for each onset.

The corpus is the source's songs, encoded as tokens, again and again until there are so many
elements; in each copy but the first one element in 10 is another. Its songs have far more in common
than songs have, which makes sorting and bisection longer. Pieces are made of songs: transposed, in
other note values, one element in 4 another; each is looked up from the disk, where the system lets
its cache be dropped, and again from memory.

Peers, in the same run: sorted hashes of eight symbols, a table of n-grams, which says that eight
are shared, and neither how many are nor where they end; and one reading of all symbols, without an
index. Parts are timed by this process's own time, so that other work on the machine does not count.

The yardstick: the source's held-out songs against its training songs, in both encodings. The last
line is JSON.
"""

import argparse
import dataclasses
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from configs import nsm, vocab
from musicjax.corpus.build import open_corpus
from musicjax.corpus.store import Corpus
from musicjax.evaluation import novelty
from musicjax.evaluation.metrics import Passage
from musicjax.evaluation.novelty import MOST_BY_CHANCE, VIEWS
from musicjax.music.song import Song

PIECES = 20
NGRAM = 8  # symbols


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what it returns."""
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def altered(corpus: Corpus, rows: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Rows, of which a share is others of the corpus."""
    changed = np.flatnonzero(rng.random(len(rows)) < share)
    rows = np.array(rows)
    rows[changed] = corpus.data[rng.integers(len(corpus.data), size=len(changed))]
    return rows


def enlarged(corpus: Corpus, elements: int) -> Corpus:
    """A corpus of so many elements, all of them for training."""
    rng = np.random.default_rng(0)
    songs, parts, offset, copy = [], [], 0, 0
    while offset < elements:
        for song in corpus.songs:
            rows = altered(corpus, corpus.rows(song), 0.1 if copy else 0.0, rng)
            name = f"{copy}/{song.name}"
            songs.append(dataclasses.replace(song, name=name, split="train", offset=offset))
            parts.append(rows)
            offset += len(rows)
            if offset >= elements:
                break
        copy += 1
    return dataclasses.replace(corpus, songs=songs, data=np.concatenate(parts))


def passage_of(corpus: Corpus, rows: np.ndarray, semitones: int = 0, slower: int = 1) -> Passage:
    """What elements sound like, moved and in longer note values."""
    encoding = corpus.encoding
    tracks = [
        dataclasses.replace(
            track,
            onset_ticks=track.onset_ticks * slower,
            duration_ticks=track.duration_ticks * slower,
        )
        for track in encoding.decode(encoding.all_elements(np.asarray(rows)))
    ]
    song = Song(tuple(tracks), encoding.units_per_quarter)
    return Passage.of_song(song.transposed(semitones))


def drop_cache(folder: Path) -> bool:
    """Makes the next reading of a folder's files come from the disk, if the system can."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def processor(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of this process's threads, and what it returns."""
    started = time.process_time()
    result = call()
    return time.process_time() - started, result


def building(corpus: Corpus, folder: Path) -> dict:
    """The index of a corpus: its time, whole and in parts, and its size, beside the peers."""
    seconds, index = timed(lambda: novelty.build_index(corpus, folder))
    size = sum(path.stat().st_size for path in folder.iterdir())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    symbols = index.views["notes"].symbols
    elements, onsets = len(corpus.data), len(symbols)
    tenth = dataclasses.replace(corpus, songs=corpus.songs[: len(corpus.songs) // 10])
    some = sum(song.length for song in tenth.songs)
    rows, encoding = [corpus.rows(song) for song in tenth.songs], corpus.encoding
    decoding, _ = processor(lambda: [encoding.decode(encoding.all_elements(r)) for r in rows])
    alone, _ = processor(
        lambda: novelty.build_index(tenth, folder.with_name("tenth"), number_of_workers=0)
    )
    suffixes, _ = processor(lambda: novelty.suffix_array(symbols))
    ngrams, (hashes, _) = processor(lambda: ngram_table(symbols))
    grams = hashes[:: max(len(hashes) // 400, 1)]
    looked_up, _ = timed(lambda: np.searchsorted(hashes, grams))
    read, _ = timed(lambda: np.isin(symbols, symbols[:400]))
    print(
        f"{len(corpus.songs)} songs, {elements} elements, {onsets} onsets: indexed in "
        f"{seconds:.1f} s, {elements / seconds / 1e6:.2f} million elements/s by the clock; "
        f"{size / onsets:.0f} bytes an onset on disk, at most {peak:.0f} MiB in memory\n"
        f"million a second of one processor's time: a tenth of it indexed {some / alone / 1e6:.2f} "
        f"elements; decoding {some / decoding / 1e6:.2f} elements; the suffixes of a view "
        f"{onsets / suffixes / 1e6:.2f} onsets; sorted hashes of {NGRAM} symbols "
        f"{onsets / ngrams / 1e6:.2f} onsets\n"
        f"peers for a piece: sorted hashes {1e3 * looked_up:.2f} ms, reading all symbols "
        f"{1e3 * read:.0f} ms"
    )
    return {
        "songs": len(corpus.songs),
        "elements": elements,
        "onsets": onsets,
        "seconds": round(seconds, 2),
        "elements_per_second": round(elements / seconds),
        "bytes_per_onset": round(size / onsets, 1),
        "peak_mib": round(peak),
        "elements_per_processor_second": round(some / alone),
        "decoded_per_processor_second": round(some / decoding),
        "suffixes_per_processor_second": round(onsets / suffixes),
        "ngrams_per_processor_second": round(onsets / ngrams),
        "ngrams_lookup_ms": round(1e3 * looked_up, 3),
        "read_ms": round(1e3 * read, 1),
    }


def ngram_table(symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted hashes of NGRAM symbols, and where they begin."""
    hashes = np.zeros(len(symbols) - NGRAM, np.uint64)
    for i in range(NGRAM):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + symbols[i : i + len(hashes)]
    order = np.argsort(hashes)
    return hashes[order], order


def looking_up(source: Corpus, folder: Path) -> dict:
    """Pieces against the index, the first time and the second."""
    rng = np.random.default_rng(1)
    long = [song for song in source.songs if song.length >= 40]
    cold: dict[str, list[float]] = {view: [] for view in VIEWS}
    warm: dict[str, list[float]] = {view: [] for view in VIEWS}
    opened, dropped, longest = [], True, []
    for i in rng.integers(len(long), size=PIECES).tolist():
        rows = altered(source, source.rows(long[i]), 0.25, rng)
        piece = passage_of(source, rows, semitones=3, slower=2)
        for view in VIEWS:
            dropped = drop_cache(folder) and dropped
            seconds, index = timed(lambda: novelty.open_index(folder))
            opened.append(seconds)
            for several in (cold[view], warm[view]):
                seconds, match = timed(
                    lambda index=index, piece=piece, view=view: novelty.longest_match(
                        index, piece, view
                    )
                )
                several.append(seconds)
            longest.append(match.distinct)
    whole = passage_of(source, source.rows(max(source.songs, key=lambda song: song.length)))
    index = novelty.open_index(folder)
    copied, match = timed(lambda: novelty.longest_match(index, whole))
    first = "from disk" if dropped else "first"
    for view in VIEWS:
        print(
            f"a piece, {view:7}{first} {1e3 * statistics.median(cold[view]):6.1f} ms (at most "
            f"{1e3 * max(cold[view]):.1f}), again {1e3 * statistics.median(warm[view]):5.1f} "
            f"(at most {1e3 * max(warm[view]):.1f})"
        )
    print(
        f"opening takes {1e3 * statistics.median(opened):.0f} ms; of the pieces "
        f"{min(longest)} to {max(longest)} distinct onsets are found; a song of {match.onsets} "
        f"onsets that is there is found in {1e3 * copied:.0f} ms"
    )
    return {
        "open_ms": round(1e3 * statistics.median(opened), 1),
        "cache_dropped": dropped,
        "first_ms": {view: [round(1e3 * s, 1) for s in cold[view]] for view in VIEWS},
        "again_ms": {view: [round(1e3 * s, 1) for s in warm[view]] for view in VIEWS},
        "whole_copy_ms": round(1e3 * copied, 1),
    }


def yardstick(name: str, corpus: Corpus, folder: Path) -> dict:
    """What held-out songs share with training songs."""
    index = novelty.build_index(corpus, folder)
    held_out = corpus.split("validation") + corpus.split("test")
    pieces = [passage_of(corpus, corpus.rows(song)) for song in held_out]
    result = {}
    for view in VIEWS:
        matches = [novelty.longest_match(index, piece, view) for piece in pieces]
        distinct = np.array([match.distinct for match in matches])
        alarms = float((distinct > MOST_BY_CHANCE[view]).mean())
        shares = {
            n: float(np.mean([novelty.shared_ngrams(index, piece, n, view) for piece in pieces]))
            for n in (4, 8, 16)
        }
        ninth = float(np.quantile(distinct, 0.9))
        print(
            f"{name}, {len(pieces)} held-out songs, {view:7}distinct onsets: median "
            f"{np.median(distinct):.0f}, 90 % up to {ninth:.0f}, most {distinct.max()}; "
            f"over {MOST_BY_CHANCE[view]}: {alarms:.0%}; shared n-grams "
            + ", ".join(f"{n}: {share:.3f}" for n, share in shares.items())
        )
        most = int(distinct.argmax())
        print(f"    {held_out[most].name}: {novelty.describe(matches[most])}")
        result[view] = {
            "median": float(np.median(distinct)),
            "ninetieth": ninth,
            "most": int(distinct.max()),
            "alarms": round(alarms, 4),
            "shared_ngrams": {n: round(share, 4) for n, share in shares.items()},
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", default="chorales", help="as --config.data.source")
    parser.add_argument("--elements", type=int, default=30_000_000, help="of the large index")
    arguments = parser.parse_args()
    corpora = {}
    for name, config in (("tokens", vocab.get_config()), ("note states", nsm.get_config())):
        config.data.update(
            {"source": arguments.source, "songs": 0, "validation_share": 0.1, "test_share": 0.1}
        )
        corpora[name] = open_corpus(config.data)
    result: dict = {"benchmark": "novelty", **machine.facts(("numpy",)), "yardstick": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, corpus in corpora.items():
            result["yardstick"][name] = yardstick(name, corpus, Path(folder, name))
        large = Path(folder, "large")
        result["index"] = building(enlarged(corpora["tokens"], arguments.elements), large)
        result["piece"] = looking_up(corpora["tokens"], large)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
