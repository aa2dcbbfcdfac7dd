"""Several processes that train together, started as a user starts them."""

import contextlib
import os
import socket
import subprocess
import sys
import time

import pytest
from conftest import ROOT
from runs import lines

from musicjax.training.run import train_and_evaluate

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick

CONFIG = "--config=configs/vocab.py:tiny"


def run(*words):
    return subprocess.run(
        ["scripts/two_processes.sh", CONFIG, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"PYTHON": sys.executable},
    )


@contextlib.contextmanager
def started(*command):
    """Two processes with these words and --coordinator, --processes and --process after them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    together = [f"--coordinator=127.0.0.1:{port}", "--processes=2"]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, *command, *together, f"--process={number}"],
                    cwd=ROOT,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for number in range(2)
        ]
        for process in processes:
            stack.callback(process.kill)
        yield processes


def killed(processes, number):
    """Kills one; what the other writes to standard output."""
    processes[number].kill()
    other, since = processes[1 - number], time.monotonic()
    output, errors = other.communicate(timeout=60)
    assert time.monotonic() - since < 45
    assert other.returncode == 2, errors[-2000:]
    assert errors.startswith("error: another process was lost, or cannot be reached (")
    assert len(errors.splitlines()) == 1, errors
    return output


def test_one_is_killed_and_the_other_ends_and_they_go_on(tiny, tmp_path):
    two = tmp_path / "two"
    words = (f"--config.data.source={tiny.data.source}", f"--workdir={two}")
    forever = ("--config.train.epochs=1000000", "--config.train.devices=1")
    with started("-m", "musicjax.train", CONFIG, *words, *forever) as processes:
        while not list(two.glob("checkpoints/*/SHA256SUMS")):
            assert all(process.poll() is None for process in processes), processes[0].communicate()
            time.sleep(0.1)
        output = killed(processes, 1)
    assert "2 devices of 2 processes" in output
    # As many go on as were before, and then one.
    done = run(*words, f"--config.train.epochs={len(lines(two)) + 1}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("going on from step") == 1  # the first alone prints
    tiny.train.epochs = len(lines(two)) + 1
    for name in ("one", "two"):
        train_and_evaluate(tiny, tmp_path / name)
    both = list(zip(lines(tmp_path / "one"), lines(two), strict=True))
    assert len(both) == tiny.train.epochs >= 3
    for one, other in both:
        for name in ("train_loss", "validation_loss"):
            assert other[name] == pytest.approx(one[name], rel=1e-5)


def test_the_first_is_killed_and_the_other_ends():
    """It holds the others together: jax's C++ ends them."""
    program = (
        "import sys, time\n"
        "from musicjax.training import peers\n"
        "address, number, process = (word.partition('=')[2] for word in sys.argv[1:])\n"
        "with peers.joined(address, int(number), int(process)):\n"
        "    print('joined', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with started("-c", program) as processes:
        for process in processes:
            assert process.stdout.readline() == "joined\n"
        assert killed(processes, 0) == ""


def test_a_mistake_ends_both_processes(tiny, tmp_path):
    done = run(
        f"--config.data.source={tiny.data.source}",
        f"--workdir={tmp_path / 'run'}",
        "--config.train.batch_size=15",
    )
    assert done.returncode == 2
    assert "train.batch_size is 15, which 2 devices cannot share evenly" in done.stderr
    assert not (tmp_path / "run").exists()
