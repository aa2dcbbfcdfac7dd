"""What is stopped, killed or damaged at random, by a fixed seed: a run that goes on is bit for bit
what an unbroken one is. SOAK=N tries N times as many, as scripts/soak.sh does.
"""

import contextlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, spoil
from runs import assert_same_parameters, config_of, lines, trained

from musicjax.corpus import build
from musicjax.corpus.store import Corpus
from musicjax.errors import InputError
from musicjax.training import workdir
from musicjax.training.run import train_and_evaluate

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick

SOAK = int(os.environ.get("SOAK", "1"))
# What is broken at random, and how many steps come between saves: a model of each kind, and in the
# quick form one of them.
CONFIGS = {"vocab:tiny": 8, "nsm:tiny_best": 2, "events:tiny": 4}
EPOCHS = 2
# Of a line of metrics.jsonl, what depends on the clock.
_TIMES = ("seconds", "examples_per_second")


def command(config: str, source: Path, folder: Path) -> list[str]:
    fields = {"data.source": source, "data.least_notes": 1, "train.epochs": EPOCHS}
    # So that a kill may come in the midst of a save: they come one upon another.
    fields |= {"train.checkpoint_minutes": 0.0, "train.steps_per_call": CONFIGS[config]}
    flags = [f"--config.{name}={value}" for name, value in fields.items()]
    words = [sys.executable, "-m", "musicjax.train", f"--config={config}", f"--workdir={folder}"]
    return [*words, *flags]


