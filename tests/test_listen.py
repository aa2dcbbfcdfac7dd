"""musicjax.listen as a user runs it; what is on a page: tests/rendering/test_page.py."""

import json
import os
import subprocess
import sys
from typing import NamedTuple

import pytest
from conftest import ROOT

from musicjax.evaluation import ratings

# Runs the command with each list of words in a process of its own; forked, so that what all of them
# import is imported once.
COMMANDS = """
import json, os, sys
from musicjax import cli, listen

for number, (words, prefix) in enumerate(json.load(sys.stdin)):
    if os.fork() == 0:
        for descriptor in (1, 2):
            os.dup2(os.open(f"{prefix}.{descriptor}", os.O_CREAT | os.O_WRONLY), descriptor)
        sys.argv = ["musicjax listen", *words]
        cli.run(listen._main, listen._define_flags)
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""
MISTAKES = [
    ([], "expected --workdir=RUN"),
    (["--model=chorales", "--tally=b.csv"], "expected --workdir=RUN or --model=chorales"),
    (["--model=none"], "model is 'none', which does not come with musicjax; expected 'chorales'"),
    (["--live", "--model=chorales", "--workdir=a"], "--live is of one model, and 2 are given"),
    (["--live", "--model=chorales", "--keep=C4-C6"], "--live plays on and on, and can neither"),
    (["--workdir=nothing"], "workdir is 'nothing', which is no folder"),
    (["--live", "--workdir=nothing"], "workdir is 'nothing', which is no folder"),
    (["--tally=nothing.csv"], "nothing.csv: not read as CSV (No such file or directory)"),
    (["--workdir=.", "--blind_seconds=1"], "blind_seconds is 1.0; expected 3 to 120"),
    (["--workdir=.", "--ceiling=3"], "ceiling is 3.0; expected -20 to 0"),
    (["--workdir=.", "--output=/proc/page"], "/proc"),
    (["--live", "--model=chorales", "--output=/proc/page"], "/proc"),
]


class Done(NamedTuple):
    status: int
    stdout: str
    stderr: str


def run_each(lists, cwd, folder):
    """What becomes of the command with each list of words."""
    prefixes = [folder / str(number) for number in range(len(lists))]
    words = [[words, str(prefix)] for words, prefix in zip(lists, prefixes, strict=True)]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        input=json.dumps(words),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return [
        Done(int(status), *(prefix.with_suffix(end).read_text() for end in (".1", ".2")))
        for status, prefix in zip(done.stdout.split(), prefixes, strict=True)
    ]


def test_ratings_are_tallied(tmp_path, tmp_path_factory):
    rows = ["listener,piece,code,rating,guess"]
    for piece, origin, guess in (("01", ratings.REAL, "real"), ("02", "run", "real")):
        rows.append(f"Ann,{piece},{ratings.encode_origin(origin, piece)},4,{guess}")
    (tmp_path / "ratings.csv").write_text("\n".join([*rows, "nonsense"]))
    [done] = run_each([["--tally=ratings.csv"]], tmp_path, tmp_path_factory.mktemp("said"))
    assert (done.status, done.stderr) == (0, "")
    assert "left out: ratings.csv, row 4: rating is ''" in done.stdout
    assert "fooled: 1 of 1 times" in done.stdout


@pytest.fixture(scope="module")
def made_mistakes(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("cwd")
    found = run_each([words for words, _ in MISTAKES], cwd, tmp_path_factory.mktemp("said"))
    assert not list(cwd.iterdir())
    return found


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=lambda i: " ".join(MISTAKES[i][0]))
def test_a_mistake_is_one_line(made_mistakes, number):
    done = made_mistakes[number]
    assert done.status == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert MISTAKES[number][1] in done.stderr
