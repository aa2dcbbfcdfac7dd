import jax
import numpy as np
import pytest
from runs import config_of

from musicjax.errors import InputError
from musicjax.training import devices, peers
from musicjax.training.run import train_and_evaluate

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick

# conftest.py has split the CPU in two.


@pytest.mark.parametrize(
    ("name", "variant", "changes"),
    [
        ("vocab", "tiny", {"causal": True, "bidirectional": False}),
        ("nsm", "tiny_best", {"feedback": "sample"}),
    ],
)
def test_losses_are_the_same_on_two_devices(name, variant, changes, folder, tmp_path):
    config = config_of(folder, name, variant, **changes)
    lines = {}
    for number in (1, 2):
        config.train.devices = number
        lines[number] = train_and_evaluate(config, tmp_path / str(number))
    for field in ("train_loss", "validation_loss"):
        assert lines[2][field] == pytest.approx(lines[1][field], rel=1e-5)
    # What two devices have saved, one goes on with.
    config.train.devices = 1
    config.train.epochs += 1
    assert train_and_evaluate(config, tmp_path / "2")["epoch"] == 3


def test_too_few_devices_and_rows_that_cannot_be_shared():
    available = len(jax.devices())
    expected = f"train.devices is {available + 1}, but jax has {available}"
    with pytest.raises(InputError, match=expected):
        devices.make_mesh(available + 1, 12)
    assert devices.make_mesh(0, 5).size == 1  # as many as can share five rows
    with pytest.raises(InputError, match="batch_size is 5, which 2 devices cannot share evenly"):
        devices.make_mesh(2, 5)
    assert devices.make_mesh(0, 2 * available).size == available


def test_arrays_are_put_whole_or_in_parts():
    mesh = devices.make_mesh(2, 4)
    array = np.arange(8.0).reshape(4, 2)
    for sharding, rows in ((devices.replicated(mesh), 4), (devices.sharded(mesh, 0), 2)):
        placed = devices.put({"x": array}, sharding)["x"]
        np.testing.assert_array_equal(placed, array)
        assert [shard.data.shape for shard in placed.addressable_shards] == [(rows, 2)] * 2


def test_a_coordinator_that_makes_no_sense_is_one_clear_line(monkeypatch):
    def fail(*args, **options):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    monkeypatch.setattr(peers, "_watch_native_errors", lambda: None)
    expected = "coordinator is 'auto', processes 2, process None: .*; expected host:port"
    with pytest.raises(InputError, match=expected), peers.joined("auto", 2):
        pass
