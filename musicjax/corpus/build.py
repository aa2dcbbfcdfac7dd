"""Sources and an encoding -> a corpus folder, and what was left out and why.

Files are encoded in shards of a few, by worker processes; what comes out does not depend on how
many there are. Stopped at any moment, the same call goes on from the shards that were done. When
all are done, copies are left out, songs held out, ids assigned, and the corpus folder written.

Training does this by itself and keeps the result in the user's cache folder; it is used again only
while every setting of `config.data` and every source file is the same.
"""

import contextlib
import copy
import dataclasses
import hashlib
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musicjax.config import ANY, at_least, expect, setting, settings_of
from musicjax.corpus import shards, splits, store
from musicjax.corpus.preprocess import Preprocessing
from musicjax.corpus.shards import EncodedFile, Job, Shard
from musicjax.corpus.splits import Splitting
from musicjax.corpus.store import Corpus, Manifest, Skipped
from musicjax.encodings import Encoding, make_encoding
from musicjax.encodings.base import ShardSong
from musicjax.errors import InputError, one_line
from musicjax.sources import SPLITS, SongFile, Source, open_source
from musicjax.system import cache, files, workers

ENCODER = 11  # raise it when the same file and settings would give other data
_FILES_PER_SHARD = 32


@dataclasses.dataclass(frozen=True)
class Deduplication:
    """The settings of `config.data` by which copies are left out, explained in
    configs/collection.py.
    """

    dedupe_files: bool = setting(ANY)
    dedupe_notes: bool = setting(ANY)
    versions: int = setting(at_least(0, "0: all"))


class Plan(NamedTuple):
    """All that a corpus is made from.

    Attributes:
        data: `config.data`, its track resolved.
        songs: files of the source.
        job: how each is encoded.
        splitting, deduplication: which songs are used, and for what.
        fingerprint: of all of it.
    """

    data: Any
    songs: list[SongFile]
    job: Job
    splitting: Splitting
    deduplication: Deduplication
    fingerprint: str


def parse_data(data: Any) -> tuple[Encoding, Preprocessing, Splitting, Deduplication]:
    """What `config.data` says, without a look at its source.

    Raises:
        InputError: a value that is not allowed.
    """
    encoding, settings = make_encoding(data), Preprocessing.from_config(data)
    expect(
        not settings.drums or encoding.keeps_instruments or settings.track == "drums",
        "data.drums",
        settings.drums,
        f"False, as {encoding.name} cannot tell drums from pitched notes (tokens can with "
        "data.instruments=True); set data.track=drums for drums alone",
    )
    return encoding, settings, Splitting.from_config(data), settings_of(Deduplication, data, "data")


def make_plan(data: Any) -> Plan | None:
    """Lists a source's files and checks the settings; reads no song.

    Args:
        data: `config.data`; its fields are explained in the configs.
    Returns:
        the plan; None if the source is a corpus folder.
    Raises:
        InputError: no source, no song in it, or a setting that is not allowed.
    """
    if store.is_corpus(Path(data.source).expanduser()):
        return None
    source = open_source(data.source)
    if data.track == "default":
        data = copy.deepcopy(data)
        data.track = source.default_track
    encoding, settings, splitting, deduplication = parse_data(data)
    settings.read_table()  # an error in it is found now, not by each worker
    songs = source.find()
    if splitting.split_by == "index":
        songs = splits.apply_index(songs, Path(data.source).expanduser())
    return Plan(
        data,
        songs,
        Job(source, encoding, settings),
        splitting,
        deduplication,
        _fingerprint(data, source, songs),
    )


def encode_corpus(
    plan: Plan, output: str | Path, *, number_of_workers: int | None = None
) -> Corpus:
    """Reads, prepares and encodes the songs of a plan, and writes the corpus folder.

    Args:
        plan: of make_plan.
        output: folder to write. Unfinished work is in `.<name>.partial` beside it until then.
        number_of_workers: processes; by default one a core; 0: none, all in this one, where a
            file cannot be given up for its time.
    Returns:
        the Corpus, its data on disk.
    Raises:
        InputError: no song is left; a source that is not what it seems; `output` exists.
    """
    output = Path(output)
    if number_of_workers is None:
        number_of_workers = workers.cores()
    partial = output.parent / f".{output.name}.partial"
    with _lock(partial, output):
        files.expect_new(output)
        _drop_stale_shards(partial, plan.fingerprint)
        paths = _write_shards(plan, partial, number_of_workers)
        try:
            with files.new_folder(output) as temporary:
                _assemble(plan, paths, temporary)
        except InputError:  # no song is left: nothing to go on with
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(partial, ignore_errors=True)
    return Corpus.load(output)


