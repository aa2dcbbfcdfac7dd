"""Is a piece a copy? The longest run that it shares with a training song, and which song that is.

An onset is a time at which notes begin; its chord is what begins then. A run of onsets is shared if
its chords are the same but for one interval by which all of them are moved, and the times between
its onsets are the same but for one factor: in whatever key and octave, at whatever tempo, in halved
or doubled note values. How long notes are held does not matter, nor who plays them. Percussion is
left out, where there is anything else.

Two views are compared:

    "notes"     all notes of each onset
    "melody"    the upper line: the highest note, at the onsets where no higher one is held

Two settings of one tune share a long run of the melody and shorter ones of the notes. What repeats
itself is no copy: of an ostinato or a repeated note, only the onsets that are distinct count.

The index of a corpus is a folder, memory-mapped:

    manifest.json     format version, fingerprint of the corpus, units of time, lengths
    songs.json        names of the training songs
    <view>_*.npy      the arrays of `View`

Each three onsets in a row become a symbol of 32 bits, a hash of the intervals of their notes and of
the ratio of the two times between them: L onsets are shared where L - 2 symbols are. The suffix
array of all songs' symbols finds the longest match from each onset of a piece by bisection. Symbols
that differ look the same once in 2^32, which may make a run of three, or one an onset longer.

Source: Manber and Myers 1993, "Suffix arrays: a new method for on-line string searches". Differs:
(1) ranks are doubled from pairs on, and only of suffixes that are not told apart yet (Larsson and
Sadakane 2007, "Faster suffix sorting"); (2) a table of the first symbols' upper bits replaces the
first steps of the bisection.

Axes: S symbol, P onset of a piece.
"""

import dataclasses
import itertools
import json
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from musicjax.corpus.store import Corpus
from musicjax.encodings.base import Encoding
from musicjax.errors import InputError
from musicjax.evaluation.metrics import Passage
from musicjax.music.song import Track
from musicjax.system import files, workers

FORMAT = 1
LEAST_ONSETS = 3  # of a run
ViewName = Literal["notes", "melody"]
VIEWS: tuple[ViewName, ...] = get_args(ViewName)
# Distinct onsets that songs share at most, if neither is made of the other: the longest runs of
# 43,000 pairs of Bach's chorales of different tunes are 11 and 14 in two voices, 9 and 11 in four.
MOST_BY_CHANCE: dict[ViewName, int] = {"notes": 12, "melody": 14}

_SONGS_PER_TASK = 1024  # of a worker
_SONGS_AT_ONCE = 128  # their notes stay in the cache
_OF_INTERVAL, _OF_STEP = np.random.default_rng(0).integers(1 << 64, size=(2, 256), dtype=np.uint64)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_SUFFIXES_PER_ENTRY = 16  # of the table
_TICK_BITS = 33


class View(NamedTuple):
    """All training songs' symbols, end to end; the last two of each song are 0, its border.

    Attributes:
        symbols: uint32 [S], one for each onset.
        onsets: int32 [S], in units of the corpus's encoding.
        starts: int64 [songs], each song's first symbol.
        suffixes: int [S without borders], where suffixes begin, in order of their symbols.
        table: int64 [2^k + 1], how many suffixes' first symbols have upper k bits below 0, 1, ...
    """

    symbols: np.ndarray
    onsets: np.ndarray
    starts: np.ndarray
    suffixes: np.ndarray
    table: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
    """The training songs of a corpus, to look for runs in.

    Attributes:
        fingerprint: of the corpus.
        units_per_quarter: of its encoding.
        songs: names.
        views: by name.
    """

    fingerprint: str
    units_per_quarter: int
    songs: list[str]
    views: dict[ViewName, View]


class Match(NamedTuple):
    """A run that a piece shares with a training song.

    Attributes:
        distinct: its onsets without those that repeat, together with the two before them, three
            that came earlier in the run; 0: no LEAST_ONSETS are shared.
        onsets: all of them.
        quarters: from the first onset to the last, as the piece has them.
        song: the first in the corpus that has the run.
        song_quarter: where it begins there, in the song as it was encoded.
        piece_quarter: where it begins in the piece.
    """

    distinct: int = 0
    onsets: int = 0
    quarters: float = 0.0
    song: str = ""
    song_quarter: float = 0.0
    piece_quarter: float = 0.0


