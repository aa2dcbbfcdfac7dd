"""Checksums of the files of a folder: what was damaged since they were written is found.

They are in a file of the folder, SHA256SUMS, that `sha256sum --check` reads too.
"""

import hashlib
from pathlib import Path

from musicjax.system import files

NAME = "SHA256SUMS"


def write(folder: Path) -> None:
    """Writes the checksums of all files of a folder, at any depth. It comes last: a folder that has
    them is whole.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME)
    lines = [f"{_digest(path)}  {path.relative_to(folder).as_posix()}" for path in found]
    files.write_text(folder / NAME, "\n".join([_first_line(len(lines)), *lines, ""]))


def find_damage(folder: Path) -> str | None:
    """What a folder's files differ in from those that it was written with, such as "data.npy is
    missing"; None if in nothing. Files that were added do not count.
    """
    try:
        first, _, rest = (folder / NAME).read_bytes().decode("ascii", "replace").partition("\n")
    except FileNotFoundError:
        return f"{NAME} is missing"
    except OSError as error:
        return f"{NAME} cannot be read ({error.strerror})"
    lines = rest.splitlines()
    if first != _first_line(len(lines)):
        return f"{NAME} is not what was written"
    for line in lines:
        digest, _, name = line.partition("  ")
        try:
            if _digest(folder / name) != digest:
                return f"{name} is not what was written"
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return None


def _first_line(count: int) -> str:
    # sha256sum passes over it; here it tells whether lines are missing.
    return f"# {count} files"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
