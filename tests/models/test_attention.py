import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from musicjax.models.attention import Attention


def test_attention_is_a_mean_weighted_by_additive_scores():
    attention = Attention(3, 4, "linear", False, rngs=nnx.Rngs(0))
    attention.b[...] += 0.3
    x = np.asarray(jax.random.normal(jax.random.key(1), (2, 5, 3)))
    w_t, w_s, b, v, c = (
        np.asarray(getattr(attention, n)[...]) for n in ("w_t", "w_s", "b", "v", "c")
    )
    expected = np.zeros_like(x)
    for batch in range(2):
        for t in range(5):
            score = np.array(
                [v @ np.tanh(x[batch, t] @ w_t + x[batch, s] @ w_s + b) + c for s in range(5)]
            )
            weight = np.exp(score) / np.exp(score).sum()
            expected[batch, t] = weight @ x[batch]
    np.testing.assert_allclose(attention(jnp.asarray(x)), expected, atol=1e-5)


def test_sigmoid_scores_keep_weights_within_a_factor_e():
    attention = Attention(3, 4, "sigmoid", False, rngs=nnx.Rngs(0))
    attention.v[...] *= 100.0
    eye = jnp.eye(3)[None]
    weights = np.asarray(attention(eye))[0]  # rows are the weights themselves
    assert weights.max() / weights.min() <= np.e + 1e-4
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


def test_causal_attention_reads_the_past_and_itself_alone():
    attention = Attention(3, 4, "linear", True, rngs=nnx.Rngs(0))
    weights = np.asarray(attention(jnp.eye(3)[None]))[0]
    assert (weights[np.triu_indices(3, 1)] == 0).all()
    assert (weights[np.tril_indices(3)] > 0).all()


def test_attentions_of_equal_settings_have_equal_graphs():
    graphs = [
        nnx.split(Attention(3, 4, scores, False, rngs=nnx.Rngs(seed)))[0]
        for scores, seed in (("linear", 0), ("linear", 1), ("sigmoid", 0))
    ]
    assert graphs[0] == graphs[1]
    assert hash(graphs[0]) == hash(graphs[1])
    assert graphs[0] != graphs[2]