class _Line(NamedTuple):
    """Symbols of some songs, as in View. counts: int [songs], onsets of each."""

    symbols: np.ndarray
    onsets: np.ndarray
    counts: np.ndarray


def build_index(
    corpus: Corpus, folder: str | Path, *, number_of_workers: int | None = None
) -> Index:
    """Writes the index of a corpus's training songs, whole or not at all.

    Args:
        corpus: of any encoding: its songs are decoded.
        folder: to write; some 25 bytes an onset. In memory it takes up to 150.
        number_of_workers: processes that decode; 0: this one; by default that, or, where there are
            many songs, one a core.
    Returns:
        the Index, opened.
    Raises:
        InputError: `folder` exists.
    """
    songs = corpus.split("train")
    tasks = [
        (
            corpus.encoding,
            [np.asarray(corpus.rows(song)) for song in songs[i : i + _SONGS_PER_TASK]],
        )
        for i in range(0, len(songs), _SONGS_PER_TASK)
    ]
    if number_of_workers is None:
        number_of_workers = workers.cores() if len(tasks) > workers.cores() else 0
    with files.new_folder(Path(folder)) as temporary:
        lines: list[list[dict[ViewName, _Line]]] = [[]] * len(tasks)
        for i, result in workers.run(_lines_of_rows, tasks, workers=number_of_workers):
            if isinstance(result, workers.Failure):
                first = songs[i * _SONGS_PER_TASK].name
                raise RuntimeError(f"{first} or a song after it {result.reason}: {result.detail}")
            lines[i] = result
        with ThreadPoolExecutor() as threads:  # numpy sorts without Python's lock
            together = [_lines([]), *itertools.chain.from_iterable(lines)]
            made = threads.map(lambda name: _view([line[name] for line in together]), VIEWS)
            views = dict(zip(VIEWS, made, strict=True))
        for name, view in views.items():
            for field, array in view._asdict().items():
                np.save(temporary / f"{name}_{field}.npy", array)
        files.write_text(temporary / "songs.json", json.dumps([song.name for song in songs]))
        manifest = {
            "format": FORMAT,
            "fingerprint": corpus.manifest["fingerprint"],
            "units_per_quarter": corpus.encoding.units_per_quarter,
            "lengths": {name: _lengths(view) for name, view in views.items()},
        }
        files.write_text(temporary / "manifest.json", json.dumps(manifest))
    return open_index(folder)


