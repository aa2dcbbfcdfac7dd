"""Numbers that must be right, of each model: gradients against finite differences, the loss before
training, extreme music; and no promotion of types that nobody wrote.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from small_models import TOKENS, biaxial, causal_lstm, random_batch, token_lstm

from musicjax.encodings.vocabulary import Token, Vocabulary

# Between them they have every layer.
MODELS = {
    "tokens": token_lstm,
    "tokens causal": partial(token_lstm, causal=True, bidirectional=False),
    "causal": causal_lstm,
    "pointer": partial(causal_lstm, memory=8, num_layers=2),
    "paper": biaxial,
    "best": partial(biaxial, "tiny_best"),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    model = MODELS[request.param](kernel="scan")  # the native one computes in float32 alone
    assert model.shapes  # kept from here on: of float32
    return model


@pytest.fixture(scope="module")
def batch(model):
    return random_batch(model, rows=2)


@pytest.fixture(scope="module")
def loss(model, batch):
    """Compiled once for what is asked of it in float64."""
    return jax.jit(lambda params: model.loss(params, batch))


@pytest.fixture
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.usefixtures("_float64")
def test_gradients_are_those_of_finite_differences(model, loss):
    rng = np.random.default_rng(0)
    # Away from zero, where biases begin, and the kinks of ReLUs are near.
    params = jax.tree.map(
        lambda array: jnp.asarray(array + 0.3 * rng.normal(size=array.shape), jnp.float64),
        model.init(0),
    )
    # What the LSTMs keep for the gradient is float32.
    check_grads(
        lambda params: loss(params)[0],
        (params,),
        order=1,
        modes=["rev"],
        eps=1e-4,
        atol=2e-3,
        rtol=5e-3,
    )


@pytest.mark.usefixtures("_float64")
def test_the_loss_before_training_is_that_of_knowing_nothing(model, batch, loss):
    """Logits are 0, and nearly so where weights have been drawn: each id is as likely as another;
    of a note play is a coin, and articulate is one where it plays.
    """
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, jnp.float64), model.shapes)
    drawn = jax.tree.map(lambda array: jnp.asarray(array, jnp.float64), model.init(0))
    if model.reads == "ids":
        expected = np.log(model.encoding.size - 1)  # id 0 is never drawn
    else:
        play = batch["elements"][:, 1:, :, 0]
        expected = np.log(2) * (play[0, 0].size + play.sum(-1).mean())
    for params, close in ((zeros, 1e-6), (drawn, 0.1)):
        metrics = model.metrics(loss(params)[1])
        # A pointer copies what it has seen; the paper's bi-axial model has squared errors alone.
        if "nll" in metrics and not getattr(model.settings, "memory", 0):
            assert metrics["nll"] == pytest.approx(expected, rel=close)


@pytest.mark.usefixtures("_strict")
def test_no_type_is_promoted_that_is_not_written(model, batch):
    """As where music is made, in generation/test_loop.py and test_sampling.py."""
    loss = jax.value_and_grad(model.loss, has_aux=True)
    jax.eval_shape(loss, model.shapes, batch, jax.eval_shape(jax.random.key, 0))
    jax.eval_shape(partial(model.loss, key=None), model.shapes, batch)
    prime = batch["elements"][:, :-1]
    carry = jax.eval_shape(model.prefill, model.shapes, prime, batch.get("positions"))
    assert jax.tree.leaves(carry)


@pytest.mark.parametrize("make", [token_lstm, causal_lstm])
def test_a_vocabulary_of_two_has_a_finite_loss(make):
    vocabulary = Vocabulary.build({Token((60,), 12): 5})
    model = dataclasses.replace(make(), encoding=dataclasses.replace(TOKENS, vocabulary=vocabulary))
    assert model.encoding.size == 2
    assert_finite(model, random_batch(model, rows=2))


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("variant", ["tiny", "tiny_best"])
def test_silence_and_all_notes_at_once_have_a_finite_loss(variant, value):
    model = biaxial(variant)
    batch = random_batch(model, rows=2)
    assert_finite(model, batch | {"elements": np.full_like(batch["elements"], value)})


def assert_finite(model, batch):
    (loss, _), gradient = jax.value_and_grad(model.loss, has_aux=True)(model.init(0), batch)
    for array in (loss, *jax.tree.leaves(gradient)):
        assert np.isfinite(array).all()
