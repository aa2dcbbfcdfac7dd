"""A measure of a passage, and a baseline."""

import numpy as np

from musicjax.evaluation.baselines import Baseline
from musicjax.evaluation.metrics import Measure
from musicjax.models.base import Prediction

HIGHEST = Measure(lambda passage: int(passage.song.notes()[:, 2].max(initial=0)), "up to {}")


def uniform(corpus, model):
    """Each id alike."""

    def predict(batch):
        rows = len(batch["elements"])
        return Prediction(np.ones(rows, np.int32), np.full(rows, np.log(model.encoding.size - 1)))

    return predict


UNIFORM = Baseline(uniform, "ids")
