"""The recurrent core: an LSTM over lax.scan, with its own backward pass.

    i, f, g, o = x_t w_x + h_{t-1} w_h + b          each [B, H]; gates side by side: [B, G], G = 4H
    c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)
    h_t = sigmoid(o) tanh(c_t)

The products x_t w_x of all steps are one large product outside the scan: only h_{t-1} w_h is
sequential. Autodiff of a scan would add to the gradient of w_h at each step; here the reverse scan
computes the gates' gradients alone, and one product over all steps gives the weights'.

The residuals, which are what is kept of all steps for the backward pass, and `projected` itself may
be bfloat16: half the memory. Inputs, outputs, weights, carries, products and sums are float32.
Rematerialisation cuts time into blocks and keeps only the carries between them; the backward pass
computes each block again: the memory of one block, for a third more work. Two kernels take over
where they can, with the same numbers but for rounding: on a CPU compiled C++
(musicjax.models.lstm_cpu), on a GPU cuDNN's LSTM where weights are shared.

Axes: B batch, T time step, F feature, H hidden, G gate (4H), K one of `num_lstms`, D direction.
Source: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000; gate order and
forget bias as in Keras and flax's OptimizedLSTMCell.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.custom_derivatives import SymbolicZero

from musicjax.config import SHARE, at_least, expect, one_of, setting
from musicjax.errors import InputError
from musicjax.models import lstm_cpu

# Bytes of w_h beyond which a training step reads it transposed, [G, H], since it does not stay in a
# core's cache: with 50 rows of H = 512 that made 106 GF/s of 73, and with 36 or 256 no more.
TRANSPOSED_SCAN_BYTES = 2 * 2**20
# Elements of a weight matrix beyond which the input of its gradient's product is transposed first:
# 165 GF/s instead of 114 for 512 x 2048 over 2,500 rows; for the many small ones it only costs.
TRANSPOSED_INPUT_ELEMENTS = 2**14


@dataclasses.dataclass(frozen=True)
class LSTMSettings:
    """What all models of LSTMs read from `config.model`.

    Attributes:
        dropout: share of each LSTM's outputs that training drops.
        residual_dtype: of what is kept of all steps for the backward pass.
        remat: steps of a block that the backward pass computes again; 0 keeps all steps.
        kernel: "native", compiled C++ on a CPU, where there is a compiler and residuals are
            float32, and else the scan; "scan"; or "cudnn", a GPU's own LSTM, where there is one.
    """

    dropout: float = setting(SHARE)
    residual_dtype: str = setting(one_of("float32", "bfloat16"))
    remat: int = setting(at_least(0, "steps of a block; 0: keep all"))
    kernel: str = setting(one_of("native", "scan", "cudnn"))

    def check_kernel(self) -> None:
        """Whether the kernel has the other settings.

        Raises:
            InputError: it has not.
        """
        if self.kernel == "cudnn":
            where = "where model.kernel is 'cudnn'"
            dtype = self.residual_dtype
            expect(dtype == "float32", "model.residual_dtype", dtype, f"'float32' {where}")
            expect(self.remat == 0, "model.remat", self.remat, f"0 {where}")

    def check_devices(self, count: int, platform: str) -> None:
        """Whether the kernel can train on so many devices of a platform.

        Raises:
            InputError: cuDNN without a GPU, or on several, since XLA cannot divide its work.
        """
        if self.kernel == "cudnn" and (count, platform) != (1, "gpu"):
            raise InputError(
                f"model.kernel is 'cudnn', but training would run on {count} x {platform}; "
                "expected one GPU: set train.devices=1 on a machine with a GPU, or "
                "model.kernel=scan, which computes the same"
            )

    @property
    def lstm_options(self) -> dict[str, Any]:
        """Arguments of each LSTMBank."""
        return {
            "residual_dtype": self.residual_dtype,
            "remat": self.remat,
            "kernel": self.kernel,
        }


class LSTMCarry(NamedTuple):
    """What an LSTM carries from step to step: h and c, each [B, H]."""

    h: jax.Array
    c: jax.Array


class Terms(NamedTuple):
    """What an LSTM reads of all steps: x_t w_x + b.

    Attributes:
        x: [K, T, B, F].
        w_x: [K, F, G]; None where x is the product already, [K, T, B, G].
        b: [K, G]; None where nothing is to be added.
    """

    x: jax.Array
    w_x: jax.Array | None = None
    b: jax.Array | None = None

    def product(self) -> jax.Array:
        """[K, T, B, G]."""
        projected = self.x if self.w_x is None else jax.vmap(product)(self.x, self.w_x)
        return projected if self.b is None else projected + self.b[:, None, None]


def _cell(
    projected: jax.Array, carry: LSTMCarry, w_h: jax.Array, transposed: bool = False
) -> tuple[LSTMCarry, jax.Array]:
    """One step. projected: [B, G]; w_h: [H, G], or [G, H] if it is transposed. Returns the new
    carry and the activated gates [B, G].
    """
    # sigmoid(x) = tanh(x / 2) / 2 + 1 / 2: all gates in one pass, and no copy to join them.
    hidden = carry.h.shape[-1]
    scale = jnp.repeat(jnp.array([0.5, 0.5, 1.0, 0.5]), hidden)
    shift = jnp.repeat(jnp.array([0.5, 0.5, 0.0, 0.5]), hidden)
    gates = scale * jnp.tanh(scale * (projected + _step_product(carry.h, w_h, transposed))) + shift
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = f * carry.c + i * g
    return LSTMCarry(o * jnp.tanh(c), c), gates


def _step_product(x: jax.Array, w: jax.Array, transposed: bool) -> jax.Array:
    """x w of one step, or x w' of a w that is transposed."""
    return lax.dot_general(x, w, (((1,), (1 if transposed else 0,)), ((), ())))


