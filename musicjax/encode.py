r"""Encodes songs as a corpus folder, and says what was left out and why.

    python -m musicjax.encode --config=configs/vocab.py --output=corpora/mine --report \
        --config.data.source=/my/midi --config.data.track=piano

Files are encoded in shards of a few, by worker processes; what comes out does not depend on how
many there are. Stopped at any moment, the same command goes on from the shards that were done. When
all are there, copies are left out, songs held out, tokens numbered, and the corpus folder written.

Training does this by itself and keeps the result in the user's cache folder; it is used again only
while every setting of `config.data` and every source file is the same.
"""

import contextlib
import hashlib
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from musicjax import cleaning, cli, corpora, corpus, part, shards, workers
from musicjax.cleaning import with_track
from musicjax.config import check_config
from musicjax.corpora import SongFile, piano_rolls, slakh
from musicjax.corpora.table import read_table
from musicjax.corpus import Corpus
from musicjax.errors import InputError
from musicjax.shards import Shard
from musicjax.vocabulary import Vocabulary, parse_token

ENCODER = 6  # raise it when the same file and settings would give other data
_FILES_PER_SHARD = 32
# Of a song in a shard, but not in the corpus: they are summed up in the manifest.
_SUMMED = ("note_units", "clipped_units", "rests_cut", "repeats", "notes", "outside", "transitions")


def encode_corpus(data, output: str | Path, *, number_of_workers: int | None = None) -> Corpus:
    """Reads, cleans, transposes and encodes the songs of a source, and writes the corpus folder.

    Args:
        data: `config.data`; its fields are explained in the configs.
        output: folder to write. What is done of it lies in `.<name>.partial` beside it until then.
        number_of_workers: processes; by default one a core; 0: none, all in this one, where a
            file cannot be given up for its time.
    Returns:
        the Corpus, its data on disk.
    Raises:
        InputError: no source, no MIDI file, or no song left; piano rolls or a table that do not
            fit; `output` exists.
    """
    data = with_track(data)
    files, output = _files(data), Path(output)
    now = fingerprint(data, files)
    if number_of_workers is None:
        number_of_workers = workers.cores()
    partial = output.parent / f".{output.name}.partial"
    with _lock(partial, output):
        corpus.expect_new(output)
        _drop_shards(partial, now)
        paths = _write_shards(data, files, partial, number_of_workers)
        with corpus.new_folder(output) as temporary:
            try:
                manifest, songs, vocabulary, skipped = _assemble(data, files, paths, now, temporary)
            except InputError:  # no song is left: nothing to go on with
                shutil.rmtree(partial, ignore_errors=True)
                raise
        # One that waits may make the lock anew meanwhile, and leave the folder to nobody.
        shutil.rmtree(partial, ignore_errors=True)
    stored = np.load(output / "data.npy", mmap_mode="r")
    return Corpus(manifest, songs, stored, vocabulary, skipped)


@contextlib.contextmanager
def _lock(partial: Path, output: Path) -> Iterator[None]:
    """Two processes that train on the same songs encode them once: the other waits here.

    Raises:
        InputError: `output` is there now.
    """
    import filelock

    lock = filelock.FileLock(partial / "lock")
    while not lock.is_locked:
        corpus.expect_new(output)
        partial.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # it was done, and has removed the folder
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_rolls(data) -> bool:
    return data.source.endswith(".npz")


def _files(data) -> list[SongFile]:
    """The source's files, with what its index says of them.

    Raises:
        InputError: there is none; or piano rolls are to become tokens.
    """
    cleaning.table_of(data)  # an error in it is told now, not by each worker
    if _is_rolls(data):
        if data.encoding != "note_state":
            raise InputError(
                f"data.source is {data.source!r}: piano rolls have no tokens; train on them with "
                "configs/polyphonic.py"
            )
        return [piano_rolls.song_file(data.source)]
    if (Path(data.source).expanduser() / "manifest.json").is_file():
        raise InputError(f"data.source is {data.source!r}, a corpus folder: train on it as it is")
    files = corpora.find_songs(data.source)
    if data.split_by != "index":
        return files
    index = read_table(Path(data.source).expanduser() / "index.tsv")
    splits = {file.name: (index.find(file) or {}).get("split") for file in files}
    if not any(splits.values()):
        raise InputError(
            f"{data.source}/index.tsv gives none of the {len(files)} files a split; expected their "
            "names without suffix as id, each with train, validation or test"
        )
    refused = ("not_in_index", "index.tsv gives it no split")
    return [
        file.with_metadata(**({"split": split} if split else {"refused": refused}))
        for file, split in zip(files, splits.values(), strict=True)
    ]


