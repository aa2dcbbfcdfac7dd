"""Several processes that train together, started as a user starts them."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT
from runs import lines

from musicjax.training.run import train_and_evaluate

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick


def run(*words):
    return subprocess.run(
        ["scripts/two_processes.sh", "--config=configs/vocab.py:tiny", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        # As conftest.py does, so that little is spent on compilation.
        env=os.environ | {"PYTHON": sys.executable, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    )


def test_two_processes_train_as_one_does(tiny, tmp_path):
    words = (f"--config.data.source={tiny.data.source}", f"--workdir={tmp_path / 'two'}")
    for epochs, said in ((1, "2 devices of 2 processes"), (2, "going on from step 53")):
        done = run(*words, f"--config.train.epochs={epochs}")
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
        assert done.stdout.count(f"epoch   {epochs}/{epochs}") == 1  # the first alone prints
    # What two processes have saved, one goes on with.
    tiny.train.epochs = 3
    for name in ("one", "two"):
        train_and_evaluate(tiny, tmp_path / name)
    both = list(zip(lines(tmp_path / "one"), lines(tmp_path / "two"), strict=True))
    assert len(both) == 3
    for one, two in both:
        for name in ("train_loss", "validation_loss"):
            assert two[name] == pytest.approx(one[name], rel=1e-5)


def test_a_mistake_ends_both_processes(tiny, tmp_path):
    done = run(
        f"--config.data.source={tiny.data.source}",
        f"--workdir={tmp_path / 'run'}",
        "--config.train.batch_size=15",
    )
    assert done.returncode == 2
    assert "train.batch_size is 15, which 2 devices cannot share evenly" in done.stderr
    assert not (tmp_path / "run").exists()