def _at(steps: jax.Array, t: jax.Array) -> jax.Array:
    """A step of an array of all steps."""
    return lax.dynamic_index_in_dim(steps, t, keepdims=False)


def _transpose(w: jax.Array) -> jax.Array:
    """w', made once: XLA would make it in each step."""
    return lax.optimization_barrier(w.T)


def _weight_gradient(x: jax.Array, d: jax.Array) -> jax.Array:
    """The sum of x'd over all steps. x: [T, B, F], d: [T, B, G]. Returns [F, G]."""
    if x.shape[-1] * d.shape[-1] < TRANSPOSED_INPUT_ELEMENTS:
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
def scan_lstm(
    projected: jax.Array, w_h: jax.Array, initial: LSTMCarry
) -> tuple[jax.Array, LSTMCarry]:
    """The recurrence over time.

    It indexes its steps, for under vmap `scan` would first transpose an array of all steps.

    Args:
        projected: float32 or bfloat16 [T, B, G]: x_t w_x + b of all steps. The residuals have its
            type.
        w_h: [H, G].
        initial: the carry before the first step.
    Returns:
        h of all steps, float32 [T, B, H], and the carry after the last.
    """

    def step(carry, t):
        carry, _ = _cell(_at(projected, t), carry, w_h)
        return carry, carry.h

    last, hidden = lax.scan(step, initial, jnp.arange(len(projected)))
    return hidden, last


def _forward(projected, w_h, initial):
    transposed, dtype = w_h.nbytes > TRANSPOSED_SCAN_BYTES, projected.dtype
    w = _transpose(w_h) if transposed else w_h

    def step(carry, t):
        after, gates = _cell(_at(projected, t), carry, w, transposed)
        return after, (after.h, carry.c.astype(dtype), gates.astype(dtype))

    steps = jnp.arange(len(projected))
    last, (hidden, c_before, gates) = lax.scan(step, initial, steps)
    return (hidden, last), (w_h, initial.h, hidden, c_before, gates)


def _backward(residuals, gradients):
    w_h, h_first, hidden, c_before, gates = residuals
    d_hidden, d_last = gradients
    # The product here is with w_h', so a w_h that is large is already as it should be.
    large, dtype = w_h.nbytes > TRANSPOSED_SCAN_BYTES, gates.dtype
    w = w_h if large else _transpose(w_h)

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
        after = LSTMCarry(_step_product(d_gates, w, large), d_c * f)
        # Not stacked by scan: under vmap that would be transposed, too.
        d_projected = lax.dynamic_update_index_in_dim(d_projected, d_gates.astype(dtype), t, 0)
        return (after, d_projected), None

    start = (d_last, jnp.zeros_like(gates))
    steps = (jnp.arange(len(gates)), d_hidden, c_before, gates)
    (d_initial, d_projected), _ = lax.scan(step, start, steps, reverse=True)
    h_before = jnp.concatenate([h_first[None], hidden[:-1]])
    return d_projected, _weight_gradient(h_before, d_projected.astype(w_h.dtype)), d_initial


