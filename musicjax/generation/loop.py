"""Continues music element by element, in one compiled loop for every model and encoding.

Axes: B piece, P elements of the prime, L length, U units of time.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from musicjax.generation.sampling import History
from musicjax.models.base import Model, Params


class _Loop(NamedTuple):
    step: jax.Array  # []
    carry: Any  # of the model
    history: History
    elements: jax.Array  # [B, L, ...]
    ended: jax.Array  # bool [B]


@functools.partial(jax.jit, static_argnames=("model", "rules", "length"))
def continue_primes(
    model: Model,
    params: Params,
    primes: jax.Array,
    positions: jax.Array,
    cycles: jax.Array,
    keys: jax.Array,
    settings: dict[str, Any],
    enough: jax.Array,
    enough_units: jax.Array,
    *,
    rules: tuple[Callable, ...],
    length: int,
) -> tuple[jax.Array, jax.Array]:
    """Continues each prime until every piece is long enough, or has ended.

    Args:
        model: as trained.
        params: its parameters.
        primes: elements [B, P, ...], zeros first where one is shorter than others; P may be 0.
        positions: int32 [B, 1 + P + U], places in the bar: of the element before the prime, of
            the prime's, and of each unit of time to come.
        cycles: int32 [B], after how many units the last of the places come again.
        keys: PRNG keys [B]; a piece depends on its own key and prime alone.
        settings: of the sampling rules; they may change without compiling anew.
        enough: int [], elements of a piece that is long enough.
        enough_units: int [B], units after which each piece is long enough.
        rules: sampling rules, in order.
        length: L, the most elements that a piece may have; another L compiles anew.
    Returns:
        elements [B, L, ...], zeros after the end of a piece, and how many were made, int [].
    """
    encoding = model.encoding
    batch, primed = primes.shape[:2]
    nothing = jnp.zeros((batch, *encoding.shape), primes.dtype)
    zeros = jnp.zeros(batch, jnp.int32)
    to_come = positions[:, 1 + primed :]

    def unfinished(loop: _Loop) -> jax.Array:
        goes_on = (loop.history.elapsed < enough_units) & ~loop.ended
        return (loop.step < enough) & (loop.step < length) & goes_on.any()

    def body(loop: _Loop) -> _Loop:
        def apply(logits: jax.Array, **drawn_so_far: jax.Array) -> jax.Array:
            history = loop.history._replace(**drawn_so_far)
            for rule in rules:
                logits = rule(logits, history, settings, encoding)
            return logits

        elapsed = loop.history.elapsed
        over = jnp.maximum(elapsed - to_come.shape[1], 0)
        last_cycle = to_come.shape[1] - cycles + over % cycles
        now = jnp.where(elapsed < to_come.shape[1], elapsed, last_cycle)
        position = jnp.take_along_axis(to_come, now[:, None], axis=1)[:, 0]
        step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, loop.step)
        carry, element = model.sample_step(params, loop.carry, step_keys, position, apply)
        ended = loop.ended.reshape(batch, *[1] * len(encoding.shape))
        element = jnp.where(ended, nothing, element.astype(primes.dtype))
        again = (element == loop.history.last).reshape(batch, -1).all(-1)
        history = History(
            element,
            jnp.where(again, loop.history.repeats + 1, 1),
            jnp.where(encoding.rests(element), loop.history.rests + 1, 0),
            elapsed + encoding.units(element),
            grammar=encoding.read(loop.history.grammar, element),
        )
        elements = loop.elements.at[:, loop.step].set(element)
        return _Loop(loop.step + 1, carry, history, elements, loop.ended | encoding.is_end(element))

    def read(state: jax.Array, ids: jax.Array) -> tuple[jax.Array, None]:
        return encoding.read(state, ids), None

    last = primes[:, -1] if primed else nothing
    grammar, _ = jax.lax.scan(
        read, jnp.asarray(encoding.grammar(batch)), jnp.swapaxes(primes, 0, 1)
    )
    start = _Loop(
        jnp.zeros((), jnp.int32),
        model.prefill(params, primes, positions[:, : 1 + primed]),
        History(last, zeros + 1, zeros, zeros, grammar=grammar),
        jnp.zeros((batch, length, *encoding.shape), primes.dtype),
        jnp.zeros(batch, bool),
    )
    end = jax.lax.while_loop(unfinished, body, start)
    return end.elements, end.step
