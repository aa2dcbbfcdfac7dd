"""musicjax.listen as a user runs it; what is on a page: tests/rendering/test_page.py."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from musicjax.evaluation import ratings


def run(*words, cwd):
    return subprocess.run(
        [sys.executable, "-m", "musicjax.listen", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_ratings_are_tallied(tmp_path):
    rows = ["listener,piece,code,rating,guess"]
    for piece, origin, guess in (("01", ratings.REAL, "real"), ("02", "run", "real")):
        rows.append(f"Ann,{piece},{ratings.encode_origin(origin, piece)},4,{guess}")
    (tmp_path / "ratings.csv").write_text("\n".join([*rows, "nonsense"]))
    done = run("--tally=ratings.csv", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "left out: ratings.csv, row 4: rating is ''" in done.stdout
    assert "fooled: 1 of 1 times" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "expected --workdir=RUN"),
        (["--workdir=a", "--tally=b.csv"], "expected --workdir=RUN"),
        (["--workdir=nothing"], "workdir is 'nothing', which is no folder"),
        (["--tally=nothing.csv"], "nothing.csv: not read as CSV (No such file or directory)"),
        (["--workdir=.", "--blind_seconds=1"], "blind_seconds is 1.0; expected 3 to 120"),
        (["--workdir=.", "--ceiling=3"], "ceiling is 3.0; expected -20 to 0"),
        (["--workdir=.", "--output=/proc/page"], "/proc"),
    ],
)
def test_a_mistake_is_one_line(words, said, tmp_path):
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert said in done.stderr
    assert not list(tmp_path.iterdir())
