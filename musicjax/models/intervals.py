"""Pitches judged by their intervals to the notes around them, in the same way for every pitch.

    score_p = sum_c sum_i w_ci x_{c,p+i} + sum_c sum_j v_cj X_{c,(p+j) mod 12} + u_{d_p}
    X_{c,q} = sum of x_{c,p} over the pitches p of pitch class q     -12 <= i <= 12; w, v, u = h W

x says of each pitch whether it sounds, and the like; d by how much the voice moves that would take
it. A table of ids must learn of each chord anew which note goes with it; here what is learned in
one key, or octave, is known in all.

Axes: C numbers of a pitch, P the 128 MIDI pitches, H hidden, I intervals.
Source: an idea of Johnson 2017, whose networks see notes by their distance; there each note has a
recurrent state of its own, here one state draws up the weights of all.
"""

import functools
import operator

import jax
import jax.numpy as jnp
from flax import nnx

PITCHES = 128
_OCTAVE = 12
_OCTAVES = -(-PITCHES // _OCTAVE)
_NEAR = 2 * _OCTAVE + 1  # I: an octave down to an octave up


class Intervals(nnx.Module):
    """See above.

    Attributes:
        near, classes, moves: [H, C * 25], [H, C * 12] and [H, 25 + 1], the parts of W that w, v and
            u are made of. u's last is of wider moves, and of no voice's.
    """

    def __init__(self, hidden_size: int, numbers: int, *, rngs: nnx.Rngs):
        """Draws the parameters; `numbers` is C."""
        small = jax.nn.initializers.variance_scaling(0.1, "fan_avg", "uniform")
        self.near = nnx.Param(small(rngs.params(), (hidden_size, numbers * _NEAR)))
        self.classes = nnx.Param(small(rngs.params(), (hidden_size, numbers * _OCTAVE)))
        self.moves = nnx.Param(small(rngs.params(), (hidden_size, _NEAR + 1)))

    def __call__(self, h: jax.Array, pitches: jax.Array, moves: jax.Array) -> jax.Array:
        """Scores [..., P], of h [..., H], pitches [..., C, P] and moves int [..., P]."""
        # Without this XLA copies gradients transposed: a training step takes 1.15 times as long.
        rows = h.reshape(-1, h.shape[-1])
        w, v, u = (rows @ each[...] for each in (self.near, self.classes, self.moves))
        beside = [(0, 0)] * (pitches.ndim - 1)
        around = jnp.pad(pitches, [*beside, (_OCTAVE, _OCTAVE)])
        octaves = jnp.pad(pitches, [*beside, (0, _OCTAVES * _OCTAVE - PITCHES)])
        classes = octaves.reshape(*pitches.shape[:-1], _OCTAVES, _OCTAVE).sum(-2)
        around_classes = jnp.concatenate([classes, classes[..., :-1]], axis=-1)
        near = _correlated(w.reshape(*pitches.shape[:-1], _NEAR), around)
        far = _correlated(v.reshape(*pitches.shape[:-1], _OCTAVE), around_classes)
        moved = jnp.where(jnp.abs(moves) <= _OCTAVE, moves + _OCTAVE, _NEAR)
        by_moves = jnp.take_along_axis(u.reshape(*moves.shape[:-1], _NEAR + 1), moved, axis=-1)
        return near + jnp.concatenate([far] * _OCTAVES, axis=-1)[..., :PITCHES] + by_moves


@jax.custom_vjp
def _correlated(weights: jax.Array, x: jax.Array) -> jax.Array:
    """[..., P]: sum over c and i of weights [..., C, I] times x [..., C, P + I - 1] at c, p + i.

    x has no gradient: it is what was written. The weights' gradient is a sum of shifted arrays too,
    which is a tenth of the time that the automatic one takes. The sum over c is written out: a CPU
    is 17 times as fast at one sum of 100 arrays as at 4 of 25 that are summed afterwards.
    """
    parts = (_slid(weights[..., c, :], x[..., c, :]) for c in range(x.shape[-2]))
    return functools.reduce(operator.add, parts)


def _forward(weights: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _correlated(weights, x), x


def _backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array, None]:
    # Mapped, for XLA joins what it adds up to the product that reads it, as one axis of C * I, and
    # that takes five times as long: a training step of `events:quick` took 1.15 times as long.
    return jax.lax.map(lambda each: _slid(each[0][..., None, :], each[1]), (gradient, x)), None


_correlated.defvjp(_forward, _backward)


def _slid(short: jax.Array, x: jax.Array) -> jax.Array:
    """Sum over i of short [..., i] times x [..., p + i], for each p at which all are inside."""
    count = x.shape[-1] - short.shape[-1] + 1
    parts = (short[..., i, None] * x[..., i : i + count] for i in range(short.shape[-1]))
    return functools.reduce(operator.add, parts)
