"""Files and folders that are written whole or not at all: under a temporary name, then renamed.

A stop, a crash or a full disk leaves nothing that a later run would trust.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from musicjax.errors import InputError


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write; it becomes `path` at the end, or vanishes if that is not reached."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp lets nobody but the owner read it
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def expect_new(path: Path) -> None:
    """Checks that a folder may be written.

    Raises:
        InputError: `path` exists.
    """
    if path.exists():
        raise InputError(f"{path} already exists; give another folder or delete it")
