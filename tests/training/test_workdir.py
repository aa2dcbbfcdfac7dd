import json
import shutil

import jax
import numpy as np
import pytest
from conftest import load_config
from runs import config_of, trained

from musicjax.errors import InputError
from musicjax.training import workdir
from musicjax.training.run import train_and_evaluate


@pytest.fixture(scope="module")
def folder_of_run(folder, tmp_path_factory):
    return trained(folder, tmp_path_factory)


def test_a_config_is_read_as_it_was_saved(tmp_path):
    config = load_config("kotecha", "nsm")
    workdir.save_config(tmp_path, config, "fingerprint")
    assert workdir.load_config(tmp_path) == (config, "fingerprint")
    assert isinstance(workdir.load_config(tmp_path)[0].model.time_sizes, tuple)


def test_a_work_dir_has_the_songs_and_their_encoding(folder_of_run):
    songs = workdir.load_songs(folder_of_run)
    assert {song.split for song in songs.songs} == {"train", "validation", "test"}
    assert len(songs.data) == sum(song.length for song in songs.songs)
    trained = workdir.load_trained(folder_of_run)
    assert trained.model.encoding == songs.encoding
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained.params))


def test_the_losses_of_steps_are_none_or_refused_where_damaged(tmp_path):
    assert len(workdir.load_step_losses(tmp_path)) == 0
    workdir.save_step_losses(tmp_path, np.ones(3, np.float32))
    (tmp_path / "step_losses.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match=r"step_losses\.npy: damaged \(.*\); delete it"):
        workdir.load_step_losses(tmp_path)


def test_no_work_dir(tmp_path):
    with pytest.raises(InputError, match=r"not a work dir \(no config.json\); train one by"):
        workdir.load_trained(tmp_path)


def test_no_checkpoint_yet(folder_of_run, tmp_path):
    copy = shutil.copytree(folder_of_run, tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(InputError, match="no checkpoint yet; train for at least one epoch"):
        workdir.load_trained(copy)


def test_a_work_dir_of_another_version_or_damaged(folder, folder_of_run, tmp_path):
    copy = shutil.copytree(folder_of_run, tmp_path / "copy")
    saved = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(saved | {"format": 77}))
    expected = f"a work dir of format 77; this musicjax reads {workdir.FORMAT}"
    with pytest.raises(InputError, match=expected):
        workdir.load_trained(copy)
    with pytest.raises(InputError, match=expected):
        train_and_evaluate(config_of(folder), copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        workdir.load_trained(copy)
