"""The LSTM on tokens: predicts a song's next token from a window of tokens.

    tokens -> embedding -> BiLSTM -> dropout -> attention -> LSTM -> dropout -> dense -> logits

A causal model has one direction, and attends to the past alone: so every step of a window can be
trained to predict the token after it, and generation carries what it has read from token to token.
Any other model reads the whole window again for each token.

Axes: B batch, T token of the window, F feature, H hidden, U attention unit, V vocabulary,
D direction, G gate (4H).
Source: paper section 2.2, figure 4 and table 2, after Anushree et al. [1].
Differs: (1) tokens are embedded (the paper does not say; [1] feeds the scalar id / V, as does
`input="scalar"`); (2) attention scores are not squashed by a sigmoid, which in [1] keeps any two
weights within a factor e of each other (`attention_scores="sigmoid"` brings it back).
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from musicjax.config import at_least, expect, one_of, setting, settings_of
from musicjax.encodings.base import Encoding
from musicjax.errors import InputError
from musicjax.models.attention import Attention
from musicjax.models.base import Batch, Carry, Params, Prediction, Rules
from musicjax.models.categorical import Categorical, without_unknown
from musicjax.models.lstm import LSTM, LSTMCarry, LSTMSettings, dropout

# Types of tokens up to which a table of their projections pays: 64 MiB at table 2's sizes.
TABLE_ROWS = 2**12


@dataclasses.dataclass(frozen=True)
class TokenLSTMSettings(LSTMSettings):
    """What `config.model` says of a TokenLSTM; each field is explained in configs/."""

    input: str = setting(one_of("embedding", "scalar"))
    embedding_size: int = setting(at_least(1))
    encoder_layers: int = setting(at_least(0))
    encoder_size: int = setting(at_least(1))
    bidirectional: bool = setting()
    causal: bool = setting()
    attention: bool = setting()
    attention_size: int = setting(at_least(1))
    attention_scores: str = setting(one_of("linear", "sigmoid"))
    decoder_layers: int = setting(at_least(0))
    decoder_size: int = setting(at_least(1))
    flatten: bool = setting()
    dense_size: int = setting(at_least(0, "0: none"))
    window: int = setting(at_least(1))
    pad: bool = setting()
    class_weights: float = setting(at_least(0))

    def check(self) -> None:
        """Whether the settings fit each other.

        Raises:
            InputError: they do not.
        """
        self.check_kernel()
        if self.causal:
            for name in ("bidirectional", "flatten"):
                value = getattr(self, name)
                expect(not value, f"model.{name}", value, "False where model.causal is set")


class DecodeCarry(NamedTuple):
    """What a causal model carries from token to token; its size does not grow.

    Attributes:
        encoder, decoder: the LSTMs' carries, arrays [B, H].
        panels: of each LSTM of both: of LSTM.panels, made once.
        values, keys: of the last T steps of the encoder, [B, T, F] and [B, T, U], in a ring.
        steps: int [], read so far.
        logits: [B, V] of the next token.
    """

    encoder: tuple[LSTMCarry, ...]
    decoder: tuple[LSTMCarry, ...]
    panels: tuple[tuple[jax.Array | None, ...], ...]
    values: jax.Array
    keys: jax.Array
    steps: jax.Array
    logits: jax.Array


class WindowCarry(NamedTuple):
    """What any other model carries.

    Attributes:
        ids: int32 [B, T], the last tokens.
        table: of `TokenNetwork.project_vocabulary`.
    """

    ids: jax.Array
    table: jax.Array | None


class TokenNetwork(nnx.Module):
    """The network of a TokenLSTM."""

    def __init__(self, settings: TokenLSTMSettings, vocabulary_size: int, *, rngs: nnx.Rngs):
        """Draws the parameters.

        Args:
            settings: of which the sizes come; the parameters depend on the window only where
                `flatten` is set.
            vocabulary_size: V.
            rngs: with a `params` stream.
        """
        self.settings, self.vocabulary_size = settings, vocabulary_size
        if settings.input == "scalar":
            features = 1
        else:
            features = settings.embedding_size
            uniform = jax.random.uniform(rngs.params(), (vocabulary_size, features), minval=-1.0)
            self.embedding = nnx.Param(0.05 * uniform)  # Keras's initialiser
        lstm = functools.partial(LSTM, **settings.lstm_options, rngs=rngs)
        encoder = []
        for _ in range(settings.encoder_layers):
            encoder.append(
                lstm(features, settings.encoder_size, bidirectional=settings.bidirectional)
            )
            features = settings.encoder_size * (2 if settings.bidirectional else 1)
        self.encoder = nnx.List(encoder)
        self.attention = (
            Attention(
                features,
                settings.attention_size,
                settings.attention_scores,
                settings.causal,
                rngs=rngs,
            )
            if settings.attention
            else None
        )
        decoder = []
        for _ in range(settings.decoder_layers):
            decoder.append(lstm(features, settings.decoder_size, bidirectional=False))
            features = settings.decoder_size
        self.decoder = nnx.List(decoder)
        if settings.flatten:
            features *= settings.window
        linear = functools.partial(
            nnx.Linear, kernel_init=jax.nn.initializers.glorot_uniform(), rngs=rngs
        )
        self.dense = linear(features, settings.dense_size) if settings.dense_size else None
        self.logits = linear(settings.dense_size or features, vocabulary_size)

    def __call__(
        self,
        ids: jax.Array,
        dropout_key: jax.Array | None = None,
        *,
        every_step: bool = False,
        table: jax.Array | None = None,
    ) -> jax.Array:
        """The next token's logits.

        Args:
            ids: int [B, T].
            dropout_key: for training; without it nothing is dropped.
            every_step: of a causal model: what follows each of the tokens.
            table: of `project_vocabulary`, where many windows are read with the same weights.
        Returns:
            float32 [B, V], or [B, T, V].
        """
        drop = functools.partial(dropout, share=self.settings.dropout, key=dropout_key)
        x = self._embed(ids) if table is None else ids
        for layer, lstm in enumerate(self.encoder):
            x = drop(lstm(x, table if layer == 0 else None), layer=layer)
        if self.attention is not None:
            x = self.attention(x)
        for layer, lstm in enumerate(self.decoder, len(self.encoder)):
            x = drop(lstm(x), layer=layer)
        if not every_step:
            x = x.reshape(len(x), -1) if self.settings.flatten else x[:, -1]
        return self._output(x)

    def project_vocabulary(self) -> jax.Array | None:
        """What each token is to the first LSTM, [D, V, G]: its embedding times that one's w_x.

        None if there is no LSTM to read it, or so many tokens that a table of them does not pay.
        """
        if self.vocabulary_size > TABLE_ROWS or not self.encoder or self.encoder[0].uses_cudnn:
            return None
        first = self.encoder[0]
        x = self._embed(jnp.arange(self.vocabulary_size))
        return first.project(jnp.broadcast_to(x, (len(first.w_x[...]), 1, *x.shape)))[:, 0]

    def _embed(self, ids: jax.Array) -> jax.Array:
        """ids: int [...]. Returns [..., F]."""
        if self.settings.input == "scalar":
            return ids[..., None] / self.vocabulary_size
        return self.embedding[ids]

    def _output(self, x: jax.Array) -> jax.Array:
        """x: [..., F]. Returns logits [..., V]."""
        if self.dense is not None:
            x = jax.nn.relu(self.dense(x))
        return self.logits(x)

    def prefill(self, ids: jax.Array) -> DecodeCarry:
        """The carry of a causal model after a window of tokens or fewer, int [B, P]."""
        x, encoder = _prefill(self.encoder, self._embed(ids))
        values, keys = x, x[..., :0]
        if self.attention is not None:
            keys, x = self.attention.keys(x), self.attention(x)
        x, decoder = _prefill(self.decoder, x)
        steps = ids.shape[1]
        values, keys = (
            jnp.pad(array, [(0, 0), (0, self.settings.window - steps), (0, 0)])
            for array in (values, keys)
        )
        panels = tuple(
            tuple(lstm.panels() for lstm in stack) for stack in (self.encoder, self.decoder)
        )
        logits = self._output(x[:, -1])
        return DecodeCarry(encoder, decoder, panels, values, keys, jnp.int32(steps), logits)

    def step(self, carry: DecodeCarry, ids: jax.Array) -> DecodeCarry:
        """Reads one token more, int [B]: what `__call__` does with the last of its steps."""
        x, encoder = _advance(self.encoder, carry.encoder, carry.panels[0], self._embed(ids))
        values, keys, steps = carry.values, carry.keys, carry.steps
        if self.attention is not None:
            slot = steps % self.settings.window
            values = values.at[:, slot].set(x)
            keys = keys.at[:, slot].set(self.attention.keys(x))
            mask = jnp.arange(self.settings.window) <= steps
            x = self.attention.attend(x[:, None], values, keys, mask)[:, 0]
        x, decoder = _advance(self.decoder, carry.decoder, carry.panels[1], x)
        return carry._replace(
            encoder=encoder,
            decoder=decoder,
            values=values,
            keys=keys,
            steps=steps + 1,
            logits=self._output(x),
        )


def _prefill(lstms: Sequence[LSTM], x: jax.Array) -> tuple[jax.Array, tuple[LSTMCarry, ...]]:
    """The outputs [B, T, H] of a stack of LSTMs, and their carries."""
    carries = []
    for lstm in lstms:
        x, carry = lstm.prefill(x)
        carries.append(carry)
    return x, tuple(carries)


def _advance(
    lstms: Sequence[LSTM],
    carries: tuple[LSTMCarry, ...],
    panels: tuple[jax.Array | None, ...],
    x: jax.Array,
) -> tuple[jax.Array, tuple[LSTMCarry, ...]]:
    """As _prefill, of one step [B, F]."""
    after = []
    for lstm, carry, each in zip(lstms, carries, panels, strict=True):
        after.append(lstm.advance(x, carry, each))
        x = after[-1].h
    return x, tuple(after)


@dataclasses.dataclass(frozen=True)
class TokenLSTM(Categorical):
    """The model: reads ids, and gives a probability to each."""

    free_fields: ClassVar[tuple[str, ...]] = ("kernel", "remat")

    encoding: Encoding
    settings: TokenLSTMSettings
    window: int
    pad: bool
    dropout: float

    @classmethod
    def from_config(cls, config: Any, encoding: Any) -> Self:
        """See Model."""
        settings = settings_of(TokenLSTMSettings, config.model, "model")
        settings.check()
        return cls(encoding, settings, settings.window, settings.pad, settings.dropout)

    def network(self, rngs: nnx.Rngs) -> TokenNetwork:
        """See Model."""
        return TokenNetwork(self.settings, self.encoding.size, rngs=rngs)

    @property
    def any_window(self) -> bool:
        """See Model."""
        return not self.settings.flatten

    @property
    def min_prime(self) -> int:
        """See Model."""
        return 1 if self.pad else self.window

    @functools.cached_property
    def element_weights(self) -> np.ndarray | None:
        """See Model."""
        power = self.settings.class_weights
        return class_weights(self.encoding.counts, power) if power else None

    # --- training -------------------------------------------------------------------------------

    def apply(self, params: Params, batch: Batch, key: jax.Array | None = None) -> Prediction:
        """See Model. [B, T] in a causal model's training, which predicts each token of a window;
        else [B], of the last.
        """
        network, ids = self.bind(params), batch["elements"]
        every_step = self.settings.causal and key is not None
        return self.predicted(network(ids[:, :-1], key, every_step=every_step), batch)

    def check_devices(self, count: int, platform: str) -> None:
        """See Model."""
        self.settings.check_devices(count, platform)

    def unweighted(self, params: Params) -> Params:
        """See Model. Training with weights w makes q(token) proportional to w p(token); so log w is
        subtracted from the last layer's bias.
        """
        weights = self.element_weights
        if weights is None:
            return params
        known = np.maximum(weights, np.finfo(np.float32).tiny)
        network = self.bind(params)
        bias = network.logits.bias[...] - np.where(weights > 0, np.log(known), 0.0)
        network.logits.bias = nnx.Param(bias)  # not in place: the variables are those of `params`
        return nnx.split(network)[1]

    # --- generation -----------------------------------------------------------------------------

    def plan(self, prime_length: int | None, length: int | None) -> tuple[int, int]:
        """See Model: by default a window."""
        prime_length = self.window if prime_length is None else min(prime_length, self.window)
        if prime_length < self.window and not self.pad:
            raise InputError(
                f"the prime is {prime_length} {self.encoding.element}s; the model reads "
                f"{self.window}: train with model.pad=True for shorter ones"
            )
        return prime_length, self.encoding.usual_length if length is None else length

    def prefill(self, params: Params, prime: jax.Array, positions: jax.Array) -> Carry:
        """See Model. A prime shorter than the window has zeros before it, as in training."""
        network = self.bind(params)
        ids = jnp.pad(prime, [(0, 0), (self.window - prime.shape[1], 0)])
        if self.settings.causal:
            return network.prefill(ids)
        return WindowCarry(ids, network.project_vocabulary())  # the table once, not for each token

    def sample_step(
        self, params: Params, carry: Carry, keys: jax.Array, position: jax.Array, rules: Rules
    ) -> tuple[Carry, jax.Array]:
        """See Model."""
        network = self.bind(params)
        causal = self.settings.causal
        logits = carry.logits if causal else network(carry.ids, table=carry.table)
        logits = rules(without_unknown(logits))
        ids = jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)
        if causal:
            return network.step(carry, ids), ids
        window = jnp.concatenate([carry.ids[:, 1:], ids[:, None]], axis=1)
        return carry._replace(ids=window), ids


def class_weights(counts: Sequence[int], power: float) -> np.ndarray:
    """Weights for the loss, falling with frequency.

    weight = count ** -power, scaled so that the mean weight of a training token is 1; that of ids
    which never came is 0. power 1 is the paper's, inversely proportional to class frequency; 0
    weighs all classes alike.

    Args:
        counts: [V], how often each id comes in the training songs.
        power: see above.
    Returns:
        float32 [V].
    """
    count = np.array(counts, np.float64)
    weights = np.where(count > 0, np.maximum(count, 1) ** -power, 0.0)
    return (weights * count.sum() / (weights @ count)).astype(np.float32)
