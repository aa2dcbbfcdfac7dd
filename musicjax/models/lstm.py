"""The recurrent core: an LSTM over lax.scan, with its own backward pass.

    i, f, g, o = x_t w_x + h_{t-1} w_h + b          each [B, H]; gates side by side: [B, G], G = 4H
    c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)
    h_t = sigmoid(o) tanh(c_t)

The products x_t w_x of all steps are one large product outside the scan: only h_{t-1} w_h is
sequential. Autodiff of a scan would add to the gradient of w_h at each step; here the reverse scan
computes the gates' gradients alone, and one product over all steps gives the weights'.

What is kept of all steps for the backward pass, and `projected` itself, may be bfloat16: half the
memory. What goes in and comes out, weights, states, products and sums are float32.

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


# Bytes of w_h beyond which a training step reads it along its rows, [G, H], since it does not stay
# in a core's cache: with 50 rows of H = 512 that made 106 GF/s of 73, and with 36 or 256 no more.
_LARGE = 2 * 2**20


def _cell(
    projected: jax.Array, state: State, w_h: jax.Array, turned: bool = False
) -> tuple[State, jax.Array]:
    """One step. projected: [B, G]; w_h: [H, G], or [G, H] if it is turned round. Returns the new
    state and the activated gates [B, G].
    """
    # sigmoid(x) = tanh(x / 2) / 2 + 1 / 2: all gates in one pass, and no copy to join them.
    hidden = state.h.shape[-1]
    scale = jnp.repeat(jnp.array([0.5, 0.5, 1.0, 0.5]), hidden)
    shift = jnp.repeat(jnp.array([0.5, 0.5, 0.0, 0.5]), hidden)
    gates = scale * jnp.tanh(scale * (projected + _product(state.h, w_h, turned))) + shift
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = f * state.c + i * g
    return State(o * jnp.tanh(c), c), gates


def _product(x: jax.Array, w: jax.Array, turned: bool) -> jax.Array:
    """x w, or x w' of a w that is turned round."""
    return lax.dot_general(x, w, (((1,), (1 if turned else 0,)), ((), ())))


def _at(steps: jax.Array, t: jax.Array) -> jax.Array:
    """A step of an array of all steps."""
    return lax.dynamic_index_in_dim(steps, t, keepdims=False)


def _turned(w: jax.Array) -> jax.Array:
    """w', made once: XLA would make it in each step."""
    return lax.optimization_barrier(w.T)


@jax.custom_vjp
def scan_lstm(projected: jax.Array, w_h: jax.Array, initial: State) -> tuple[jax.Array, State]:
    """The recurrence over time.

    It looks its steps up, for under vmap `scan` would first turn an array of all steps round.

    Args:
        projected: float32 or bfloat16 [T, B, G]: x_t w_x + b of all steps. What the backward pass
            keeps has its type.
        w_h: [H, G].
        initial: the state before the first step.
    Returns:
        h of all steps, float32 [T, B, H], and the state after the last.
    """

    def step(state, t):
        state, _ = _cell(_at(projected, t), state, w_h)
        return state, state.h

    last, hidden = lax.scan(step, initial, jnp.arange(len(projected)))
    return hidden, last


def _forward(projected, w_h, initial):
    large, kept = w_h.nbytes > _LARGE, projected.dtype
    w = _turned(w_h) if large else w_h

    def step(state, t):
        after, gates = _cell(_at(projected, t), state, w, large)
        return after, (after.h, state.c.astype(kept), gates.astype(kept))

    steps = jnp.arange(len(projected))
    last, (hidden, c_before, gates) = lax.scan(step, initial, steps)
    return (hidden, last), (w_h, initial.h, hidden, c_before, gates)


