"""The recurrent core: an LSTM over lax.scan, with its own backward pass.

    i, f, g, o = x_t w_x + h_{t-1} w_h + b          each [B, H]; gates side by side: [B, G], G = 4H
    c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)
    h_t = sigmoid(o) tanh(c_t)

The products x_t w_x of all steps are one large product outside the scan: only h_{t-1} w_h is
sequential. Autodiff of a scan would add to the gradient of w_h at each step; here the reverse scan
computes the gates' gradients alone, and one product over all steps gives the weights'.

What is kept of all steps for the backward pass, and `projected` itself, may be bfloat16: half the
memory. What goes in and comes out, weights, states, products and sums are float32. Or time is cut
into blocks, of which the states between alone are kept, and the backward pass computes each block
again: the memory of one block, for a third more work. On a GPU cuDNN's LSTM may take over where
weights are shared: the same numbers but for rounding.

Axes: B batch, T time step, F feature, H hidden, G gate (4H).
Source: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000; gate order and
forget bias as in Keras and flax's OptimizedLSTMCell.
"""

from collections.abc import Callable
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
# Numbers of a weight matrix beyond which the input of its gradient's product is turned round first:
# 165 GF/s instead of 114 for 512 x 2048 over 2,500 rows; for the many small ones it only costs.
_WORTH_TURNING = 2**14


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
    gates = scale * jnp.tanh(scale * (projected + _step_product(state.h, w_h, turned))) + shift
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = f * state.c + i * g
    return State(o * jnp.tanh(c), c), gates


def _step_product(x: jax.Array, w: jax.Array, turned: bool) -> jax.Array:
    """x w of one step, or x w' of a w that is turned round."""
    return lax.dot_general(x, w, (((1,), (1 if turned else 0,)), ((), ())))


def _at(steps: jax.Array, t: jax.Array) -> jax.Array:
    """A step of an array of all steps."""
    return lax.dynamic_index_in_dim(steps, t, keepdims=False)


def _turned(w: jax.Array) -> jax.Array:
    """w', made once: XLA would make it in each step."""
    return lax.optimization_barrier(w.T)


def _weight_gradient(x: jax.Array, d: jax.Array) -> jax.Array:
    """The sum of x'd over all steps. x: [T, B, F], d: [T, B, G]. Returns [F, G]."""
    if x.shape[-1] * d.shape[-1] < _WORTH_TURNING:
        return jnp.einsum("tbf,tbg->fg", x, d)
    return jnp.einsum("ftb,tbg->fg", lax.optimization_barrier(jnp.moveaxis(x, -1, 0)), d)


@jax.custom_vjp
def product(x: jax.Array, w: jax.Array) -> jax.Array:
    """x w of all steps. x: [T, B, F], w: [F, G]. Returns [T, B, G]."""
    return x @ w


def _product_forward(x, w):
    return x @ w, (x, w)


def _product_backward(residuals, d):
    x, w = residuals
    return d @ w.T, _weight_gradient(x, d)


product.defvjp(_product_forward, _product_backward)


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
        (d_h_next, d_c_next), d_projected = carry
        t, *inputs = inputs
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
        after = State(_step_product(d_gates, w, large), d_c * f)
        # Not stacked by scan: under vmap that would be turned round, too.
        d_projected = lax.dynamic_update_index_in_dim(d_projected, d_gates.astype(kept), t, 0)
        return (after, d_projected), None

    start = (d_last, jnp.zeros_like(gates))
    steps = (jnp.arange(len(gates)), d_hidden, c_before, gates)
    (d_initial, d_projected), _ = lax.scan(step, start, steps, reverse=True)
    h_before = jnp.concatenate([h_first[None], hidden[:-1]])
    return d_projected, _weight_gradient(h_before, d_projected.astype(w_h.dtype)), d_initial


scan_lstm.defvjp(_forward, _backward)


def cudnn_weights(w_x: jax.Array, w_h: jax.Array, b: jax.Array) -> jax.Array:
    """Weights of D directions, [D, F, G], [D, H, G] and [D, G], as cuDNN reads them: [P].

    Its gates are in our order, its matrices turned round, and it has two biases.
    """
    matrices = [w.T.ravel() for both in zip(w_x, w_h, strict=True) for w in both]
    biases = [bias for each in b for bias in (each, jnp.zeros_like(each))]
    return jnp.concatenate([*matrices, *biases])


def _cudnn_lstm(x: jax.Array, w_x: jax.Array, w_h: jax.Array, b: jax.Array) -> jax.Array:
    """LSTMs of D = 1 or 2 directions from zero states. x: [B, T, F]. Returns [B, T, D * H]."""
    from jax.experimental import rnn  # loads jaxlib's GPU modules, which no other start needs

    batch, steps, features = x.shape
    directions, hidden, _ = w_h.shape
    zeros = jnp.zeros((directions, batch, hidden))
    h, *_ = rnn.lstm(  # pyright: ignore[reportGeneralTypeIssues]
        x,
        zeros,
        zeros,
        cudnn_weights(w_x, w_h, b),
        jnp.full(batch, steps, jnp.int32),
        input_size=features,
        hidden_size=hidden,
        num_layers=1,
        dropout=0.0,
        bidirectional=directions == 2,
    )
    return h


