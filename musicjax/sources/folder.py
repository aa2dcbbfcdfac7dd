"""Any folder of MIDI files, at any depth."""

import dataclasses
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from musicjax.errors import InputError, one_line
from musicjax.sources.base import SongFile, Source

SUFFIXES = (".mid", ".midi", ".kar", ".rmi", ".smf")


@dataclasses.dataclass(frozen=True)
class Folder(Source):
    """All files below `root` whose suffix is one of SUFFIXES in any case; and of those without a
    suffix what begins as a MIDI file does.

    Links to folders are not followed. Links that lead out of `root`, and what is not a file, are
    found but refused.
    """

    root: Path

    @classmethod
    def open(cls, source: str) -> Self | None:
        """Any folder."""
        root = Path(source).expanduser()
        return cls(root) if root.is_dir() else None

    def find(self) -> list[SongFile]:
        """The files, sorted by name.

        Raises:
            InputError: there is none.
        """
        files = sorted(self.walk(), key=lambda file: file.name)
        if not files:
            raise InputError(
                f"data.source is {str(self.root)!r}: no MIDI file in it at any depth; expected "
                f"files that end in {', '.join(SUFFIXES)}, or MIDI files without a suffix"
            )
        return files

    def walk(self) -> Iterator[SongFile]:
        """The files, in any order, as they are found."""
        inside = str(self.root.resolve()) + os.sep
        for folder, _, names in os.walk(self.root):
            for name in names:
                suffix = os.path.splitext(name)[1].lower()
                if suffix and suffix not in SUFFIXES:
                    continue
                path = Path(folder, name)
                refused = _refusal(path, inside)
                if not suffix and (refused or not _is_midi(path)):
                    continue
                metadata = {"refused": refused} if refused else {}
                yield SongFile(path, printable(path.relative_to(self.root).as_posix()), metadata)

    def outside_link(self, path: Path) -> tuple[str, str] | None:
        """Reason and detail, if links lead from a path to a place outside of `root`."""
        return _outside_link(path, str(self.root.resolve()) + os.sep)


def _is_midi(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"MThd"
    except OSError:
        return False


def _refusal(path: Path, inside: str) -> tuple[str, str] | None:
    """Why a path is not to be read, if it is not; opening a pipe would wait forever."""
    mode = os.lstat(path).st_mode
    if stat.S_ISREG(mode):
        return None
    refused = _outside_link(path, inside) if stat.S_ISLNK(mode) else None
    if refused or os.path.isfile(path):
        return refused
    return "unreadable", "a link to nothing, or not a file"


def _outside_link(path: Path, inside: str) -> tuple[str, str] | None:
    target = os.path.realpath(path)
    return None if target.startswith(inside) else ("outside_link", f"leads to {printable(target)}")


def printable(name: str) -> str:
    """A file's name as text that can be written and shown; bytes that are not UTF-8 are escaped,
    and so are line breaks and what else controls a terminal.
    """
    return one_line(name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
