"""The recurrent core against flax's own LSTM, and its backward pass against autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from musicjax.models import lstm
from musicjax.models.lstm import LSTM, State, _cell, scan_lstm

B, T, F, H = 3, 7, 5, 4


def flax_lstm(ours: LSTM, direction: int):
    """nnx.RNN(OptimizedLSTMCell) with one direction's weights."""
    cell = nnx.OptimizedLSTMCell(F, H, rngs=nnx.Rngs(0))
    cell.dense_i.kernel[...] = ours.w_x[direction]
    cell.dense_h.kernel[...] = ours.w_h[direction]
    cell.dense_h.bias[...] = ours.b[direction]
    return nnx.RNN(cell, reverse=direction == 1, keep_order=True)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_equals_nnx_rnn_gradients_too(bidirectional):
    ours = LSTM(F, H, bidirectional=bidirectional, rngs=nnx.Rngs(1))
    ours.b[...] += 0.1 * jax.random.normal(jax.random.key(5), ours.b.shape)
    x = jax.random.normal(jax.random.key(2), (B, T, F))
    theirs = [flax_lstm(ours, direction) for direction in range(1 + bidirectional)]
    weights = jax.random.normal(jax.random.key(3), (B, T, H * len(theirs)))

    expected = jnp.concatenate([rnn(x) for rnn in theirs], axis=-1)
    np.testing.assert_allclose(ours(x), expected, atol=1e-5)

    def our_loss(model, x):
        return jnp.sum(weights * model(x))

    def their_loss(kernels, x):
        total = 0.0
        for rnn, parameters, part in zip(
            theirs, kernels, jnp.split(weights, len(theirs), axis=-1), strict=True
        ):
            graph, _ = nnx.split(rnn.cell)
            cell = nnx.merge(graph, parameters)
            out = nnx.RNN(cell, reverse=rnn.reverse, keep_order=True)(x)
            total += jnp.sum(part * out)
        return total

    graph, parameters = nnx.split(ours)
    ours_w, ours_x = jax.grad(lambda p, x: our_loss(nnx.merge(graph, p), x), argnums=(0, 1))(
        parameters, x
    )
    states = [nnx.state(rnn.cell, nnx.Param) for rnn in theirs]
    theirs_w, theirs_x = jax.grad(their_loss, argnums=(0, 1))(states, x)
    np.testing.assert_allclose(ours_x, theirs_x, atol=1e-5)
    for direction, gradient in enumerate(theirs_w):
        np.testing.assert_allclose(
            ours_w["w_x"][...][direction], gradient["dense_i"]["kernel"][...], atol=1e-5
        )
        np.testing.assert_allclose(
            ours_w["w_h"][...][direction], gradient["dense_h"]["kernel"][...], atol=1e-5
        )
        np.testing.assert_allclose(
            ours_w["b"][...][direction], gradient["dense_h"]["bias"][...], atol=1e-5
        )


def plain_lstm(projected, w_h, initial):
    """The recurrence as autodiff sees it."""

    def step(state, projected_t):
        state, _ = _cell(projected_t, state, w_h)
        return state, state.h

    last, hidden = lax.scan(step, initial, projected)
    return hidden, last


@pytest.mark.parametrize("large", [False, True])
def test_own_backward_equals_autodiff_for_every_input_and_output(large, monkeypatch):
    """Also where w_h is read along its rows, as large ones are."""
    monkeypatch.setattr(lstm, "_LARGE", 0 if large else lstm._LARGE)
    keys = jax.random.split(jax.random.key(0), 7)
    normal = jax.random.normal
    projected, w_h = normal(keys[0], (T, B, 4 * H)), normal(keys[1], (H, 4 * H))
    initial = State(normal(keys[2], (B, H)), normal(keys[3], (B, H)))
    d_hidden, d_h, d_c = (
        normal(key, shape) for key, shape in zip(keys[4:], [(T, B, H), (B, H), (B, H)], strict=True)
    )

    def gradients(run):
        def loss(*inputs):
            hidden, last = run(*inputs)
            return jnp.sum(d_hidden * hidden) + jnp.sum(d_h * last.h) + jnp.sum(d_c * last.c)

        return jax.grad(loss, argnums=(0, 1, 2))(projected, w_h, initial)

    jax.tree.map(
        lambda ours, plain: np.testing.assert_allclose(ours, plain, atol=1e-5),
        gradients(scan_lstm),
        gradients(plain_lstm),
    )


def test_initialisers_are_keras():
    lstm = LSTM(200, 64, bidirectional=True, rngs=nnx.Rngs(0))
    limit = np.sqrt(6 / (200 + 256))
    w_x = np.asarray(lstm.w_x[...])
    assert w_x.shape == (2, 200, 256)
    assert 0.97 * limit < np.abs(w_x).max() <= limit
    for w_h in np.asarray(lstm.w_h[...]):
        np.testing.assert_allclose(w_h @ w_h.T, np.eye(64), atol=1e-5)
    assert (np.asarray(lstm.b[...]).reshape(2, 4, 64) == np.array([0, 1, 0, 0])[:, None]).all()
    assert not np.allclose(w_x[0], w_x[1])