def _drop_shards(partial: Path, now: str) -> None:
    """Deletes shards of other settings or files than those of the fingerprint `now`."""
    stamp = partial / "fingerprint"
    if not stamp.is_file() or stamp.read_text() != now:
        for path in partial.glob("*.npz"):
            path.unlink()
    stamp.write_text(now)


def _write_shards(data, files: list[SongFile], partial: Path, number_of_workers: int) -> list[Path]:
    """Encodes all files in shards, but those that an earlier run did; gives the shards' paths."""
    from tqdm import tqdm

    if _is_rolls(data):
        path = partial / "0.npz"
        shards.write_rolls(path, data)
        return [path]
    groups = [files[i : i + _FILES_PER_SHARD] for i in range(0, len(files), _FILES_PER_SHARD)]
    paths = [partial / f"{number}.npz" for number in range(len(groups))]
    missing = [number for number, path in enumerate(paths) if not path.is_file()]
    tasks = [(paths[number], groups[number], data, {}) for number in missing]
    done = set(range(len(groups))).difference(missing)
    with tqdm(
        total=len(files),
        initial=sum(len(groups[number]) for number in done),
        desc=f"encoding {data.source}",
        unit="file",
        delay=1,
    ) as bar:
        skipped = sum("reason" in row for number in done for row in shards.load_rows(paths[number]))
        failed = []
        for i, result in workers.run(
            shards.write_shard, tasks, workers=number_of_workers, seconds=data.seconds_per_file
        ):
            if isinstance(result, workers.Failure):
                failed.append(missing[i])
                continue
            skipped += result
            bar.set_postfix(skipped=skipped, refresh=False)
            bar.update(len(groups[missing[i]]))
        for number in failed:
            given_up = _give_up(groups[number], data, number_of_workers)
            task = (paths[number], groups[number], data, given_up)
            for _, result in workers.run(shards.write_shard, [task], workers=number_of_workers):
                if isinstance(result, workers.Failure):
                    raise RuntimeError(f"{paths[number]}: {result.reason}: {result.detail}")
            bar.update(len(groups[number]))
    return paths


def _give_up(files: list[SongFile], data, number_of_workers: int) -> dict[str, list[str]]:
    """Tries each of a shard's files alone; reason and detail of those that crash or hang."""
    tasks = [(file, data) for file in files]
    results = workers.run(
        shards.encode_file, tasks, workers=number_of_workers, seconds=data.seconds_per_file
    )
    return {files[i].name: list(r) for i, r in results if isinstance(r, workers.Failure)}


