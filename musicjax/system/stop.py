"""SIGINT (Ctrl-C) and SIGTERM: a command ends at once, with one line and the status that shells and
schedulers know, 130 or 143.

Python would raise an exception in the main thread. That comes late while XLA compiles, is swallowed
in a callback of XLA's, and crashes what is just being imported. So a thread ends the process. What
a command must do before, such as to save, it does while the end is `held`.
"""

import contextlib
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SECONDS = 2.0  # after which a second signal ends what is held

_caught = False
_held = 0
_ending = threading.Lock()
_temporary: set[Path] = set()


class Stopped(KeyboardInterrupt):
    """What a signal becomes that came while the end was held.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number


def catch() -> None:
    """From here on, the signals end this process. To be called by the main thread."""
    global _caught
    if _caught:
        return
    _caught = True
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # It is written to as soon as a signal comes, whatever the main thread does.
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()


@contextlib.contextmanager
def held() -> Iterator[None]:
    """While there is something to save, one signal ends nothing: who holds the end has a handler of
    its own, saves, and raises `Stopped`. A second signal ends the process all the same.
    """
    global _held
    _held += 1
    try:
        yield
    except Stopped:
        _held += 1  # the process ends by it, with its line
        raise
    finally:
        _held -= 1


@contextlib.contextmanager
def removed(path: Path) -> Iterator[None]:
    """A temporary file or folder, that is removed at the end, and if a signal ends the process."""
    _temporary.add(path)
    try:
        yield
    finally:
        _remove(path)
        _temporary.discard(path)


def end(stopped: KeyboardInterrupt) -> NoReturn:
    """Ends this process with the line of an exception."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    leave(128 + getattr(stopped, "number", signal.SIGINT), str(stopped) or "stopped")


def _watch(reader: int) -> NoReturn:
    numbers: list[int] = []
    while True:
        # While the end is held, it may be let go at any time.
        if select.select([reader], [], [], 0.1 if numbers else None)[0]:
            numbers += [number for number in os.read(reader, 64) if number in SIGNALS]
        if numbers and _held and len(numbers) > 1:
            time.sleep(_SECONDS)  # the handler may see to it
            leave(128 + numbers[0], "stopped")
        if numbers and not _held:
            leave(128 + numbers[0], "stopped")


def leave(status: int, line: str) -> NoReturn:
    """Ends this process at once, with one line on standard error. Any thread may call it."""
    _ending.acquire()  # for good: one thread ends the process, with one line
    # No print: the main thread may hold the lock of the stream.
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"{line}\n".encode())
    if processes := sys.modules.get("multiprocessing"):
        for child in processes.active_children():
            child.kill()
    for path in list(_temporary):
        with contextlib.suppress(OSError):
            _remove(path)
    # An interpreter that is taken down while XLA works may crash, so it is not.
    os._exit(status)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
