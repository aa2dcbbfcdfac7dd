"""What the system lets this process have: open files, memory, room on a disk. Too little of it ends
a library in the midst of work, by a crash or a page of C++, so it is found out before.
"""

import shutil
from pathlib import Path

from musicjax.errors import InputError
from musicjax.system import files

_OPEN_FILES = 128  # training holds some sixty
_ADDRESSES = 3 * 2**30  # bytes; jax takes two thirds when it starts


def check() -> None:
    """Checks the limits of this process, and raises that of open files as far as it may.

    Raises:
        InputError: they are too low to work with.
    """
    try:
        import resource
    except ImportError:  # not a system that has them
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _finite(hard) and hard < _OPEN_FILES:
        raise InputError(
            f"the system lets this process open {hard} files; expected at least {_OPEN_FILES}, "
            "such as by ulimit -n 1024"
        )
    if soft < _OPEN_FILES and _finite(soft):
        resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, hard))
    addresses = resource.getrlimit(resource.RLIMIT_AS)[0]
    if _finite(addresses) and addresses < _ADDRESSES:
        raise InputError(
            f"the system lets this process have {addresses / 2**30:.1f} GiB of memory (ulimit -v); "
            f"expected at least {_ADDRESSES / 2**30:.0f}, or no limit"
        )


def expect_room(folder: Path, size: int, what: str) -> None:
    """Checks that a disk has room for what will be written.

    Args:
        folder: on the disk; it need not be there.
        size: in bytes.
        what: takes them, for the message.
    Raises:
        InputError: there is less.
    """
    free = shutil.disk_usage(files.nearest(folder)).free
    if free < size:
        raise InputError(
            f"{folder}: {free / 2**20:.1f} MiB are free on its device; expected at least "
            f"{size / 2**20:.1f}, for {what}"
        )


def _finite(limit: int) -> bool:
    import resource

    return limit != resource.RLIM_INFINITY
