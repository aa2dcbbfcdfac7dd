"""The corpus folder: encoded songs on disk.

    manifest.json     format version, encoding and its settings, counts, fingerprint of the source
    songs.jsonl       one line a song: a SongRecord
    data.npy          all songs end to end, memory-mapped: rows of the encoding, such as int32 ids
                      [tokens], or uint8 [steps, bytes], the packed bits of note state matrices
    vocabulary.json   what the encoding found in the songs, if it finds anything
    skipped.jsonl     one line a file left out: name, reason, detail
    SHA256SUMS        checksums of all of these

A corpus folder is written under a temporary name and renamed when whole. A reader refuses another
version, a file that is not what was written, and what does not fit together.
"""

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np

from musicjax.encodings import Encoding, make_encoding
from musicjax.errors import InputError
from musicjax.system import checksums, files

FORMAT = 6


class Skipped(NamedTuple):
    """A file that was left out: reports count by `reason`, one word."""

    name: str
    reason: str
    detail: str


@dataclasses.dataclass(frozen=True)
class SongRecord:
    """What a corpus knows of a song: a line of songs.jsonl.

    Attributes:
        name: of the file, relative to the source.
        split: "train", "validation" or "test"; "" before it is assigned.
        offset, length: where its rows are in data.npy.
        content: a digest by which songs are held out, as in musicjax.corpus.preprocess.Digests.
        md5: of the file.
        qpm: the tempo that holds longest, in quarters a minute.
        seconds: playing time.
        rule: by which its part was chosen, as in musicjax.music.track_selection.
        program: General MIDI program that stands for the part.
        is_drum: whether the part is percussion.
        semitones: it was transposed by.
        key: it was found in, such as "C:maj"; None of drums alone.
        key_margin: of the estimate, as in musicjax.music.key.
        key_signature: of the file.
        bars_cut: of silence.
        moved: by how many sixteenths later its notes are than in the file, to meet the grid.
        repairs: what was wrong in the file and mended by reading.
        parts: of the common parts that the song has, {"notes": int, "silent": share of beats}.
        layout: what its encoding must know of it.
        artist, title, year, decade: if known.
    """

    name: str
    split: str
    offset: int
    length: int
    content: str
    md5: str
    qpm: float
    seconds: float
    rule: str
    program: int
    is_drum: bool
    semitones: int
    key: str | None
    key_margin: float | None
    key_signature: str | None
    bars_cut: int
    moved: float
    repairs: list[str]
    parts: dict[str, dict[str, Any]]
    layout: dict[str, Any]
    artist: str | None = None
    title: str | None = None
    year: int | None = None
    decade: int | None = None


class Manifest(TypedDict):
    """What manifest.json holds.

    Attributes:
        format: FORMAT.
        length: rows of data.npy.
        settings: `config.data`, by which the songs were encoded.
        fingerprint: of the settings and the source's files.
        program, is_drum: of the part, for what is decoded.
        counts: files, songs, skipped, bars_cut, and the encoding's own.
        skipped, rules, repairs: how many files or songs, by reason, rule, and repair.
        statistics: of the training songs, for baselines; the encoding's own.
    """

    format: int
    length: int
    settings: dict[str, Any]
    fingerprint: str
    program: int
    is_drum: bool
    counts: dict[str, int]
    skipped: dict[str, int]
    rules: dict[str, int]
    repairs: dict[str, int]
    statistics: dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """Encoded songs.

    Attributes:
        manifest: see Manifest.
        songs: in the order of `data`.
        data: rows of all songs.
        encoding: of the rows.
        skipped: files left out.
    """

    manifest: Manifest
    songs: list[SongRecord]
    data: np.ndarray
    encoding: Encoding
    skipped: list[Skipped]

    def split(self, split: str) -> list[SongRecord]:
        """The songs of "train", "validation" or "test"."""
        return [song for song in self.songs if song.split == split]

    @property
    def most_at_once(self) -> int:
        """Notes that sound together in the training songs, at most, but for a hundredth of their
        time; all there are where the encoding does not tell.
        """
        return self.manifest["statistics"].get("most_at_once", 128)

    def rows(self, song: SongRecord) -> np.ndarray:
        """One song's part of `data`."""
        return self.data[song.offset : song.offset + song.length]

    def save(self, path: str | Path) -> None:
        """Writes the folder whole or not at all.

        Raises:
            InputError: `path` exists.
        """
        with files.new_folder(Path(path)) as folder:
            try:  # the same file under another name takes no room
                os.link(getattr(self.data, "filename", ""), folder / "data.npy")
            except OSError:
                np.save(folder / "data.npy", self.data)
            self.write_records(folder)

    def write_records(self, folder: Path) -> None:
        """Writes all files of a corpus folder but data.npy, which is there."""
        text = json.dumps(self.manifest, indent=2)
        (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
        _write_lines(folder / "songs.jsonl", map(vars, self.songs))
        _write_lines(folder / "skipped.jsonl", (row._asdict() for row in self.skipped))
        self.encoding.save(folder)
        checksums.write(folder)

    @classmethod
    def load(cls, path: str | Path) -> "Corpus":
        """Opens a corpus folder; `data` stays on disk.

        Raises:
            InputError: not a corpus folder, of another version, or damaged.
        """
        path = Path(path)
        try:
            manifest: Manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
            if manifest["format"] != FORMAT:
                raise InputError(
                    f"{path}: a corpus of format {manifest['format']}; this musicjax reads "
                    f"{FORMAT}: encode it again"
                )
            if damage := checksums.find_damage(path):
                raise InputError(f"{path}: damaged: {damage}; encode it again")
            songs = [SongRecord(**row) for row in _read_lines(path / "songs.jsonl")]
            skipped = [Skipped(**row) for row in _read_lines(path / "skipped.jsonl")]
            data = np.load(path / "data.npy", mmap_mode="r")
            rows = len(data)
            length, encoding = manifest["length"], make_encoding(manifest["settings"])
            if missing := Manifest.__required_keys__ - manifest.keys():
                raise KeyError(min(missing))
            starts = np.cumsum([0, *(song.length for song in songs)]).tolist()
            in_order = starts[:-1] == [song.offset for song in songs]
        except InputError:
            raise
        except files.ARRAY_ERRORS as error:
            raise InputError(f"{path}: not a corpus folder ({error}); encode it again") from None
        if not (rows == length == starts[-1] and in_order):
            raise InputError(
                f"{path}: damaged: data.npy holds {rows} rows, manifest.json says {length} "
                f"and songs.jsonl {starts[-1]}, in order: {in_order}; encode it again"
            )
        encoding = encoding.load(path)
        expected = encoding.rows(0)
        if (data.dtype, data.shape[1:]) != (expected.dtype, expected.shape[1:]):
            raise InputError(
                f"{path}: damaged: data.npy holds {data.dtype} {data.shape}; expected rows of "
                f"{expected.dtype} {expected.shape[1:]}; encode it again"
            )
        if encoding.kind == "ids" and length:
            low, high = int(data.min()), int(data.max())
            if low < 0 or high >= encoding.num_ids:
                raise InputError(
                    f"{path}: damaged: data.npy holds ids from {low} to {high}; expected 0 to "
                    f"{encoding.num_ids - 1}; encode it again"
                )
        return cls(manifest, songs, data, encoding, skipped)


def is_corpus(path: Path) -> bool:
    """Whether a folder is a corpus folder."""
    return (path / "manifest.json").is_file()


def _write_lines(path: Path, rows: Iterable[dict]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _read_lines(path: Path) -> list[dict]:
    with path.open(encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]
