"""Each door of docs/extending.md, opened from outside of the package through the ordinary commands.

tests/extension/ is a package as pip would install it: entry points name what it adds. Nothing in
musicjax knows of it.
"""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from musicjax.music import midi

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick

EXTENSION = ROOT / "tests" / "extension"


@pytest.fixture(scope="module")
def run():
    """Runs a command of musicjax with the extension installed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(EXTENSION), str(ROOT)])}

    def run(command, *arguments):
        return subprocess.run(
            [sys.executable, "-m", f"musicjax.{command}", *map(str, arguments)],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def workdir(run, tmp_path_factory):
    """A GRU, trained on beats of tunes."""
    path = tmp_path_factory.mktemp("toys") / "run"
    done = run("train", f"--config={EXTENSION}/config.py", f"--workdir={path}")
    assert done.returncode == 0, done.stderr
    return path


def test_a_source_an_encoding_and_a_model_train(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    # A scale of eight notes, of which each goes on to three: better than one of the eight.
    assert lines[-1]["validation_nll"] < 2.0 < lines[0]["train_nll"]


def test_a_baseline_stands_beside_the_model(run, workdir):
    done = run("evaluate", f"--workdir={workdir}", "--json")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert list(results) == ["model", "unigram", "repeat last", "Kneser-Ney", "uniform"]
    assert results["uniform"]["nll"] == pytest.approx(4.8598, abs=1e-4)  # log 129
    assert results["model"]["nll"] < results["unigram"]["nll"] < results["uniform"]["nll"]


def test_a_measure_and_a_sampling_rule_take_part(run, workdir, tmp_path):
    arguments = ["generate", f"--workdir={workdir}", "--num=2", "--text", "--length=24"]
    done = run(*arguments, f"--output={tmp_path}", "--highest_id=66")
    assert done.returncode == 0, done.stderr
    for seed in (0, 1):
        beats = (tmp_path / f"seed_{seed}.txt").read_text().split()
        assert len(beats) == 24
        highest = max(int(beat) for beat in beats if beat != "rest")
        assert highest <= 64
        assert f"up to {highest}" in done.stdout
        assert midi.read_song(tmp_path / f"seed_{seed}.mid").num_notes
    refused = run(*arguments, f"--output={tmp_path}", "--highest_id=0")
    assert refused.returncode == 2
    assert refused.stderr == "error: highest_id is 0; expected at least 1\n"


def test_a_setting_of_the_rule_is_in_the_help(run):
    assert "Highest id." in run("generate", "--help").stdout


def test_a_rule_for_the_other_kind_of_elements_is_refused(run, workdir, tmp_path):
    done = run("generate", f"--workdir={workdir}", f"--output={tmp_path}", "--max_notes=3")
    assert done.returncode == 2
    assert "max_notes is 3, which has no effect on a model of beats" in done.stderr


def test_without_the_extension_its_names_are_unknown():
    done = subprocess.run(
        [sys.executable, "-m", "musicjax.train", f"--config={EXTENSION}/config.py", "--workdir=x"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "data.encoding is 'beats'; expected one of tokens, note_states" in done.stderr
