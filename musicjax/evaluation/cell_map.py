"""A linear or logistic map of what a cell and its neighbours did: the least that a network for note
states must beat.

A cell's bits are predicted from its own bits in the last two steps, and from which of the twelve
notes below and above played in the last: the same weights for all cells.

Axes: B example, T step, N note, C bit, F feature.
"""

from collections.abc import Iterable

import numpy as np

from musicjax.models.base import Prediction

_REACH = 12  # notes looked at on each side
_RIDGE = 1e-3
_NEWTON_STEPS = 8


def features(inputs: np.ndarray) -> np.ndarray:
    """float32 [B, T, N, F]: 1; the cell's bits in the last step and the one before; play of its
    neighbours in the last step. What is before a window, and outside of the matrix, is silent.

    Args:
        inputs: 0 or 1 [B, T, N, C], the step before each that is predicted.
    """
    x = inputs.astype(np.float32)
    before = np.pad(x, [(0, 0), (1, 0), (0, 0), (0, 0)])[:, :-1]
    notes = x.shape[2]
    padded = np.pad(x[..., 0], [(0, 0), (0, 0), (_REACH, _REACH)])
    offsets = [i for i in range(2 * _REACH + 1) if i != _REACH]
    around = np.stack([padded[:, :, i : i + notes] for i in offsets], axis=-1)
    return np.concatenate([np.ones_like(x[..., :1]), x, before, around], axis=-1)


def fit_linear(batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Weights [F, C] of least squares.

    Args:
        batches: features [M, F] and bits [M, C] of cells.
    """
    sums = [(x.T @ x, x.T @ y) for x, y in batches]
    xx, xy = (np.sum(each, axis=0) for each in zip(*sums, strict=True))
    return np.linalg.solve(xx + _RIDGE * np.eye(len(xx)), xy)


def fit_logistic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights [F] of the largest likelihood, by Newton's method.

    Args:
        x: features [M, F].
        y: 0 or 1 [M].
    """
    w = np.zeros(x.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = _sigmoid(x @ w)
        gradient = x.T @ (p - y) + _RIDGE * w
        curvature = (x * (p * (1 - p))[:, None]).T @ x + _RIDGE * np.eye(len(w))
        w -= np.linalg.solve(curvature, gradient)
    return w


def predict_linear(inputs: np.ndarray, weights: np.ndarray) -> Prediction:
    """What a linear map says of the steps after `inputs`, [B, T, N, C]."""
    values = features(inputs) @ weights.astype(np.float32)
    return Prediction(_likely(values), None, values)


def predict_logistic(inputs: np.ndarray, target: np.ndarray, weights: np.ndarray) -> Prediction:
    """What logistic maps say: of play, and of articulate given play.

    Args:
        inputs, target: 0 or 1 [B, T, N, C].
        weights: [F, C].
    """
    p = np.clip(_sigmoid(features(inputs) @ weights.astype(np.float32)), 1e-6, 1 - 1e-6)
    given = np.where(target, p, 1 - p)
    nll = -np.log(given[..., 0])
    if p.shape[-1] == 2:
        nll = nll - target[..., 0] * np.log(given[..., 1])
    values = np.concatenate([p[..., :1], p[..., :1] * p[..., 1:]], axis=-1)
    return Prediction(_likely(values), nll, values)


def _likely(values: np.ndarray) -> np.ndarray:
    above = values > 0.5
    return np.concatenate([above[..., :1], above[..., 1:] & above[..., :1]], axis=-1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))