def open_index(folder: str | Path) -> Index:
    """Opens the index that `build_index` wrote; its arrays stay on disk.

    Raises:
        InputError: not an index, of another version, or damaged.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise InputError(
                f"{folder}: an index of format {manifest['format']}; this musicjax reads {FORMAT}: "
                "delete it"
            )
        songs = json.loads((folder / "songs.json").read_text(encoding="utf-8"))
        views: dict[ViewName, View] = {
            name: View(
                *(
                    np.asarray(np.load(folder / f"{name}_{field}.npy", mmap_mode="r"))
                    for field in View._fields
                )
            )
            for name in VIEWS
        }
        found = {name: _lengths(view) for name, view in views.items()}
        if found != manifest["lengths"] or len(songs) != len(views["notes"].starts):
            raise ValueError("its arrays are not as long as they were")
        return Index(manifest["fingerprint"], manifest["units_per_quarter"], songs, views)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise InputError(f"{folder}: not an index ({error}); delete it") from None


def index_of(corpus: Corpus, folder: str | Path) -> Index:
    """The index of a corpus's training songs in a folder: opened, or built if there is none of it.

    Raises:
        InputError: the corpus has no training songs; or the folder is not an index, of another
            version, or damaged.
    """
    folder = Path(folder)
    if not corpus.split("train"):
        raise InputError(
            f"{folder.parent}: no training song is in it, as in no folder of musicjax.export, so "
            "that copies cannot be found; leave --max_copy and --music out, or use the run's folder"
        )
    if folder.is_dir():
        index = open_index(folder)
        if index.fingerprint == corpus.manifest["fingerprint"]:
            return index
        shutil.rmtree(folder)
    try:
        return build_index(corpus, folder)
    except InputError:  # another process was first
        return open_index(folder)


def longest_match(index: Index, passage: Passage, view: ViewName = "notes") -> Match:
    """The run of most distinct onsets that a passage shares with a training song.

    Args:
        index: of the training songs.
        passage: music of any length; its notes should lie on the grid of the corpus's encoding.
        view: what is compared.
    """
    line, songs = _line_of(passage, view), index.views[view]
    lengths, low, high = _longest_prefixes(songs, line.symbols)
    first, distinct = _most_distinct(line.symbols, lengths)
    if not distinct:
        return Match()
    onsets = int(lengths[first]) + LEAST_ONSETS - 1
    place = int(songs.suffixes[low[first] : high[first]].min())
    song = int(np.searchsorted(songs.starts, place, side="right")) - 1
    begins, ends = line.onsets[[first, first + onsets - 1]].tolist()
    ticks_per_quarter = passage.song.ticks_per_quarter
    return Match(
        distinct + LEAST_ONSETS - 1,
        onsets,
        (ends - begins) / ticks_per_quarter,
        index.songs[song],
        int(songs.onsets[place]) / index.units_per_quarter,
        begins / ticks_per_quarter,
    )


def shared_ngrams(index: Index, passage: Passage, n: int, view: ViewName = "notes") -> float:
    """Share of a passage's runs of `n` onsets that some training song has; 0 if it has none.

    Args:
        index, passage, view: as in longest_match.
        n: at least LEAST_ONSETS.
    Raises:
        ValueError: n is less.
    """
    if n < LEAST_ONSETS:
        raise ValueError(f"n is {n}, expected at least {LEAST_ONSETS}")
    lengths, *_ = _longest_prefixes(index.views[view], _line_of(passage, view).symbols)
    ngrams = len(lengths) - n + 1
    return float((lengths[:ngrams] > n - LEAST_ONSETS).mean()) if ngrams > 0 else 0.0


def describe(match: Match) -> str:
    """A line about a match."""
    if not match.onsets:
        return "no three onsets as in a training song"
    return (
        f"{match.onsets} onsets ({match.distinct} distinct) in {match.quarters:g} quarters, from "
        f"quarter {match.piece_quarter:g}, are in {match.song} from quarter {match.song_quarter:g}"
    )


def _lengths(view: View) -> dict[str, int]:
    return {field: len(array) for field, array in view._asdict().items()}


# --- music -> symbols ---------------------------------------------------------------------------


def _lines_of_rows(encoding: Encoding, songs: Sequence[np.ndarray]) -> list[dict[ViewName, _Line]]:
    """Rows of a corpus's songs, in each view, some songs together."""
    decoded = [encoding.decode(encoding.all_elements(rows)) for rows in songs]
    return [_lines(decoded[i : i + _SONGS_AT_ONCE]) for i in range(0, len(songs), _SONGS_AT_ONCE)]


def _line_of(passage: Passage, view: ViewName) -> _Line:
    line = _lines([passage.song.tracks])[view]
    inside = int(np.searchsorted(line.onsets, passage.ticks))
    symbols = line.symbols[:inside].copy()
    symbols[-2:] = 0
    return line._replace(symbols=symbols)


