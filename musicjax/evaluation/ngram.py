"""Interpolated Kneser-Ney: the strongest that counting can do, in a second.

    p_k(w | c) = max(n(c w) - d, 0) / n(c) + d u(c) / n(c) p_{k-1}(w | c')

n are counts, u(c) is how many different ids follow c, c' is c without its first id, and d a
discount. In the highest order n(c w) is how often c w occurs; below it is how many different ids it
occurs after. p_0 is uniform. A context that never occurred leaves all to the order below.

Source: Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling",
section 2.7. Differs: (1) one discount for all counts, 0.85.

Axes: N places, K order.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

DISCOUNT = 0.85
ORDERS = (1, 2, 3, 4, 5)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class _Counts(NamedTuple):
    """Of one order: grams (a context and an id) and contexts, by sorted hash.

    Attributes:
        grams, gram_counts: [grams].
        contexts, context_counts, context_types: [contexts]; types are ids that follow.
    """

    grams: np.ndarray
    gram_counts: np.ndarray
    contexts: np.ndarray
    context_counts: np.ndarray
    context_types: np.ndarray


class KneserNey(NamedTuple):
    """A fitted model.

    Attributes:
        size: ids, of which 0 is never predicted.
        levels: of orders 1 to K.
    """

    size: int
    levels: tuple[_Counts, ...]

    @property
    def order(self) -> int:
        """K."""
        return len(self.levels)

    def probability(self, grams: np.ndarray) -> np.ndarray:
        """float64 [N]: of each last id, given those before.

        Args:
            grams: int [N, >= K]; 0 stands for what is before a song, and for unknown ids.
        """
        p = np.full(len(grams), 1 / (self.size - 1))
        for k, level in enumerate(self.levels, 1):
            contexts = _hashes(grams[:, grams.shape[1] - k : -1])
            total, types = _look_up(
                contexts, level.contexts, level.context_counts, level.context_types
            )
            (count,) = _look_up(_extend(contexts, grams[:, -1]), level.grams, level.gram_counts)
            seen, total = total > 0, np.maximum(total, 1)
            interpolated = (np.maximum(count - DISCOUNT, 0) + DISCOUNT * types * p) / total
            p = np.where(seen, interpolated, p)
        return p


def fit(songs: Iterable[np.ndarray], size: int, order: int) -> KneserNey:
    """Counts the n-grams of songs.

    Args:
        songs: int [T] each, ids below `size`; n-grams end at known ids, and do not cross songs.
        size: number of ids.
        order: K >= 1.
    """
    grams = np.concatenate([np.zeros((0, order), np.int64), *(windows(s, order) for s in songs)])
    grams = grams[grams[:, -1] > 0]
    levels = []
    for k in range(order, 0, -1):
        if k == order:
            grams, counts = _unique(grams)
        else:  # how many different ids each occurs after
            grams, counts = _unique(grams[:, 1:])
        contexts = _hashes(grams[:, :-1])
        keys, first, inverse = np.unique(contexts, return_index=True, return_inverse=True)
        total = np.bincount(inverse, counts, minlength=len(first))
        types = np.bincount(inverse, minlength=len(first))
        hashes = _extend(contexts, grams[:, -1])
        by_hash = np.argsort(hashes)
        levels.append(_Counts(hashes[by_hash], counts[by_hash], keys, total, types))
    return KneserNey(size, tuple(reversed(levels)))


def fit_best_order(
    songs: Sequence[np.ndarray], validation: Sequence[np.ndarray], size: int
) -> KneserNey:
    """The order of ORDERS that does best on validation songs; the highest, if there are none."""
    held_out = np.concatenate(
        [np.zeros((0, ORDERS[-1]), np.int64), *(windows(s, ORDERS[-1]) for s in validation)]
    )
    held_out = held_out[held_out[:, -1] > 0]
    if not len(held_out):
        return fit(songs, size, ORDERS[-1])
    models = [fit(songs, size, order) for order in ORDERS]
    return min(models, key=lambda model: -np.log(model.probability(held_out)).mean())


def windows(song: np.ndarray, width: int) -> np.ndarray:
    """int64 [T, width]: each id with those before it, 0 before the song."""
    padded = np.concatenate([np.zeros(width - 1, np.int64), song])
    return np.lib.stride_tricks.sliding_window_view(padded, width)


def _unique(grams: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows, and how often each occurs."""
    _, first, counts = np.unique(_hashes(grams), return_index=True, return_counts=True)
    return grams[first], counts


def _hashes(grams: np.ndarray) -> np.ndarray:
    """uint64 [N] of int [N, K]; two rows in 2 ** 64 are taken for one."""
    hashes = np.full(len(grams), grams.shape[1], np.uint64)
    for column in grams.T:
        hashes = _extend(hashes, column)
    return hashes


def _extend(hashes: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Hashes of rows with one id more."""
    mixed = (hashes ^ ids.astype(np.uint64)) * _MULTIPLIER
    return mixed ^ (mixed >> np.uint64(29))


def _look_up(keys: np.ndarray, table: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
    """The values of keys in a sorted table; 0 for a key that is not in it."""
    index = np.minimum(np.searchsorted(table, keys), max(len(table) - 1, 0))
    known = table[index] == keys if len(table) else np.zeros(len(keys), bool)
    return [np.where(known, value[index] if len(table) else 0, 0) for value in values]
