"""Where songs come from: what a source is.

A source lists its songs as `SongFile`s; reading them comes later, in worker processes.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from musicjax.errors import SongError
from musicjax.music import midi
from musicjax.music.song import Song

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class SongFile:
    """One MIDI file of a source, or one of its songs that is kept in another way.

    Attributes:
        path: the file; of a Slakh track its metadata.yaml.
        name: relative to the source, with forward slashes; unique in it, and text that can be
            written and shown (bytes that are not UTF-8 are escaped, as are line breaks).
        metadata: what the source knows besides: artist, title, year; split ("train",
            "validation", "test": overrides the split by content hash); md5 that the content is
            said to have, uuid, track_id; and refused, (reason, detail), if it is not to be read.
    """

    path: Path
    name: str
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)

    def with_metadata(self, **metadata: Any) -> "SongFile":
        """This file with more metadata."""
        return dataclasses.replace(self, metadata=self.metadata | metadata)


class Source(Protocol):
    """A collection of songs. One that inherits this class need only say how it is opened and found.

    Attributes:
        default_track: what data.track=default means for it.
    """

    default_track: ClassVar[str] = "all"

    @classmethod
    def open(cls, source: str) -> Self | None:
        """The source that `config.data.source` names; None if it is not of this kind.

        Raises:
            InputError: it is of this kind, but cannot be read.
        """
        ...

    def find(self) -> list[SongFile]:
        """Its songs in a fixed order: by name, or where one file holds all, in the order of that
        file. No file is opened that need not be.

        Raises:
            InputError: there is none.
        """
        ...

    def read(self, file: SongFile, *, max_bytes: int, check_md5: bool = True) -> tuple[Song, str]:
        """A song, and the MD5 of its file. Called in a worker process, so sources are pickled.

        Args:
            file: of `find`.
            max_bytes: larger files are not read.
            check_md5: refuse a file whose name gives another MD5 than its content has.
        Raises:
            SongError: "unreadable", "too_big", "wrong_md5", or as musicjax.music.midi lists.
        """
        content = read_bytes(file.path, max_bytes)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if check_md5 and file.metadata.get("md5", md5) != md5:
            raise SongError(file.path, "wrong_md5", f"the content's is {md5}: damaged, or renamed")
        return midi.song_from_bytes(content, file.path), md5

    def files_of(self, file: SongFile) -> list[Path]:
        """The files that a song is read from: if one of them changes, it is encoded anew."""
        return [file.path]


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """A file's content.

    Raises:
        SongError: "unreadable" or "too_big".
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise SongError(path, "too_big", f"{size / 1e6:.1f} MB, at most {max_bytes / 1e6:g}")
        return path.read_bytes()
    except OSError as error:
        raise SongError(path, "unreadable", str(error.strerror)) from None
