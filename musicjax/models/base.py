"""What a model is: arrays -> loss; a prime -> carry -> next element, again and again.

The trainer, the one sampling loop and evaluate know these names and no model.

Axes: B batch, T element of a window, P element of the prime.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self

import jax
import numpy as np
from flax import nnx

from musicjax.encodings.base import Array, Encoding
from musicjax.errors import InputError

Params = nnx.State
Batch = Mapping[str, Array]
Carry = Any  # a pytree: all that a model remembers between two elements
Sums = dict[str, jax.Array]

# Logits -> logits: what sampling rules make of them. A model that draws an element in parts, low
# to high, says how many notes sound in it so far: rules(logits, num_notes=...).
Rules = Callable[..., jax.Array]


class Prediction(NamedTuple):
    """What a model, or a baseline, says of a batch's targets; `Model.score` makes sums of it.

    Attributes:
        guess: elements [B, ...] or [B, T, ...], the likeliest.
        nll: minus the log-likelihood of the targets in nats: of ids [B] or [B, T], of the cells of
            a matrix [B, T, N]; None from a model that gives none.
        values: of a matrix, what each bit is expected to be, [B, T, N, C].
        correct: of ids, whether none is likelier than the target, like `nll`; None: where it is the
            guess. To compare with the largest is many times as fast as to look for its place.
    """

    guess: Array
    nll: Array | None
    values: Array | None = None
    correct: Array | None = None


class Model(Protocol):
    """A network that predicts the elements of music, with its loss. Frozen and hashable by value,
    for jax compiles by it: two that are equal share what was compiled.

    Attributes:
        reads: kind of the elements that it reads and predicts, see musicjax.encodings.base.
        reads_positions: whether its batches tell the place in the bar.
        every_element: whether, when it is measured, it predicts each element of a window; else the
            last alone.
        summary: names of the metrics that are shown after each epoch.
        free_fields: fields of `config.model` that may change when a run goes on.
        window: T, elements that it is trained to read.
        pad: whether windows may begin before their song.
        any_window: whether its parameters fit other windows too.
        dropout: share that training drops.
        loss_unit: what the loss is counted in, such as "nats a token".
        encoding: of its elements.
    """

    reads: ClassVar[Literal["ids", "matrix"]]
    reads_positions: ClassVar[bool] = False
    every_element: ClassVar[bool] = False
    summary: ClassVar[tuple[str, ...]] = ("loss",)
    free_fields: ClassVar[tuple[str, ...]] = ()

    encoding: Encoding
    window: int
    pad: bool
    dropout: float

    @classmethod
    def from_config(cls, config: Any, encoding: Any) -> Self:
        """The model that `config.model` describes, for elements of an encoding.

        Raises:
            InputError: a setting that cannot be.
        """
        ...

    def network(self, rngs: nnx.Rngs) -> nnx.Module:
        """The nnx module that owns the parameters, drawn from a stream `params`."""
        ...

    @property
    def loss_unit(self) -> str:
        """See above."""
        element = self.encoding.element
        return f"nats {'an' if element[0] in 'aeiou' else 'a'} {element}"

    @property
    def any_window(self) -> bool:
        """See above."""
        return True

    @property
    def gives_nll(self) -> bool:
        """Whether its outputs are probabilities."""
        return True

    @property
    def told(self) -> str:
        """A line about what the model is told when it is measured, and does not know when it makes
        music; "" if nothing.
        """
        return ""

    @property
    def takes_given(self) -> bool:
        """Whether notes of its elements can be given: `constrained_step`, which infill needs."""
        return False

    @property
    def min_prime(self) -> int:
        """Elements that a prime must have, for what the model reads to be like in training."""
        return 0

    @functools.cached_property
    def element_weights(self) -> np.ndarray | None:
        """[V], the weight of each id in the loss; None if all weigh alike."""
        return None

    @functools.cached_property
    def graph(self) -> nnx.GraphDef:
        """The network without its parameters."""
        return nnx.split(nnx.eval_shape(lambda: self.network(nnx.Rngs(params=0))))[0]

    @functools.cached_property
    def shapes(self) -> Params:
        """The parameters' shapes and types."""
        return nnx.split(nnx.eval_shape(lambda: self.network(nnx.Rngs(params=0))))[1]

    def init(self, seed: int) -> Params:
        """Parameters before training."""
        return _draw(self, jax.random.key(seed))

    def bind(self, params: Params) -> Any:
        """The network with its parameters."""
        return nnx.merge(self.graph, params)

    # --- training -------------------------------------------------------------------------------

    def apply(self, params: Params, batch: Batch, key: jax.Array | None = None) -> Prediction:
        """What the network says of a batch of musicjax.training.dataset.

        Args:
            params: of `init`.
            batch: elements [B, T + 1, ...], present float32 [B] (0 in rows that are no example),
                before and length int32 [B] (of the elements after the first, those before the song,
                and those before its end), and, where `reads_positions` is set, positions int32
                [B, T + 1].
            key: of dropout; without it nothing is dropped.
        """
        ...

    def score(self, prediction: Prediction, batch: Batch) -> tuple[jax.Array, Sums]:
        """Loss of a prediction; and sums over the examples, float32 [], for `metrics`."""
        ...

    def loss(
        self, params: Params, batch: Batch, key: jax.Array | None = None
    ) -> tuple[jax.Array, Sums]:
        """As `score`, of what the network says."""
        return self.score(self.apply(params, batch, key), batch)

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """What people read, "loss" among it, from sums over any number of batches."""
        ...

    def check_devices(self, count: int, platform: str) -> None:
        """Whether it can train on so many devices of a platform.

        Raises:
            InputError: it cannot.
        """

    def unweighted(self, params: Params) -> Params:
        """Parameters that give the music's own probabilities, where training weighed elements
        otherwise; else the same.
        """
        return params

    # --- generation -----------------------------------------------------------------------------

    def plan(self, prime_length: int | None, length: int | None) -> tuple[int, int]:
        """Elements of the prime that it reads, and of the piece that it makes then.

        Args:
            prime_length: as asked for, or None.
            length: as asked for, or None.
        Raises:
            InputError: it does not make pieces, or not of such a length.
        """
        ...

    def prefill(self, params: Params, prime: jax.Array, positions: jax.Array) -> Carry:
        """Reads a prime.

        Args:
            params: of training.
            prime: elements [B, P, ...]; P is at most what `plan` says, and may be 0; zeros come
                first where a prime is shorter than another.
            positions: int32 [B, 1 + P], places in the bar, from the element before the prime on.
        """
        ...

    def sample_step(
        self, params: Params, carry: Carry, keys: jax.Array, position: jax.Array, rules: Rules
    ) -> tuple[Carry, jax.Array]:
        """Draws the next element, and reads it.

        Args:
            params: of training.
            carry: of `prefill` or the step before.
            keys: PRNG keys [B].
            position: int32 [B], place in the bar of the element drawn.
            rules: to be applied to logits before drawing.
        Returns:
            the carry after it, and elements [B, ...].
        """
        ...

    def constrained_step(
        self,
        params: Params,
        carry: Carry,
        keys: jax.Array,
        position: jax.Array,
        rules: Rules,
        allowed: jax.Array,
        path: jax.Array,
        follow: jax.Array,
    ) -> tuple[Carry, jax.Array, jax.Array, jax.Array]:
        """As `sample_step`, where notes are given: each does what it may do.

        Args:
            params, carry, keys, position, rules: as of `sample_step`.
            allowed: bool [N, 1 + C], as of Encoding.only.
            path: [N, C], an element that is allowed.
            follow: bool [B], where `path` is taken and nothing is drawn.
        Returns:
            the carry after it, and elements [B, N, C]; and float32 [B] each: the log-likelihood of
            the elements by the model, and that of drawing them.
        """
        raise NotImplementedError

    def select(self, carry: Carry, rows: jax.Array) -> Carry:
        """The rows int [R] of a carry, some of which may come again."""
        return jax.tree.map(lambda array: array[rows], carry)

    def live(self, params: Params) -> tuple[dict[str, Any], Mapping[str, jax.Array]]:
        """What a live page must know to run the model: settings, JSON, of which "name" is that of
        a network of rendering/templates/live_networks.js; and its arrays, float32, by name.

        Raises:
            InputError: the page does not run it.
        """
        raise InputError(
            f"the live page does not run a {type(self).__name__}; expected a causal LSTM without a "
            "pointer, or a bi-axial LSTM with tied weights"
        )

    def predict(self, params: Params, batch: Batch) -> jax.Array:
        """Elements [B, T, ...] that it expects, each from those before it.

        Raises:
            InputError: it does not predict each element of a window.
        """
        raise InputError(
            f"mode is 'predict', which a {type(self).__name__} does not do; use sample or greedy"
        )


# One program, which runs once: compiled a draw at a time it takes several times as long.
@functools.partial(
    jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0}
)
def _draw(model: Model, key: jax.Array) -> Params:
    return nnx.split(model.network(nnx.Rngs(params=key)))[1]