def open_corpus(data: Any, plan: Plan | None = None) -> Corpus:
    """The corpus of `config.data`: a corpus folder as it is, any other source encoded, or from the
    user's cache folder.

    Args:
        data: `config.data`.
        plan: of make_plan, if it was called before.
    Raises:
        InputError: as make_plan and encode_corpus; or a corpus folder that cannot be read.
    """
    plan = plan or make_plan(data)
    if plan is None:
        return Corpus.load(Path(data.source).expanduser())
    path = cache.root() / "corpora" / plan.fingerprint[:24]
    if path.is_dir():
        return Corpus.load(path)
    cache.expect_writable()
    try:
        corpus = encode_corpus(plan, path)
    except InputError:
        if not path.is_dir():
            raise
        return Corpus.load(path)  # another process was first
    print(describe(corpus))
    return corpus


@contextlib.contextmanager
def _lock(partial: Path, output: Path) -> Iterator[None]:
    """Lets one process encode; another that wants the same songs waits here.

    Raises:
        InputError: `output` exists by now.
    """
    import filelock

    lock = filelock.FileLock(partial / "lock")
    while not lock.is_locked:
        files.expect_new(output)
        partial.mkdir(parents=True, exist_ok=True)
        # Another process may finish, and remove the folder, at this moment.
        with contextlib.suppress(FileNotFoundError):
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _drop_stale_shards(partial: Path, fingerprint: str) -> None:
    """Deletes shards that were made by other settings or from other files."""
    stamp = partial / "fingerprint"
    if not stamp.is_file() or stamp.read_bytes() != fingerprint.encode():
        for path in partial.glob("*.npz"):
            path.unlink()
    stamp.write_text(fingerprint)


def _write_shards(plan: Plan, partial: Path, number_of_workers: int) -> list[Path]:
    """Encodes the shards that an earlier run has not; returns the paths of all."""
    from tqdm import tqdm

    songs, job = plan.songs, plan.job
    seconds = job.settings.seconds_per_file
    groups = [songs[i : i + _FILES_PER_SHARD] for i in range(0, len(songs), _FILES_PER_SHARD)]
    paths = [partial / f"{number}.npz" for number in range(len(groups))]
    missing = [number for number, path in enumerate(paths) if not shards.is_whole(path)]
    tasks = [(paths[number], groups[number], job, {}) for number in missing]
    done = set(range(len(groups))).difference(missing)
    with tqdm(
        total=len(songs),
        initial=sum(len(groups[number]) for number in done),
        desc=f"encoding {one_line(plan.data.source)}",
        unit="file",
        delay=1,
        disable=None,  # only a terminal has a bar
    ) as bar:
        skipped = sum(
            isinstance(row, Skipped) for number in done for row in shards.load_rows(paths[number])
        )
        failed = []
        for i, result in workers.run(
            shards.write_shard, tasks, workers=number_of_workers, seconds=seconds
        ):
            if isinstance(result, workers.Failure):
                failed.append(missing[i])
                continue
            skipped += result
            bar.set_postfix(skipped=skipped, refresh=False)
            bar.update(len(groups[missing[i]]))
        for number in failed:
            given_up = _find_culprits(groups[number], job, number_of_workers)
            task = (paths[number], groups[number], job, given_up)
            for _, result in workers.run(shards.write_shard, [task], workers=number_of_workers):
                if isinstance(result, workers.Failure):
                    raise RuntimeError(f"{paths[number]}: {result.reason}: {result.detail}")
            bar.update(len(groups[number]))
    return paths


def _find_culprits(
    songs: list[SongFile], job: Job, number_of_workers: int
) -> dict[str, workers.Failure]:
    """Tries each of a shard's files alone; reason and detail of those that crash or hang."""
    tasks = [(file, job) for file in songs]
    seconds = job.settings.seconds_per_file
    results = workers.run(shards.encode_file, tasks, workers=number_of_workers, seconds=seconds)
    return {songs[i].name: r for i, r in results if isinstance(r, workers.Failure)}