scan_lstm.defvjp(_forward, _backward)


@jax.custom_vjp
def native_lstm(x: jax.Array, w: jax.Array, initial: LSTMCarry) -> tuple[jax.Array, LSTMCarry]:
    """LSTMs side by side, by the C++ for CPUs; only where that is available.

    Args:
        x: float32 [K, T, B, F].
        w: [K, F + H + 1, G]: w_x, w_h and b, one upon another.
        initial: the carries before the first step, arrays [K, B, H].
    Returns:
        h of all steps [K, T, B, H], and the carries after the last.
    """
    hidden, c = lstm_cpu.run(x, w, *initial)
    return hidden, _last(hidden, c, initial)


def _native_forward(*primals):
    x, w, initial = jax.tree.map(lambda primal: primal.value, primals)
    hidden, c, gates, cells = lstm_cpu.keep(x, w, *initial)
    # What is data, such as features of notes, needs no gradient.
    call = lstm_cpu.gradients if primals[0].perturbed else lstm_cpu.gradients_but_x
    kept = jax.tree_util.Partial(call, gates, cells, hidden, x, w, *initial)
    return (hidden, _last(hidden, c, initial)), kept


def _native_backward(kept, gradients):
    d_hidden, (d_h, d_c) = jax.tree.map(
        lambda d: jnp.zeros(d.shape) if isinstance(d, SymbolicZero) else d, gradients
    )
    d_w, d_h, d_c, *d_x = kept(d_hidden, d_h, d_c)
    return (d_x[0] if d_x else None), d_w, LSTMCarry(d_h, d_c)


native_lstm.defvjp(_native_forward, _native_backward, symbolic_zeros=True)


def _last(hidden: jax.Array, c: jax.Array, initial: LSTMCarry) -> LSTMCarry:
    """The carries after all steps; of none, the initial ones."""
    return LSTMCarry(hidden[:, -1] if hidden.shape[1] else initial.h, c)


def cudnn_weights(w_x: jax.Array, w_h: jax.Array, b: jax.Array) -> jax.Array:
    """Weights of D directions, [D, F, G], [D, H, G] and [D, G], as cuDNN reads them: [P].

    Its gates are in our order, its matrices transposed, and it has two biases.
    """
    matrices = [w.T.ravel() for both in zip(w_x, w_h, strict=True) for w in both]
    biases = [bias for each in b for bias in (each, jnp.zeros_like(each))]
    return jnp.concatenate([*matrices, *biases])


