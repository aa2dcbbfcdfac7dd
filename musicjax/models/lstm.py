"""The recurrent core: an LSTM over lax.scan, with its own backward pass.

    i, f, g, o = x_t w_x + h_{t-1} w_h + b          each [B, H]; gates side by side: [B, G], G = 4H
    c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)
    h_t = sigmoid(o) tanh(c_t)

The products x_t w_x of all steps are one large product outside the scan: only h_{t-1} w_h is
sequential. Autodiff of a scan would add to the gradient of w_h at each step; here the reverse scan
computes the gates' gradients alone, and one product over all steps gives the weights'.

Axes: B batch, T time step, F feature, H hidden, G gate (4H).
Source: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000; gate order and
forget bias as in Keras and flax's OptimizedLSTMCell.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax


class State(NamedTuple):
    """What an LSTM carries from step to step: h and c, each [B, H]."""

    h: jax.Array
    c: jax.Array


def _cell(projected: jax.Array, state: State, w_h: jax.Array) -> tuple[State, jax.Array]:
    """One step. projected: [B, G]. Returns the new state and the activated gates [B, G]."""
    i, f, g, o = jnp.split(projected + state.h @ w_h, 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    c = f * state.c + i * g
    return State(o * jnp.tanh(c), c), jnp.concatenate([i, f, g, o], axis=-1)


@jax.custom_vjp
def scan_lstm(projected: jax.Array, w_h: jax.Array, initial: State) -> tuple[jax.Array, State]:
    """The recurrence over time.

    Args:
        projected: [T, B, G]: x_t w_x + b of all steps.
        w_h: [H, G].
        initial: the state before the first step.
    Returns:
        h of all steps [T, B, H], and the state after the last.
    """

    def step(state, projected_t):
        state, _ = _cell(projected_t, state, w_h)
        return state, state.h

    last, hidden = lax.scan(step, initial, projected)
    return hidden, last


def _forward(projected, w_h, initial):
    def step(state, projected_t):
        state, gates = _cell(projected_t, state, w_h)
        return state, (state, gates)

    last, (states, gates) = lax.scan(step, initial, projected)
    return (states.h, last), (w_h, initial, states, gates)


def _backward(residuals, gradients):
    w_h, initial, states, gates = residuals
    d_hidden, d_last = gradients

    def step(carry, inputs):
        d_h_next, d_c_next = carry
        d_h_out, c_before, c, gates_t = inputs
        i, f, g, o = jnp.split(gates_t, 4, axis=-1)
        tanh_c = jnp.tanh(c)
        d_h = d_h_out + d_h_next
        d_c = d_c_next + d_h * o * (1 - tanh_c * tanh_c)
        d_gates = jnp.concatenate(
            [
                d_c * g * i * (1 - i),
                d_c * c_before * f * (1 - f),
                d_c * i * (1 - g * g),
                d_h * tanh_c * o * (1 - o),
            ],
            axis=-1,
        )
        return State(d_gates @ w_h.T, d_c * f), d_gates

    h_before, c_before = (
        jnp.concatenate([first[None], later[:-1]])
        for first, later in zip(initial, states, strict=True)
    )
    d_initial, d_projected = lax.scan(
        step, d_last, (d_hidden, c_before, states.c, gates), reverse=True
    )
    d_w_h = jnp.einsum("tbh,tbg->hg", h_before, d_projected)
    return d_projected, d_w_h, d_initial


scan_lstm.defvjp(_forward, _backward)


class LSTM(nnx.Module):
    """An LSTM's parameters, for one direction or both, and its run over a batch of sequences.

    Initialisers as in Keras: w_x Glorot uniform, w_h orthogonal, b zero with forget bias 1.

    Attributes:
        w_x: [D, F, G], D directions: forward, and backward if there are two.
        w_h: [D, H, G].
        b: [D, G].
    """

    def __init__(self, features: int, hidden: int, *, bidirectional: bool, rngs: nnx.Rngs):
        directions = 2 if bidirectional else 1
        glorot, orthogonal = jax.nn.initializers.glorot_uniform(), jax.nn.initializers.orthogonal()

        def each_direction(initialise, shape):
            keys = jax.random.split(rngs.params(), directions)
            return nnx.Param(jnp.stack([initialise(key, shape) for key in keys]))

        self.w_x = each_direction(glorot, (features, 4 * hidden))
        self.w_h = each_direction(orthogonal, (hidden, 4 * hidden))
        forget_one = jnp.zeros((4, hidden)).at[1].set(1.0).reshape(-1)
        self.b = nnx.Param(jnp.tile(forget_one, (directions, 1)))

    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [B, T, F]. Returns h of all steps [B, T, D * H], the two directions side by side."""
        directions, hidden, _ = self.w_h.shape
        x = jnp.swapaxes(x, 0, 1)
        both = jnp.stack([x, x[::-1]][:directions])
        zeros = jnp.zeros((directions, x.shape[1], hidden), x.dtype)
        projected = jnp.einsum("dtbf,dfg->dtbg", both, self.w_x[...]) + self.b[...][:, None, None]
        h, _ = jax.vmap(scan_lstm)(projected, self.w_h[...], State(zeros, zeros))
        h = jnp.concatenate([h[0], *h[1:, ::-1]], axis=-1)
        return jnp.swapaxes(h, 0, 1)
