"""Continues music, one token or one step of notes after another, in one compiled loop.

The vocabulary model reads its last W tokens and gives the next one's logits. A bidirectional window
must be read anew for each token, so a token costs one forward pass of the whole window. A causal
one carries what it has read, and so does the bi-axial model the state of its LSTMs along time: a
token or a step costs the same wherever it is.

Axes: B piece, W window, L length, V vocabulary, P steps of the prime, N note, C bit.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from musicjax.models.biaxial import Draw
from musicjax.models.vocab import without_unknown

_NEVER = -1e9


class Sampling(NamedTuple):
    """How the next token is drawn. All are scalars that may change without compiling anew.

    Attributes:
        temperature: logits are divided by it; 0 takes the most likely token (the paper).
        top_k: draw among this many most likely tokens; 0: all. 3 is the best of three that the
            paper considered.
        top_p: draw among the fewest tokens that have this probability together; 1: all.
        max_rests: rests in a row; after these a note must come.
        max_repeats: the same token in a row.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    max_rests: int = 2
    max_repeats: int = 4


class _Loop(NamedTuple):
    step: jax.Array  # []
    memory: Any  # the last W tokens [B, W], or what a causal model has made of all
    last: jax.Array  # [B] token
    tokens: jax.Array  # [B, L]
    elapsed: jax.Array  # [B] units
    rests: jax.Array  # [B] rests in a row so far
    repeats: jax.Array  # [B] times that the last token was heard in a row


def filter_logits(logits: jax.Array, sampling: Sampling) -> jax.Array:
    """Applies temperature, then top-k, then top-p. logits: [B, V]."""
    logits = logits / jnp.maximum(sampling.temperature, 1e-6)
    # Sorting takes as long as a causal model's step: only where it is asked for.
    cuts = (jnp.asarray(sampling.top_k) > 0) | (jnp.asarray(sampling.top_p) < 1)
    return jax.lax.cond(cuts, lambda x: _most_likely(x, sampling), lambda x: x, logits)


def _most_likely(logits: jax.Array, sampling: Sampling) -> jax.Array:
    vocabulary = logits.shape[-1]
    ranked = jnp.sort(logits, axis=-1)[:, ::-1]
    k = jnp.where(sampling.top_k > 0, jnp.minimum(sampling.top_k, vocabulary), vocabulary)
    least = jnp.take_along_axis(ranked, jnp.broadcast_to(k - 1, (len(logits), 1)), axis=1)
    logits = jnp.where(logits < least, _NEVER, logits)
    ranked = jnp.where(jnp.arange(vocabulary) < k, ranked, _NEVER)
    probability = jax.nn.softmax(ranked)
    before = jnp.cumsum(probability, axis=-1) - probability  # of the tokens ranked higher
    kept = jnp.sum(before < sampling.top_p, axis=-1, keepdims=True)
    least = jnp.take_along_axis(ranked, jnp.maximum(kept - 1, 0), axis=1)
    return jnp.where(logits < least, _NEVER, logits)


def _reader(model) -> tuple[Callable, Callable, Callable]:
    """How a model reads a window [B, W] -> memory, gives logits of it, and reads one token more."""
    if getattr(model, "causal", False):
        return model.read, lambda memory: memory.logits, model.step

    def extend(window, token):
        return jnp.concatenate([window[:, 1:], token[:, None]], axis=1)

    table = model.project_vocabulary()  # once, not for each token
    return lambda window: window, lambda window: model(window, table=table), extend


