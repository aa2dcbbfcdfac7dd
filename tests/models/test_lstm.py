"""The recurrent core against flax's own LSTM, and its backward pass against autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.experimental import rnn

from musicjax.models import lstm
from musicjax.models.lstm import (
    LSTM,
    LSTMBank,
    LSTMCarry,
    Terms,
    _cell,
    cudnn_weights,
    dropout,
    product,
    scan_lstm,
)

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
        for peer, parameters, part in zip(
            theirs, kernels, jnp.split(weights, len(theirs), axis=-1), strict=True
        ):
            graph, _ = nnx.split(peer.cell)
            cell = nnx.merge(graph, parameters)
            out = nnx.RNN(cell, reverse=peer.reverse, keep_order=True)(x)
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

    def step(carry, projected_t):
        carry, _ = _cell(projected_t, carry, w_h)
        return carry, carry.h

    last, hidden = lax.scan(step, initial, projected)
    return hidden, last


@pytest.mark.parametrize("large", [False, True])
def test_own_backward_equals_autodiff_for_every_input_and_output(large, monkeypatch):
    """Also where w_h is read transposed and h is transposed first, as large ones are."""
    if large:
        monkeypatch.setattr(lstm, "TRANSPOSED_SCAN_BYTES", 0)
        monkeypatch.setattr(lstm, "TRANSPOSED_INPUT_ELEMENTS", 0)
    keys = jax.random.split(jax.random.key(0), 7)
    normal = jax.random.normal
    projected, w_h = normal(keys[0], (T, B, 4 * H)), normal(keys[1], (H, 4 * H))
    initial = LSTMCarry(normal(keys[2], (B, H)), normal(keys[3], (B, H)))
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


@pytest.mark.parametrize("large", [False, True])
def test_own_backward_of_the_product_equals_autodiff(large, monkeypatch):
    if large:
        monkeypatch.setattr(lstm, "TRANSPOSED_INPUT_ELEMENTS", 0)
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = [(T, B, F), (F, 4 * H), (T, B, 4 * H)]
    x, w, d = (jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True))

    def gradients(of):
        return jax.grad(lambda *inputs: jnp.sum(d * of(*inputs)), argnums=(0, 1))(x, w)

    jax.tree.map(
        lambda ours, plain: np.testing.assert_allclose(ours, plain, atol=1e-5),
        gradients(product),
        gradients(jnp.matmul),
    )


@pytest.mark.parametrize("block", [1, 3, 7, 100])
@pytest.mark.parametrize("own", [False, True])
def test_rematerialised_blocks_equal_all_steps_kept(block, own):
    """Of 7 steps, in blocks that divide them or not; also where the caller projects."""
    num_lstms = 2
    kept = LSTMBank(F, H, num_lstms, rngs=nnx.Rngs(1))
    again = LSTMBank(F, H, num_lstms, remat=block, rngs=nnx.Rngs(1))
    x = jax.random.normal(jax.random.key(2), (num_lstms, T, B, F))
    d = jax.random.normal(jax.random.key(3), (num_lstms, T, B, H))

    def loss(model, x):
        terms = (lambda steps: Terms(model.project(2 * steps))) if own else None
        h = model.run(x, terms)
        return jnp.sum(d * h), h

    gradients = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        jax.tree.leaves(gradients(again, x)),
        jax.tree.leaves(gradients(kept, x)),
    )


@pytest.mark.parametrize("bidirectional", [False, True])
def test_cudnn_reads_the_same_weights(bidirectional):
    """By jax's own reading of cuDNN's layout, which runs anywhere."""
    ours = LSTM(F, H, bidirectional=bidirectional, rngs=nnx.Rngs(1))
    ours.b[...] += 0.1 * jax.random.normal(jax.random.key(5), ours.b.shape)
    x = jax.random.normal(jax.random.key(2), (B, T, F))
    sizes = (F, H, 1, bidirectional)
    packed = cudnn_weights(ours.w_x[...], ours.w_h[...], ours.b[...])
    assert packed.size == rnn.get_num_params_in_lstm(*sizes)
    zeros = jnp.zeros((1 + bidirectional, B, H))
    theirs, _, _ = rnn.lstm_ref(
        x,
        zeros,
        zeros,
        *rnn.unpack_lstm_weights(packed, *sizes),
        jnp.full(B, T, jnp.int32),
        F,
        H,
        1,
        0.0,
        bidirectional,
    )
    np.testing.assert_allclose(ours(x), theirs, atol=1e-5)


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN needs a GPU")
@pytest.mark.parametrize("bidirectional", [False, True])
def test_cudnn_equals_scan_gradients_too(bidirectional):
    x = jax.random.normal(jax.random.key(2), (B, T, F))
    d = jax.random.normal(jax.random.key(3), (B, T, H * (1 + bidirectional)))

    def gradients(kernel):
        model = LSTM(F, H, bidirectional=bidirectional, kernel=kernel, rngs=nnx.Rngs(1))
        assert model.uses_cudnn == (kernel == "cudnn")
        loss = jax.value_and_grad(lambda model, x: jnp.sum(d * model(x)), argnums=(0, 1))
        return jax.tree.leaves(loss(model, x))

    with jax.default_matmul_precision("highest"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
            gradients("cudnn"),
            gradients("scan"),
        )


def test_without_a_gpu_cudnn_is_the_scan():
    """So a model that was trained with it makes music anywhere."""
    if jax.default_backend() == "gpu":
        pytest.skip("jax has a GPU")
    x = jax.random.normal(jax.random.key(2), (B, T, F))
    cudnn, scan = (
        LSTM(F, H, bidirectional=True, kernel=kernel, rngs=nnx.Rngs(1))
        for kernel in ("cudnn", "scan")
    )
    np.testing.assert_array_equal(cudnn(x), scan(x))


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


@pytest.mark.parametrize("kernel", ["scan", "native"])
def test_an_lstm_advances_from_its_prefill_as_it_reads_all_at_once(kernel):
    ours = LSTM(F, H, bidirectional=False, kernel=kernel, rngs=nnx.Rngs(1))
    x = jax.random.normal(jax.random.key(2), (B, T, F))
    expected = ours(x)
    h, carry = ours.prefill(x[:, :3])
    np.testing.assert_allclose(h, expected[:, :3], atol=1e-6)
    for t in range(3, T):
        carry = ours.advance(x[:, t], carry, ours.panels())
        np.testing.assert_allclose(carry.h, expected[:, t], atol=1e-6)


def test_dropout_keeps_the_mean_and_draws_by_key_and_layer():
    x = jnp.ones((100, 100))
    key = jax.random.key(0)
    dropped = dropout(x, 0.25, 0, key)
    np.testing.assert_allclose(np.unique(dropped), [0, 4 / 3], rtol=1e-6)
    assert dropped.mean() == pytest.approx(1, abs=0.03)
    np.testing.assert_array_equal(dropped, dropout(x, 0.25, 0, key))
    assert not np.array_equal(dropped, dropout(x, 0.25, 1, key))
    assert dropout(x, 0.25, 0, None) is x
    assert dropout(x, 0.0, 0, key) is x
