"""The user's cache folder: what would take time to make again, and can be made again.

    corpora/                encoded songs, each folder by the fingerprint of its settings and files
    programs/               jax's compiled programs
    native/                 the LSTM, compiled for this processor
    chorales-music21-*/     Bach's chorales as MIDI files

It is where the system keeps such things: $XDG_CACHE_HOME/musicjax or ~/.cache/musicjax on Linux.
"""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import platformdirs

from musicjax.errors import InputError
from musicjax.system import files


class Cached(NamedTuple):
    """One of the cache's folders.

    Attributes:
        path: of the folder.
        entries: files and folders in it.
        size: in bytes, of all files at any depth.
    """

    path: Path
    entries: int
    size: int


def root() -> Path:
    """The cache folder; it need not be there."""
    return platformdirs.user_cache_path("musicjax")


def expect_writable() -> None:
    """Checks that the cache can be written to.

    Raises:
        InputError: it cannot.
    """
    try:
        files.expect_writable(root())
    except InputError as error:
        raise InputError(
            f"the cache cannot be used: {error}, by setting XDG_CACHE_HOME to one"
        ) from None


def contents() -> list[Cached]:
    """What is in the cache, by name."""
    if not root().is_dir():
        return []
    return [
        Cached(path, len(list(path.iterdir())), _size(path))
        for path in sorted(root().iterdir())
        if path.is_dir()
    ]


def clear() -> int:
    """Deletes all of it. A training that runs meanwhile goes on, if its songs are in memory.

    Returns:
        bytes that were freed.
    """
    freed = _size(root())
    if root().is_dir():
        shutil.rmtree(root())
    return freed


def _size(path: Path) -> int:
    return sum(
        os.lstat(os.path.join(folder, name)).st_size
        for folder, _, names in os.walk(path)
        for name in names
    )