def _assemble(data, files: list[SongFile], paths: list[Path], now: str, folder: Path):
    """Writes the files of a corpus folder from all shards.

    Returns:
        what a Corpus has besides its data: manifest, songs, vocabulary, skipped.
    """
    songs, skipped = [], []
    for number, path in enumerate(paths):
        start = 0
        for row in shards.load_rows(path):
            if "reason" in row:
                skipped.append(row)
            else:
                songs.append(row | {"shard": number, "start": start})
                start += row["length"]
    if not _is_rolls(data):
        songs = _without_copies(songs, data, skipped)
    if not songs:
        raise InputError(_nothing_left(data, files, skipped))
    songs = _assign_splits(songs, data, skipped)
    offset = 0
    for song in songs:
        song["offset"] = offset
        offset += song["length"]
    vocabulary, final = None, {}
    if data.encoding == "vocabulary":
        vocabulary, final = _vocabulary(_in_shards(songs, paths))
        vocabulary.save(folder / "vocabulary.json")
    manifest = {
        "format": corpus.FORMAT,
        "length": offset,
        "encoding": data.encoding,
        "encoder": ENCODER,
        "settings": data.to_dict(),
        "fingerprint": now,
        "program": part.PROGRAM_OF_PART.get(data.track, 0),
        "is_drum": data.track == "drums",
        **_summary(songs, skipped, vocabulary),
    }
    manifest["counts"] |= {"files": len(files), "songs": len(songs), "skipped": len(skipped)}
    with (folder / "data.npy").open("wb") as file:
        for shard, used in _in_shards(songs, paths):
            encoded = shard.data
            if not file.tell():
                header = np.lib.format.header_data_from_array_1_0(encoded)
                header["shape"] = (offset, *encoded.shape[1:])
                np.lib.format.write_array_header_1_0(file, header)
            if vocabulary:
                # Tokens of songs left out have no number, nor a place to go.
                encoded = np.array([final.get(text, 0) for text in shard.tokens], np.int32)[encoded]
            for song in used:
                begin = song.pop("start")
                file.write(encoded[begin : begin + song["length"]].tobytes())
    for song in songs:
        for name in ("shard", "same", *_SUMMED):
            song.pop(name, None)
    corpus.write_rows(folder, manifest, songs, skipped)
    return manifest, songs, vocabulary, skipped


def _in_shards(songs: list[dict], paths: list[Path]) -> Iterator[tuple[Shard, list[dict]]]:
    """Each shard that songs are used of, and those songs; one at a time is in memory."""
    for number, used in itertools.groupby(songs, key=lambda song: song["shard"]):
        yield Shard.load(paths[number]), list(used)


def _without_copies(songs: list[dict], data, skipped: list[dict]) -> list[dict]:
    """The songs but copies and further versions of a title, which go to `skipped`.

    The first in the order of names stays.
    """
    rules = []
    if not data.copies:
        rules.append(("copy", 1, lambda song: song["md5"]))
    if not data.same_notes:
        rules.append(("same_notes", 1, lambda song: song["same"]))
    if data.versions:

        def work(song: dict) -> tuple[str, str] | None:
            artist, title = (str(song.get(name, "")).casefold() for name in ("artist", "title"))
            return (artist, title) if title else None

        rules.append(("version", data.versions, work))
    for reason, most, what in rules:
        kept, seen = [], {}
        for song in songs:
            same = what(song)
            if same is not None:
                before = seen.setdefault(same, [])
                if len(before) >= most:
                    detail = f"of {before[0]}"
                    skipped.append({"name": song["name"], "reason": reason, "detail": detail})
                    continue
                before.append(song["name"])
            kept.append(song)
        songs = kept
    return songs


def _summary(songs: list[dict], skipped: list[dict], vocabulary: Vocabulary | None) -> dict:
    """What the manifest tells of the songs and of those left out."""

    def total(name: str) -> int:
        return sum(song.get(name, 0) for song in songs)

    training = [song for song in songs if song["split"] == "train"]
    summary = {
        "skipped": dict(Counter(row["reason"] for row in skipped).most_common()),
        "rules": dict(Counter(s["track"] for s in songs if "track" in s).most_common()),
        "repairs": dict(Counter(r for s in songs for r in s.get("repairs", ())).most_common()),
    }
    if vocabulary:
        following = sum(song["length"] - 1 for song in training)
        return summary | {
            "counts": {
                "tokens": total("length"),
                "types": len(vocabulary.tokens) - 1,
                "types_in_training": vocabulary.size - 1,
                "rests_cut": total("rests_cut"),
            },
            "clipped_share": total("clipped_units") / max(total("note_units"), 1),
            # How many of the training songs' tokens are the same as the one before.
            "repeat_share": sum(song["repeats"] for song in training) / max(following, 1),
        }
    return summary | {
        "counts": {
            "steps": total("length"),
            "notes": total("notes"),
            "outside": total("outside"),
            "bars_cut": total("bars_cut"),
        },
        "transitions": np.sum([song["transitions"] for song in training], axis=0).tolist(),
    }


