"""A pointer: what comes next may be what came next once before.

    score_{t,s} = q_t . k_s / sqrt(D) + r[d_{t,s}] + m[n_{t,s}]     q = h w_q, k = h w_k, all s < t
    a_t, g_t = softmax of score_t and, at its end, q_t . u          u: the sentinel, g: its share
    p(id_{t+1} = i) = g_t p_network(i) + sum_s a_{t,s} [id_{s+1} = i]

Music says again what it has said, some bars later. A recurrent state forgets it; a pointer finds
the place and reads on from there. r depends on the time d between two ids, in quarters, so that the
same beat of another bar is a place that it knows; m on how well the ids up to t and up to s agree,
so that it reads on where it has been reading:

    n_{t,s} = n_{t-1,s-1} + 1 if id_t = id_s, else half of it, rounded down

A note that differs weakens a long match and does not end it, for songs vary what they say again,
and so do draws: one that went astray finds back.

Music says it again at other pitches, too, in sequences and imitations. With `moved_copies` each s
is there a second time, for a copy that is moved: a pitch that came next comes as far from the last
pitch as it did then, and other ids as they are. There n counts ids that agree in their step from
the last pitch, and m is another. Where it would be moved by nothing, s is there once.

Axes: B batch, T id that is predicted from, S id that is pointed to, V ids, H hidden, D key, G ways
    to copy: as it was, and moved.
Source: pointer sentinel mixture, Merity et al. 2017.
Differs: (1) keys are a map of h of their own, not h itself; (2) r; (3) m; (4) moved copies.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

_SIZE = 64  # D
_FURTHEST = 64  # quarters; what is further back is alike
_LONGEST = 16  # ids; longer matches are alike
_BLOCK = 512  # ids whose shares are made at once
_PITCHES = 128
_FIRST = 60  # the pitch that the first one's step is from
_NEVER = -1e9


class Memory(NamedTuple):
    """The last ids, in a ring, to be pointed to while one id after another is drawn.

    Attributes:
        keys: [B, S, D].
        ids: int32 [B, S], what followed each; 0 cannot be pointed to.
        steps: int32 [B, S], of those ids, see Pointer.steps.
        lasts: int32 [B, S], the last pitches before them.
        times: int32 [B, S], at which they begin, in units.
        matches: int32 [G, B, S], n of s and the last id.
        last: int32 [B], the last pitch of all.
        next: int32 [], the slot that is written next; what it holds is too long ago.
    """

    keys: jax.Array
    ids: jax.Array
    steps: jax.Array
    lasts: jax.Array
    times: jax.Array
    matches: jax.Array
    last: jax.Array
    next: jax.Array


class Shares(NamedTuple):
    """Where a prediction comes from.

    Attributes:
        copied: [B, T, G * S], log-probabilities of copies.
        ids: int32 [B, T, G * S], what is copied.
        network: [B, T], the log-probability of copying none.
    """

    copied: jax.Array
    ids: jax.Array
    network: jax.Array


class Pointer(nnx.Module):
    """See above.

    Attributes:
        w_query, w_key: [H, D].
        sentinel: [D], u; bias: [], added to its score.
        distance: [_FURTHEST + 2], r: of whole quarters, and, last, of all other times.
        matched: [_LONGEST + 1], m.
        moved: [_LONGEST + 1], m of moved copies; None without them.
    """

    def __init__(
        self,
        hidden_size: int,
        units_per_quarter: int,
        pitches: Sequence[int],
        moved_copies: bool,
        *,
        rngs: nnx.Rngs,
    ):
        """Draws the parameters.

        Args:
            hidden_size: H.
            units_per_quarter: of the times.
            pitches: [V], of each id, -1 of others.
            moved_copies: whether there are any.
            rngs: with a `params` stream.
        """
        glorot = jax.nn.initializers.glorot_uniform()
        self.units_per_quarter = units_per_quarter
        self.pitches = tuple(pitches)
        self.w_query = nnx.Param(glorot(rngs.params(), (hidden_size, _SIZE)))
        self.w_key = nnx.Param(glorot(rngs.params(), (hidden_size, _SIZE)))
        self.sentinel = nnx.Param(jnp.zeros(_SIZE))
        self.bias = nnx.Param(jnp.zeros(()))
        self.distance = nnx.Param(jnp.zeros(_FURTHEST + 2))
        # What follows a long match is the same nearly always, and to outweigh a thousand others it
        # takes a score of 8: further than an optimizer of steps of 0.003 moves a number in time.
        self.matched = nnx.Param(0.5 * jnp.arange(_LONGEST + 1))
        self.moved = nnx.Param(0.5 * jnp.arange(_LONGEST + 1) - 2) if moved_copies else None

    def __call__(
        self, logits: jax.Array, h: jax.Array, ids: jax.Array, times: jax.Array, reach: int
    ) -> tuple[jax.Array, jax.Array]:
        """What is expected of a window's ids, each of which may be a copy.

        Shares are made of _BLOCK ids after another: those of a whole song would fill the memory.

        Args:
            logits: [B, T, V], of the network, for all ids but the first.
            h: [B, T, H], of all ids but the last.
            ids: int32 [B, T + 1].
            times: int32 [B, T], at which the ids after the first begin, in units.
            reach: how many ids back may be pointed to.
        Returns:
            the likeliest ids, int32 [B, T]; and minus the log-likelihood, [B, T], of ids[:, 1:].
        """
        count, keys, copied = h.shape[1], self._keys(h), ids[:, 1:]
        size = min(count, _BLOCK)
        steps, lasts = self.steps(ids)
        read, lasts = self._ways(ids, steps)[..., :-1], lasts[:, :-1]

        def block(before: jax.Array, arrays: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            at, logits, h, now, last, times_of, target = arrays
            before, matches = _all_matches(before, read, jnp.moveaxis(now, 2, 0))
            ago = at[:, :, None] - jnp.arange(count)
            allowed = (ago > 0) & (ago <= reach) & (copied[:, None] > 0)
            shares = self._shares(h, times_of, last, keys, times, copied, lasts, matches, allowed)
            guess = mix(*jax.lax.stop_gradient((logits, shares))).argmax(-1)
            return before, (guess, nll_of(logits, shares, target))

        at = jnp.broadcast_to(jnp.arange(count), times.shape)
        arrays = (at, logits, h, jnp.moveaxis(read, 0, 2), lasts, times, copied)
        blocks = jax.tree.map(lambda array: _split(array, size), arrays)
        _, answers = jax.lax.scan(block, jnp.zeros_like(read), blocks)
        guess, nll = (jnp.concatenate([*array], axis=1)[:, :count] for array in answers)
        return guess, nll

    def steps(self, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Of ids [B, T], each int32 [B, T]: the ids, where a pitch is its step from the last one,
        as a number that is no id; and the last pitch up to each.
        """
        pitches = jnp.asarray(self.pitches)[ids]
        at = jax.lax.cummax(jnp.where(pitches >= 0, jnp.arange(ids.shape[1]), -1), axis=1)
        lasts = jnp.take_along_axis(pitches, jnp.maximum(at, 0), axis=1)
        lasts = jnp.where(at < 0, _FIRST, lasts)
        before = jnp.pad(lasts[:, :-1], [(0, 0), (1, 0)], constant_values=_FIRST)
        return self._step(ids, before), lasts

    def _step(self, ids: jax.Array, last: jax.Array) -> jax.Array:
        pitches = jnp.asarray(self.pitches)[ids]
        return jnp.where(pitches >= 0, len(self.pitches) + _PITCHES + pitches - last, ids)

    def _ways(self, ids: jax.Array, steps: jax.Array) -> jax.Array:
        """int32 [G, ...]: what is compared of ids, by each way to copy."""
        return ids[None] if self.moved is None else jnp.stack([ids, steps])

    def _keys(self, h: jax.Array) -> jax.Array:
        return h @ self.w_key[...]

    def _shares(
        self,
        h: jax.Array,
        times: jax.Array,
        last: jax.Array,
        keys: jax.Array,
        key_times: jax.Array,
        ids: jax.Array,
        lasts: jax.Array,
        matches: jax.Array,
        allowed: jax.Array,
    ) -> Shares:
        """Of h [B, T, H], times and last pitches [B, T]; keys [B, S, D], and what followed them,
        key_times, ids, and lasts before them [B, S]; matches [G, B, T, S] and allowed [B, T, S].
        """
        query = h @ self.w_query[...] / _SIZE**0.5
        ago = times[:, :, None] - key_times[:, None, :]
        quarters, rest = jnp.divmod(ago, self.units_per_quarter)
        distance = jnp.where(rest == 0, jnp.clip(quarters, 0, _FURTHEST), _FURTHEST + 1)
        product = jnp.einsum("btd,bsd->bts", query, keys)
        ids = jnp.broadcast_to(ids[:, None], allowed.shape)
        ways = [(self.matched, ids, allowed)]
        if self.moved is not None:
            by = last[:, :, None] - lasts[:, None]
            moved = self._moved(ids, by)
            ways.append((self.moved, moved, allowed & (by != 0) & (moved > 0)))
        scores = []
        for (matched, _, may_be), match in zip(ways, matches, strict=True):
            # Both in one look-up, whose gradient a CPU adds up number by number.
            known = (self.distance[...][:, None] + matched[...]).ravel()
            which = distance * (_LONGEST + 1) + jnp.minimum(match, _LONGEST)
            scores.append(jnp.where(may_be, product + known[which], _NEVER))
        sentinel = (query @ self.sentinel[...] + self.bias[...])[..., None]
        shares = jax.nn.log_softmax(jnp.concatenate([*scores, sentinel], axis=-1), axis=-1)
        copies = jnp.concatenate([copies for _, copies, _ in ways], axis=-1)
        return Shares(shares[..., :-1], copies, shares[..., -1])

    def _moved(self, ids: jax.Array, by: jax.Array) -> jax.Array:
        """Ids, those of pitches moved by so many semitones; 0 where there is no such pitch."""
        of_pitch = np.zeros(3 * _PITCHES, np.int32)
        pitches = np.array(self.pitches)
        of_pitch[_PITCHES + pitches[pitches >= 0]] = np.flatnonzero(pitches >= 0)
        pitch = jnp.asarray(pitches)[ids]
        return jnp.where(pitch >= 0, jnp.asarray(of_pitch)[_PITCHES + pitch + by], ids)

    # --- generation -----------------------------------------------------------------------------

    def remember(self, h: jax.Array, ids: jax.Array, times: jax.Array, reach: int) -> Memory:
        """The memory after a prime; the arguments are those of a call, and T may be 0."""
        count, size = h.shape[1], reach + 1
        steps, lasts = self.steps(ids)
        read = self._ways(ids, steps)[..., :-1]
        matches, _ = _all_matches(jnp.zeros_like(read), read, read)

        def ring(array: jax.Array, axis: int = 1) -> jax.Array:
            """The last ones, and room up to the ring's size."""
            last = jax.lax.slice_in_dim(array, max(count - size, 0), count, axis=axis)
            room = [(0, 0)] * array.ndim
            room[axis] = (0, max(size - count, 0))
            return jnp.pad(last, room)

        return Memory(
            keys=ring(self._keys(h)),
            ids=ring(ids[:, 1:]),
            steps=ring(steps[:, 1:]),
            lasts=ring(lasts[:, :-1]),
            times=ring(times),
            matches=ring(matches, 2),
            last=lasts[:, -1],
            next=jnp.array(min(count, size) % size, jnp.int32),
        )

    def recall(
        self, memory: Memory, h: jax.Array, last: jax.Array, time: jax.Array
    ) -> tuple[Memory, Shares]:
        """Where the next id may be copied from.

        Args:
            memory: of what came before the last id.
            h: [B, H], of the last id.
            last: int32 [B], that id.
            time: int32 [B], at which the next begins.
        Returns:
            the memory, its matches those of the last id; and Shares with T = 1.
        """
        # The slot before the oldest is the newest: what is wrong there cannot be pointed to.
        read = self._ways(memory.ids, memory.steps)
        now = self._ways(last, memory.steps[:, memory.next - 1])
        matches = jnp.roll(_matches(memory.matches, read, now), 1, axis=2)
        memory = memory._replace(matches=matches)
        allowed = (memory.ids > 0) & (jnp.arange(matches.shape[2]) != memory.next)
        shares = self._shares(
            h[:, None],
            time[:, None],
            memory.last[:, None],
            memory.keys,
            memory.times,
            memory.ids,
            memory.lasts,
            memory.matches[:, :, None],
            allowed[:, None],
        )
        return memory, shares

    def write(self, memory: Memory, h: jax.Array, ids: jax.Array, time: jax.Array) -> Memory:
        """The memory with what was drawn.

        Args:
            memory: of `recall`.
            h: [B, H], of the id before.
            ids: int32 [B], drawn.
            time: int32 [B], at which they begin.
        """
        at, pitches = memory.next, jnp.asarray(self.pitches)[ids]
        return Memory(
            keys=memory.keys.at[:, at].set(self._keys(h)),
            ids=memory.ids.at[:, at].set(ids),
            steps=memory.steps.at[:, at].set(self._step(ids, memory.last)),
            lasts=memory.lasts.at[:, at].set(memory.last),
            times=memory.times.at[:, at].set(time),
            matches=memory.matches.at[:, :, at].set(0),
            last=jnp.where(pitches >= 0, pitches, memory.last),
            next=(at + 1) % memory.ids.shape[1],
        )


