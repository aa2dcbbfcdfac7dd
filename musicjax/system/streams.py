"""Standard output and error that are closed, on a full disk, or whose reader has gone."""

import contextlib
import errno
import os
import select
import sys
from collections.abc import Iterator

_BROKEN_PIPE = 128 + 13  # what a shell makes of SIGPIPE


@contextlib.contextmanager
def written() -> Iterator[None]:
    """What is printed within is written at its end, or this process ends: quietly and with status
    141 where nobody reads it any more, as after `| head`; with one line and status 2 where it goes
    to a file on a full disk. Where there is no standard output or error, it goes nowhere.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # `>&-`: print would fail, or write to the other
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        _give_up()
        sys.exit(_BROKEN_PIPE)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or _can_be_flushed():
            raise
        _give_up()
        print("error: no space left on the device of standard output", file=sys.stderr)
        sys.exit(2)


def _nobody_reads() -> bool:
    """Whether it is standard output whose reader has gone, where the system can tell."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(sys.stdout, select.POLLERR)
    return bool(poll.poll(0))


def _can_be_flushed() -> bool:
    try:
        sys.stdout.flush()
    except OSError:
        return False
    return True


def _give_up() -> None:
    """What standard output still holds goes nowhere, or Python tells of it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