def _vocabulary(
    in_shards: Iterator[tuple[Shard, list[dict]]],
) -> tuple[Vocabulary, dict[str, int]]:
    """The vocabulary of all songs, counted in the training songs, and each token's number."""
    counts: Counter[str] = Counter()  # 0: only in other songs
    for shard, used in in_shards:
        heard = np.zeros(len(shard.tokens), np.int64)
        trained = np.zeros_like(heard)
        for song in used:
            encoded = shard.data[song["start"] : song["start"] + song["length"]]
            occurrences = np.bincount(encoded, minlength=len(heard))
            heard += occurrences
            if song["split"] == "train":
                trained += occurrences
        counts.update({shard.tokens[i]: int(trained[i]) for i in np.flatnonzero(heard)})
    texts = list(counts)
    tokens = list(map(parse_token, texts))
    known = {token: n for token, n in zip(tokens, counts.values(), strict=True) if n}
    vocabulary = Vocabulary.build(known, tokens)
    return vocabulary, dict(zip(texts, vocabulary.encode(tokens).tolist(), strict=True))


def _nothing_left(data, files: list[SongFile], skipped: list[dict]) -> str:
    reasons = Counter(row["reason"] for row in skipped).most_common()
    told = ", ".join(f"{reason}: {n}" for reason, n in reasons)
    line = f"data.source is {data.source!r}: none of its {len(files)} files gave a song ({told})"
    names = Counter(
        name
        for row in skipped
        if row["reason"] == "no_track"
        for name in row["detail"].removeprefix("has ").split(", ")
    )
    if names:
        seen = ", ".join(f"{name!r} in {n}" for name, n in names.most_common(8))
        line += f"; data.track is {data.track!r}, the tracks are named {seen}"
    return line


def _assign_splits(songs: list[dict], data, skipped: list[dict]) -> list[dict]:
    """Sets each song's split by the hash of its content, where its source has not.

    So adding files moves none, and copies stay together. If that leaves a split empty, as it may
    in a corpus of a few songs, the training songs nearest to it by hash are moved there. With
    `data.songs` the songs are ranked by their hash instead: the splits get their shares exactly,
    and what is over goes to `skipped`. Where the source names the splits, only validation songs
    are taken from the training songs, and only if it names none.

    Returns:
        the songs used.
    """
    position = {song["content"]: int(song["content"][:12], 16) / 16**12 for song in songs}
    if data.songs:
        ranked = sorted(position, key=position.__getitem__)
        used = min(len(ranked), data.songs)
        position = {content: rank / used for rank, content in enumerate(ranked)}
        detail = f"more than data.songs={data.songs}"
        skipped += [
            {"name": song["name"], "reason": "spare", "detail": detail}
            for song in songs
            if position[song["content"]] >= 1
        ]
        songs = [song for song in songs if position[song["content"]] < 1]
    named = {song["split"] for song in songs} - {None}
    shares = {"test": 0.0 if named else data.test_share, "validation": data.validation_share}
    if "validation" in named:
        shares["validation"] = 0.0
    movable = [song for song in songs if song["split"] in (None, "train")]
    for song in movable:
        u = position[song["content"]]
        if u < shares["test"]:
            song["split"] = "test"
        elif u < shares["test"] + shares["validation"]:
            song["split"] = "validation"
        else:
            song["split"] = "train"
    for split, share in shares.items():
        training = [song for song in movable if song["split"] == "train"]
        empty = not any(song["split"] == split for song in songs)
        if share > 0 and empty and len({song["content"] for song in training}) > 1:
            nearest = min(training, key=lambda song: position[song["content"]])["content"]
            for song in training:
                if song["content"] == nearest:
                    song["split"] = split
    return songs


def fingerprint(data, files: Iterable[SongFile]) -> str:
    """Hex digest of all that decides a corpus: encoder, settings, and each file's name, size, time
    of change, and split if its source gives one; of a Slakh track, its stems' too.
    """

    def state(path: Path) -> tuple[int, int]:
        try:
            stat = path.stat()
        except OSError:  # a broken link, say: encoding will tell
            return -1, -1
        return stat.st_size, stat.st_mtime_ns

    digest = hashlib.sha256()
    settings = json.dumps(data.to_dict(), sort_keys=True)
    table = state(Path(data.table).expanduser()) if data.table else None
    digest.update(repr((corpus.FORMAT, ENCODER, settings, table)).encode())
    for file in files:
        states = [state(file.path), *(state(path) for path in slakh.stem_paths(file))]
        digest.update(repr((file.name, states, file.metadata)).encode())
    return digest.hexdigest()