def _assemble(plan: Plan, paths: list[Path], folder: Path) -> None:
    """Writes the files of a corpus folder from all shards.

    Raises:
        InputError: no song is left.
    """
    place: dict[str, tuple[int, int]] = {}  # name -> shard, start there
    songs, skipped = [], []
    for number, path in enumerate(paths):
        start = 0
        for row in shards.load_rows(path):
            if isinstance(row, Skipped):
                skipped.append(row)
            else:
                songs.append(row)
                place[row.record.name] = number, start
                start += row.record.length
    for leave_out in (_of_one_kind, partial(_without_copies, settings=plan.deduplication)):
        songs, left_out = leave_out(songs)
        skipped += left_out
    if not songs:
        raise InputError(_nothing_left(plan, skipped))
    songs, spare = splits.assign_splits(songs, plan.splitting)
    skipped += spare
    lengths = [row.record.length for row in songs]
    offsets = np.cumsum([0, *lengths]).tolist()
    songs = [
        row._replace(record=dataclasses.replace(row.record, offset=offset))
        for row, offset in zip(songs, offsets[:-1], strict=True)
    ]

    def in_shards() -> Iterator[tuple[Shard, list[tuple[EncodedFile, int]]]]:
        """Each shard that songs are used of, with those and their starts; one is in memory."""
        for number, used in itertools.groupby(songs, key=lambda row: place[row.record.name][0]):
            yield Shard.load(paths[number]), [(row, place[row.record.name][1]) for row in used]

    def shard_songs() -> Iterator[ShardSong]:
        for shard, used in in_shards():
            for row, start in used:
                elements = shard.data[start : start + row.record.length]
                yield ShardSong(elements, shard.symbols, row.record.split == "train")

    encoding = plan.job.encoding.fit(shard_songs())
    with (folder / "data.npy").open("wb") as file:
        header = np.lib.format.header_data_from_array_1_0(encoding.rows(0))
        header["shape"] = (offsets[-1], *encoding.rows(0).shape[1:])
        np.lib.format.write_array_header_1_0(file, header)
        for shard, used in in_shards():
            rows = encoding.renumber(shard.data, shard.symbols)
            for row, start in used:
                file.write(rows[start : start + row.record.length].tobytes())
    records = [row.record for row in songs]
    manifest = _manifest(plan, songs, skipped, encoding)
    Corpus(manifest, records, encoding.rows(0), encoding, skipped).write_records(folder)


def _of_one_kind(songs: list[EncodedFile]) -> tuple[list[EncodedFile], list[Skipped]]:
    """The songs whose part is pitched, or those whose part is percussion, whichever are more; and
    those left out. A pattern for track names may find either.
    """
    drums = [row for row in songs if row.record.is_drum]
    if len(drums) * 2 > len(songs):
        kept, detail = drums, "its part is pitched, that of most songs is percussion"
    else:
        kept = [row for row in songs if not row.record.is_drum]
        detail = "its part is percussion, that of most songs is pitched"
    names = {row.record.name for row in kept}
    left_out = [row.record.name for row in songs if row.record.name not in names]
    return kept, [Skipped(name, "other_kind", detail) for name in left_out]


def _without_copies(
    songs: list[EncodedFile], settings: Deduplication
) -> tuple[list[EncodedFile], list[Skipped]]:
    """The songs without copies and further versions of a title, of which the first by name stays;
    and those left out.
    """

    def title(row: EncodedFile) -> tuple[str, str] | None:
        artist, title = (row.record.artist or "").casefold(), (row.record.title or "").casefold()
        return (artist, title) if title else None

    rules: list[tuple[str, int, Callable[[EncodedFile], Any]]] = []
    if settings.dedupe_files:
        rules.append(("copy", 1, lambda row: row.record.md5))
    if settings.dedupe_notes:
        rules.append(("same_notes", 1, lambda row: row.same_notes))
    if settings.versions:
        rules.append(("version", settings.versions, title))
    skipped = []
    for reason, most, key in rules:
        kept, seen = [], {}
        for row in songs:
            if (same := key(row)) is not None:
                before = seen.setdefault(same, [])
                if len(before) >= most:
                    skipped.append(Skipped(row.record.name, reason, f"of {before[0]}"))
                    continue
                before.append(row.record.name)
            kept.append(row)
        songs = kept
    return songs, skipped