def _lines(songs: Sequence[Sequence[Track]]) -> dict[ViewName, _Line]:
    """Songs, each its tracks, in each view."""
    songs = [[track for track in song if not track.is_drum] or song for song in songs]
    tracks = [track for song in songs for track in song]
    number = np.repeat(np.arange(len(songs)), [sum(map(len, song)) for song in songs])
    # A time is a song's number and the tick there: songs come one after the other, far apart.
    onset = (number << _TICK_BITS) + _joined(track.onset_ticks for track in tracks)
    end = onset + _joined(track.duration_ticks for track in tracks)
    pitch = _joined(track.pitch for track in tracks)
    order = np.argsort(onset << 7 | pitch)
    onset, end, pitch = onset[order], end[order], pitch[order]
    first = np.flatnonzero(np.diff(onset, prepend=-1))
    times = onset[first]
    sizes = np.diff(np.append(first, len(onset)))
    chord = np.repeat(np.arange(len(first)), sizes)
    top = pitch[first + sizes - 1]
    doubled = (np.diff(chord, prepend=-1) == 0) & (np.diff(pitch, prepend=-1) == 0)
    intervals = np.where(doubled, np.uint64(0), _OF_INTERVAL[top[chord] - pitch])
    shapes = np.add.reduceat(intervals, first) if len(first) else intervals
    upper = top >= _highest_sounding(chord, np.searchsorted(times, end), pitch, len(times))
    return {
        "notes": _line(times, top, shapes, len(songs)),
        "melody": _line(times[upper], top[upper], np.zeros_like(shapes[upper]), len(songs)),
    }


def _joined(arrays: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *arrays])


def _highest_sounding(
    first: np.ndarray, stop: np.ndarray, pitch: np.ndarray, times: int
) -> np.ndarray:
    """int64 [times]: the highest of the notes that sound, each from its time `first` to `stop`.

    A note's times are two stretches of 2^k, which may overlap; what holds for a stretch is handed
    down to its halves.
    """
    power = np.frexp(stop - first)[1] - 1
    highest = np.zeros(times, np.int64)
    for k in range(int(power.max(initial=0)), -1, -1):
        length = 1 << k
        highest[length:] = np.maximum(highest[length:], highest[:-length])
        notes = np.flatnonzero(power == k)
        np.maximum.at(highest, first[notes], pitch[notes])
        np.maximum.at(highest, stop[notes] - length, pitch[notes])
    return highest


def _line(times: np.ndarray, top: np.ndarray, shapes: np.ndarray, songs: int) -> _Line:
    """Symbols of onsets.

    Args:
        times: int64 [S], as in `_lines`.
        top: int64 [S], highest pitches.
        shapes: uint64 [S], the same for the same intervals below it.
        songs: how many.
    """
    number = times >> _TICK_BITS
    symbols = np.zeros(len(times), np.uint32)
    if len(times) >= LEAST_ONSETS:
        between = np.diff(times)
        # Equal ratios are equal floats: a quotient is the nearest float to what it should be.
        code = (between[1:] / between[:-1]).view(np.uint64)
        step = _OF_STEP[np.diff(top) + 127]
        for part in (shapes[:-2], shapes[1:-1], shapes[2:], step[:-1], step[1:]):
            code = (code ^ part) * _MULTIPLIER
            code ^= code >> np.uint64(32)
        inside = number[2:] == number[:-2]
        symbols[:-2] = np.where(inside, np.maximum(code.astype(np.uint32), 1), 0)
    ticks = (times & ((1 << _TICK_BITS) - 1)).astype(np.int32)
    return _Line(symbols, ticks, np.bincount(number, minlength=songs))


# --- symbols -> index -> matches ----------------------------------------------------------------


def _view(lines: Sequence[_Line]) -> View:
    """All songs in one view."""
    symbols, onsets, counts = map(np.concatenate, zip(*lines, strict=True))
    suffixes = suffix_array(symbols)
    starts = np.cumsum(counts) - counts
    return View(symbols, onsets, starts, suffixes, _table(symbols[suffixes]))


