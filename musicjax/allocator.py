"""Memory in large pages.

XLA takes the buffers of a compiled call from malloc and gives them back at its end; glibc takes
large ones from the system each time, in pages of 4 KiB that the system must first clear. glibc
reads how it shall do that when a process starts, so a command starts itself once more.

Source: glibc's manual, "Memory Allocation Tunables".
"""

import os
import platform
import sys

VARIABLE = "GLIBC_TUNABLES"
# Ask for large pages; before glibc 2.35 it is ignored. To keep what is freed (trim_threshold,
# top_pad) added nothing to it, and to take large blocks from the heap (mmap_max) cost a third.
TUNABLES = "glibc.malloc.hugetlb=1"


def environment() -> dict[str, str]:
    """The environment of a process that is to have large pages; os.environ with one more name."""
    return os.environ | {VARIABLE: TUNABLES}


def use_large_pages() -> None:
    """Starts this command anew with large pages, and says so; it does not return.

    Returns where there is nothing to do: in the process that was started anew; where the C library
    is not glibc; where the user has set its tunables, or another allocator.
    """
    if os.environ.get(VARIABLE) == TUNABLES:
        del os.environ[VARIABLE]  # it has been read; the workers that encode need none
        return
    if platform.libc_ver()[0] != "glibc" or VARIABLE in os.environ or "LD_PRELOAD" in os.environ:
        return
    if not sys.executable or not sys.orig_argv[1:]:  # embedded in another program
        return
    print("starting anew with large pages (--config.train.large_pages=False: without)", flush=True)
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment())
