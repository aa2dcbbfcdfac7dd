"""A C library that keeps its memory, in large pages.

XLA takes the buffers of a compiled call from malloc and gives them back at its end; glibc takes
large ones from the system each time, in pages of 4 KiB that the system must first clear. glibc reads
how it shall do that when a process starts, so a command starts itself once more.

Source: glibc's manual, "Memory Allocation Tunables".
"""

import os
import platform
import sys

TUNABLES = {
    "glibc.malloc.hugetlb": 1,  # ask for large pages; from 2.35 on, before it is ignored
    "glibc.malloc.mmap_max": 0,  # large blocks from the heap, too
    "glibc.malloc.trim_threshold": 2**34,  # what is freed is kept
    "glibc.malloc.top_pad": 2**26,  # the heap grows in steps of 64 MiB
}
VARIABLE = "GLIBC_TUNABLES"


def environment() -> dict[str, str]:
    """The environment of a process that is to have large pages; os.environ with one more name."""
    return os.environ | {VARIABLE: ":".join(f"{name}={value}" for name, value in TUNABLES.items())}


def use_large_pages() -> None:
    """Starts this command anew with large pages, and says so; it does not return.

    Returns where there is nothing to do: in the process that was started anew; where the C library
    is not glibc; where the user has set its tunables, or another allocator.
    """
    if os.environ.get(VARIABLE) == environment()[VARIABLE]:
        del os.environ[VARIABLE]  # it has been read; the workers that encode are better off without
        return
    if platform.libc_ver()[0] != "glibc" or VARIABLE in os.environ or "LD_PRELOAD" in os.environ:
        return
    if not sys.executable or not sys.orig_argv[1:]:  # embedded in another program
        return
    print("starting anew with large pages of memory (--nolarge_pages: without)", flush=True)
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment())
