"""How long until something happens, and how much memory does the default run take?

    python -m benchmarks.startup [--steps=20]

What bounds it. `--help` imports absl and ml_collections alone. The first training step waits for
the imports of jax, flax, grain and orbax (several seconds on two cores, most of it reading and
running Python), for tracing, and for XLA's compilation, which the second start finds in the
cache of compiled programs. The songs are encoded beforehand.

Runs configs/vocab.py with one step a call: once with an empty cache of compiled programs, then
twice with that cache. The first run goes on for some steps, then its peak memory is read. Prints a
table; the last line is JSON.
"""

import argparse
import contextlib
import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import tempfile
import termios
import time

from benchmarks import machine
from configs import vocab
from musicjax.corpus.build import open_corpus

_PROGRESS = re.compile(rb"\| (\d+)/\d+ \[")


def help_seconds(module: str) -> float:
    start = time.perf_counter()
    command = [sys.executable, "-m", f"musicjax.{module}", "--help"]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def first_step_seconds(cache: str, steps: int) -> float:
    """Seconds from the command to its first step; it is stopped after `steps`."""
    with tempfile.TemporaryDirectory() as workdir:
        ours, theirs = pty.openpty()  # only a terminal of some width has a progress bar
        termios.tcsetwinsize(theirs, (24, 80))
        start = time.perf_counter()
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "musicjax.train",
                "--config=configs/vocab.py",
                f"--workdir={workdir}/run",
                "--config.train.steps_per_call=1",
            ],
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            env=os.environ | {"JAX_COMPILATION_CACHE_DIR": cache},
        )
        os.close(theirs)
        seconds, said = None, b""
        with contextlib.suppress(OSError):  # which is how a terminal ends
            while done := os.read(ours, 4096):
                said += done
                step = max((int(number) for number in _PROGRESS.findall(said)), default=0)
                if step and seconds is None:
                    seconds = time.perf_counter() - start
                if step >= steps:
                    break
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(OSError):
            while os.read(ours, 4096):  # what it says as it stops, lest it wait for us
                pass
        process.wait()
        os.close(ours)
        if seconds is None:
            raise RuntimeError(f"no training step: {said.decode()[-500:]}")
        return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="steps before memory is read")
    arguments = parser.parse_args()

    open_corpus(vocab.get_config().data)
    result: dict = {"benchmark": "startup", **machine.facts(("jax",))}
    for module in ("train", "generate"):
        result[f"{module}_help_s"] = round(min(help_seconds(module) for _ in range(3)), 2)
    with tempfile.TemporaryDirectory() as cache:
        result["first_step_cold_s"] = round(first_step_seconds(cache, arguments.steps), 1)
        result["first_step_cached_s"] = [round(first_step_seconds(cache, 1), 1) for _ in range(2)]
    # The largest of all processes that were waited for: the training runs.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    result["peak_memory_mib"] = round(peak / 1024)
    for name, value in result.items():
        print(f"{name:22}{value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
