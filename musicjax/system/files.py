"""Files and folders that are written whole or not at all: under a temporary name, then renamed.

A stop, a crash or a full disk leaves nothing that a later run would trust.
"""

import contextlib
import os
import re
import shutil
import struct
import tempfile
import time
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from musicjax.errors import InputError
from musicjax.system import stop

_A_DAY = 86_400.0  # seconds

# What numpy and zipfile may raise where an .npy or .npz file is damaged.
ARRAY_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    MemoryError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write; it becomes `path` at the end, or vanishes if that is not reached."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with stop.removed(temporary):
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all."""
    with new_file(path) as file:
        file.write(text.encode())


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; it is renamed to `path` at the end, or vanishes if that is not reached.

    Raises:
        InputError: `path` exists.
    """
    expect_new(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    with stop.removed(temporary):
        yield temporary
        temporary.chmod(0o755)  # mkdtemp lets nobody but the owner read it
        temporary.rename(path)


def _remove_leftovers(path: Path) -> None:
    """Removes what a kill has left of this folder; what is younger may be another process's."""
    name = re.compile(re.escape(f".{path.name}.") + r"[a-z0-9_]{8}")  # as mkdtemp makes it
    for sibling in path.parent.iterdir():
        with contextlib.suppress(OSError):  # another process removes it too
            if name.fullmatch(sibling.name) and time.time() - sibling.stat().st_mtime > _A_DAY:
                shutil.rmtree(sibling)


def expect_new(path: Path) -> None:
    """Checks that a folder may be written.

    Raises:
        InputError: `path` exists.
    """
    if path.exists():
        raise InputError(f"{path} already exists; give another folder or delete it")


def expect_workdir(path: str | Path) -> None:
    """Checks that a run's folder is there.

    Raises:
        InputError: it is not.
    """
    if not Path(path).is_dir():
        raise InputError(f"workdir is {str(path)!r}, which is no folder; train one first")


def writable_folder(path: str | Path) -> Path:
    """Makes a folder if it is not there, and checks that files can be written to it, so that work
    is not done for nothing.

    Raises:
        InputError: a file is in its place, or it cannot be written to.
    """
    path = Path(path)
    expect_writable(path)
    path.mkdir(parents=True, exist_ok=True)
    return path


def nearest(path: Path) -> Path:
    """A path, or the first folder above it that is there."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def expect_writable(path: Path) -> None:
    """Checks that a folder can be written to, or made; leaves nothing.

    Raises:
        InputError: it cannot.
    """
    try:
        with tempfile.TemporaryDirectory(dir=nearest(path)):
            pass
    except OSError as error:
        reason = "a file, not a folder" if path.is_file() else str(error.strerror).lower()
        raise InputError(f"{path}: {reason}; give a folder that can be written to") from None
