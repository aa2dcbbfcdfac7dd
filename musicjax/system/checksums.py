"""Checksums of the files of a folder: what was damaged since they were written is found.

They are in a file of the folder, SHA256SUMS, that `sha256sum --check` reads too.
"""

import hashlib
import re
from pathlib import Path

from musicjax.system import files

NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def write(folder: Path) -> None:
    """Writes the checksums of all files of a folder, at any depth. It comes last: a folder that has
    them is whole.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    lines = [f"{_digest(path)}  {path.relative_to(folder).as_posix()}" for path in found]
    files.write_text(folder / NAME, "\n".join([_first_line(len(lines)), *lines, ""]))


def find_damage(folder: Path, but: str = "") -> str | None:
    """What a folder's files differ in from those that it was written with, such as "data.npy is
    missing"; None if in nothing. Files that were added do not count, nor does the file `but`.
    """
    if not (folder / NAME).is_file():
        return f"{NAME} is missing"
    listed = (folder / NAME).read_bytes().decode("utf-8", "replace")
    first, *lines, last = listed.split("\n") if "\n" in listed else (listed, "")
    matches = [match for match in map(_LINE.fullmatch, lines) if match]
    if last or first != _first_line(len(matches)) or len(matches) < len(lines):
        return f"{NAME} is not what was written"
    for digest, name in (match.groups() for match in matches):
        if name == but:
            continue
        if not (folder / name).is_file():  # nor a pipe, which would be read forever
            return f"{name} is missing"
        if _digest(folder / name) != digest:
            return f"{name} is not what was written"
    return None


def _first_line(count: int) -> str:
    # sha256sum passes over it; here it tells whether lines are missing.
    return f"# {count} files"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
