"""What needs no network: predictions by counting, scored on the same examples as a model's.

Of ids:

    unigram            each id by its frequency in the training songs
    repeat last        the last id again, with the share of repeats in the training songs as its
                       probability; the rest goes to the unigram
    weighted unigram   by frequency times weight: the best unigram for a loss that weighs ids, so
                       shown beside such a model alone

Of matrices, with the training songs' shares as probabilities: how often a cell plays and is struck,
knowing nothing, or whether the note played in the step before.

    all silent         no note plays
    repeat last        the last step again

To add one: one function, and its line in BASELINES or an entry point of the group
musicjax.baselines.

Axes: B example, T element, N note, C bit, V ids.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from musicjax.models.base import Batch, Model, Prediction
from musicjax.registry import Registry


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A baseline.

    Attributes:
        predict: (batch, statistics of the training songs, model) -> Prediction, as the model's
            own; None where it does not apply to the model.
        kind: of the elements that it predicts.
    """

    predict: Callable[[Batch, Mapping[str, Any], Model], Prediction | None]
    kind: Literal["ids", "matrix"]


def unigram(batch: Batch, statistics: Mapping[str, Any], model: Model) -> Prediction:
    """Each id by its frequency."""
    return _ids(batch, np.array(model.encoding.counts, np.float64), 0.0)


def repeat_last_id(batch: Batch, statistics: Mapping[str, Any], model: Model) -> Prediction:
    """The last id again, or the unigram."""
    return _ids(batch, np.array(model.encoding.counts, np.float64), statistics["repeat_share"])


def weighted_unigram(
    batch: Batch, statistics: Mapping[str, Any], model: Model
) -> Prediction | None:
    """Each id by its frequency times its weight in the loss."""
    weights = model.element_weights
    return None if weights is None else _ids(batch, np.array(model.encoding.counts) * weights, 0.0)


def _ids(batch: Batch, frequency: np.ndarray, repeat: float) -> Prediction:
    """The last of each window's ids, from those before it.

    Args:
        batch: elements [B, T + 1].
        frequency: [V], of the unigram.
        repeat: probability that the last id comes again; none follows an unknown one.
    """
    last, target = np.asarray(batch["elements"])[:, -2:].T
    again = np.where(last > 0, repeat, 0.0)
    unigram = (frequency / frequency.sum())[target]
    probability = (1 - again) * unigram + again * (last == target)
    guess = np.where(again > 0, last, frequency.argmax())
    # An unknown target has no probability, and does not count.
    return Prediction(guess, -np.log(np.where(target > 0, probability, 1.0)))


def all_silent(batch: Batch, statistics: Mapping[str, Any], model: Any) -> Prediction:
    """No note plays."""
    inputs, _, target = model.task(batch)
    counts = _transitions(statistics).sum(0)
    return _cells(np.zeros_like(target), np.asarray(inputs), target, np.stack([counts, counts]))


def repeat_last_step(batch: Batch, statistics: Mapping[str, Any], model: Any) -> Prediction:
    """The last step again."""
    inputs, _, target = model.task(batch)
    return _cells(inputs, np.asarray(inputs), target, _transitions(statistics))


def _transitions(statistics: Mapping[str, Any]) -> np.ndarray:
    """[played before, play, articulate]: how often; none is impossible."""
    return np.array(statistics["transitions"], np.float64).reshape(2, 2, 2) + 0.5


def _cells(
    guess: np.ndarray, before: np.ndarray, target: np.ndarray, counts: np.ndarray
) -> Prediction:
    """Each cell from whether its note played in the step before.

    Args:
        guess, before, target: 0 or 1 [B, T, N, C].
        counts: [played before, play, articulate].
    """
    # Probability of play, and of articulate given play: [played before].
    play, struck = counts[:, 1].sum(1) / counts.sum((1, 2)), counts[:, 1, 1] / counts[:, 1].sum(1)
    played = before[..., 0].astype(np.int64)
    target = np.asarray(target)
    nll = -np.log(np.where(target[..., 0], play[played], 1 - play[played]))
    if target.shape[-1] == 2:
        p = struck[played]
        nll = nll - target[..., 0] * np.log(np.where(target[..., 1], p, 1 - p))
    return Prediction(guess, nll, guess.astype(np.float32))


BASELINES: Registry[Baseline] = Registry(
    "baselines",
    "a baseline",
    {
        "unigram": Baseline(unigram, "ids"),
        "repeat last": Baseline(repeat_last_id, "ids"),
        "weighted unigram": Baseline(weighted_unigram, "ids"),
        "all silent": Baseline(all_silent, "matrix"),
        "repeat last step": Baseline(repeat_last_step, "matrix"),
    },
)
