"""The vocabulary model: predicts a song's next token from a window of tokens.

    tokens -> embedding -> BiLSTM -> dropout -> attention -> LSTM -> dropout -> dense -> logits

A causal model has one direction, and attends to the past alone: so every step of a window can be
trained to predict the token after it, and what it has read is carried on, not read again.

Axes: B batch, T token of the window, F feature, H hidden, U attention unit, V vocabulary.
Source: paper section 2.2, figure 4 and table 2, after Anushree et al. [1].
Differs: (1) tokens are embedded (the paper does not say; [1] feeds the scalar id / V, as does
`input="scalar"`); (2) attention scores are not squashed by a sigmoid, which in [1] keeps any two
weights within a factor e of each other (`attention_scores="sigmoid"` brings it back).
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from musicjax.models.lstm import LSTM, State
from musicjax.vocabulary import Vocabulary

_FEW = 2**12  # types of tokens, for which a table of 64 MiB at Table 2's sizes pays


class Attention(nnx.Module):
    """Additive self-attention: each step becomes a mean of all steps, weighted by their scores.

        score[t, s] = v . tanh(x_t w_t + x_s w_s + b) + c

    Source: Bahdanau et al. 2015, as self-attention in [1].
    """

    def __init__(self, features: int, units: int, scores: str, causal: bool, *, rngs: nnx.Rngs):
        glorot = jax.nn.initializers.glorot_uniform()
        self.w_t = nnx.Param(glorot(rngs.params(), (features, units)))
        self.w_s = nnx.Param(glorot(rngs.params(), (features, units)))
        self.b = nnx.Param(jnp.zeros(units))
        self.v = nnx.Param(glorot(rngs.params(), (units, 1))[:, 0])
        self.c = nnx.Param(jnp.zeros(()))
        self.squash = {"linear": lambda score: score, "sigmoid": jax.nn.sigmoid}[scores]
        self.causal = causal

    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [B, T, F]. Returns [B, T, F]."""
        steps = x.shape[1]
        seen = jnp.tri(steps, dtype=bool) if self.causal else jnp.ones((steps, steps), bool)
        return self.over(x, x, self.keys(x), seen)

    def keys(self, x: jax.Array) -> jax.Array:
        """What steps are found by. x: [B, S, F]. Returns [B, S, U]."""
        return x @ self.w_s[...] + self.b[...]

    def over(self, x: jax.Array, values: jax.Array, keys: jax.Array, seen: jax.Array) -> jax.Array:
        """Means of `values`. x: [B, T, F], values [B, S, F], keys [B, S, U], seen bool [T, S].
        Returns [B, T, F].
        """
        query = x @ self.w_t[...]
        score = jnp.tanh(query[:, :, None] + keys[:, None]) @ self.v[...] + self.c[...]
        score = jnp.where(seen, self.squash(score), -jnp.inf)
        return jnp.einsum("bts,bsf->btf", jax.nn.softmax(score), values)


class Memory(NamedTuple):
    """What a causal model carries from token to token; its size does not grow.

    Attributes:
        encoder, decoder: the LSTMs' states, each [B, H].
        values, keys: of the last T steps of the encoder, [B, T, F] and [B, T, U], in a ring.
        steps: int [], read so far.
        logits: [B, V] of the next token.
    """

    encoder: tuple[State, ...]
    decoder: tuple[State, ...]
    values: jax.Array
    keys: jax.Array
    steps: jax.Array
    logits: jax.Array


