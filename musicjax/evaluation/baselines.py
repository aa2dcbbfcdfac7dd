"""What needs no network: predictions by counting, scored on the same examples as a model's.

Of ids:

    unigram            each id by its frequency in the training songs
    repeat last        the last id again, with the share of repeats in the training songs as its
                       probability; the rest goes to the unigram
    Kneser-Ney         interpolated n-grams of the order, 1 to 5, that does best on the validation
                       songs: the strongest that counting can do without remembering the song
    longest match      what came after the last ids where most of them stood before in the song,
                       as likely as matches of that length went on in training songs; the rest goes
                       to Kneser-Ney
    weighted unigram   by frequency times weight: the best unigram for a loss that weighs ids, so
                       shown beside such a model alone

Of matrices, with the training songs' shares as probabilities: how often a cell plays and is struck,
knowing nothing, or whether the note played in the step before.

    all silent         no note plays
    repeat last step   the last step again

    cell map           a linear map (logistic ones, where the model gives probabilities) of a cell's
                       last two steps and its neighbours: see musicjax.evaluation.cell_map

To add one: one function, and its line in BASELINES or an entry point of the group
musicjax.baselines.

Axes: B example, T element, N note, C bit, V ids.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np

from musicjax.corpus.store import Corpus
from musicjax.evaluation import cell_map, ngram
from musicjax.models.base import Batch, Model, Prediction
from musicjax.registry import Registry

_MOST_COUNTED = 3_000_000  # ids of training songs; more would take minutes
_MOST_MATCHED = 40_000  # ids of training songs, each beside all before it
_LONGEST = 32  # ids; longer matches are alike
_MOST_FITTED = 5_000  # steps of training songs, of some 80 cells each

Predict = Callable[[Batch], Prediction]


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A baseline.

    Attributes:
        fit: (corpus, model) -> what predicts a batch as the model does, from the training songs
            alone; None where the baseline does not apply to the model.
        kind: of the elements that it predicts.
    """

    fit: Callable[[Corpus, Any], Predict | None]
    kind: Literal["ids", "matrix"]


def unigram(corpus: Corpus, model: Model) -> Predict:
    """Each id by its frequency."""
    return _ids(model, np.array(model.encoding.counts, np.float64), 0.0)


def repeat_last_id(corpus: Corpus, model: Model) -> Predict:
    """The last id again, or the unigram."""
    repeat = corpus.manifest["statistics"]["repeat_share"]
    return _ids(model, np.array(model.encoding.counts, np.float64), repeat)


def weighted_unigram(corpus: Corpus, model: Model) -> Predict | None:
    """Each id by its frequency times its weight in the loss."""
    weights = model.element_weights
    return None if weights is None else _ids(model, weights * np.array(model.encoding.counts), 0.0)


def _ids(model: Model, frequency: np.ndarray, repeat: float) -> Predict:
    """Ids from the one before.

    Args:
        model: for which of a window's ids it predicts.
        frequency: [V], of the unigram.
        repeat: probability that the last id comes again; none follows an unknown one.
    """

    # No known id is impossible.
    frequency = np.maximum(frequency, np.where(np.arange(len(frequency)) > 0, 0.5, 0.0))

    def predict(batch: Batch) -> Prediction:
        last, target = _pairs(model, batch)
        again = np.where(last > 0, repeat, 0.0)
        unigram = (frequency / frequency.sum())[target]
        probability = (1 - again) * unigram + again * (last == target)
        return Prediction(np.where(again > 0, last, frequency.argmax()), _nll(probability, target))

    return predict


def kneser_ney(corpus: Corpus, model: Model) -> Predict | None:
    """Interpolated n-grams."""
    probability = _kneser_ney(corpus, model)
    if probability is None:
        return None
    likeliest = int(np.argmax(model.encoding.counts))

    def predict(batch: Batch) -> Prediction:
        _, target = _pairs(model, batch)
        return Prediction(np.full_like(target, likeliest), _nll(probability(batch), target))

    return predict


def longest_match(corpus: Corpus, model: Model) -> Predict | None:
    """The song so far, then n-grams; of models that predict each element of a window."""
    probability = _kneser_ney(corpus, model)
    if probability is None or not model.every_element:
        return None
    hits, total = np.full(_LONGEST + 1, 0.5), np.ones(_LONGEST + 1)
    for song in _songs(corpus, "train", _MOST_MATCHED):
        length, copy = _matches(song[None])
        np.add.at(total, length[0, :-1], 1)
        np.add.at(hits, length[0, :-1], copy[0, :-1] == song[1:])
    goes_on = hits / total

    def predict(batch: Batch) -> Prediction:
        ids, target = _pairs(model, batch)
        length, copy = _matches(ids)
        share = np.where(copy > 0, goes_on[length], 0.0)
        p = share * (copy == target) + (1 - share) * probability(batch)
        return Prediction(copy, _nll(p, target))

    return predict


def _songs(corpus: Corpus, split: str, most: int) -> list[np.ndarray]:
    """Whole songs' ids, as many as hold up to `most` of them, and one at least."""
    chosen, total = [], 0
    for song in corpus.split(split):
        total += song.length
        if total > most and chosen:
            break
        chosen.append(corpus.encoding.unpack(np.asarray(corpus.rows(song))))
    return chosen