@functools.partial(jax.jit, static_argnames=("graph", "length"))
def continue_windows(
    graph: nnx.GraphDef,
    params: nnx.State,
    windows: jax.Array,
    keys: jax.Array,
    *,
    length: int,
    enough_tokens: jax.Array,
    enough_units: jax.Array,
    durations: jax.Array,
    is_rest: jax.Array,
    sampling: Sampling,
) -> tuple[jax.Array, jax.Array]:
    """Continues each window until every piece is long enough.

    Args:
        graph, params: of a model: tokens [B, W] -> logits [B, V]; or a causal one's `read` and
            `step`.
        windows: int32 [B, W].
        keys: PRNG keys [B]; a piece depends on its own key and window alone.
        length: L, the most tokens a piece may have; a new L compiles anew.
        enough_tokens: int [], tokens of a piece that is long enough.
        enough_units: int [B], duration at which each piece is long enough.
        durations: int32 [V], each token's.
        is_rest: bool [V].
        sampling: how tokens are drawn.
    Returns:
        tokens int32 [B, L], and how many of them were made, int [].
    """
    model = nnx.merge(graph, params)
    batch, _ = windows.shape
    read, logits_of, extend = _reader(model)
    vocabulary = durations.shape[0]

    def unfinished(loop: _Loop):
        short = (loop.step < enough_tokens) & (loop.elapsed < enough_units)
        return (loop.step < length) & short.any()

    def body(loop: _Loop) -> _Loop:
        logits, last = without_unknown(logits_of(loop.memory)), loop.last
        no_rest = (loop.rests >= sampling.max_rests)[:, None] & is_rest
        no_repeat = (loop.repeats >= sampling.max_repeats)[:, None] & (
            jnp.arange(vocabulary) == last[:, None]
        )
        logits = filter_logits(jnp.where(no_rest | no_repeat, _NEVER, logits), sampling)
        step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, loop.step)
        drawn = jax.vmap(jax.random.categorical)(step_keys, logits)
        token = jnp.where(sampling.temperature > 0, drawn, logits.argmax(-1)).astype(jnp.int32)
        return _Loop(
            loop.step + 1,
            extend(loop.memory, token),
            token,
            loop.tokens.at[:, loop.step].set(token),
            loop.elapsed + durations[token],
            jnp.where(is_rest[token], loop.rests + 1, 0),
            jnp.where(token == last, loop.repeats + 1, 1),
        )

    zeros = jnp.zeros(batch, jnp.int32)
    made = jnp.zeros((batch, length), jnp.int32)
    first = jnp.zeros((), jnp.int32)
    start = _Loop(first, read(windows), windows[:, -1], made, zeros, zeros, zeros + 1)
    end = jax.lax.while_loop(unfinished, body, start)
    return end.tokens, end.step


@functools.partial(jax.jit, static_argnames=("graph", "length"))
def continue_states(
    graph: nnx.GraphDef,
    params: nnx.State,
    prime: jax.Array,
    beat: jax.Array,
    keys: jax.Array,
    *,
    length: int,
    draw: Draw,
    max_silence: jax.Array,
) -> jax.Array:
    """Continues note states, step after step, and inside a step note after note.

    Args:
        graph, params: of a bi-axial model.
        prime: 0 or 1 [B, P, N, C]; P may be 0.
        beat: int [B, 1 + P + L]: place in the bar of the step before the prime, of its steps, and
            of those to come.
        keys: PRNG keys [B]; a piece depends on its own key and prime alone.
        length: L; a new L compiles anew.
        draw: how notes are drawn.
        max_silence: after so many silent steps the logits of play rise by 1 with each more.
    Returns:
        bool [B, L, N, C].
    """
    model = nnx.merge(graph, params)
    batch, primed, notes, bits = prime.shape
    before = jnp.concatenate([jnp.zeros((batch, 1, notes, bits)), prime], axis=1)

    def read(carried, inputs):
        return model.step_over_time(carried, *inputs)[0], None

    steps = jnp.swapaxes(before, 0, 1)
    beat = jnp.swapaxes(beat, 0, 1)
    carried, _ = jax.lax.scan(read, model.carry(batch), (steps[:-1], beat[:primed]))

    def step(carry, inputs):
        carried, last, silent = carry
        index, beat = inputs
        carried, x = model.step_over_time(carried, last, beat)
        step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
        noise = jax.vmap(lambda key: jax.random.uniform(key, (notes, 1, bits)), 0, 2)(step_keys)
        drawn, _ = model.draw_notes(
            x,
            noise,
            draw,
            model.note_lstms_at(primed + index),
            raise_by=jnp.maximum(silent - max_silence, 0)[:, None],
        )
        states = jnp.swapaxes(drawn[:, 0], 0, 1)
        silent = jnp.where(states[..., 0].any(-1), 0, silent + 1)
        return (carried, states, silent), states > 0

    start = (carried, steps[-1], jnp.zeros(batch, jnp.int32))
    _, states = jax.lax.scan(step, start, (jnp.arange(length), beat[primed : primed + length]))
    return jnp.swapaxes(states, 0, 1)