def suffix_array(symbols: np.ndarray) -> np.ndarray:
    """Where the suffixes of songs begin, in the order of their symbols.

    Args:
        symbols: uint32 [S], as in View: two borders of 0 end what is not 0.
    Returns:
        int [S without borders]: indices of symbols; int32 where they fit.
    """
    following = np.append(symbols[1:], np.zeros(1, np.uint32))[: len(symbols)]
    key = symbols.astype(np.uint64) << np.uint64(32) | following
    order = np.argsort(key)
    key = key[order]
    first = np.append(True, key[1:] != key[:-1])[: len(symbols)]
    borders = int((symbols == 0).sum())
    first[: borders + 1] = True  # no border equals another, so that no match goes beyond one
    slots = np.arange(len(symbols), dtype=np.uint32)
    # The rank of a suffix is the first slot of those that are not told apart from it yet.
    rank = np.empty(len(symbols), np.uint32)
    rank[order] = np.maximum.accumulate(np.where(first, slots, 0))
    slots = slots[~(first & np.append(first[1:], True))]
    depth = 2
    while len(slots):
        places = order[slots]
        key = rank[places].astype(np.uint64) << np.uint64(32) | rank[places + depth]
        by_key = np.argsort(key)
        places, key = places[by_key], key[by_key]
        order[slots] = places
        first = np.append(True, key[1:] != key[:-1])
        rank[places] = np.maximum.accumulate(np.where(first, slots, 0))
        slots = slots[~(first & np.append(first[1:], True))]
        depth *= 2
    narrow = np.int32 if len(symbols) < 1 << 31 else np.int64
    return order[borders:].astype(narrow)


def _table(symbols: np.ndarray) -> np.ndarray:
    """See View, of the suffixes' first symbols."""
    bits = max(len(symbols) // _SUFFIXES_PER_ENTRY, 2).bit_length() - 1
    counts = np.bincount(symbols >> np.uint32(32 - bits), minlength=1 << bits)
    return np.append(0, np.cumsum(counts))


def _longest_prefixes(view: View, symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How far a piece goes on like some song, from each of its onsets.

    Args:
        view: of the songs.
        symbols: uint32 [P], of the piece.
    Returns:
        lengths, low, high: int64 [P]; suffixes[low:high] begin with the same `lengths` symbols.
    """
    lengths, low, high = np.zeros((3, len(symbols)), np.int64)
    active = np.flatnonzero(symbols)
    entry = symbols[active] >> np.uint32(33 - len(view.table).bit_length())
    low[active], high[active] = view.table[entry], view.table[entry + 1]
    depth = 0
    while len(active):
        symbol = symbols[active + depth].astype(np.int64)
        begin = _bisect(view, low[active], high[active], depth, symbol)
        stop = _bisect(view, begin, high[active], depth, symbol + 1)
        found = begin < stop
        active = active[found]
        low[active], high[active] = begin[found], stop[found]
        depth += 1
        lengths[active] = depth
        active = active[symbols[active + depth] > 0]  # a piece ends with a border too
    return lengths, low, high


def _most_distinct(symbols: np.ndarray, lengths: np.ndarray) -> tuple[int, int]:
    """Where the match of most distinct symbols begins, and how many they are; 0 of no match.

    Args:
        symbols: uint32 [P], of a piece.
        lengths: int64 [P], of the longest match from each.
    """
    order = np.argsort(symbols, kind="stable")
    again = symbols[order[1:]] == symbols[order[:-1]]
    earlier = np.full(len(symbols), -1)  # where each symbol came last before
    earlier[order[1:][again]] = order[:-1][again]
    # A match that goes on from one that began earlier has no more symbols than that.
    starts = np.flatnonzero(lengths > np.append(1, lengths)[:-1] - 1)
    first, most = 0, 0
    for start in starts[np.argsort(-lengths[starts], kind="stable")].tolist():
        if lengths[start] <= most:
            break
        distinct = int((earlier[start : start + lengths[start]] < start).sum())
        if distinct > most:
            first, most = start, distinct
    return first, most


def _bisect(
    view: View, low: np.ndarray, high: np.ndarray, depth: int, symbol: np.ndarray
) -> np.ndarray:
    """int64 [P]: the first slots of low..high whose suffix's symbol at `depth` is not below
    `symbol`; high, if there is none. Suffixes between low and high are alike up to `depth`.
    """
    low, high = low.copy(), high.copy()
    searching = np.flatnonzero(low < high)
    while len(searching):
        middle = (low[searching] + high[searching]) // 2
        below = view.symbols[view.suffixes[middle] + depth] < symbol[searching]
        low[searching[below]] = middle[below] + 1
        high[searching[~below]] = middle[~below]
        searching = searching[low[searching] < high[searching]]
    return low
