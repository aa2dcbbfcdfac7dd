"""Fills in what is not given, by particle Gibbs sampling.

The models here draw step after step, low notes to high, so that what is drawn does not know what
is given later. A particle filter mends that: many drafts, the particles, go on side by side; each
is weighed by how likely the model finds the given notes that it meets, and drafts are drawn again
by their weights. Over a block of steps, it looks some steps ahead before one draft is taken. Then
it goes over the work again, block by block: a block is drawn anew, knowing what stands before and
after it, and the draft that stands there takes part as one of the particles. Such a move leaves the
distribution of the music given the notes as it is (conditional sequential Monte Carlo); blocks get
smaller from one time over to the next, as Coconet's do.

The distribution is the model's to the power 1 / temperature, of the whole and not of each step:
dividing each note's logits alone would leave notes out, of which none is likely by itself.

Sources: Andrieu, Doucet and Holenstein, "Particle Markov chain Monte Carlo methods", JRSS B 72,
2010; Huang et al., "Counterpoint by Convolution" (Coconet), ISMIR 2017: blocked Gibbs sampling,
annealed; Hadjeres, Pachet and Nielsen, "DeepBach", ICML 2017: Gibbs sampling of one note at a time.
Differs from the last two: their networks are asked for any notes given all others, and this model
for the next step alone, so that it is the drafts that know what follows.

Axes: P particle, T step, N note, C bit.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from musicjax.generation.sampling import History
from musicjax.models.base import Carry, Model, Params

BLOCKS = (64, 32, 16, 8)  # steps of a block, from one time over to the next; the last stays
AHEAD = 16  # steps after a block by which its drafts are weighed
_VOICE_COST = 0.25  # nats of a step for each note more or fewer than asked for
_COLDEST = 0.01  # temperature; lower ones are the same
_MULTIPLE = 64  # lengths are rounded up to one, so that few compile anew


class Gap(NamedTuple):
    """What is to be filled in.

    Attributes:
        elements: [T, N, C], what is given; the rest is 0.
        allowed: bool [T, N, 1 + C], as of Encoding.only.
        positions: int32 [1 + T], places in the bar, from the step before on.
        start, stop: steps between which notes are not given.
    """

    elements: np.ndarray
    allowed: np.ndarray
    positions: np.ndarray
    start: int
    stop: int


class _Particles(NamedTuple):
    carry: Carry  # of the model
    history: History  # [P, ...]
    elements: jax.Array  # [P, T, N, C]
    log_weights: jax.Array  # [P]
    origin: jax.Array  # [P], row that each comes from since `_marked`


def fill(
    model: Model,
    params: Params,
    gap: Gap,
    key: jax.Array,
    settings: dict[str, Any],
    *,
    rules: tuple[Callable, ...],
    particles: int,
    sweeps: int,
    voices: int | None,
) -> np.ndarray:
    """Draws what is not given.

    Args:
        model: with `takes_given`.
        params: its parameters.
        gap: what is given.
        key: PRNG key.
        settings: of the sampling rules; the temperature is the distribution's, see above.
        rules: sampling rules, in order.
        particles: P; with 1, what is given later has no say.
        sweeps: times over again.
        voices: notes that should sound at once; None: as the model has it.
    Returns:
        elements [T, N, C], with what is given as it was.
    """
    length, encoding = len(gap.elements), model.encoding
    padding = [(0, -length % _MULTIPLE), (0, 0), (0, 0)]
    elements, allowed = (np.pad(array, padding) for array in (gap.elements, gap.allowed))
    run = functools.partial(
        _advance,
        model,
        params,
        positions=np.pad(gap.positions[1:], (0, -length % _MULTIPLE)),
        settings=settings,
        power=1 / max(settings["temperature"], _COLDEST),
        voices=voices or 0,
        cost=_VOICE_COST if voices else 0.0,
        rules=rules,
    )
    # Read in steps of a multiple, and the rest by the particles: no other length compiles anew.
    read = gap.start - gap.start % _MULTIPLE
    first = _start(model, params, elements[None, :read], gap.positions[None, : 1 + read])
    steps = {"allowed": allowed, "path": elements, "follow": False}
    before = run(_spread(model, *first, elements, particles), key, read, gap.start, **steps)
    for number in range(1 + sweeps):
        number_key = jax.random.fold_in(key, number)
        at = before.carry, before.history
        for start, stop in _blocks(gap, number):
            steps = {"allowed": allowed, "path": elements, "follow": number > 0}
            if number:
                steps["allowed"] = allowed.copy()
                steps["allowed"][stop:] = encoding.only(elements[stop:])
            drawing, choosing = jax.random.split(jax.random.fold_in(number_key, start))
            drafts = _spread(model, *at, elements, particles)
            drafts = _marked(run(drafts, drawing, start, stop, **steps))
            ahead = run(drafts, drawing, stop, min(stop + AHEAD, length), **steps)
            chosen, *at = _choose(model, drafts, ahead, choosing)
            elements[start:stop] = np.asarray(chosen)[start:stop]
    elements = elements[:length]
    if not (encoding.only(elements) <= gap.allowed).all():
        raise RuntimeError("notes that were given came out changed")
    return elements


def _blocks(gap: Gap, number: int) -> Iterator[tuple[int, int]]:
    """Where blocks begin and end, the `number`-th time over. From the second on the first is half
    as long, so that where blocks meet is inside of one the next time.
    """
    size = BLOCKS[min(number, len(BLOCKS) - 1)]
    start, stop = gap.start, gap.start + (size // 2 if number else size)
    while start < gap.stop:
        yield start, min(stop, gap.stop)
        start, stop = stop, stop + size


@functools.partial(jax.jit, static_argnames="model")
def _start(
    model: Model, params: Params, elements: jax.Array, positions: jax.Array
) -> tuple[Carry, History]:
    """The carry and the history [1, ...] after elements [1, T, N, C]."""
    zeros = jnp.zeros(1, jnp.int32)
    last = jnp.pad(elements, [(0, 0), (1, 0), (0, 0), (0, 0)])[:, -1]  # silence before the first
    return model.prefill(params, elements, positions), History(last, zeros + 1, zeros, zeros)


@functools.partial(jax.jit, static_argnames=("model", "particles"))
def _spread(
    model: Model, carry: Carry, history: History, elements: jax.Array, particles: int
) -> _Particles:
    """Particles that all begin as the first row of a carry and a history."""
    rows = jnp.zeros(particles, jnp.int32)
    return _Particles(
        model.select(carry, rows),
        jax.tree.map(lambda array: array[rows], history),
        jnp.broadcast_to(elements, (particles, *elements.shape)),
        jnp.zeros(particles),
        jnp.arange(particles),
    )


def _marked(drafts: _Particles) -> _Particles:
    return drafts._replace(origin=jnp.arange(len(drafts.origin)))


@functools.partial(jax.jit, static_argnames="model")
def _choose(
    model: Model, drafts: _Particles, ahead: _Particles, key: jax.Array
) -> tuple[jax.Array, Carry, History]:
    """Draws one particle: its elements; and the carry and the history, [1, ...], that it had when
    it was `_marked`.
    """
    row = jax.random.categorical(key, ahead.log_weights)
    rows = ahead.origin[row][None]
    history = jax.tree.map(lambda array: array[rows], drafts.history)
    return ahead.elements[row], model.select(drafts.carry, rows), history


@functools.partial(jax.jit, static_argnames=("model", "rules"))
def _advance(
    model: Model,
    params: Params,
    drafts: _Particles,
    key: jax.Array,
    start: jax.Array,
    stop: jax.Array,
    *,
    allowed: jax.Array,
    path: jax.Array,
    follow: jax.Array,
    positions: jax.Array,
    settings: dict[str, Any],
    power: jax.Array,
    voices: jax.Array,
    cost: jax.Array,
    rules: tuple[Callable, ...],
) -> _Particles:
    """Draws the steps from `start` to `stop`; particles of little weight give way to others.

    Args:
        follow: whether the first particle takes `path` [T, N, C].
        power: that the model's probabilities are raised to.
        voices: notes that should sound at once.
        cost: of each note more or fewer, in nats of a step.
        the others: as of `fill`, for all T steps.
    """
    encoding, count = model.encoding, len(drafts.log_weights)
    follows = (jnp.arange(count) == 0) & follow

    def again(drafts: _Particles, key: jax.Array) -> _Particles:
        rows = jax.random.categorical(key, drafts.log_weights, shape=(count,))
        rows = jnp.where(follows, 0, rows)
        history, elements, origin = jax.tree.map(
            lambda array: array[rows], (drafts.history, drafts.elements, drafts.origin)
        )
        carry = model.select(drafts.carry, rows)
        return _Particles(carry, history, elements, jnp.zeros(count), origin)

    def step(t: jax.Array, drafts: _Particles) -> _Particles:
        choosing, drawing = jax.random.split(jax.random.fold_in(key, t))
        weights = jax.nn.softmax(drafts.log_weights)
        few = 1 / jnp.sum(jnp.square(weights)) < count / 2  # particles that weigh something
        drafts = lax.cond(few, again, lambda drafts, _: drafts, drafts, choosing)
        history = drafts.history

        def apply(logits: jax.Array, **drawn_so_far: jax.Array) -> jax.Array:
            for rule in rules:
                logits = rule(logits, history._replace(**drawn_so_far), settings, encoding)
            return logits

        carry, element, model_log, drawn_log = model.constrained_step(
            params,
            drafts.carry,
            jax.random.split(drawing, count),
            jnp.broadcast_to(positions[t], count),
            apply,
            allowed[t],
            path[t],
            follows,
        )
        sounding = element[..., 0].sum(-1, dtype=jnp.int32)
        likelihood = model_log - cost * jnp.abs(sounding - voices)
        repeated = (element == history.last).all((1, 2))
        return _Particles(
            carry,
            History(
                element,
                jnp.where(repeated, history.repeats + 1, 1),
                jnp.where(encoding.rests(element), history.rests + 1, 0),
                history.elapsed + encoding.units(element),
            ),
            drafts.elements.at[:, t].set(element),
            drafts.log_weights + power * likelihood - drawn_log,
            drafts.origin,
        )

    return lax.fori_loop(start, stop, step, drafts)