class LSTMBank(nnx.Module):
    """`copies` LSTMs side by side, each with weights of its own and a batch of its own.

    Initialisers as in Keras: w_x Glorot uniform, w_h orthogonal, b zero with forget bias 1.

    Attributes:
        w_x: [K, F, G], K copies.
        w_h: [K, H, G].
        b: [K, G].
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        copies: int,
        *,
        storage: str = "float32",
        remat: int = 0,
        kernel: str = "scan",
        rngs: nnx.Rngs,
    ):
        """Draws the parameters.

        Args:
            features: F.
            hidden: H.
            copies: K.
            storage: the type of what is kept of all steps, "float32" or "bfloat16".
            remat: steps of a block that the backward pass computes again; 0 keeps all steps.
            kernel: "scan"; or "cudnn", which is used where jax has a GPU and K is 1.
            rngs: with a `params` stream.
        """
        self.storage, self.remat, self.kernel = storage, remat, kernel
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
        return jax.vmap(product)(x, self.w_x[...]) + self.b[...][:, None, None]

    def run(self, inputs, project: Callable | None = None) -> jax.Array:
        """h of all steps from zero states, [K, T, B, H].

        Args:
            inputs: x [K, T, B, F]; or what `project` takes, arrays whose second axis is time.
            project: what self.project is to x.
        """
        if project is None and self.uses_cudnn:
            h = _cudnn_lstm(
                jnp.swapaxes(inputs[0], 0, 1), self.w_x[...], self.w_h[...], self.b[...]
            )
            return jnp.swapaxes(h, 0, 1)[None]
        project = project or self.project
        copies, steps, batch, _ = jax.eval_shape(project, inputs).shape
        zeros = jnp.zeros((copies, batch, self.w_h.shape[1]))

        def scan(state: State, inputs) -> tuple[State, jax.Array]:
            projected = project(inputs).astype(self.storage)
            h, last = jax.vmap(scan_lstm)(projected, self.w_h[...], state)
            return last, h

        start = State(zeros, zeros)
        if not 0 < self.remat < steps:
            return scan(start, inputs)[1]
        count = -(-steps // self.remat)

        def blocks(array: jax.Array) -> jax.Array:
            added = [(0, 0), (0, count * self.remat - steps)] + [(0, 0)] * (array.ndim - 2)
            array = jnp.pad(array, added).reshape(len(array), count, self.remat, *array.shape[2:])
            return jnp.moveaxis(array, 1, 0)

        again = jax.checkpoint(scan, prevent_cse=False)  # a loop's body needs no barrier
        h = lax.scan(again, start, jax.tree.map(blocks, inputs))[1]
        return jnp.moveaxis(h, 0, 1).reshape(copies, -1, *h.shape[3:])[:, :steps]

    @property
    def uses_cudnn(self) -> bool:
        """Not where there is no GPU, so that a model trained with it makes music anywhere."""
        return self.kernel == "cudnn" and jax.default_backend() == "gpu"

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
        **options,
    ):
        """As LSTMBank, whose `options` they are, but for the copies."""
        super().__init__(features, hidden, 2 if bidirectional else 1, **options)

    def __call__(self, x: jax.Array, table: jax.Array | None = None) -> jax.Array:
        """h of all steps [B, T, D * H], the directions side by side.

        Args:
            x: [B, T, F]; or numbers of rows in a table, int [B, T].
            table: x_t w_x + b of each row, [D, V, G].
        """
        if table is None and self.uses_cudnn:
            return _cudnn_lstm(x, self.w_x[...], self.w_h[...], self.b[...])
        directions = len(self.w_x[...])
        x = jnp.swapaxes(x, 0, 1)
        look_up = (
            None if table is None else lambda rows: jax.vmap(lambda each, at: each[at])(table, rows)
        )
        h = self.run(jnp.stack([x, x[::-1]][:directions]), look_up)
        backward = [h[d, ::-1] for d in range(1, directions)]
        return jnp.swapaxes(jnp.concatenate([h[0], *backward], axis=-1), 0, 1)

    def read(self, x: jax.Array) -> tuple[jax.Array, State]:
        """As __call__, in one direction; and the state after the last step, to advance from."""
        projected = product(jnp.swapaxes(x, 0, 1), self.w_x[0]) + self.b[0]
        zeros = jnp.zeros((len(x), self.w_h.shape[1]))
        h, last = scan_lstm(projected, self.w_h[0], State(zeros, zeros))
        return jnp.swapaxes(h, 0, 1), last

    def advance(self, x: jax.Array, state: State) -> State:
        """One step in one direction. x: [B, F]; the state's arrays are [B, H].

        Without the axis of copies: with it XLA turns the weights round in each step.
        """
        return _cell(x @ self.w_x[0] + self.b[0], state, self.w_h[0])[0]