def _backward(residuals, gradients):
    w_h, h_first, hidden, c_before, gates = residuals
    d_hidden, d_last = gradients
    large, kept = w_h.nbytes > _LARGE, gates.dtype
    w = w_h if large else _turned(w_h)

    def step(carry, inputs):
        d_h_next, d_c_next = carry
        d_h_out, c_before, gates_t = (array.astype(w_h.dtype) for array in inputs)
        i, f, g, o = jnp.split(gates_t, 4, axis=-1)
        tanh_c = jnp.tanh(f * c_before + i * g)  # c again: cheaper than to keep it
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
        return State(_product(d_gates, w, large), d_c * f), d_gates.astype(kept)

    d_initial, d_projected = lax.scan(step, d_last, (d_hidden, c_before, gates), reverse=True)
    h_before = jnp.concatenate([h_first[None], hidden[:-1]])
    d_w_h = jnp.einsum("tbh,tbg->hg", h_before, d_projected.astype(w_h.dtype))
    return d_projected, d_w_h, d_initial


scan_lstm.defvjp(_forward, _backward)


class LSTMBank(nnx.Module):
    """`copies` LSTMs side by side, each with weights of its own and a batch of its own.

    Initialisers as in Keras: w_x Glorot uniform, w_h orthogonal, b zero with forget bias 1.

    Attributes:
        w_x: [K, F, G], K copies.
        w_h: [K, H, G].
        b: [K, G].
        storage: the type of what is kept of all steps, "float32" or "bfloat16".
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        copies: int,
        *,
        storage: str = "float32",
        rngs: nnx.Rngs,
    ):
        self.storage = storage
        glorot, orthogonal = jax.nn.initializers.glorot_uniform(), jax.nn.initializers.orthogonal()

        def each_copy(initialise, shape):
            keys = jax.random.split(rngs.params(), copies)
            return nnx.Param(jax.vmap(lambda key: initialise(key, shape))(keys))

        self.w_x = each_copy(glorot, (features, 4 * hidden))
        self.w_h = each_copy(orthogonal, (hidden, 4 * hidden))
        forget_one = jnp.zeros((4, hidden)).at[1].set(1.0).reshape(-1)
        self.b = nnx.Param(jnp.tile(forget_one, (copies, 1)))

    def project(self, x: jax.Array) -> jax.Array:
        """x_t w_x + b of all steps. x: [K, T, B, F]. Returns [K, T, B, G]."""
        return jnp.einsum("ktbf,kfg->ktbg", x, self.w_x[...]) + self.b[...][:, None, None]

    def scan(self, projected: jax.Array) -> jax.Array:
        """The recurrences from zero states. projected: [K, T, B, G]. Returns h [K, T, B, H]."""
        projected = projected.astype(self.storage)
        copies, _, batch, _ = projected.shape
        zeros = jnp.zeros((copies, batch, self.w_h.shape[1]))
        return jax.vmap(scan_lstm)(projected, self.w_h[...], State(zeros, zeros))[0]

    def step(self, projected: jax.Array, state: State) -> State:
        """One step of each. projected: [K, B, G]; the state's arrays are [K, B, H]."""
        return jax.vmap(_cell)(projected, state, self.w_h[...])[0]


class LSTM(LSTMBank):
    """An LSTM over a batch of sequences, in one direction or both, which are its copies."""

    def __init__(
        self,
        features: int,
        hidden: int,
        *,
        bidirectional: bool,
        storage: str = "float32",
        rngs: nnx.Rngs,
    ):
        copies = 2 if bidirectional else 1
        super().__init__(features, hidden, copies, storage=storage, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [B, T, F]. Returns h of all steps [B, T, D * H], the directions side by side."""
        directions = len(self.w_x[...])
        x = jnp.swapaxes(x, 0, 1)
        h = self.scan(self.project(jnp.stack([x, x[::-1]][:directions])))
        backward = [h[d, ::-1] for d in range(1, directions)]
        return jnp.swapaxes(jnp.concatenate([h[0], *backward], axis=-1), 0, 1)

    def advance(self, x: jax.Array, state: State) -> State:
        """One step in one direction. x: [B, F]; the state's arrays are [B, H].

        Without the axis of copies: with it XLA turns the weights round in each step.
        """
        return _cell(x @ self.w_x[0] + self.b[0], state, self.w_h[0])[0]