def _manifest(
    plan: Plan, songs: list[EncodedFile], skipped: list[Skipped], encoding: Encoding
) -> Manifest:
    records = [row.record for row in songs]

    def count(values: Iterable[str]) -> dict[str, int]:
        return dict(Counter(values).most_common())

    def sums(rows: Sequence[EncodedFile]) -> dict[str, np.ndarray]:
        """Of each count over songs; zero where there is no song."""
        total = {name: np.zeros_like(value) for name, value in songs[0].sums.items()}
        for row in rows:
            for name, value in row.sums.items():
                total[name] = total[name] + np.asarray(value)
        length = np.array(sum(row.record.length for row in rows))
        return total | {"length": length, "songs": np.array(len(rows))}

    training = [row for row in songs if row.record.split == "train"]
    statistics = encoding.statistics(sums(songs), sums(training))
    return {
        "format": store.FORMAT,
        "length": records[-1].offset + records[-1].length,
        "settings": plan.data.to_dict(),
        "fingerprint": plan.fingerprint,
        "program": Counter(record.program for record in records).most_common(1)[0][0],
        "is_drum": records[0].is_drum,
        "counts": {
            **statistics.pop("counts"),
            "bars_cut": sum(record.bars_cut for record in records),
            "files": len(plan.songs),
            "songs": len(records),
            "skipped": len(skipped),
        },
        "skipped": count(row.reason for row in skipped),
        "rules": count(record.rule for record in records),
        "repairs": count(repair for record in records for repair in record.repairs),
        "statistics": statistics,
    }


def _nothing_left(plan: Plan, skipped: list[Skipped]) -> str:
    data = plan.data
    reasons = Counter(row.reason for row in skipped).most_common()
    counts = ", ".join(f"{reason}: {n}" for reason, n in reasons)
    line = (
        f"data.source is {data.source!r}: none of its {len(plan.songs)} files became a song "
        f"({counts})"
    )
    names = Counter(
        name
        for row in skipped
        if row.reason == "no_track"
        for name in row.detail.removeprefix("has ").split(", ")
    )
    if names:
        seen = ", ".join(f"{name!r} in {n}" for name, n in names.most_common(8))
        line += f"; data.track is {data.track!r}, the tracks are named {seen}"
    return line


def _fingerprint(data: Any, source: Source, songs: Iterable[SongFile]) -> str:
    """Hex digest of all that decides a corpus: encoder, settings, and each file's name, size, time
    of change, and metadata.
    """

    def state(path: Path) -> tuple[int, int]:
        try:
            stat = path.stat()
        except OSError:  # a broken link, say: encoding will report it
            return -1, -1
        return stat.st_size, stat.st_mtime_ns

    digest = hashlib.sha256()
    settings = json.dumps(data.to_dict(), sort_keys=True)
    table = state(Path(data.table).expanduser()) if data.table else None
    digest.update(repr((store.FORMAT, ENCODER, settings, table)).encode())
    for file in songs:
        states = [state(path) for path in source.files_of(file)]
        digest.update(repr((file.name, states, file.metadata)).encode())
    return digest.hexdigest()


def describe(corpus: Corpus) -> str:
    """Lines for people: what came in, what was left out, what the corpus holds."""
    manifest, counts = corpus.manifest, corpus.manifest["counts"]
    sizes = ", ".join(f"{len(corpus.split(split))} {split}" for split in SPLITS)
    first, *lines = corpus.encoding.describe({"counts": counts, **manifest["statistics"]})
    lines.insert(0, f"{counts['songs']} songs of {counts['files']} files ({sizes}), {first}")
    if counts["bars_cut"]:
        lines.append(f"{counts['bars_cut']} bars of silence cut")
    rules = manifest["rules"]
    if set(rules) - {"all"}:
        by_rule = ", ".join(f"{rule} in {n}" for rule, n in rules.items())
        lines.append(f"the part was chosen by {by_rule}")
    if counts["skipped"]:
        lines.append(f"skipped {counts['skipped']} files:")
        lines += [f"  {n:7d}  {reason}" for reason, n in manifest["skipped"].items()]
    return "\n".join(lines)
