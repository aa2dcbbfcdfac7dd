"""The causal LSTM: each id of a song from all ids before it.

    x_t = e(id_t) + p(place_{t+1}) + C context_t       e: a table whose rows are sums of parts
    h_t = LSTM(dropout(x_t), h_{t-1})
    logits_{t+1} = h W E' + b + intervals(h, context_t)      h: dropout(h_t); E: the same table

Every element of a window learns, and what was read is carried on. Ids are not strangers to each
other: a row of the table is the sum of a vector of its own and of the vectors of its parts (its
pitches, pitch classes and duration), so that rare ids share the strength of common ones, coming in
and going out. The network knows where in the bar the next element begins, and, where the encoding
can tell, the context: which notes sound there, for how long, and which have just ended. Ids of
pitches are judged by their intervals to those, and by how voices move (musicjax.models.intervals).
With a `memory` it may point to an id that came before, and copy it (musicjax.models.pointer).

Axes: B batch, T element of a window, V ids, E embedding, H hidden, F parts, K of a state of the
encoding's grammar.
Source: tied weights after Press and Wolf 2017; dropout as in Zaremba et al. 2014.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from musicjax.config import SHARE, at_least, expect, setting, settings_of
from musicjax.encodings.base import Context, Encoding
from musicjax.models import pointer
from musicjax.models.base import Batch, Carry, Params, Prediction, Rules
from musicjax.models.categorical import Categorical, without_unknown
from musicjax.models.intervals import PITCHES, Intervals
from musicjax.models.lstm import LSTM, LSTMCarry, LSTMSettings, dropout
from musicjax.models.pointer import Memory, Pointer
from musicjax.models.weights import by_name

# Of the parameters, what a live page needs beside the table that is made of the others.
_LIVE = ("table", "places", "context", "lstms", "w_out", "b_out", "bias", "intervals", "pointer")
_LONGEST_BAR = 8  # quarters; places further on in a bar are taken for the last


@dataclasses.dataclass(frozen=True)
class CausalLSTMSettings(LSTMSettings):
    """What `config.model` says of a CausalLSTM; each field is explained in configs/."""

    window: int = setting(at_least(1))
    embedding_size: int = setting(at_least(1))
    hidden_size: int = setting(at_least(1))
    layers: int = setting(at_least(1))
    parts: bool = setting()
    places: bool = setting()
    context: bool = setting()
    memory: int = setting(at_least(0, "ids; 0: none"))
    moved_copies: bool = setting()
    input_dropout: float = setting(SHARE)


class CausalCarry(NamedTuple):
    """What is carried from id to id.

    Attributes:
        lstms: of each layer, arrays [B, H].
        last: int32 [B], the last id, not yet read.
        table: [V, E], made once.
        time: int32 [B], units until the end of the last id.
        read: int32 [B, K], what the encoding's grammar knows before the last id.
        memory: of the pointer; None without one.
    """

    lstms: tuple[LSTMCarry, ...]
    last: jax.Array
    table: jax.Array
    time: jax.Array
    read: jax.Array
    memory: Memory | None


class CausalNetwork(nnx.Module):
    """The network, see above."""

    def __init__(self, settings: CausalLSTMSettings, encoding: Encoding, *, rngs: nnx.Rngs):
        """Draws the parameters.

        Args:
            settings: of `config.model`.
            encoding: whose ids it reads; it says what they are made of.
            rngs: with a `params` stream.
        """
        small, glorot = jax.nn.initializers.normal(0.05), jax.nn.initializers.glorot_uniform()
        size = settings.embedding_size
        self.settings = settings
        self.embedding = nnx.Param(small(rngs.params(), (encoding.size, size)))
        features = encoding.features() if settings.parts else []
        self.parts = nnx.List(
            [nnx.Param(small(rngs.params(), (part.shape[1], size))) for part in features]
        )
        places = _LONGEST_BAR * encoding.units_per_quarter
        self.places = nnx.Param(small(rngs.params(), (places, size))) if settings.places else None
        told = encoding.context(encoding.grammar(1)) if settings.context else None
        told_size = 0 if told is None else _flat(told).shape[-1]
        self.context = nnx.Param(small(rngs.params(), (told_size, size))) if told else None
        inputs, lstms = size, []
        for _ in range(settings.layers):
            options = settings.lstm_options
            lstms.append(
                LSTM(inputs, settings.hidden_size, bidirectional=False, **options, rngs=rngs)
            )
            inputs = settings.hidden_size
        self.lstms = nnx.List(lstms)
        self.w_out = nnx.Param(glorot(rngs.params(), (inputs, size)))
        self.b_out = nnx.Param(jnp.zeros(size))
        self.bias = nnx.Param(jnp.zeros(encoding.size))
        units, pitches = encoding.units_per_quarter, encoding.id_pitches.tolist()
        copies = (inputs, units, pitches, settings.moved_copies)
        self.pointer = Pointer(*copies, rngs=rngs) if settings.memory else None
        self.intervals = Intervals(inputs, told.pitches.shape[-2], rngs=rngs) if told else None

    def table(self, features: Sequence[Any]) -> jax.Array:
        """[V, E]: what each id is. features: [V, F] each, as of the encoding."""
        table = self.embedding[...]
        for part, weights in zip(features, self.parts, strict=bool(self.parts)):
            table = table + part @ weights[...]
        return table

    def inputs(
        self, ids: jax.Array, places: jax.Array, context: Context | None, table: jax.Array
    ) -> jax.Array:
        """[..., E] of ids [...], and of the places in the bar and the context of those that follow
        them.
        """
        x = table[ids]
        if self.places is not None:
            x = x + self.places[jnp.minimum(places, len(self.places[...]) - 1)]
        if self.context is not None:
            assert context is not None  # of such a network
            x = x + _flat(context) @ self.context[...]
        return x

    def __call__(
        self,
        ids: jax.Array,
        places: jax.Array,
        context: Context | None,
        table: jax.Array,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """The last layer's h [B, T, H].

        Args:
            ids: int [B, T].
            places: int [B, T], in the bar, of the ids that follow.
            context: [B, T, ...], of the encoding, if the settings ask for it.
            table: of `table`.
            dropout_key: for training; without it nothing is dropped.
        """
        settings = self.settings
        x = self.inputs(ids, places, context, table)
        x = dropout(x, settings.input_dropout, 0, dropout_key)
        for layer, lstm in enumerate(self.lstms, 1):
            x = dropout(lstm(x), settings.dropout, layer, dropout_key)
        return x

    def outputs(
        self, h: jax.Array, context: Context | None, table: jax.Array, pitches: np.ndarray
    ) -> jax.Array:
        """Logits [..., V] of the last layer's h [..., H], and of the context where they come.
        pitches: int [V], of each id, -1 of others.
        """
        logits = (h @ self.w_out[...] + self.b_out[...]) @ table.T + self.bias[...]
        if self.intervals is not None:
            assert context is not None  # of such a network
            scores = self.intervals(h, context.pitches, context.moves)
            # As a product: many times as fast on a CPU as to look the scores up and scatter back.
            logits += scores @ (pitches == np.arange(PITCHES)[:, None]).astype(np.float32)
        return logits


@dataclasses.dataclass(frozen=True)
class CausalLSTM(Categorical):
    """The model, see above."""

    reads_positions: ClassVar[bool] = True
    every_element: ClassVar[bool] = True
    free_fields: ClassVar[tuple[str, ...]] = ("kernel", "remat")

    encoding: Encoding
    settings: CausalLSTMSettings
    window: int
    dropout: float
    pad: bool = True

    @classmethod
    def from_config(cls, config: Any, encoding: Any) -> Self:
        """See Model. What was saved before there were `moved_copies` has none."""
        fields = {"moved_copies": False, **config.model}
        settings = settings_of(CausalLSTMSettings, fields, "model")
        settings.check_kernel()
        expect(
            not settings.places or encoding.streams == 1,
            "model.places",
            settings.places,
            f"False, as {encoding.name} of several instruments each move on a time of their own",
        )
        expect(
            not settings.context or encoding.context(encoding.grammar(1)) is not None,
            "model.context",
            settings.context,
            f"False, as {encoding.name} do not tell which notes sound",
        )
        can_move = settings.memory > 0 and bool((encoding.id_pitches >= 0).any())
        expect(
            can_move or not settings.moved_copies,
            "model.moved_copies",
            settings.moved_copies,
            "False, but of events that have a model.memory",
        )
        return cls(encoding, settings, settings.window, settings.dropout)

    def network(self, rngs: nnx.Rngs) -> CausalNetwork:
        """See Model."""
        return CausalNetwork(self.settings, self.encoding, rngs=rngs)

    def check_devices(self, count: int, platform: str) -> None:
        """See Model."""
        self.settings.check_devices(count, platform)

    def _table(self, network: CausalNetwork) -> jax.Array:
        return network.table(self.encoding.features() if self.settings.parts else [])

    def read(self, ids: jax.Array) -> tuple[jax.Array, Context | None]:
        """What the encoding's grammar knows after all of ids [B, T], and the context after each."""

        def read(state: jax.Array, each: jax.Array) -> tuple[jax.Array, jax.Array]:
            state = self.encoding.read(state, each)
            return state, state

        start = jnp.asarray(self.encoding.grammar(1))
        start = jnp.broadcast_to(start, (ids.shape[0], start.shape[1]))
        end, states = jax.lax.scan(read, start, ids.T)
        return end, self._context(jnp.swapaxes(states, 0, 1))

    def _context(self, states: jax.Array) -> Context | None:
        return self.encoding.context(states) if self.settings.context else None

    def apply(self, params: Params, batch: Batch, key: jax.Array | None = None) -> Prediction:
        """See Model; of all ids of a window but the first, [B, T]."""
        network = self.bind(params)
        table = self._table(network)
        ids, places = batch["elements"][:, :-1], batch["positions"][:, 1:]
        _, context = self.read(ids)
        h = network(ids, places, context, table, key)
        logits = network.outputs(h, context, table, self.encoding.id_pitches)
        if network.pointer is None:
            return self.predicted(logits, batch)
        times = jnp.cumsum(self.encoding.units(ids), axis=1)
        logits = without_unknown(logits)
        return Prediction(
            *network.pointer(logits, h, batch["elements"], times, self.settings.memory)
        )

    def live(self, params: Params) -> tuple[dict[str, Any], Mapping[str, jax.Array]]:
        """See Model."""
        settings = self.settings
        arrays = by_name(params) | {"table": self._table(self.bind(params))}
        sizes = {
            "embedding_size": settings.embedding_size,
            "layers": settings.layers,
            "reach": settings.memory,
        }
        used = {name: array for name, array in arrays.items() if name.split(".")[0] in _LIVE}
        return {"name": "causal_lstm", **sizes}, used

    # --- generation -----------------------------------------------------------------------------

    def plan(self, prime_length: int | None, length: int | None) -> tuple[int, int]:
        """See Model: by default a quarter of what is usual for a piece, at most a window. Of longer
        primes only long songs could be continued.
        """
        usual = self.encoding.usual_length
        if prime_length is None:
            prime_length = min(self.window, usual // 4)
        return prime_length, usual if length is None else length

    def prefill(self, params: Params, prime: jax.Array, positions: jax.Array) -> Carry:
        """See Model. Before the prime is id 0, as before a song."""
        network = self.bind(params)
        table = self._table(network)
        ids = jnp.pad(prime, [(0, 0), (1, 0)])
        state, context = self.read(ids[:, :-1])
        x, carries = network.inputs(ids[:, :-1], positions[:, 1:], context, table), []
        for lstm in network.lstms:
            if prime.shape[1]:
                x, carry = lstm.prefill(x)
            else:
                zeros = jnp.zeros((prime.shape[0], self.settings.hidden_size))
                carry = LSTMCarry(zeros, zeros)
            carries.append(carry)
        times, memory = jnp.cumsum(self.encoding.units(ids), axis=1), None
        if network.pointer is not None:
            memory = network.pointer.remember(x, ids, times[:, :-1], self.settings.memory)
        return CausalCarry(tuple(carries), ids[:, -1], table, times[:, -1], state, memory)

    def sample_step(
        self, params: Params, carry: Carry, keys: jax.Array, position: jax.Array, rules: Rules
    ) -> tuple[Carry, jax.Array]:
        """See Model."""
        network = self.bind(params)
        state = self.encoding.read(carry.read, carry.last)
        context = self._context(state)
        x, lstms = network.inputs(carry.last, position, context, carry.table), []
        for lstm, before in zip(network.lstms, carry.lstms, strict=True):
            lstms.append(lstm.advance(x, before))
            x = lstms[-1].h
        logits = network.outputs(x, context, carry.table, self.encoding.id_pitches)
        logits, memory = without_unknown(logits), carry.memory
        if memory is not None:
            memory, shares = network.pointer.recall(memory, x, carry.last, carry.time)
            logits = pointer.mix(logits[:, None], shares)[:, 0]
        ids = jax.vmap(jax.random.categorical)(keys, rules(logits)).astype(jnp.int32)
        if memory is not None:
            memory = network.pointer.write(memory, x, ids, carry.time)
        time = carry.time + self.encoding.units(ids)
        return CausalCarry(tuple(lstms), ids, carry.table, time, state, memory), ids


def _flat(context: Context) -> jax.Array:
    """[..., C * 128 + F]."""
    numbers = [context.pitches[..., i, :] for i in range(context.pitches.shape[-2])]
    return jnp.concatenate([*numbers, context.others], axis=-1)
