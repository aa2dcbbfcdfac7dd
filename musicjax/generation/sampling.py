"""Sampling rules: logits and what came before -> logits.

A rule is one function of (logits, history, settings, encoding): settings are values of Options by
name. musicjax.generation.options lists the rules, in the order in which they are applied.

Axes: B piece, V ids, C bit; logits of ids are [B, V], those of a note's bits [B, C].
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from musicjax.encodings.base import Encoding

Settings = Mapping[str, Any]
_NEVER = -1e9


class History(NamedTuple):
    """What came before the element that is to be drawn.

    Attributes:
        last: [B, ...], the last element.
        repeats: int32 [B], how many times it has come in a row.
        rests: int32 [B], rests in a row so far.
        elapsed: int32 [B], units of all streams since the prime.
        num_notes: int32 [B], of an element drawn note by note: notes that sound in it so far.
        grammar: int32 [B, K], as of Encoding.grammar.
    """

    last: jax.Array
    repeats: jax.Array
    rests: jax.Array
    elapsed: jax.Array
    num_notes: jax.Array | None = None
    grammar: jax.Array | None = None


def follow_grammar(
    logits: jax.Array, history: History, settings: Settings, encoding: Encoding
) -> jax.Array:
    """Leaves the ids that may follow in the encoding."""
    allowed = encoding.may_follow(history.grammar)
    return logits if allowed is None else jnp.where(allowed, logits, _NEVER)


def limit_chords(
    logits: jax.Array, history: History, settings: Settings, encoding: Encoding
) -> jax.Array:
    """No id comes by which more than `max_notes` notes would sound at once."""
    crowding = encoding.crowds(history.grammar, settings["max_notes"])
    return logits if crowding is None else jnp.where(crowding, _NEVER, logits)


def limit_end(
    logits: jax.Array, history: History, settings: Settings, encoding: Encoding
) -> jax.Array:
    """No piece ends before `min_quarters` quarter notes of bars have begun."""
    least = settings["min_quarters"] * encoding.units_per_quarter * encoding.streams
    is_end = encoding.is_end(jnp.arange(logits.shape[-1]))
    return jnp.where((history.elapsed < least)[:, None] & is_end, _NEVER, logits)


def limit_rests(
    logits: jax.Array, history: History, settings: Settings, encoding: Encoding
) -> jax.Array:
    """After `max_rests` rests in a row a note must come."""
    is_rest = encoding.rests(jnp.arange(logits.shape[-1]))
    return jnp.where((history.rests >= settings["max_rests"])[:, None] & is_rest, _NEVER, logits)


def limit_repeats(
    logits: jax.Array, history: History, settings: Settings, encoding: Encoding
) -> jax.Array:
    """After `max_repeats` times in a row an id cannot come again."""
    again = jnp.arange(logits.shape[-1]) == history.last[:, None]
    return jnp.where((history.repeats >= settings["max_repeats"])[:, None] & again, _NEVER, logits)


def limit_silence(
    logits: jax.Array, history: History, settings: Settings, encoding: Encoding
) -> jax.Array:
    """After `max_silence` silent elements, notes get likelier with each more: their logits rise
    by 1.
    """
    excess = jnp.maximum(history.rests - settings["max_silence"], 0)[:, None].astype(logits.dtype)
    return logits + jnp.where(jnp.arange(logits.shape[-1]) == 0, excess, 0.0)


def temperature(
    logits: jax.Array, history: History, settings: Settings, encoding: Encoding
) -> jax.Array:
    """Divides by `temperature`; 0 leaves the likeliest alone."""
    return logits / jnp.maximum(settings["temperature"], 1e-6)


def drop_unlikely(
    logits: jax.Array, history: History, settings: Settings, encoding: Encoding
) -> jax.Array:
    """Leaves the ids at least `min_p` times as likely as the likeliest (0: all).

    Each of the others hardly ever comes, but there are many: one of them would now and then, a
    slip. Source: min-p, Nguyen et al., "Turning Up the Heat", ICLR 2025.
    """
    likely = logits.max(-1, keepdims=True) + jnp.log(settings["min_p"])
    return jnp.where(logits < likely, _NEVER, logits)


def truncate(
    logits: jax.Array, history: History, settings: Settings, encoding: Encoding
) -> jax.Array:
    """Leaves the `top_k` likeliest (0: all), and of those the fewest that have the probability
    `top_p` together (1: all).
    """
    size = logits.shape[-1]

    def cut(logits: jax.Array) -> jax.Array:
        ranked = jnp.sort(logits, axis=-1)[:, ::-1]
        k = jnp.where(settings["top_k"] > 0, jnp.minimum(settings["top_k"], size), size)
        ranked = jnp.where(jnp.arange(size) < k, ranked, _NEVER)
        probability = jax.nn.softmax(ranked)
        before = jnp.cumsum(probability, axis=-1) - probability  # of the ids ranked higher
        kept = jnp.sum(before < settings["top_p"], axis=-1, keepdims=True)
        least = jnp.take_along_axis(ranked, jnp.clip(kept, 1, k) - 1, axis=1)
        return jnp.where(logits < least, _NEVER, logits)

    # Sorting takes as long as a causal model's step: only where it is asked for.
    asked = (jnp.asarray(settings["top_k"]) > 0) | (jnp.asarray(settings["top_p"]) < 1)
    return jax.lax.cond(asked, cut, lambda logits: logits, logits)


def greedy(
    logits: jax.Array, history: History, settings: Settings, encoding: Encoding
) -> jax.Array:
    """At a `temperature` of 0 leaves one id."""
    likeliest = jnp.arange(logits.shape[-1]) == logits.argmax(-1, keepdims=True)
    return jnp.where((settings["temperature"] > 0) | likeliest, logits, _NEVER)


def limit_notes(
    logits: jax.Array, history: History, settings: Settings, encoding: Encoding
) -> jax.Array:
    """Where `max_notes` notes sound in an element, no more do."""
    full = (history.num_notes >= settings["max_notes"])[:, None]
    return jnp.where(full & (jnp.arange(logits.shape[-1]) == 0), _NEVER, logits)
