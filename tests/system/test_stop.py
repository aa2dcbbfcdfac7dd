import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

PROGRAM = """
import signal, sys, time
from musicjax.system import stop
stop._SECONDS = 0.5
stop.catch()
print("ready", flush=True)
"""
SWALLOWED = """
try:
    time.sleep(60)
except BaseException as error:
    print(error, flush=True)
time.sleep(60)
"""
SAVED = """
try:
    with stop.held():
        caught = []
        signal.signal(signal.SIGTERM, lambda number, _: caught.append(number))
        while not caught:
            time.sleep(0.1)
        time.sleep(1)  # saves
        raise stop.Stopped(caught[0], "stopped and saved")
except KeyboardInterrupt as stopped:
    time.sleep(0.5)  # closes what is open
    stop.end(stopped)
"""
LET_GO = """
with stop.held():
    time.sleep(1)
time.sleep(60)
"""
WRITING = """
from pathlib import Path
from musicjax.system import files
with files.new_folder(Path(sys.argv[1], "folder")), files.new_file(Path(sys.argv[1], "file")):
    print("writes", flush=True)
    time.sleep(60)
"""


def signalled(program: str, number: int, times: int = 1):
    """Status, lines of errors, and seconds from the signal to the end."""
    command = [sys.executable, "-c", PROGRAM + program]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        started = time.monotonic()
        for _ in range(times):
            time.sleep(0.2)
            process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    return process.returncode, errors.splitlines(), time.monotonic() - started


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_process_whatever_it_does(number, status):
    done = signalled(SWALLOWED, number)
    assert done[:2] == (status, ["stopped"])
    assert done[2] < 3


def test_what_is_to_be_saved_is_saved_first():
    status, errors, seconds = signalled(SAVED, signal.SIGTERM)
    assert (status, errors) == (143, ["stopped and saved"])
    assert seconds > 1
    status, errors, seconds = signalled(LET_GO, signal.SIGTERM)
    assert (status, errors) == (143, ["stopped"])


def test_the_second_signal_does_not_wait():
    status, errors, seconds = signalled(
        "with stop.held():\n" + SWALLOWED.replace("\n", "\n    "), signal.SIGINT, times=2
    )
    assert (status, errors) == (130, ["stopped"])
    assert seconds < 5


def test_nothing_half_written_is_left(tmp_path):
    command = [sys.executable, "-c", PROGRAM + WRITING, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["ready\n", "writes\n"]
        assert len(list(tmp_path.iterdir())) == 2
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []
