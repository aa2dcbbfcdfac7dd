"""The command musicjax.encode."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from conftest import ROOT, random_song, settings

from musicjax.corpus import build
from musicjax.corpus.store import FORMAT, Corpus
from musicjax.errors import InputError
from musicjax.music import midi

# The module of the command: musicjax.encode is the function.
encode = importlib.import_module("musicjax.encode")


def run(data, output, *, report=False, workers=1):
    config = SimpleNamespace(data=data)
    flags = SimpleNamespace(config=config, output=str(output), report=report, workers=workers)
    encode._main(flags)


def test_it_writes_a_corpus_and_says_what_it_holds(folder, tmp_path, capsys):
    run(settings(folder), tmp_path / "corpus")
    corpus = Corpus.load(tmp_path / "corpus")
    printed = capsys.readouterr().out
    assert printed.startswith(build.describe(corpus))
    assert f"files left out are listed in {tmp_path}/corpus/skipped.jsonl" in printed
    assert len(corpus.songs) == 30
    with pytest.raises(InputError, match="already exists"):
        run(settings(folder), tmp_path / "corpus")


def test_a_report_is_written_of_a_corpus_that_exists(folder, tmp_path, capsys):
    run(settings(folder), tmp_path / "corpus")
    changed = (tmp_path / "corpus" / "data.npy").stat().st_mtime_ns
    run(settings(folder), tmp_path / "corpus", report=True)
    assert (tmp_path / "corpus" / "report" / "index.html").is_file()
    assert (tmp_path / "corpus" / "data.npy").stat().st_mtime_ns == changed
    printed = capsys.readouterr().out
    assert f"the report is {tmp_path}/corpus/report/index.html" in printed
    with pytest.raises(InputError, match="was made of other files or with other settings; give"):
        run(settings(folder, transpose=False), tmp_path / "corpus", report=True)
    # The folder is still a corpus.
    assert len(Corpus.load(tmp_path / "corpus").songs) == 30


@pytest.mark.parametrize("report", [False, True])
def test_a_corpus_folder_is_not_encoded_again(folder, tmp_path, report):
    run(settings(folder), tmp_path / "corpus")
    with pytest.raises(InputError, match="a corpus folder: train on it as it is"):
        run(settings(tmp_path / "corpus"), tmp_path / "again", report=report)
    assert not (tmp_path / "again").exists()


def test_the_number_of_workers_is_at_least_one(folder, tmp_path):
    with pytest.raises(InputError, match="workers is 0; expected at least 1"):
        run(settings(folder), tmp_path / "corpus", workers=0)


def test_it_goes_on_after_a_kill(tmp_path):
    source, partial = tmp_path / "songs", tmp_path / ".killed.partial"
    source.mkdir()
    for seed in range(190):
        midi.write_song(random_song(seed, quarters=24), source / f"{seed:03d}.mid")
    command = [
        *(sys.executable, "-m", "musicjax.encode", "--config=configs/vocab.py:tiny", "--workers=1"),
        *(f"--config.data.source={source}", f"--output={tmp_path / 'killed'}"),
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not list(partial.glob("*.npz")):
        assert process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed").exists()
    before = {path.name: path.stat().st_mtime_ns for path in partial.glob("*.npz")}
    assert 1 <= len(before) < 6
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "190 songs of 190 files" in again.stdout
    assert not partial.exists()
    run(settings(source), tmp_path / "whole")
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "killed" / path.name).read_bytes()
    assert json.loads((tmp_path / "killed" / "manifest.json").read_text())["format"] == FORMAT
