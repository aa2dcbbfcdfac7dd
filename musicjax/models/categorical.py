"""What models of ids share: a probability for each id, its cross entropy, and figures of it.

Axes: B batch, T element of a window, V ids.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import optax

from musicjax.models.base import Batch, Model, Prediction, Sums


class Categorical(Model):
    """A model that reads ids and gives a probability to each id that may come next."""

    reads: ClassVar[Literal["ids", "matrix"]] = "ids"
    summary: ClassVar[tuple[str, ...]] = ("loss", "perplexity", "accuracy")

    @staticmethod
    def predicted(logits: jax.Array, batch: Batch) -> Prediction:
        """A prediction, of logits of the last id of each window [B, V], or of all but the first
        [B, T, V].
        """
        target = batch["elements"][:, -1] if logits.ndim == 2 else batch["elements"][:, 1:]
        logits = without_unknown(logits)
        nll = optax.softmax_cross_entropy_with_integer_labels(logits, target)
        of_target = jnp.take_along_axis(logits, target[..., None], axis=-1)[..., 0]
        correct = of_target >= logits.max(-1)
        return Prediction(logits.argmax(-1), nll, correct=correct)

    def score(self, prediction: Prediction, batch: Batch) -> tuple[jax.Array, Sums]:
        """Categorical cross entropy, each id with its weight.

        Args:
            prediction: of the last id of each window, [B], or of all but the first, [B, T].
            batch: see Model. A target 0, an id that training never saw, is masked and counted.
        Returns:
            the mean over the examples that count, and sums over them: "elements" that count,
            "unseen" that do not, "nll", "correct", "weight", "weighted_nll", "weighted_correct".
        """
        assert prediction.nll is not None  # of ids it is always given
        ids, present = batch["elements"], batch["present"]
        if prediction.nll.ndim == 2:
            target, at = ids[:, 1:], jnp.arange(ids.shape[1] - 1)
            inside = (at >= batch["before"][:, None]) & (at < batch["length"][:, None])
            present = jnp.where(inside, present[:, None], 0.0)
        else:
            target = ids[:, -1]
        counts = jnp.where(target > 0, present, 0.0)
        nll = jnp.where(counts > 0, prediction.nll, 0.0)
        weights = self.element_weights
        weight = counts if weights is None else counts * jnp.asarray(weights)[target]
        correct = prediction.correct
        correct = jnp.where(prediction.guess == target if correct is None else correct, counts, 0.0)
        sums = {
            "elements": counts,
            "unseen": present - counts,
            "nll": nll,
            "correct": correct,
            "weight": weight,
            "weighted_nll": weight * nll,
            "weighted_correct": weight * correct,
        }
        sums = {name: value.sum() for name, value in sums.items()}
        # As in Keras: the weights scale each example's loss, and the mean is over their number.
        return sums["weighted_nll"] / jnp.maximum(sums["elements"], 1), sums

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """ "loss" and "weighted_accuracy" weigh each id by its weight; "nll" in nats an element,
        "perplexity" and "accuracy" weigh all alike.
        """
        elements, weight = max(sums["elements"], 1.0), max(sums["weight"], 1e-9)
        nll = sums["nll"] / elements
        return {
            "loss": sums["weighted_nll"] / weight,
            "nll": nll,
            "perplexity": math.exp(min(nll, 700.0)),
            "accuracy": sums["correct"] / elements,
            "weighted_accuracy": sums["weighted_correct"] / weight,
            f"{self.encoding.element}s": int(sums["elements"]),
            "unseen": int(sums["unseen"]),
        }


def without_unknown(logits: jax.Array) -> jax.Array:
    """Logits [..., V] with no probability for id 0, which is never an answer."""
    return jnp.where(jnp.arange(logits.shape[-1]) == 0, -1e9, logits)
