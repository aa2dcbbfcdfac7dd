"""Worker processes: a task that crashes or hangs costs its own result only."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple


class Failure(NamedTuple):
    """What a task without a result failed by: reason "too_slow" or "crashed"."""

    reason: str
    detail: str


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    *,
    workers: int,
    seconds: float | None = None,
) -> Iterator[tuple[int, Any]]:
    """Calls function(*task) for each task, in worker processes.

    Args:
        function: of a module, so that workers can import it; what it raises is raised here.
        tasks: its arguments; they are pickled.
        workers: processes; 0 calls it in this one, where no task is stopped.
        seconds: a task that takes longer is stopped, and its worker with it.
    Yields:
        (index of the task, its result or a Failure), in the order in which they end.
    """
    if not workers or not tasks:
        yield from ((index, function(*task)) for index, task in enumerate(tasks))
        return
    import pebble

    with _main_hidden():
        pool = pebble.ProcessPool(max_workers=min(workers, len(tasks)), context=_context(function))
        try:
            futures: dict[Any, int] = {
                pool.schedule(function, args=task, timeout=seconds): index
                for index, task in enumerate(tasks)
            }
            for future in concurrent.futures.as_completed(futures):
                index = futures.pop(future)
                try:
                    result = future.result()
                except concurrent.futures.TimeoutError:
                    result = Failure("too_slow", f"took more than {seconds:g} seconds")
                except pebble.ProcessExpired as error:
                    result = Failure("crashed", f"its process ended with status {error.exitcode}")
                yield index, result
            pool.close()
        finally:
            pool.stop()
            pool.join()


def _context(function: Callable[..., Any]) -> Any:
    # Forking a process that has threads, as one with jax has, may deadlock. Where the platform has
    # a fork server, which has no threads, that starts workers in milliseconds.
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.__module__])
    return context


@contextlib.contextmanager
def _main_hidden() -> Iterator[None]:
    """Hides the main module from new processes.

    They would import it, and a script without `if __name__ == "__main__"` would encode or train
    again in each of them. No task needs it.
    """
    main = sys.modules["__main__"]
    names = ("__spec__", "__file__")
    hidden = {name: getattr(main, name) for name in names if hasattr(main, name)}
    main.__spec__ = None
    if "__file__" in hidden:
        del main.__file__
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)
