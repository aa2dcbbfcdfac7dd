"""The corpus folder: encoded songs on disk.

    manifest.json     format version, encoding and its settings, counts, fingerprint of the source
    songs.jsonl       one line a song: name, md5, key, transposition, split, offset, length, ...
    data.npy          all songs end to end, memory-mapped: int32 token ids [tokens], or uint8
                      [steps, bytes], the packed bits of note state matrices
    vocabulary.json   the tokens, if the encoding has any
    skipped.jsonl     one line a file left out: name, reason, detail

A corpus folder is written under a temporary name and renamed when whole. A reader refuses another
version, and sizes that do not fit.
"""

import contextlib
import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from musicjax.errors import InputError
from musicjax.vocabulary import Vocabulary

FORMAT = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """Encoded songs.

    Attributes:
        manifest: see the module's docstring.
        songs: a dict for each song, in the order of `data`; `offset` and `length` locate it there.
        data: int32 [tokens]: ids of `vocabulary`; or uint8 [steps, bytes]: packed note states.
        vocabulary: of the tokens; None for note states.
        skipped: a dict for each file left out.
    """

    manifest: dict
    songs: list[dict]
    data: np.ndarray
    vocabulary: Vocabulary | None
    skipped: list[dict]

    def split(self, split: str) -> list[dict]:
        """The songs of "train", "validation" or "test"."""
        return [song for song in self.songs if song["split"] == split]

    def encoded(self, song: dict) -> np.ndarray:
        """One song's part of `data`: [length] or [length, bytes]."""
        return self.data[song["offset"] : song["offset"] + song["length"]]

    def only(self, split: str) -> "Corpus":
        """A corpus of one split's songs, its data copied into memory; nothing skipped."""
        songs, pieces, offset = [], [self.data[:0]], 0
        for song in self.split(split):
            pieces.append(np.asarray(self.encoded(song)))
            songs.append(song | {"offset": offset})
            offset += song["length"]
        return dataclasses.replace(self, songs=songs, data=np.concatenate(pieces), skipped=[])

    def save(self, path: str | Path) -> None:
        """Writes the folder whole or not at all.

        Raises:
            InputError: `path` exists.
        """
        with new_folder(Path(path)) as folder:
            manifest = self.manifest | {"length": len(self.data)}
            write_rows(folder, manifest, self.songs, self.skipped)
            np.save(folder / "data.npy", self.data)
            if self.vocabulary:
                self.vocabulary.save(folder / "vocabulary.json")

    @classmethod
    def load(cls, path: str | Path) -> "Corpus":
        """Opens a corpus folder; `data` stays on disk.

        Raises:
            InputError: not a corpus folder, of another version, or damaged.
        """
        path = Path(path)
        try:
            manifest = json.loads((path / "manifest.json").read_text())
            if manifest["format"] != FORMAT:
                raise InputError(
                    f"{path}: a corpus of format {manifest['format']}; this musicjax reads "
                    f"{FORMAT}: encode it again"
                )
            songs = _read_lines(path / "songs.jsonl")
            skipped = _read_lines(path / "skipped.jsonl")
            data = np.load(path / "data.npy", mmap_mode="r")
        except InputError:
            raise
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise InputError(f"{path}: not a corpus folder ({error}); encode it again") from None
        ends = [song["offset"] + song["length"] for song in songs]
        if not len(data) == manifest["length"] == max(ends, default=0):
            raise InputError(
                f"{path}: damaged: data.npy holds {len(data)} rows, manifest.json says "
                f"{manifest['length']} and songs.jsonl {max(ends, default=0)}; encode it again"
            )
        has_tokens = manifest["encoding"] == "vocabulary"
        vocabulary = Vocabulary.load(path / "vocabulary.json") if has_tokens else None
        return cls(manifest, songs, data, vocabulary, skipped)


def expect_new(path: Path) -> None:
    """Checks that a corpus folder may be written.

    Raises:
        InputError: `path` exists.
    """
    if path.exists():
        raise InputError(f"{path} already exists; give another --output or delete it")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; it is renamed to `path` at the end, or vanishes if that is not reached.

    Raises:
        InputError: `path` exists.
    """
    expect_new(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp gives the folder to its maker alone
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_rows(folder: Path, manifest: dict, songs: list[dict], skipped: list[dict]) -> None:
    """Writes what a corpus folder tells of its songs; data and vocabulary besides make it whole."""
    text = json.dumps(manifest, indent=2)
    (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
    _write_lines(folder / "songs.jsonl", songs)
    _write_lines(folder / "skipped.jsonl", skipped)


def _write_lines(path: Path, rows: list[dict]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _read_lines(path: Path) -> list[dict]:
    with path.open(encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]
