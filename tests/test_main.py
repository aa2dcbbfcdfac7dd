"""musicjax COMMAND, and the commands that have no test of their own elsewhere."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT


def run(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "musicjax", *words],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_commands_are_listed():
    for words in ([], ["--help"]):
        done = run(*words)
        assert done.returncode == 0
        for line in ("  train     Trains a model on a source of songs.", "  cache     Says where "):
            assert f"\n{line}" in done.stdout
    assert run("--version").stdout.startswith("musicjax 0.")


@pytest.mark.parametrize(
    ("word", "hint"), [("trian", "did you mean train?"), ("xyz", "expected train, encode, ")]
)
def test_an_unknown_command_is_one_clear_line(word, hint):
    done = run(word)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: unknown command {word!r}; {hint}")
    assert len(done.stderr.splitlines()) == 1


def test_a_command_is_that_of_its_module():
    done = run("cache", "--help")
    assert done.returncode == 0
    assert "python -m musicjax.cache --clear" in done.stdout
    assert "--[no]info" in done.stdout


def test_the_cache_is_told_of_and_cleared(tmp_path):
    folder = tmp_path / "musicjax" / "corpora"
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(b"x" * 3_000_000)
    here = {"XDG_CACHE_HOME": str(tmp_path), "JAX_COMPILATION_CACHE_DIR": "/elsewhere"}
    said = run("cache", "--info", **here).stdout
    assert f"      3.0 MB  {folder} (1 entries)" in said
    assert "JAX_COMPILATION_CACHE_DIR, /elsewhere" in said
    assert run("cache", **here).stdout == said
    assert "give one of the two" in run("cache", "--info", "--clear", **here).stderr
    assert folder.is_dir()
    assert run("cache", "--clear", **here).stdout == f"{tmp_path}/musicjax: 3.0 MB deleted\n"
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--workdir=/proc/x"], "/proc/x: no such file or directory; give a folder"),
        (["--workdir=pyproject.toml"], "pyproject.toml: a file, not a folder; give a folder"),
        (["--workdir=x", "--config.seed=-1"], "seed is -1; expected 0 to 2147483647"),
    ],
)
def test_what_cannot_be_is_refused_before_songs_are_encoded(folder, tmp_path, words, line):
    source = f"--config.data.source={folder}"
    done = run("train", "--config=vocab:tiny", source, *words, XDG_CACHE_HOME=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {line}")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_named(folder, tmp_path):
    (tmp_path / "musicjax").write_text("a file in its place")
    words = ("train", "--config=vocab:tiny", f"--config.data.source={folder}", "--workdir=x")
    done = run(*words, XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("error: the cache cannot be used: ")
    assert len(done.stderr.splitlines()) == 1