class Model(nnx.Module):
    """The network; all its sizes come from `config.model`, explained in configs/vocab.py."""

    def __init__(self, config, vocabulary_size: int, window: int, *, rngs: nnx.Rngs):
        """Draws the parameters.

        Args:
            config: `config.model`.
            vocabulary_size: V.
            window: T; the parameters depend on it only when `flatten` is set. A causal model
                attends to so many tokens.
            rngs: with a `params` stream.
        """
        self.scalar = config.input == "scalar"
        self.causal, self.window = config.causal, window
        self.vocabulary_size = vocabulary_size
        features = 1 if self.scalar else config.embedding_size
        if not self.scalar:
            uniform = jax.random.uniform(rngs.params(), (vocabulary_size, features), minval=-1.0)
            self.embedding = nnx.Param(0.05 * uniform)  # Keras's initialiser
        lstm = functools.partial(
            LSTM, storage=config.storage, remat=config.remat, kernel=config.kernel, rngs=rngs
        )
        encoder = []
        for _ in range(config.encoder_layers):
            encoder.append(lstm(features, config.encoder_size, bidirectional=config.bidirectional))
            features = config.encoder_size * (2 if config.bidirectional else 1)
        self.encoder = nnx.List(encoder)
        self.attention = (
            Attention(
                features,
                config.attention_size,
                config.attention_scores,
                config.causal,
                rngs=rngs,
            )
            if config.attention
            else None
        )
        decoder = []
        for _ in range(config.decoder_layers):
            decoder.append(lstm(features, config.decoder_size, bidirectional=False))
            features = config.decoder_size
        self.decoder = nnx.List(decoder)
        self.flatten = config.flatten
        if config.flatten:
            features *= window
        linear = functools.partial(
            nnx.Linear, kernel_init=jax.nn.initializers.glorot_uniform(), rngs=rngs
        )
        self.dense = linear(features, config.dense_size) if config.dense_size else None
        self.logits = linear(config.dense_size or features, vocabulary_size)
        self.dropout = config.dropout

    def __call__(
        self,
        tokens: jax.Array,
        dropout_key: jax.Array | None = None,
        *,
        every_step: bool = False,
        table: jax.Array | None = None,
    ) -> jax.Array:
        """The next token's logits.

        Args:
            tokens: int [B, T].
            dropout_key: for training; without it nothing is dropped.
            every_step: of a causal model: what follows each of the tokens.
            table: of `project_vocabulary`, where many windows are read with the same weights.
        Returns:
            float32 [B, V], or [B, T, V].
        """

        def drop(x, layer: int):
            if dropout_key is None or not self.dropout:
                return x
            keep = 1 - self.dropout
            kept = jax.random.bernoulli(jax.random.fold_in(dropout_key, layer), keep, x.shape)
            return jnp.where(kept, x / keep, 0)

        x = self._embed(tokens) if table is None else tokens
        for layer, lstm in enumerate(self.encoder):
            x = drop(lstm(x, table if layer == 0 else None), layer)
        if self.attention is not None:
            x = self.attention(x)
        for layer, lstm in enumerate(self.decoder):
            x = drop(lstm(x), len(self.encoder) + layer)
        if not every_step:
            x = x.reshape(len(x), -1) if self.flatten else x[:, -1]
        return self._output(x)

    def project_vocabulary(self) -> jax.Array | None:
        """What each token is to the first LSTM, [D, V, G]: its embedding times that one's w_x.

        None if there is no LSTM to read it, or so many tokens that a table of them does not pay.
        """
        if self.vocabulary_size > _FEW or not self.encoder or self.encoder[0].uses_cudnn:
            return None
        first = self.encoder[0]
        x = self._embed(jnp.arange(self.vocabulary_size))
        return first.project(jnp.broadcast_to(x, (len(first.w_x[...]), 1, *x.shape)))[:, 0]

    def _embed(self, tokens: jax.Array) -> jax.Array:
        """tokens: int [...]. Returns [..., F]."""
        if self.scalar:
            return tokens[..., None] / self.vocabulary_size
        return self.embedding[tokens]

    def _output(self, x: jax.Array) -> jax.Array:
        """x: [..., F]. Returns logits [..., V]."""
        if self.dense is not None:
            x = jax.nn.relu(self.dense(x))
        return self.logits(x)

    def read(self, tokens: jax.Array) -> Memory:
        """What a causal model knows after a window of tokens or fewer, int [B, T]."""

        def read(lstms, x) -> tuple[jax.Array, tuple[State, ...]]:
            after = []
            for lstm in lstms:
                x, state = lstm.read(x)
                after.append(state)
            return x, tuple(after)

        x, encoder = read(self.encoder, self._embed(tokens))
        values, keys = x, x[..., :0]
        if self.attention is not None:
            keys, x = self.attention.keys(x), self.attention(x)
        x, decoder = read(self.decoder, x)
        steps = tokens.shape[1]
        values, keys = (
            jnp.pad(array, [(0, 0), (0, self.window - steps), (0, 0)]) for array in (values, keys)
        )
        return Memory(encoder, decoder, values, keys, jnp.int32(steps), self._output(x[:, -1]))

    def step(self, memory: Memory, token: jax.Array) -> Memory:
        """Reads one token more, int [B]: what `__call__` does with the last of its steps."""

        def advance(lstms, states, x) -> tuple[jax.Array, tuple[State, ...]]:
            after = []
            for lstm, state in zip(lstms, states, strict=True):
                after.append(lstm.advance(x, state))
                x = after[-1].h
            return x, tuple(after)

        x, encoder = advance(self.encoder, memory.encoder, self._embed(token))
        values, keys, steps = memory.values, memory.keys, memory.steps
        if self.attention is not None:
            place = steps % self.window
            values = values.at[:, place].set(x)
            keys = keys.at[:, place].set(self.attention.keys(x))
            seen = jnp.arange(self.window) <= steps
            x = self.attention.over(x[:, None], values, keys, seen)[:, 0]
        x, decoder = advance(self.decoder, memory.decoder, x)
        return Memory(encoder, decoder, values, keys, steps + 1, self._output(x))


