"""What a benchmark ran on."""

import importlib.metadata
import platform
from pathlib import Path

from musicjax.system import workers

PACKAGES = ("jax", "flax", "numpy", "torch", "keras")


def name() -> str:
    """The processor's."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, IndexError):  # not Linux, or a processor without a name
        return platform.processor() or platform.machine()


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str | None]:
    """Python's and the packages'; None where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def facts(packages: tuple[str, ...] = PACKAGES) -> dict:
    """What goes into each benchmark's line of JSON."""
    return {"machine": name(), "processors": workers.cores(), **versions(packages)}
