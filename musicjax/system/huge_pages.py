"""Memory in huge pages.

XLA takes the buffers of a compiled call from malloc and returns them at its end; glibc maps large
ones anew each time, in pages of 4 KiB that the system must first clear. glibc reads its settings
when a process starts, so a command starts itself once more.

Source: glibc's manual, "Memory Allocation Tunables".
"""

import os
import platform
import sys

VARIABLE = "GLIBC_TUNABLES"
# Before glibc 2.35 it is ignored. To keep what is freed (trim_threshold, top_pad) added nothing to
# it, and to take large blocks from the heap (mmap_max) cost a third.
TUNABLES = "glibc.malloc.hugetlb=1"


def environment() -> dict[str, str]:
    """The environment of a process with huge pages: os.environ and one variable more."""
    return os.environ | {VARIABLE: TUNABLES}


def restart() -> None:
    """Starts this command anew with huge pages, and says so; it does not return.

    Returns where nothing can be done: in the process that was started anew; where the C library
    is not glibc; where the user has set its tunables, or another allocator.
    """
    if os.environ.get(VARIABLE) == TUNABLES:
        del os.environ[VARIABLE]  # it has been read; the workers that encode need none
        return
    if platform.libc_ver()[0] != "glibc" or VARIABLE in os.environ or "LD_PRELOAD" in os.environ:
        return
    if not sys.executable or not sys.orig_argv[1:]:  # embedded in another program
        return
    print("starting anew with huge pages (--config.train.huge_pages=False: without)", flush=True)
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment())
