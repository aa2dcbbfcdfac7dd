import jax
import pytest
from conftest import load_config

from musicjax.devices import check_cudnn, make_mesh
from musicjax.errors import InputError
from musicjax.train import train_and_evaluate

# conftest.py has split the CPU in two.


@pytest.mark.parametrize(
    ("config", "variant", "changes"),
    [
        ("vocab", "tiny", {"causal": True, "bidirectional": False}),
        ("nsm", "tiny_best", {"feedback": "sample"}),
    ],
)
def test_losses_are_the_same_on_two_devices(config, variant, changes, folder, tmp_path):
    config = load_config(variant, config)
    config.data.source = str(folder)
    config.model.update(changes)
    lines = {}
    for devices in (1, 2):
        config.train.devices = devices
        lines[devices] = train_and_evaluate(config, tmp_path / str(devices))
    for name in ("train_loss", "validation_loss", "test_loss"):
        if name in lines[1]:
            assert lines[2][name] == pytest.approx(lines[1][name], rel=1e-5)
    # What two devices have saved, one goes on with.
    config.train.devices = 1
    config.train.epochs += 1
    assert train_and_evaluate(config, tmp_path / "2")["epoch"] == 3


def test_devices_that_are_not_there_and_rows_that_cannot_be_shared_are_told():
    there = len(jax.devices())
    with pytest.raises(InputError, match=f"train.devices is {there + 1}, but jax has {there}"):
        make_mesh(there + 1, 12)
    assert make_mesh(0, 5).size == 1  # as many as can share five rows
    with pytest.raises(InputError, match="batch_size is 5, which 2 devices cannot share evenly"):
        make_mesh(2, 5)
    assert make_mesh(0, 2 * there).size == there


def test_cudnn_is_refused_where_it_cannot_run():
    mesh = make_mesh(2, 2)
    platform = mesh.devices.flat[0].platform
    with pytest.raises(InputError, match=f"would run on 2 x {platform}; expected one GPU"):
        check_cudnn(mesh)