def start(config: str, source: Path, folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        command(config, source, folder),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def of_the_music(folder: Path) -> list[dict]:
    return [{k: v for k, v in line.items() if k not in _TIMES} for line in lines(folder)]


@pytest.fixture(scope="module", params=list(CONFIGS)[: None if SOAK > 1 else 1])
def config(request):
    return request.param


@pytest.fixture(scope="module")
def source(config, folder, tmp_path_factory):
    """A corpus folder: to encode songs anew each time takes longer than to train."""
    path = tmp_path_factory.mktemp("faults") / "corpus"
    data = config_of(folder, *config.split(":")).data
    build.encode_corpus(build.make_plan(data), path, number_of_workers=0)
    return path


@pytest.fixture(scope="module")
def unbroken(config, source, tmp_path_factory):
    """A run, and the seconds that it took; more than others, which find its compiled programs."""
    path, started = tmp_path_factory.mktemp("unbroken") / "run", time.monotonic()
    process = start(config, source, path)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return path, time.monotonic() - started


def _catches_signals(process: subprocess.Popen) -> bool:
    """Whether it has imported what ends it by them; true where the system cannot tell."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except FileNotFoundError:
        return True
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def broken(process: subprocess.Popen, kind: int, seconds: float) -> bool:
    """Sends a run a signal after so many seconds; whether it had not ended by then."""
    while process.poll() is None and not _catches_signals(process):
        time.sleep(0.01)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)
    sent = time.monotonic()
    process.send_signal(kind)
    output, errors = process.communicate(timeout=60)
    # Or Python was being taken down, which catches no signals.
    if process.returncode == 0 or "Make music with" in output:
        return False
    if kind == signal.SIGKILL:
        assert process.returncode == -kind, errors
    else:
        assert process.returncode == 128 + kind, errors
        assert len(errors.splitlines()) == 1, errors
        assert errors.startswith("stopped")
        assert time.monotonic() - sent < 5
    return True


def test_a_run_that_is_broken_at_random_is_what_an_unbroken_one_is(
    config, source, unbroken, tmp_path
):
    """SOAK kills and as many interrupts that come in time; parameters and losses are the same bit
    for bit, so the data came in the same order.
    """
    path, seconds = unbroken
    rng = random.Random(0)
    kills = interrupts = training = 0
    while min(kills, interrupts) < SOAK:
        run = tmp_path / "run"
        # One that finds its compiled programs takes half of that time.
        killed = broken(start(config, source, run), signal.SIGKILL, rng.uniform(0, 0.45) * seconds)
        kills += killed
        training += killed and any(run.glob("checkpoints/*/SHA256SUMS"))
        interrupt = rng.choice((signal.SIGINT, signal.SIGTERM))
        interrupts += broken(start(config, source, run), interrupt, rng.uniform(0, 0.45) * seconds)
        process = start(config, source, run)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert_same_parameters(path, run)
        assert of_the_music(path) == of_the_music(run)
        shutil.rmtree(run)
    print(f"{config}: {kills} kills, {training} of them after a save; {interrupts} interrupts")


def test_a_second_trainer_is_refused_and_a_lock_ends_with_its_process(folder, tmp_path):
    program = (
        "import pathlib, sys, time\n"
        "from musicjax.training import workdir\n"
        "with workdir.locked(pathlib.Path(sys.argv[1])):\n"
        "    print('locked', flush=True)\n"
        "    time.sleep(60)\n"
    )
    run = tmp_path / "run"
    first = subprocess.Popen(
        [sys.executable, "-c", program, str(run)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with first:
        assert first.stdout is not None
        assert first.stdout.readline() == "locked\n"
        expected = f"run: process {first.pid} on {os.uname().nodename} trains in it; wait for its"
        with pytest.raises(InputError, match=expected):
            train_and_evaluate(config_of(folder, epochs=1), run)
        assert not (run / "config.json").exists()
        first.kill()
    with workdir.locked(run):
        assert (run / ".trainer").read_text() == f"process {os.getpid()} on {os.uname().nodename}\n"
    assert not (run / ".trainer").exists()


def test_a_disk_that_is_full_costs_no_checkpoint(config, source, unbroken, tmp_path):
    """A small file system in a mount namespace of its own; what is on it is copied out."""
    path, _ = unbroken
    small, kept = tmp_path / "small", tmp_path / "kept"
    small.mkdir()
    namespace = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    mount = f"mount -t tmpfs -o size={{}}k none {small}"
    try:
        tried = subprocess.run([*namespace, "sh", "-c", mount.format(64)], capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if tried.returncode:
        pytest.skip(f"no file system can be mounted here: {tried.stderr.decode().strip()}")
    checkpoint = max((path / "checkpoints").iterdir(), key=lambda folder: int(folder.name))
    files = [file for file in checkpoint.rglob("*") if file.is_file()]
    pages = sum(-(-file.stat().st_size // 4096) for file in files)
    # Room for the songs and two checkpoints, not for the four of a moment.
    training = shlex.join(command(config, source, small / "run"))
    script = (
        f"{mount.format(8 * pages + 160)} && {{ {training};"
        f" status=$?; cp -a {small}/run {kept}; exit $status; }}"
    )
    done = subprocess.run(
        [*namespace, "sh", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: no space left on the device of "), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert workdir.load_trained(kept, "last").step > 0
    # Where there is room, the same command goes on.
    process = start(config, source, kept)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "going on from step" in output
    assert_same_parameters(path, kept)
    assert of_the_music(path) == of_the_music(kept)


# --- damage --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    return trained(folder, tmp_path_factory)


def _some_files(folder: Path, rng: random.Random, count: int) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [path for path in files if path.stat().st_size]
    return files if count >= len(files) else rng.sample(files, count)


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(run, tmp_path, damage, capsys):
    steps = sorted(int(path.name) for path in (run / "checkpoints").iterdir())
    rng = random.Random(0)
    places = _some_files(run / "checkpoints" / str(steps[-1]), rng, 3 * SOAK)
    for place in places:
        copy = shutil.copytree(run, tmp_path / "copy")
        spoil(copy / place.relative_to(run), damage, rng.random())
        found = workdir.load_trained(copy, "last")
        assert found.step == steps[-2], place
        told = capsys.readouterr().err
        assert f"{copy}/checkpoints/{steps[-1]} is not used, as {place.name}" in told.replace(
            str(place.parent.relative_to(run / "checkpoints" / str(steps[-1]))) + "/", ""
        )
        assert told.count("\n") == 1
        shutil.rmtree(copy)


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(folder, run, tmp_path, capsys):
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    last = max(int(path.name) for path in (copy / "checkpoints").iterdir())
    shutil.rmtree(copy / "checkpoints" / str(last) / "params" / "d")
    (copy / "metrics.jsonl").write_text("{")  # what it says is in the checkpoints too
    train_and_evaluate(config_of(folder), copy)
    told = capsys.readouterr().out
    assert f"checkpoints/{last} is deleted, as params/d/" in told
    assert "going on from step" in told
    assert_same_parameters(run, copy)
    assert of_the_music(run) == of_the_music(copy)


def test_where_all_checkpoints_are_damaged_nothing_is_used(folder, run, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    for path in (copy / "checkpoints").iterdir():
        (path / "SHA256SUMS").unlink()
    with pytest.raises(InputError, match="no checkpoint yet"):
        workdir.load_trained(copy)
    train_and_evaluate(config_of(folder), copy)
    assert_same_parameters(run, copy)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
@pytest.mark.parametrize("name", ["config.json", "songs/vocabulary.json", "songs/data.npy"])
def test_a_damaged_work_dir_is_one_clear_line(run, tmp_path, name, damage):
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    spoil(copy / name, damage)
    load = workdir.load_songs if name == "songs/data.npy" else workdir.load_trained
    with pytest.raises(InputError, match="damaged"):
        load(copy)


def test_a_mutated_file_of_a_work_dir_is_refused_or_as_it_was(run, tmp_path):
    from test_fuzz import mutant

    rng = random.Random(0)
    readers = {
        "config.json": workdir.load_config,
        "metrics.jsonl": workdir.load_metrics,
        "baseline.json": workdir.load_standing,
    }
    standing = workdir.Standing(3, "test", "nll", 1.0, "unigram", 2.0)
    workdir.save_standing(tmp_path, standing)
    for name in ("config.json", "metrics.jsonl"):
        shutil.copy(run / name, tmp_path / name)
    config = workdir.load_config(tmp_path)
    for name, reader in readers.items():
        content = (tmp_path / name).read_bytes()
        for _ in range(100 * SOAK):
            (tmp_path / name).write_bytes(mutant(content, rng))
            try:
                read = reader(tmp_path)
            except InputError:
                continue
            if name == "config.json":
                assert read == config
    assert Corpus.load(run / "songs").songs
    assert json.loads((run / "config.json").read_text())["format"] == workdir.FORMAT
