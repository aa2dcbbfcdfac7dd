import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from musicjax.encodings.base import NO_VOICE
from musicjax.models.intervals import PITCHES, Intervals

H, C = 5, 2


def network():
    return Intervals(H, C, rngs=nnx.Rngs(0))


def inputs(rows=3, seed=0):
    keys = jax.random.split(jax.random.key(seed), 2)
    sparse = jax.random.uniform(keys[1], (rows, C, PITCHES))
    moves = jnp.tile(jnp.arange(PITCHES) - 60, (rows, 1)).at[:, 70].set(NO_VOICE)
    return jax.random.normal(keys[0], (rows, H)), jnp.where(sparse < 0.1, sparse, 0.0), moves


def by_hand(weights, by_move, x, moves):
    """Scores of one row: weights [C, 25 + 12], by_move [25 + 1], x [C, P], moves [P]."""
    scores = np.zeros(PITCHES)
    for pitch in range(PITCHES):
        for weight, numbers in zip(weights, x, strict=True):
            for other in range(PITCHES):
                if abs(other - pitch) <= 12:
                    scores[pitch] += weight[12 + other - pitch] * numbers[other]
                scores[pitch] += weight[25 + (other - pitch) % 12] * numbers[other]
        move = moves[pitch]
        scores[pitch] += by_move[12 + move if abs(move) <= 12 else 25]
    return scores


def test_scores_are_sums_over_intervals():
    intervals, (h, x, moves) = network(), inputs()
    near, far = (
        np.asarray(h @ part[...]).reshape(3, C, -1) for part in (intervals.near, intervals.classes)
    )
    weights = np.concatenate([near, far], axis=-1)
    rows = zip(weights, h @ intervals.moves[...], np.asarray(x), moves, strict=True)
    expected = [by_hand(*each) for each in rows]
    np.testing.assert_allclose(intervals(h, x, moves), expected, atol=1e-5)


@pytest.mark.parametrize("semitones", [-7, 1, 12])
def test_what_is_transposed_is_judged_alike(semitones):
    intervals, (h, x, moves) = network(), inputs()
    middle = jnp.zeros_like(x).at[..., 40:90].set(x[..., 40:90])
    moved = intervals(h, *(jnp.roll(each, semitones, axis=-1) for each in (middle, moves)))
    scores = jnp.roll(intervals(h, middle, moves), semitones, axis=-1)
    np.testing.assert_allclose(moved[:, 20:108], scores[:, 20:108], atol=1e-5)


def test_the_gradient_is_that_of_the_sum():
    intervals, (h, x, moves) = network(), inputs()
    graph, params = nnx.split(intervals)
    wanted = jax.random.normal(jax.random.key(9), (3, PITCHES))

    def loss(params, h):
        return (nnx.merge(graph, params)(h, x, moves) * wanted).sum()

    weights, of_h = jax.grad(loss, argnums=(0, 1))(params, h)
    # The scores are linear in the weights, and in h.
    other = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(3), leaf.shape), params)
    slope = sum(map(jnp.vdot, jax.tree.leaves(weights), jax.tree.leaves(other)))
    assert slope == pytest.approx(float(loss(other, h)), rel=1e-4)
    step = jax.random.normal(jax.random.key(4), h.shape)
    assert jnp.vdot(of_h, step) == pytest.approx(float(loss(params, step)), rel=1e-4)
