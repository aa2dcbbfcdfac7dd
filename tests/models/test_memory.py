"""What takes less memory in training computes the same or nearly so, gradients too."""

from functools import partial

import jax
import numpy as np
import pytest
from small_models import biaxial, note_states, random_batch, token_lstm

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick

ALL_NOTES = note_states(78, lowest=24)
# The scan, all of whose memory is XLA's.
token_lstm = partial(token_lstm, kernel="scan")
biaxial = partial(biaxial, kernel="scan")
MAKE = {
    "tokens": partial(token_lstm, encoder_layers=2, decoder_layers=2, window=48),
    "note states": partial(biaxial, "tiny_best", ALL_NOTES, time_sizes=(24, 24, 24)),
    "paper": partial(biaxial, "tiny", ALL_NOTES, time_sizes=(36,), window=48),
}


def gradient(model):
    """The loss and the gradient of a model, and the bytes of all that is between."""
    params = model.init(0)
    batch = random_batch(model, rows=16 if model.reads == "ids" else 4)

    def loss_fn(params):
        return model.loss(params, batch, jax.random.key(1))[0]

    compiled = jax.jit(jax.value_and_grad(loss_fn)).lower(params).compile()
    loss, slopes = compiled(params)
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(slopes)])
    return float(loss), flat, compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("name", ["tokens", "note states"])
def test_bfloat16_residuals_give_nearly_the_same_gradient(name):
    loss, slopes, memory = gradient(MAKE[name]())
    near, slopes_near, memory_near = gradient(MAKE[name](residual_dtype="bfloat16"))
    assert near != loss  # it was used
    assert near == pytest.approx(loss, rel=1e-2)
    assert memory_near < 0.95 * memory  # of all that a step needs, not of the residuals alone
    # Eight bits of each number: the direction stays.
    cosine = slopes @ slopes_near / np.linalg.norm(slopes) / np.linalg.norm(slopes_near)
    assert cosine > 0.999
    assert np.linalg.norm(slopes_near) == pytest.approx(np.linalg.norm(slopes), rel=2e-2)


@pytest.mark.parametrize("name", MAKE)
def test_rematerialised_blocks_give_the_same_gradient_in_less_memory(name):
    loss, slopes, memory = gradient(MAKE[name]())
    same, slopes_again, less = gradient(MAKE[name](remat=4))
    assert same == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(slopes_again, slopes, atol=1e-5 * np.abs(slopes).max())
    assert less < 0.7 * memory
