"""Processes that train together: if one is lost, the others end soon, with one line each.

A process that waits for a lost one would wait long, or jax would end it from C++, by abort() and
with pages that do not say what to do.
"""

import atexit
import contextlib
import ctypes
import faulthandler
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn

import jax

from musicjax.errors import InputError, one_line
from musicjax.system import stop

_SECONDS = 15  # without a sign of life, after which a process is lost; jax would wait for 100
# How jax's C++ begins to end a process, and its reason; what the same error says before.
_FATAL, _REASON = b"JAX distributed service detected", b"absl::Status: "
_BEFORE = b" coordination_service"
# What Python is told by jax, by one exception or another: of TCP, of NVIDIA's library, of gRPC.
_LOST = re.compile("Gloo|NCCL|UNAVAILABLE|DEADLINE_EXCEEDED|[Bb]arrier|heartbeat")
_MESSAGE = re.compile(rb"[IWEF]\d{4} ")  # the first line of one of C++, which may have several


@contextlib.contextmanager
def joined(
    coordinator: str, processes: int | None = None, process: int | None = None
) -> Iterator[None]:
    """Joins the other processes that train together, before jax computes anything. To be entered
    once: it lasts until this process ends. Where another one is lost, this one ends with status 2
    and one line: at once if it waits for the other's gradients by TCP, else when the other was
    silent for 15 seconds.

    Args:
        coordinator: host:port of process 0, which listens on it; or "auto", where jax learns all
            three from Slurm or Open MPI.
        processes: how many there are.
        process: this one's number, from 0.
    Raises:
        InputError: jax does not know enough, or does not reach the others within five minutes.
    """
    # It would catch SIGTERM; the trainer stops all processes at the same step by itself.
    jax.config.update("jax_enable_preemption_service", False)
    _watch_native_errors()
    address = None if coordinator == "auto" else coordinator
    try:
        jax.distributed.initialize(address, processes, process, heartbeat_timeout_seconds=_SECONDS)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"coordinator is {coordinator!r}, processes {processes}, process {process}: {error}; "
            "expected host:port of process 0, how many processes, and which of them this is, or "
            "auto under Slurm or Open MPI"
        ) from None
    try:
        yield
    except Exception as error:
        # It would wait for the others at its end, and they for it.
        atexit.register(_leave, 2 if isinstance(error, InputError) else 1)
        if not is_loss(error):
            raise
        stop.leave(2, _lost(str(error)))


def is_loss(error: object) -> bool:
    """Whether an error says that another process cannot be reached."""
    return (
        jax.process_count() > 1
        and isinstance(error, RuntimeError | ValueError)
        and not isinstance(error, InputError)
        and _LOST.search(str(error)) is not None
    )


def _lost(reason: str) -> str:
    reason = re.split(r"\n|\. |:$", reason.strip(), maxsplit=1)[0]
    return one_line(
        f"error: another process was lost, or cannot be reached ({reason}); start all of them "
        "again: the same commands go on from the last checkpoint"
    )


def _leave(status: int) -> NoReturn:
    """Ends this process without what jax has registered."""
    sys.stdout.flush()
    os._exit(status)


def _watch_native_errors() -> None:
    """What C++ writes to standard error is passed on by a thread, from here on, which ends the
    process with one line when jax tells that another one is lost.
    """
    terminal = os.dup(2)
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    os.close(writer)
    if sys.stderr is sys.__stderr__:  # not a notebook's
        sys.stderr = os.fdopen(terminal, "w", errors="backslashreplace", buffering=1, closefd=False)
    if faulthandler.is_enabled():
        faulthandler.enable(terminal)
    # jax calls abort() then. This holds it back while the thread ends the process: the handler of
    # the signal is C's sleep, given the signal's number, 6. A handler of Python's would come late.
    c = ctypes.CDLL(None)
    c.signal(signal.SIGABRT, c.sleep)
    threading.Thread(target=_pass_on, args=(reader, terminal), daemon=True).start()


def _pass_on(reader: int, terminal: int) -> None:
    of_jax = False
    with open(reader, "rb") as errors:
        for line in errors:
            if _FATAL in line:
                stop.leave(2, _lost(line.partition(_REASON)[2].decode(errors="replace")))
            if _MESSAGE.match(line):
                of_jax = _BEFORE in line
            if not of_jax:
                os.write(terminal, line)