def _cudnn_lstm(x: jax.Array, w_x: jax.Array, w_h: jax.Array, b: jax.Array) -> jax.Array:
    """LSTMs of D = 1 or 2 directions from zero carries. x: [B, T, F]. Returns [B, T, D * H]."""
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
    """`num_lstms` LSTMs side by side, each with weights of its own and a batch of its own.

    Initialisers as in Keras: w_x Glorot uniform, w_h orthogonal, b zero with forget bias 1.

    Attributes:
        w_x: [K, F, G].
        w_h: [K, H, G].
        b: [K, G].
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        num_lstms: int,
        *,
        residual_dtype: str = "float32",
        remat: int = 0,
        kernel: str = "scan",
        rngs: nnx.Rngs,
    ):
        """Draws the parameters.

        Args:
            features: F.
            hidden: H.
            num_lstms: K.
            residual_dtype: as in LSTMSettings.
            remat: as in LSTMSettings.
            kernel: as in LSTMSettings; "cudnn" is used where jax has a GPU and K is 1.
            rngs: with a `params` stream.
        """
        self.residual_dtype, self.remat, self.kernel = residual_dtype, remat, kernel
        glorot, orthogonal = jax.nn.initializers.glorot_uniform(), jax.nn.initializers.orthogonal()

        def draw(initialise: Callable, shape: tuple[int, ...]) -> nnx.Param:
            keys = jax.random.split(rngs.params(), num_lstms)
            return nnx.Param(jax.vmap(lambda key: initialise(key, shape))(keys))

        self.w_x = draw(glorot, (features, 4 * hidden))
        self.w_h = draw(orthogonal, (hidden, 4 * hidden))
        forget_one = jnp.zeros((4, hidden)).at[1].set(1.0).reshape(-1)
        self.b = nnx.Param(jnp.tile(forget_one, (num_lstms, 1)))

    def project(self, x: jax.Array) -> jax.Array:
        """x_t w_x + b of all steps. x: [K, T, B, F]. Returns [K, T, B, G]."""
        return self._terms(x).product()

    def _terms(self, x: jax.Array) -> Terms:
        return Terms(x, self.w_x[...], self.b[...])

    def run(self, inputs: Any, terms: Callable[[Any], Terms] | None = None) -> jax.Array:
        """h of all steps from zero carries, [K, T, B, H].

        Args:
            inputs: x [K, T, B, F]; or what `terms` takes, arrays whose second axis is time.
            terms: in place of x and the bank's own w_x and b.
        """
        if terms is None and self.uses_cudnn:
            h = _cudnn_lstm(
                jnp.swapaxes(inputs[0], 0, 1), self.w_x[...], self.w_h[...], self.b[...]
            )
            return jnp.swapaxes(h, 0, 1)[None]
        of = terms or self._terms
        num_lstms, steps, batch, _ = jax.eval_shape(of, inputs).x.shape
        zeros = jnp.zeros((num_lstms, batch, self.w_h.shape[1]))

        def read(carry: LSTMCarry, inputs) -> tuple[LSTMCarry, jax.Array]:
            h, last = self._read(of(inputs), carry)
            return last, h

        start = LSTMCarry(zeros, zeros)
        if not 0 < self.remat < steps:
            return read(start, inputs)[1]
        count = -(-steps // self.remat)

        def blocks(array: jax.Array) -> jax.Array:
            added = [(0, 0), (0, count * self.remat - steps)] + [(0, 0)] * (array.ndim - 2)
            array = jnp.pad(array, added).reshape(len(array), count, self.remat, *array.shape[2:])
            return jnp.moveaxis(array, 1, 0)

        again = jax.checkpoint(read, prevent_cse=False)  # a loop's body needs no barrier
        h = lax.scan(again, start, jax.tree.map(blocks, inputs))[1]
        return jnp.moveaxis(h, 0, 1).reshape(num_lstms, -1, *h.shape[3:])[:, :steps]

    def _read(self, terms: Terms, carry: LSTMCarry) -> tuple[jax.Array, LSTMCarry]:
        """h of all steps [K, T, B, H], and the carries after the last."""
        x, w_x, b = terms
        w_h = self.w_h[...]
        single = x.dtype == w_h.dtype == jnp.float32  # not where jax_enable_x64 makes doubles
        if w_x is not None and single and self.uses_native:
            row = jnp.zeros_like(w_h[:, :1]) if b is None else b[:, None]
            return native_lstm(x, jnp.concatenate([w_x, w_h, row], axis=1), carry)
        projected = terms.product().astype(self.residual_dtype)
        return jax.vmap(scan_lstm)(projected, w_h, carry)

    @property
    def uses_native(self) -> bool:
        """Whether the C++ for CPUs takes over."""
        wanted = self.kernel == "native" and self.residual_dtype == "float32"
        return wanted and lstm_cpu.is_available()

    @property
    def uses_cudnn(self) -> bool:
        """Not where there is no GPU, so that a model trained with it makes music anywhere."""
        return self.kernel == "cudnn" and jax.default_backend() == "gpu"

    def panels(self, w_x: jax.Array | None = None) -> jax.Array | None:
        """The weights as `step` reads them by the C++ for CPUs, to be kept for many steps: [K,
        panels, F + H, columns]; None where XLA takes the step. w_x: in place of the bank's own.
        """
        if not self.uses_native or jnp.result_type(float) != jnp.float32:
            return None
        w_x = self.w_x[...] if w_x is None else w_x
        return lstm_cpu.panels(jnp.concatenate([w_x, self.w_h[...]], axis=1))

    def step(
        self,
        x: jax.Array,
        carry: LSTMCarry,
        panels: jax.Array | None = None,
        w_x: jax.Array | None = None,
        added: jax.Array | None = None,
    ) -> LSTMCarry:
        """One step of each.

        Args:
            x: [K, B, F].
            carry: arrays [K, B, H].
            panels: of `panels`, of the same w_x.
            w_x: in place of the bank's own.
            added: [K, R, G], in place of b: to row b is added its row b % R; R is 1 or B by XLA.
        """
        added = self.b[...][:, None] if added is None else added
        if panels is not None:
            return LSTMCarry(*lstm_cpu.step(added, x, panels, *carry))
        projected = jnp.einsum("kbf,kfg->kbg", x, self.w_x[...] if w_x is None else w_x) + added
        return jax.vmap(_cell)(projected, carry, self.w_h[...])[0]


class LSTM(LSTMBank):
    """An LSTM over a batch of sequences; its K LSTMs are its directions, one or both."""

    def __init__(
        self,
        features: int,
        hidden: int,
        *,
        bidirectional: bool,
        **options: Any,
    ):
        """As LSTMBank, whose `options` they are, but for `num_lstms`."""
        super().__init__(features, hidden, 2 if bidirectional else 1, **options)

    def __call__(self, x: jax.Array, table: jax.Array | None = None) -> jax.Array:
        """h of all steps [B, T, D * H], the directions side by side.

        Args:
            x: [B, T, F]; or rows of a table, int [B, T].
            table: x_t w_x + b of each row, [D, V, G].
        """
        if table is None and self.uses_cudnn:
            return _cudnn_lstm(x, self.w_x[...], self.w_h[...], self.b[...])
        directions = len(self.w_x[...])
        x = jnp.swapaxes(x, 0, 1)
        look_up = None
        if table is not None:
            look_up = lambda rows: Terms(jax.vmap(lambda each, at: each[at])(table, rows))  # noqa: E731
        h = self.run(jnp.stack([x, x[::-1]][:directions]), look_up)
        backward = [h[d, ::-1] for d in range(1, directions)]
        return jnp.swapaxes(jnp.concatenate([h[0], *backward], axis=-1), 0, 1)

    def prefill(self, x: jax.Array) -> tuple[jax.Array, LSTMCarry]:
        """As __call__, in one direction; and the carry after the last step, to advance from."""
        zeros = jnp.zeros((1, x.shape[0], self.w_h.shape[1]))
        h, last = self._read(self._terms(jnp.swapaxes(x, 0, 1)[None]), LSTMCarry(zeros, zeros))
        return jnp.swapaxes(h[0], 0, 1), LSTMCarry(last.h[0], last.c[0])

    def advance(self, x: jax.Array, carry: LSTMCarry, panels: jax.Array | None = None) -> LSTMCarry:
        """One step in one direction. x: [B, F]; the carry's arrays are [B, H]; panels as in `step`.

        By XLA without the axis of LSTMs: with it, it transposes the weights in each step.
        """
        if panels is None:
            return _cell(x @ self.w_x[0] + self.b[0], carry, self.w_h[0])[0]
        h, c = carry
        h, c = self.step(x[None], LSTMCarry(h[None], c[None]), panels)
        return LSTMCarry(h[0], c[0])


def dropout(x: jax.Array, share: float, layer: int, key: jax.Array | None) -> jax.Array:
    """Inverted dropout.

    Args:
        x: outputs of a layer, [...].
        share: that is dropped, in whole 256ths; the rest is scaled up by 1 / (1 - share).
        layer: its number, so that each layer's draw is its own.
        key: PRNG key of the training step; without it nothing is dropped.
    """
    if key is None or not share:
        return x
    dropped = min(round(256 * share), 255)
    # A byte for each: jax.random.bernoulli draws four times as many bits.
    words = jax.random.bits(jax.random.fold_in(key, layer), (-(-x.size // 4),))
    drawn = lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[: x.size].reshape(x.shape)
    return jnp.where(drawn >= dropped, x * (256 / (256 - dropped)), 0)