def _kneser_ney(corpus: Corpus, model: Model) -> Callable[[Batch], np.ndarray] | None:
    """The probabilities of a batch's targets by n-grams of the best order."""
    if not corpus.split("train"):  # as in a folder of musicjax.export
        return None
    counted = _n_grams(corpus)

    def probability(batch: Batch) -> np.ndarray:
        ids = np.asarray(batch["elements"])
        before = np.pad(ids, [(0, 0), (counted.order - 1, 0)])
        grams = np.lib.stride_tricks.sliding_window_view(before, counted.order, axis=1)
        grams = grams[:, 1:] if model.every_element else grams[:, -1]
        of_grams = counted.probability(grams.reshape(-1, counted.order))
        return of_grams.reshape(grams.shape[:-1])

    return probability


@functools.lru_cache(maxsize=1)  # for the two baselines that read them
def _n_grams(corpus: Corpus) -> ngram.KneserNey:
    training, validation = (
        _songs(corpus, split, _MOST_COUNTED) for split in ("train", "validation")
    )
    return ngram.fit_best_order(training, validation, corpus.encoding.size)


def _matches(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where ids stood before; of ids [B, T].

    Returns:
        int [B, T], how many ids up to each stand somewhere before in the same order, up to
        _LONGEST; and what came next there, the last time; 0 if none does.
    """
    # Of each place before ids[:, i], how many ids up to there are those up to now; none is 0.
    same, lengths, copies = np.zeros_like(ids), [], []
    rows = np.arange(len(ids))
    for t, last in enumerate(ids.T[..., None]):
        again = (ids[:, :t] == last) & (last > 0)
        same[:, 1 : t + 1] = np.where(again, same[:, :t] + 1, 0)
        reached = np.minimum(same[:, : t + 1], _LONGEST)
        at = t - reached[:, ::-1].argmax(1)  # the last of the longest
        lengths.append(reached[rows, at])
        copies.append(np.where(lengths[-1] > 0, ids[rows, at], 0))
    return np.stack(lengths, axis=1), np.stack(copies, axis=1)


def _pairs(model: Model, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """The ids before those that a model predicts, and those: [B, T], or [B] of the last."""
    ids = np.asarray(batch["elements"])
    return (ids[:, :-1], ids[:, 1:]) if model.every_element else (ids[:, -2], ids[:, -1])


def _nll(probability: np.ndarray, target: np.ndarray) -> np.ndarray:
    """An unknown target has no probability, and does not count."""
    return -np.log(np.where(target > 0, probability, 1.0))


def all_silent(corpus: Corpus, model: Any) -> Predict:
    """No note plays."""
    counts = _transitions(corpus).sum(0)

    def predict(batch: Batch) -> Prediction:
        inputs, _, target = model.task(batch)
        return _cells(np.zeros_like(target), inputs, target, np.stack([counts, counts]))

    return predict


def repeat_last_step(corpus: Corpus, model: Any) -> Predict:
    """The last step again."""
    counts = _transitions(corpus)

    def predict(batch: Batch) -> Prediction:
        inputs, _, target = model.task(batch)
        return _cells(inputs, inputs, target, counts)

    return predict


def map_of_cells(corpus: Corpus, model: Any) -> Predict | None:
    """A linear or logistic map of each cell's past and neighbours."""
    if not corpus.split("train"):  # as in a folder of musicjax.export
        return None
    encoding, total, sequences = corpus.encoding, 0, []
    for song in corpus.split("train"):
        if total > _MOST_FITTED:
            break
        steps = encoding.unpack(np.asarray(corpus.rows(song)))[None]
        sequences.append(np.pad(steps, [(0, 0), (1, 0), (0, 0), (0, 0)]))
        total += song.length
    tasks = [model.task({"elements": e, "positions": e[:, :, 0, 0]}) for e in sequences]
    size = encoding.shape[1]

    def cells() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for inputs, _, target in tasks:
            x = cell_map.features(inputs)
            yield x.reshape(-1, x.shape[-1]), target.reshape(-1, size)

    if not model.gives_nll:
        weights = cell_map.fit_linear(cells())
        return lambda batch: cell_map.predict_linear(model.task(batch)[0], weights)
    x, y = (np.concatenate(arrays) for arrays in zip(*cells(), strict=True))
    plays = y[:, 0] > 0
    maps = [cell_map.fit_logistic(x, y[:, 0])]
    maps += [cell_map.fit_logistic(x[plays], y[plays, 1])] if size == 2 else []
    weights = np.stack(maps, axis=1)

    def predict(batch: Batch) -> Prediction:
        inputs, _, target = model.task(batch)
        return cell_map.predict_logistic(inputs, target, weights)

    return predict


def _transitions(corpus: Corpus) -> np.ndarray:
    """[played before, play, articulate]: how often; none is impossible."""
    transitions = corpus.manifest["statistics"]["transitions"]
    return np.array(transitions, np.float64).reshape(2, 2, 2) + 0.5


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
        "Kneser-Ney": Baseline(kneser_ney, "ids"),
        "longest match": Baseline(longest_match, "ids"),
        "weighted unigram": Baseline(weighted_unigram, "ids"),
        "all silent": Baseline(all_silent, "matrix"),
        "repeat last step": Baseline(repeat_last_step, "matrix"),
        "cell map": Baseline(map_of_cells, "matrix"),
    },
)
