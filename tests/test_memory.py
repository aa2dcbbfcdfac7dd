"""What takes less memory in training computes the same or nearly so, gradients too."""

import jax
import numpy as np
import pytest
from conftest import VOCABULARY, load_config, zero_batches
from flax import nnx

from musicjax.models import MODELS


def gradient(config, **changes):
    """The loss and the gradient of a config, and the bytes of what is between."""
    config.model.update(changes)
    module = MODELS[config.model.name]
    graph, params = nnx.split(module.build(config, VOCABULARY))
    loss_of = module.make_loss(config, VOCABULARY)
    rng = np.random.default_rng(0)
    batch = {name: array[0] for name, array in zero_batches(config, 1).items()}
    if "tokens" in batch:
        batch["tokens"] = rng.integers(1, 12, batch["tokens"].shape, dtype=np.int32)
    else:
        batch["states"] = rng.integers(2, size=batch["states"].shape, dtype=np.uint8)
        batch["states"][..., 1] &= batch["states"][..., 0]

    def loss_fn(params):
        return loss_of(nnx.merge(graph, params), batch, jax.random.key(1))[0]

    compiled = jax.jit(jax.value_and_grad(loss_fn)).lower(params).compile()
    loss, slopes = compiled(params)
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(slopes)])
    return float(loss), flat, compiled.memory_analysis().temp_size_in_bytes


def make_config(name):
    if name == "vocab":
        config = load_config("tiny", "vocab")
        config.model.update(encoder_layers=2, decoder_layers=2)
        config.train.window = 48
    else:
        config = load_config("tiny_best", "nsm")
        config.model.time_sizes = (24, 24, 24)
    return config


@pytest.mark.parametrize("name", ["vocab", "nsm"])
def test_bfloat16_storage_gives_nearly_the_same_gradient(name):
    config = make_config(name)
    loss, slopes, memory = gradient(config)
    near, slopes_near, memory_near = gradient(config, storage="bfloat16")
    assert near != loss  # it was used
    assert near == pytest.approx(loss, rel=1e-2)
    assert memory_near < 0.95 * memory  # of all that a step needs, not of what is kept alone
    # Eight bits of each number: the direction stays.
    cosine = slopes @ slopes_near / np.linalg.norm(slopes) / np.linalg.norm(slopes_near)
    assert cosine > 0.999
    assert np.linalg.norm(slopes_near) == pytest.approx(np.linalg.norm(slopes), rel=2e-2)


@pytest.mark.parametrize("name", ["vocab", "nsm", "paper"])
def test_blocks_computed_again_give_the_same_gradient_in_less_memory(name):
    if name == "paper":
        config = load_config("tiny", "nsm")
        config.model.time_sizes = (36,)
        config.train.window = 48
    else:
        config = make_config(name)
    loss, slopes, memory = gradient(config)
    same, slopes_again, less = gradient(config, remat=4)
    assert same == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(slopes_again, slopes, atol=1e-5 * np.abs(slopes).max())
    assert less < 0.7 * memory