SUMMARY = ("loss", "perplexity", "accuracy")


def build(config, vocabulary: Vocabulary) -> Model:
    """The model of a config, its parameters drawn from `config.seed`."""
    rngs = nnx.Rngs(params=jax.random.key(config.seed))
    return Model(config.model, vocabulary.size, config.train.window, rngs=rngs)


def loss_unit(config) -> str:
    """What the loss is counted in."""
    return "nats a token"


def make_loss(config, vocabulary: Vocabulary):
    """The loss of a config, with its class weights: (model, batch, dropout_key) -> loss, sums."""
    weights = jnp.asarray(vocabulary.class_weights(config.train.class_weights))
    return lambda model, batch, dropout_key=None: loss(model, batch, weights, dropout_key)


def loss(
    model: Model,
    batch: dict[str, jax.Array],
    class_weights: jax.Array,
    dropout_key: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Categorical cross entropy, each class with its weight, and the sums that metrics are made of.

    Args:
        model: gives logits [B, V].
        batch: tokens int [B, T + 1], the last column the target, and in a causal model's training
            each column after the first; target 0, a token that training never saw, is masked and
            counted. present [B], 0 for rows that are no example.
        class_weights: [V].
        dropout_key: for training.
    Returns:
        the mean over the examples that count, and sums over them, each float32 []: "tokens" that
        count, "unseen" that do not, "nats", "correct", "weight", "weighted_nats" and
        "weighted_correct".
    """
    tokens, present = batch["tokens"], batch["present"]
    if model.causal and dropout_key is not None:
        target, present = tokens[:, 1:], present[:, None]
        logits = without_unknown(model(tokens[:, :-1], dropout_key, every_step=True))
    else:
        target = tokens[:, -1]
        logits = without_unknown(model(tokens[:, :-1], dropout_key))
    counts = jnp.where(target > 0, present, 0.0)
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], axis=-1)[..., 0]
    nats = jnp.where(counts > 0, -log_p, 0.0)
    weight = counts * class_weights[target]
    correct = jnp.where(logits.argmax(-1) == target, counts, 0.0)
    sums = {
        "tokens": counts,
        "unseen": present - counts,
        "nats": nats,
        "correct": correct,
        "weight": weight,
        "weighted_nats": weight * nats,
        "weighted_correct": weight * correct,
    }
    sums = {name: value.sum() for name, value in sums.items()}
    # As in Keras: the weights scale each example's loss, and the mean is over their number.
    return sums["weighted_nats"] / jnp.maximum(sums["tokens"], 1), sums


def unweight(model: Model, class_weights: np.ndarray) -> None:
    """Takes the class weights out of a trained model's probabilities.

    Training with weights w makes q(token) proportional to w p(token); so log w is subtracted from
    the last layer's bias.
    """
    known = np.maximum(class_weights, np.finfo(np.float32).tiny)
    tilt = np.where(class_weights > 0, np.log(known), 0.0)
    model.logits.bias = nnx.Param(model.logits(jnp.zeros(model.logits.in_features)) - tilt)


def without_unknown(logits: jax.Array) -> jax.Array:
    """Logits [..., V] with no probability for id 0, which is never an answer."""
    return logits.at[..., 0].set(-1e9)


def metrics(sums: dict[str, float]) -> dict[str, float]:
    """What people read, from sums over any number of batches.

    "loss" and "weighted_accuracy" weigh each token by its class weight; "nats" (a token),
    "perplexity" and "accuracy" weigh all tokens alike.
    """
    tokens, weight = max(sums["tokens"], 1.0), max(sums["weight"], 1e-9)
    nats = sums["nats"] / tokens
    return {
        "loss": sums["weighted_nats"] / weight,
        "nats": nats,
        "perplexity": math.exp(min(nats, 700.0)),
        "accuracy": sums["correct"] / tokens,
        "weighted_accuracy": sums["weighted_correct"] / weight,
        "tokens": int(sums["tokens"]),
        "unseen": int(sums["unseen"]),
    }
