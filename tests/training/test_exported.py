import json

import jax
import numpy as np
import pytest
import runs
import yaml

import musicjax
from musicjax.errors import InputError
from musicjax.evaluation import novelty
from musicjax.evaluation.baselines import BASELINES
from musicjax.generation import piece
from musicjax.generation.options import Options
from musicjax.training import exported, workdir
from musicjax.training.settings import ExportSettings, check_config

OPTIONS = Options(num=1, length=8)


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    return runs.trained(folder, tmp_path_factory)


@pytest.fixture(scope="module")
def folder_to_share(run, tmp_path_factory):
    output = tmp_path_factory.mktemp("exported") / "my model"
    settings = ExportSettings(songs=1000, license="cc0-1.0", programs=False)
    return exported.export(run, output, settings)


def test_it_makes_the_same_music_without_the_run(run, folder_to_share):
    ours, theirs = workdir.load_trained(folder_to_share), workdir.load_trained(run)
    assert (ours.step, ours.model) == (theirs.step, theirs.model)
    for a, b in zip(jax.tree.leaves(ours.params), jax.tree.leaves(theirs.params), strict=True):
        np.testing.assert_array_equal(a, b)
    one, other = (piece.generate(each, OPTIONS)[0] for each in (folder_to_share, run))
    assert (one.text, one.prime.name) == (other.text, other.prime.name)
    # Baselines that need training songs are left out; what was counted before is known.
    corpus = workdir.load_songs(folder_to_share)
    names = ("unigram", "Kneser-Ney", "cell map")
    fitted = {name: BASELINES[name].fit(corpus, ours.model) for name in names}
    assert fitted["unigram"]
    assert fitted["Kneser-Ney"] is fitted["cell map"] is None


def test_programs_run_without_the_kernels_of_a_run(run):
    trained = workdir.load_trained(run)
    assert trained.model.settings.kernel == "native"
    for program in exported.make_programs(trained).values():  # jax refuses calls of others
        assert program.platforms == ("cpu", "cuda")


def test_it_holds_no_more_than_is_to_be_shared(folder, run, folder_to_share):
    assert {path.name for path in folder_to_share.iterdir()} == {
        *("README.md", "config.json", "model.safetensors", "songs")
    }
    for path in folder_to_share.rglob("*"):  # nor does it tell where that was
        if path.is_file():
            assert str(folder.parent).encode() not in path.read_bytes()
    songs = workdir.load_songs(folder_to_share)
    assert {song.split for song in songs.songs} == {"test"}
    whole = workdir.load_songs(run)
    for ours, theirs in zip(songs.songs, whole.split("test"), strict=True):
        np.testing.assert_array_equal(songs.rows(ours), whole.rows(theirs))
    card = (folder_to_share / "README.md").read_text()
    _, head, text = card.split("---\n", 2)
    assert yaml.safe_load(head) | {"tags": []} == {
        "license": "cc0-1.0",
        "library_name": "musicjax",
        "tags": [],
    }
    for part in (
        "# my model",
        "## Data",
        "## Licence\n\ncc0-1.0.",
        "| nll |",
        "model.causal = False",
    ):
        assert part in text
    assert f"{len(whole.split('train'))} songs to train on" in text


def test_without_songs_a_prime_is_asked_for(run, tmp_path):
    shared = musicjax.load(run).export(tmp_path / "model", programs=False, dtype="float16")
    assert not workdir.load_songs(shared).songs
    again = musicjax.load(shared)
    with pytest.raises(InputError, match=r"none of the 0 test songs .* give --prime=FILE"):
        again.generate(num=1)
    with pytest.raises(InputError, match="no training song is in it"):
        novelty.index_of(again.corpus, shared / "novelty")


def test_what_cannot_be_is_one_line(run, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="already exists"):
        exported.export(run, tmp_path / "there")
    with pytest.raises(InputError, match="which is no folder"):
        exported.export(tmp_path / "nothing", tmp_path / "new")
    with pytest.raises(InputError, match="dtype is 'int4'; expected one of 'float32', 'float16'"):
        ExportSettings(dtype="int4")
    with pytest.raises(InputError, match="give one of the two"):
        musicjax.load()
    with pytest.raises(InputError, match="model is 'chorale', which does not come with musicjax"):
        musicjax.load(model="chorale")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_the_model_that_comes_with_musicjax_is_whole_and_knows_its_songs():
    ready = musicjax.load(model="chorales")
    standing = workdir.load_standing(ready.workdir)
    assert standing
    assert standing.warning is None
    assert ready.params
    check_config(ready.config)  # or else evaluate would find a setting missing
    assert len(ready.corpus.split("test")) == 41
    assert json.loads((ready.workdir / "config.json").read_text())["config"]["data"]["lowest"] == 36
    assert sum(path.stat().st_size for path in ready.workdir.rglob("*")) < 500_000
