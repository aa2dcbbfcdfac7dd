import os
import shutil
import threading
import time

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from orbax.checkpoint import v1 as ocp
from runs import examples_of, lines, parameters, trained

import musicjax
from musicjax.errors import InputError
from musicjax.training import devices
from musicjax.training.checkpoint import Checkpoints, TrainState, has_checkpoint
from musicjax.training.dataset import ordered_batches
from musicjax.training.trainer import make_evaluate
from musicjax.training.workdir import load_config, load_songs, load_trained, save_config

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick


@pytest.fixture(scope="module")
def workdir(folder, tmp_path_factory):
    """Of six epochs with a learning rate too high, so that the best is not the last; the second is
    kept.
    """
    return trained(folder, tmp_path_factory, epochs=6, learning_rate=0.3, keep_epochs=(2, 50))


def state_at(step: int, fill: float = 0.0) -> TrainState:
    params = nnx.State({"w": nnx.Param(jnp.full((3, 2), fill)), "b": nnx.Param(jnp.full(2, fill))})
    optimizer = (jnp.int32(step), {"mean": jnp.full((3, 2), 2 * fill)})
    return TrainState(jnp.int32(step), params, optimizer, {"loss": jnp.float32(fill)})


def batches():
    return iter(grain.MapDataset.range(100).to_iter_dataset())


@pytest.mark.parametrize("number_of_devices", [1, 2])
def test_what_was_saved_is_restored_with_the_place_in_the_data(tmp_path, number_of_devices):
    ahead, fresh = batches(), batches()
    for _ in range(7):
        next(ahead)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step == 0
        assert not has_checkpoint(tmp_path)
        checkpoints.save(state_at(4, fill=1.5), ahead)
    assert has_checkpoint(tmp_path)
    sharding = devices.replicated(devices.make_mesh(number_of_devices, 2))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step == 4
        restored, _ = checkpoints.restore(devices.put(state_at(0), sharding), fresh)
    jax.tree.map(np.testing.assert_array_equal, restored, state_at(4, fill=1.5))
    assert all(leaf.sharding == sharding for leaf in jax.tree.leaves(restored))
    assert next(fresh) == 7


def test_the_last_two_and_the_best_of_those_that_were_validated_are_kept(tmp_path):
    data = batches()
    with Checkpoints(tmp_path) as checkpoints:
        for step, loss in enumerate([5.0, 2.0, None, 3.0, None], 1):
            checkpoints.save(state_at(step), data, [], loss)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"2", "4", "5"}


def test_saving_keeps_no_thread_and_no_file_open(tmp_path):
    def count():
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    data, counts = batches(), []
    with Checkpoints(tmp_path) as checkpoints:
        for step in range(1, 37):
            checkpoints.save(state_at(step), data, [], 1.0 / step)
            counts.append(count())
        # Saves end in threads of their own, so both waver; what is kept would never end, and the
        # least would be 24 more.
        for _ in range(20):
            time.sleep(0.1)
            counts.append(count())
    files, threads = np.array(counts).T
    assert files[-32:].min() <= files[:12].min() + 5
    assert threads[-32:].min() <= threads[:12].min() + 5


def test_the_best_and_the_last_checkpoint_of_a_run(workdir):
    run = lines(workdir)
    best = min(run, key=lambda line: line["validation_loss"])
    assert best["epoch"] not in (2, 6)
    kept = {int(path.name) for path in (workdir / "checkpoints").iterdir()}
    assert kept == {run[1]["step"], best["step"], run[-2]["step"], run[-1]["step"]}
    assert load_trained(workdir).step == best["step"]
    assert load_trained(workdir, "last").step == run[-1]["step"]


def test_the_checkpoint_of_an_epoch_is_kept_and_used(workdir):
    second = load_trained(workdir, "2")
    assert second.step == lines(workdir)[1]["step"]
    assert load_trained(workdir, "6").step == load_trained(workdir, "last").step
    corpus, batch_size = load_songs(workdir), second.config.train.batch_size
    examples = examples_of(corpus, second.config, "validation", training=False)
    measured = make_evaluate(second.model)(second.params, ordered_batches(examples, batch_size))
    assert measured["loss"] == pytest.approx(lines(workdir)[1]["validation_loss"], rel=1e-5)
    assert musicjax.load(workdir, "2").generate(num=1, length=8)[0].seed == 0
    with pytest.raises(InputError, match=r"no checkpoint of epoch 1, but of 2, .*keep_epochs='\(1"):
        load_trained(workdir, "1")
    for wrong in ("0", "first"):
        with pytest.raises(InputError, match=f"checkpoint is '{wrong}'; expected best, last"):
            load_trained(workdir, wrong)


@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_a_work_dir_can_be_moved_and_its_weights_read_by_orbax_alone(workdir, tmp_path):
    moved = shutil.copytree(workdir, tmp_path / "moved")
    step, ours = parameters(moved)
    path = str(moved / "checkpoints" / str(step))
    tree = ocp.load(path, checkpointable_name="params")
    assert sorted(x.shape for x in jax.tree.leaves(tree)) == sorted(x.shape for x in ours)


def test_a_checkpoint_of_another_model_than_the_config_describes(workdir, tmp_path):
    other = shutil.copytree(workdir, tmp_path / "other")
    config, fingerprint = load_config(other)
    config.model.dense_size = 9
    save_config(other, config, fingerprint)
    with pytest.raises(InputError, match=r"is of another model than config\.json describes"):
        load_trained(other)
