"""The command lines, run as a user runs them."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import IN_FULL, ROOT

from musicjax.music import midi

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick


def run(*words, cwd=ROOT, timeout=300, **environment):
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=os.environ | environment,
    )


def good(*words, **options):
    done = run(*words, **options)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def bad(*words, **options):
    """The one line that a command ends with for bad input."""
    done = run(*words, **options)
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    return lines[0]


TINY = "--config=configs/vocab.py:tiny"


def test_what_training_evaluates_by_is_compiled_once_for_evaluate_too(folder, tmp_path):
    workdir, cache = f"--workdir={tmp_path / 'run'}", {"XDG_CACHE_HOME": str(tmp_path)}
    config = ["--config=configs/events.py:tiny", "--config.model.kernel=scan"]
    good("musicjax.train", *config, f"--config.data.source={folder}", workdir, **cache)
    good("musicjax.evaluate", workdir, **cache)
    programs = [path.name for path in (tmp_path / "musicjax" / "programs").iterdir()]
    assert sum(name.startswith("jit_train_steps-") for name in programs) == 1
    assert sum(name.startswith("jit_sums_of-") for name in programs) == 1


def test_from_midi_files_to_music(folder, tmp_path):
    source, runs, out = f"--config.data.source={folder}", tmp_path / "run", tmp_path / "out"
    said = good("musicjax.encode", TINY, source, f"--output={tmp_path / 'corpus'}")
    assert "30 songs of 30 files" in said
    corpus = f"--config.data.source={tmp_path / 'corpus'}"
    said = good("musicjax.train", TINY, corpus, f"--workdir={runs}", **IN_FULL)
    assert "epoch   2/2" in said
    assert "the best epoch: " in said
    assert f"--workdir={runs}" in said
    standing = json.loads((runs / "baseline.json").read_text())
    assert f"; {standing['name']} {standing['baseline']:.4g}" in said
    moved = runs.rename(tmp_path / "elsewhere")  # a work dir needs nothing outside it
    (moved / "baseline.json").write_text(json.dumps(standing | {"model": 9.0}))
    words = (f"--workdir={moved}", f"--output={out}", "--num=3", "--text")
    done = run("musicjax.generate", *words, **IN_FULL)
    said = done.stdout
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert "warning: this model is no better than what needs no network (on the" in done.stderr
    assert len(said.splitlines()) == 3 + 1
    assert "of their sounding cells" in said
    assert (out / "seed_2.txt").read_text().count(":") == 200
    songs = [midi.read_song(out / f"seed_{i}.mid") for i in range(3)]
    assert all(len(song.tracks[1]) > 20 for song in songs)
    assert len({tuple(song.tracks[1].pitch.tolist()) for song in songs}) == 3
    said = good("musicjax.compare", moved, moved, f"--plot={tmp_path}/c.png")
    assert said.count(f"{standing['name']} {standing['baseline']:.4g}") == 2
    assert (tmp_path / "c.png").exists()
    results = json.loads(good("musicjax.evaluate", f"--workdir={moved}", "--json"))
    assert results["model"]["tokens"] > 0
    rows = {"model", "unweighted", "unigram", "repeat last", "weighted unigram"}
    assert rows <= results.keys()

    # --- a mistake is one line --------------------------------------------------------------
    assert "top_p is 2.0" in bad("musicjax.generate", f"--workdir={moved}", "--top_p=2")
    assert "already exists" in bad(
        "musicjax.encode", TINY, source, f"--output={tmp_path / 'corpus'}"
    )
    line = bad("musicjax.train", TINY, source, f"--workdir={moved}", "--config.model.window=4")
    assert "holds a run with data.source" in line
    os.truncate(tmp_path / "corpus" / "data.npy", 400)
    assert "encode it again" in bad("musicjax.train", TINY, corpus, f"--workdir={runs}")
    assert not runs.exists()


def test_note_states_from_midi_files_to_music(folder, tmp_path):
    runs, config = tmp_path / "run", "--config=configs/nsm.py:tiny"
    said = good("musicjax.train", config, f"--config.data.source={folder}", f"--workdir={runs}")
    assert "(25 train, 0 validation, 5 test)" in said
    assert "epoch   2/2: train loss" in said
    said = good("musicjax.generate", f"--workdir={runs}", "--num=2", "--mode=predict")
    assert len(said.splitlines()) >= 2
    assert (runs / "samples" / "seed_1.mid").exists()
    said = good("musicjax.evaluate", f"--workdir={runs}")
    for row in ("model", "all silent", "repeat last step"):
        assert f"\n{row} " in said
    assert "on the test songs: " in said
    assert "window is 0" in bad("musicjax.evaluate", f"--workdir={runs}", "--window=0")


def test_the_polyphonic_benchmark_prints_its_line(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "valid", "test"):
        arrays[f"{split}_rolls"] = (rng.random((60, 88)) < 0.1).astype(np.uint8)
        arrays[f"{split}_lengths"] = np.array([25, 35])
    np.savez(tmp_path / "jsb_chorales.npz", **arrays)
    source, runs = f"--source={tmp_path}/jsb_chorales.npz", f"--workdir={tmp_path / 'run'}"
    said = good("benchmarks.polyphonic", source, runs, "--variant=tiny")
    assert "RNN-NADE" in said
    result = json.loads(said.splitlines()[-1])
    assert result["set"] == "jsb_chorales"
    assert 0 < result["test_nats"] < 88 * np.log(2) * 1.2  # of a coin for each note


@pytest.mark.parametrize("module", ["train", "encode", "generate", "evaluate", "compare"])
def test_help_is_quick_and_tells_the_flags(module):
    started = time.monotonic()
    done = run(f"musicjax.{module}", "--help")
    seconds = time.monotonic() - started
    assert done.returncode == 0
    assert f"python -m musicjax.{module}" in done.stdout
    own = {"train": "--config", "encode": "--config", "compare": "--plot"}
    for flag in (own.get(module, "--workdir"), "--[no]debug"):
        assert flag in done.stdout
    # A user waits under a second (measured in benchmarks); this machine may be busy.
    assert seconds < 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config=configs/none.py"], "no such config file"),
        ([f"{TINY}x"], "no variant 'tinyx'"),
        ([TINY, "--config.train.epoch=3"], "did you mean train.epochs?"),
        ([TINY, "--config.epochs=3"], "did you mean train.epochs?"),
        ([TINY, "--config.train.epochs=many"], "invalid literal for int"),
        ([TINY, "--config.data.source=/no/such/folder"], "not there; expected 'chorales'"),
        ([TINY, "--wrkdir=x"], "Unknown command line flag 'wrkdir'"),
        ([TINY, "epochs=3"], "unexpected argument 'epochs=3'"),
        ([TINY, "--config.train.batch_size=0"], "train.batch_size is 0; expected at least 1"),
        (["--config.train.epochs=3"], "config"),
    ],
)
def test_bad_command_lines_are_one_clear_line(words, said, tmp_path):
    assert said in bad("musicjax.train", f"--workdir={tmp_path / 'run'}", *words)
    assert not (tmp_path / "run").exists()


def test_folders_without_music_are_one_clear_line(tmp_path):
    source = f"--config.data.source={tmp_path}"
    assert "no MIDI file in it" in bad("musicjax.train", TINY, source, f"--workdir={tmp_path}/r")
    (tmp_path / "bad.mid").write_bytes(b"no music")
    line = bad("musicjax.train", TINY, source, f"--workdir={tmp_path}/r")
    assert "none of its 1 files became a song (not_midi: 1)" in line


def test_debug_shows_the_traceback(tmp_path):
    done = run("musicjax.generate", f"--workdir={tmp_path / 'none'}", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_a_full_disk_is_one_clear_line(folder, tmp_path):
    code = (
        "import sys, errno, numpy as np\n"
        "def full(path, *_): raise OSError(errno.ENOSPC, 'No space left on device', str(path))\n"
        "np.lib.format.write_array_header_1_0 = full\n"
        "sys.argv = ['encode', *sys.argv[1:]]\n"
        "import runpy; runpy.run_module('musicjax.encode', run_name='__main__')\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            TINY,
            f"--config.data.source={folder}",
            f"--output={tmp_path / 'corpus'}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "error: no space left on the device" in done.stderr
    assert "Traceback" not in done.stderr
    # What was encoded is kept: the same command goes on.
    assert [path.name for path in tmp_path.iterdir()] == [".corpus.partial"]