def _matches(before: jax.Array, ids: jax.Array, last: jax.Array) -> jax.Array:
    """[..., S]: one more than before where an id is the last [...], else half; 0 is like none."""
    last = last[..., None]
    return jnp.where((ids == last) & (last > 0), before + 1, before // 2)


def _all_matches(before: jax.Array, ids: jax.Array, read: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The last row, and int32 [..., T, S]: n of ids [..., S] up to s and those up to t of read
    [..., T]. `before`: [..., S], the row before the first.
    """

    def next_row(row: jax.Array, last: jax.Array) -> tuple[jax.Array, jax.Array]:
        row = _matches(_later(row), ids, last)
        return row, row

    before, rows = jax.lax.scan(next_row, before, jnp.moveaxis(read, -1, 0))
    return before, jnp.moveaxis(rows, 0, -2)


def _later(row: jax.Array) -> jax.Array:
    """[..., S], each one place later."""
    return jnp.pad(row, [(0, 0)] * (row.ndim - 1) + [(1, 0)])[..., :-1]


def _split(array: jax.Array, size: int) -> jax.Array:
    """[blocks, B, size, ...]: [B, T, ...] in parts, the last one filled up with zeros."""
    count = -(-array.shape[1] // size)
    room = count * size - array.shape[1]
    array = jnp.pad(array, [(0, 0), (0, room)] + [(0, 0)] * (array.ndim - 2))
    return jnp.moveaxis(array.reshape(len(array), count, size, *array.shape[2:]), 1, 0)


# --- mixing ---------------------------------------------------------------------------------------


def mix(logits: jax.Array, shares: Shares) -> jax.Array:
    """Log-probabilities [B, T, V] of all ids, of a network's logits [B, T, V] and a pointer."""
    p = jnp.exp(shares.network)[..., None] * jax.nn.softmax(logits)
    rows, steps = jnp.ogrid[: p.shape[0], : p.shape[1]]
    p = p.at[rows[..., None], steps[..., None], shares.ids].add(jnp.exp(shares.copied))
    return jnp.log(p + 1e-30)


def nll_of(logits: jax.Array, shares: Shares, target: jax.Array) -> jax.Array:
    """Minus the log-likelihood [B, T] of targets [B, T]: as by `mix`, without the other ids."""
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], axis=-1)[..., 0]
    same = shares.ids == target[..., None]
    copied = jax.nn.logsumexp(jnp.where(same, shares.copied, _NEVER), axis=-1)
    return -jnp.logaddexp(shares.network + log_p, copied)
