"""Any folder of MIDI files, at any depth."""

import os
import stat
from pathlib import Path

from musicjax.corpora import SongFile
from musicjax.errors import InputError

SUFFIXES = (".mid", ".midi", ".kar", ".rmi", ".smf")


def find_songs(root: Path) -> list[SongFile]:
    """All files below `root` whose suffix is one of SUFFIXES in any case, sorted by name.

    Links to folders are not followed; what is no file, and links that lead out of `root`, are
    listed as refused.

    Raises:
        InputError: there is none.
    """
    inside = str(root.resolve()) + os.sep
    songs = []
    for folder, _, names in os.walk(root):
        for name in names:
            if os.path.splitext(name)[1].lower() not in SUFFIXES:
                continue
            path = Path(folder, name)
            metadata = _refused(path, inside)
            songs.append(SongFile(path, writable(path.relative_to(root).as_posix()), metadata))
    if not songs:
        raise InputError(
            f"data.source is {str(root)!r}: no MIDI file in it at any depth; expected files that "
            f"end in {', '.join(SUFFIXES)}"
        )
    return sorted(songs, key=lambda song: song.name)


def _refused(path: Path, inside: str) -> dict:
    """Why a path is not to be read, as SongFile.metadata; opening a pipe would wait for ever."""
    mode = os.lstat(path).st_mode
    if stat.S_ISREG(mode):
        return {}
    if stat.S_ISLNK(mode) and not os.path.realpath(path).startswith(inside):
        return {"refused": ("outside_link", f"leads to {writable(os.readlink(path))}")}
    if os.path.isfile(path):
        return {}
    return {"refused": ("unreadable", "a link to nothing, or no file")}


def writable(name: str) -> str:
    """A file's name as text that can be written; bytes that are no UTF-8 are escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