def open_corpus(data, cache: str | Path | None = None) -> Corpus:
    """The corpus of `config.data`: a corpus folder as it is, any other source encoded, or cached.

    Args:
        data: `config.data`.
        cache: folder of encoded corpora; the user's cache folder by default.
    Raises:
        InputError: as encode_corpus; or a corpus folder that cannot be read.
    """
    import platformdirs

    data = with_track(data)
    source = Path(data.source).expanduser()
    if (source / "manifest.json").is_file():
        return Corpus.load(source)
    root = Path(cache) if cache else platformdirs.user_cache_path("musicjax") / "corpora"
    path = root / fingerprint(data, _files(data))[:24]
    if path.is_dir():
        return Corpus.load(path)
    try:
        encoded = encode_corpus(data, path)
    except InputError:
        if not path.is_dir():
            raise
        return Corpus.load(path)  # another process was first
    print(describe(encoded))
    return encoded


def describe(encoded: Corpus) -> str:
    """Lines for people: what came in, what was left out, what is there."""
    counts = encoded.manifest["counts"]
    splits = ", ".join(f"{len(encoded.split(split))} {split}" for split in corpora.SPLITS)
    songs = f"{counts['songs']} songs of {counts['files']} files ({splits})"
    if encoded.vocabulary:
        lines = [
            f"{songs}, {counts['tokens']} tokens of {counts['types']} types "
            f"({counts['types_in_training']} in the training songs)",
            f"clipped by the next onset: {encoded.manifest['clipped_share']:.1%} of the notes' "
            f"time; rests cut: {counts['rests_cut']}",
        ]
    else:
        lines = [f"{songs}, {counts['steps']} steps"]
        if counts["outside"]:
            lines.append(
                f"{counts['outside']} of {counts['notes']} notes are lower or higher than the "
                "matrix and left out"
            )
        if counts["bars_cut"]:
            lines.append(f"{counts['bars_cut']} bars of silence cut")
    rules = encoded.manifest["rules"]
    if set(rules) - {"all"}:
        by_rule = ", ".join(f"{rule} in {n}" for rule, n in rules.items())
        lines.append(f"the part was chosen by {by_rule}")
    if counts["skipped"]:
        lines.append(f"skipped {counts['skipped']} files:")
        lines += [f"  {n:7d}  {reason}" for reason, n in encoded.manifest["skipped"].items()]
    return "\n".join(lines)


def _define_flags() -> None:
    from absl import flags

    cli.define_config()
    flags.DEFINE_string("output", None, "Corpus folder to write; must not exist.", required=True)
    flags.DEFINE_bool(
        "report",
        False,
        "Write a page about the corpus, OUTPUT/report/index.html, also if it is there already.",
    )
    flags.DEFINE_integer("workers", None, "Processes that encode; default: one a core.")


def _main(flags) -> None:
    if flags.workers is not None and flags.workers < 1:
        raise InputError(f"workers is {flags.workers}; expected at least 1")
    check_config(flags.config)
    data, output = with_track(flags.config.data), Path(flags.output)
    if flags.report and (output / "manifest.json").is_file():
        encoded = Corpus.load(output)
        if encoded.manifest["fingerprint"] != fingerprint(data, _files(data)):
            raise InputError(
                f"{output} already exists, and was made of other files or with other settings; "
                "give another --output or delete it"
            )
    else:
        encoded = encode_corpus(data, output, number_of_workers=flags.workers)
    print(describe(encoded))
    print(f"files left out are listed in {output}/skipped.jsonl")
    if flags.report:
        from musicjax import report

        print(f"the report is {report.write_report(encoded, output / 'report')}")


if __name__ == "__main__":
    cli.run(_main, _define_flags)
