"""The wheel, installed in a new environment and used in an empty folder, as a user's."""

import subprocess
import sys
import sysconfig
import zipfile

import pytest
from conftest import ROOT

from musicjax.music import midi

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A venv with the wheel, which finds what musicjax needs in this one's packages."""
    folder = tmp_path_factory.mktemp("wheel")

    def call(*words):
        subprocess.run([sys.executable, "-m", *map(str, words)], cwd=ROOT, check=True)

    call("hatchling", "build", "-t", "wheel", "-d", folder)
    (wheel,) = folder.glob("*.whl")
    call("venv", "--without-pip", folder / "venv")
    pip = ("pip", "--quiet", "--python", folder / "venv", "install", "--no-deps", "--no-index")
    call(*pip, "--disable-pip-version-check", wheel)
    (packages,) = folder.glob("venv/lib/python*/site-packages")
    # Its path alone: the .pth files in it, one of which leads to this clone, are not read.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    return folder


@pytest.fixture
def run(environment, tmp_path):
    def run(*words, status=0):
        done = subprocess.run(
            [environment / "venv" / "bin" / words[0], *map(str, words[1:])],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert "%|" not in done.stderr  # no progress bar where it is no terminal
        return done.stdout if status == 0 else done.stderr

    return run


def test_configs_are_in_it_and_no_package_of_a_common_name(environment):
    (wheel,) = environment.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {
        "musicjax/configs/vocab.py",
        "musicjax/models/lstm_cpu.cc",
        "musicjax/py.typed",
        "musicjax/rendering/templates/live.js",
        "musicjax/readymade/chorales/README.md",
        "musicjax/readymade/chorales/model.safetensors",
        "musicjax/readymade/chorales/songs/data.npy",
    } <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"musicjax"}


def test_it_trains_and_makes_music_in_an_empty_folder(run, folder, tmp_path):
    source = f"--config.data.source={folder}"
    said = run("musicjax", "train", "--config=vocab:tiny_causal", source, "--workdir=my run")
    assert "python -m musicjax.generate --workdir='my run' --output='my run/samples'" in said
    command = ("python", "-m", "musicjax", "generate", "--workdir=my run", "--output=out")
    assert "out/seed_0.mid: seed 0: " in run(*command, "--num=1", "--length=16")
    assert midi.read_song(tmp_path / "out" / "seed_0.mid").num_notes


def test_it_makes_music_without_training(run, tmp_path):
    said = run("musicjax", "generate", "--model=chorales", "--num=1", "--length=16")
    assert said.startswith("chorales/samples/seed_0.mid: seed 0: 16 steps")
    assert midi.read_song(tmp_path / "chorales" / "samples" / "seed_0.mid").num_notes > 40


def test_configs_are_found_by_name_by_path_and_from_a_clone(run, tmp_path):
    said = run("musicjax", "train", "--config=vocab:tiny", "--help=config")
    assert "\ntrain.epochs = 2\n" in said
    for name in ("configs/vocab.py:tiny", f"{ROOT}/configs/vocab.py:tiny"):
        explained = run("python", "-m", "musicjax.train", f"--config={name}", "--help=config")
        assert explained == said.replace("vocab:tiny", name)
    (tmp_path / "mine.py").write_text("from configs.vocab import get_config\n")
    words = ("musicjax", "encode", "--output=x", "--config.data.source=/none")
    assert "data.source is '/none'" in run(*words, "--config=mine.py:quick", status=2)
    assert "no such config file; expected" in run(*words, "--config=yours.py", status=2)


def test_python_uses_the_wheel(run, environment):
    code = "import musicjax; print(musicjax.__file__, musicjax.get_config('nsm').model.name)"
    path, name = run("python", "-c", code).split()
    assert path.startswith(str(environment))
    assert name == "biaxial"
