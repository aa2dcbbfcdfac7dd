"""Shards: what a worker makes of a few files, kept until the whole corpus is assembled.

A shard is one .npz file, written whole or not at all: `rows`, JSON, one for each file in order;
`data`, the songs' elements end to end; `symbols`, the texts that `data` indexes, if it does.
"""

import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musicjax.corpus import preprocess
from musicjax.corpus.preprocess import Preprocessing
from musicjax.corpus.store import Skipped, SongRecord
from musicjax.encodings import Encoding
from musicjax.errors import InputError, SongError
from musicjax.music import track_selection
from musicjax.sources import SongFile, Source
from musicjax.system import files

_MEMBERS = ["rows.npy", "data.npy", "symbols.npy"]


class Job(NamedTuple):
    """What every file of a source is encoded by."""

    source: Source
    encoding: Encoding
    settings: Preprocessing


class EncodedFile(NamedTuple):
    """A song of a shard.

    Attributes:
        record: its split is "" unless the source names it, its offset 0.
        same_notes: as in musicjax.corpus.preprocess.Digests.
        sums: as in musicjax.encodings.base.EncodedSong.
    """

    record: SongRecord
    same_notes: str
    sums: dict[str, Any]


class Shard(NamedTuple):
    """Songs encoded, and files left out.

    Attributes:
        rows: one for each file.
        data: elements of the songs, in order.
        symbols: of the data, see Encoding.shard.
    """

    rows: list[EncodedFile | Skipped]
    data: np.ndarray
    symbols: list[str]

    def save(self, path: Path) -> None:
        """Writes it whole or not at all."""
        rows = [
            [*row] if isinstance(row, Skipped) else [vars(row.record), row.same_notes, row.sums]
            for row in self.rows
        ]
        with files.new_file(path) as file:
            np.savez(file, rows=_as_bytes(rows), data=self.data, symbols=_as_bytes(self.symbols))

    @classmethod
    def load(cls, path: Path) -> "Shard":
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            symbols = json.loads(arrays["symbols"].tobytes())
            return cls(_rows(arrays["rows"]), arrays["data"], symbols)


def is_whole(path: Path) -> bool:
    """Whether a shard is there, and is what was written: zip files have checksums."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.namelist() == _MEMBERS and file.testzip() is None
    except files.ARRAY_ERRORS:
        return False


def load_rows(path: Path) -> list[EncodedFile | Skipped]:
    """A saved shard's rows alone."""
    with np.load(path) as arrays:
        return _rows(arrays["rows"])


def _rows(array: np.ndarray) -> list[EncodedFile | Skipped]:
    rows = json.loads(array.tobytes())
    return [
        Skipped(*row) if isinstance(row[0], str) else EncodedFile(SongRecord(**row[0]), *row[1:])
        for row in rows
    ]


def _as_bytes(value: list) -> np.ndarray:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def write_shard(
    path: Path, songs: list[SongFile], job: Job, given_up: dict[str, tuple[str, str]]
) -> int:
    """Encodes files as a shard.

    Args:
        path: of the shard.
        songs: in order.
        job: how.
        given_up: reason and detail, by name, of files that are not to be tried.
    Returns:
        how many were left out.
    """
    rows, elements = [], []
    for file in songs:
        if file.name in given_up:
            rows.append(Skipped(file.name, *given_up[file.name]))
            continue
        row, encoded = encode_file(file, job)
        rows.append(row)
        if encoded is not None:
            elements.append(encoded)
    Shard(rows, *job.encoding.shard(elements)).save(path)
    return len(rows) - len(elements)


def encode_file(file: SongFile, job: Job) -> tuple[EncodedFile | Skipped, Any]:
    """One file's row, and its elements; None if it is left out.

    An unforeseen error leaves out that file alone, with the reason "failed".
    """
    try:
        return _encode_file(file, job)
    except SongError as error:
        reason, detail = error.reason, error.detail
    except InputError:  # about the settings, not about the file
        raise
    except MemoryError:
        reason, detail = "too_big", "does not fit into memory"
    except Exception as error:
        reason, detail = "failed", f"{type(error).__name__}: {error}"
    return Skipped(file.name, reason, " ".join(detail.split())[:500]), None


def _encode_file(file: SongFile, job: Job) -> tuple[EncodedFile, Any]:
    source, encoding, settings = job
    song, md5, metadata = preprocess.read_song(source, file, settings)
    prepared = preprocess.prepare(song, settings)
    chosen = prepared.song
    if not chosen.tracks:
        raise SongError(file.path, "no_track", f"has {preprocess.track_names(song)}")
    if chosen.num_notes < settings.least_notes:
        found = f"{chosen.num_notes} notes, at least {settings.least_notes}"
        raise SongError(file.path, "few_notes", found)
    elements, layout, sums = encoding.encode(chosen)
    content, same_notes = preprocess.digests(chosen)
    voice = track_selection.voice_of(chosen, settings.track)
    signature = song.keys[0] if song.keys else None
    record = SongRecord(
        name=file.name,
        split=file.metadata.get("split", ""),
        offset=0,
        length=len(elements),
        content=content,
        md5=md5,
        qpm=round(song.main_qpm, 3),
        seconds=round(song.seconds, 1),
        rule=prepared.rule,
        program=voice.program,
        is_drum=voice.is_drum,
        semitones=prepared.semitones,
        key=prepared.key.name if prepared.key else None,
        key_margin=round(prepared.key.margin, 4) if prepared.key else None,
        key_signature=signature.name if signature else None,
        bars_cut=prepared.bars_cut,
        moved=round(prepared.moved, 3),
        repairs=list(song.repairs),
        parts=track_selection.silent_shares(song),
        layout=layout,
        **metadata,
    )
    return EncodedFile(record, same_notes, sums), elements
