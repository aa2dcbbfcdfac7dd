"""The tests run without a GPU: what would run on one is at least lowered for it."""

from functools import partial

import jax
import numpy as np
import pytest
from small_models import biaxial, note_states, random_batch, token_lstm

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick

ALL_NOTES = note_states(78, lowest=24)
CAUSAL = {"causal": True, "bidirectional": False}
MAKE = [
    partial(token_lstm, "tiny"),
    partial(token_lstm, "tiny", **CAUSAL),
    partial(token_lstm, ""),
    partial(biaxial, "tiny"),
    partial(biaxial, "tiny_best"),
    partial(biaxial, "tiny_best", feedback="sample"),
    partial(token_lstm, "tiny", residual_dtype="bfloat16"),
    partial(biaxial, "tiny_best", residual_dtype="bfloat16"),
    partial(biaxial, "tiny_best", feedback="sample", residual_dtype="bfloat16"),
    partial(token_lstm, "tiny", remat=4),
    partial(biaxial, "tiny", remat=4),
    partial(biaxial, "", ALL_NOTES),
]


def lower(function, *arguments):
    exported = jax.export.export(jax.jit(function), platforms=["cuda"])(*arguments)
    assert exported.platforms == ("cuda",)
    return exported.mlir_module()


@pytest.mark.parametrize("make", MAKE)
def test_every_gradient_lowers(make):
    model = make(kernel="scan")  # on a GPU that is the kernel
    batch = random_batch(model, rows=2)

    def gradient(params, batch, key):
        return jax.value_and_grad(model.loss, has_aux=True)(params, batch, key)

    assert "while" in lower(gradient, model.shapes, batch, jax.random.key(0))


@pytest.mark.parametrize("make", MAKE[:5])
def test_every_step_of_generation_lowers(make):
    model = make(kernel="scan")  # on a GPU that is the kernel
    prime = random_batch(model, rows=2)["elements"][:, : model.window // 2]
    positions = np.zeros((2, 1 + prime.shape[1]), np.int32)

    def one_element(params, prime, positions, keys):
        carry = model.prefill(params, prime, positions)
        rules = lambda logits, num_notes=None: logits  # noqa: E731
        return model.sample_step(params, carry, keys, positions[:, 0], rules)[1]

    lower(one_element, model.shapes, prime, positions, jax.random.split(jax.random.key(0)))
