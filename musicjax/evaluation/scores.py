"""A model's metrics on its held-out test songs, beside baselines on the same music."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from musicjax.config import settings_of
from musicjax.errors import InputError
from musicjax.evaluation.baselines import BASELINES, Predict
from musicjax.models.base import Batch, Model
from musicjax.training import compilation_cache, workdir
from musicjax.training.dataset import Examples, ordered_batches
from musicjax.training.settings import ExampleSettings, TrainSettings
from musicjax.training.trainer import make_evaluate

Results = dict[str, dict[str, float]]


def evaluate(folder: str | Path, *, checkpoint: str = "best", window: int | None = None) -> Results:
    """The test songs' metrics of a model, and of baselines.

    Args:
        folder: work dir of a run of musicjax.train.
        checkpoint: "best" or "last".
        window: elements of an example; default: as trained. A model that fits any window then
            reads longer contexts; its examples follow one another.
    Returns:
        for each of "model", "unweighted" (if its training weighed elements) and the baselines
        the metrics of the model.
    Raises:
        InputError: no such work dir, no test song, or a window that does not fit the model.
    """
    compilation_cache.enable()
    trained = workdir.load_trained(folder, checkpoint)
    config, model = trained.config, trained.model
    batch_size = settings_of(TrainSettings, config.train, "train").batch_size
    if window:
        # As many elements at once as in training.
        batch_size = max(batch_size * model.window // window, 1)
        config.train.eval_window = window
        if config.train.starts != "all":
            config.train.starts = "tiles"
    corpus = workdir.load_songs(folder)
    settings = settings_of(ExampleSettings, config.train, "train")
    examples = Examples(corpus, "test", model, settings, training=False)

    def batches() -> Iterable[Batch]:
        return ordered_batches(examples, batch_size)

    measure = make_evaluate(model)
    results = {"model": measure(trained.params, batches())}
    unweighted = model.unweighted(trained.params)
    if unweighted is not trained.params:
        results["unweighted"] = measure(unweighted, batches())
    for name, baseline in BASELINES.items():
        if baseline.kind == model.encoding.kind and (predict := baseline.fit(corpus, model)):
            results[name] = score(model, batches(), predict)
    return results


def score(model: Model, batches: Iterable[Batch], predict: Predict) -> dict[str, float]:
    """The metrics of predictions that no network made.

    Args:
        model: scores them as its own.
        batches: examples.
        predict: a fitted baseline.
    """
    total: Counter[str] = Counter()
    for batch in batches:
        _, sums = model.score(predict(batch), batch)
        total.update({name: float(value) for name, value in sums.items()})
    return model.metrics(total)


def describe(results: Results) -> str:
    """A table of the results; whole numbers are of the examples, and come below it."""
    model = results["model"]
    columns = [name for name, value in model.items() if isinstance(value, float)]
    lines = [" " * 18 + "".join(f"{name:>{max(len(name) + 2, 10)}}" for name in columns)]
    for name, metrics in results.items():
        cells = (f"{metrics[c]:{max(len(c) + 2, 10)}.4f}" for c in columns)
        lines.append(f"{name:18}" + "".join(cells))
    counts = ", ".join(f"{value} {name}" for name, value in model.items() if name not in columns)
    lines.append(f"on the test songs: {counts}")
    return "\n".join(lines)


class Row(NamedTuple):
    """A run in a comparison.

    Attributes:
        run: its work dir.
        model, encoding: their names.
        nll: in nats an element of the test songs.
        baseline, baseline_nll: the best of those that have one.
        per_sixteenth: nats a sixteenth of the test songs, if the encoding is exact.
    """

    run: str
    model: str
    encoding: str
    nll: float
    baseline: str
    baseline_nll: float
    per_sixteenth: float | None


def compare(folders: Sequence[str | Path], *, checkpoint: str = "best") -> list[Row]:
    """Runs side by side, on the same test songs.

    Args:
        folders: work dirs.
        checkpoint: "best" or "last".
    Raises:
        InputError: their test songs differ, or a model gives no likelihood.
    """
    rows, first = [], None
    for folder in folders:
        corpus = workdir.load_songs(folder)
        names = sorted(song.name for song in corpus.split("test"))
        first = names if first is None else first
        if names != first:
            raise InputError(
                f"{folder} was tested on {len(names)} songs, {folders[0]} on {len(first)}, not all "
                "of them the same; expected one split: train both with data.split_by=index"
            )
        config, _ = workdir.load_config(folder)
        model, *baselines = (
            (name, metrics)
            for name, metrics in evaluate(folder, checkpoint=checkpoint).items()
            if "nll" in metrics
        )
        name, best = min(baselines, key=lambda baseline: baseline[1]["nll"])
        encoding, nll = corpus.encoding, model[1]["nll"]
        per_sixteenth = None
        if encoding.exact:
            songs = [
                encoding.all_elements(np.asarray(corpus.rows(s))) for s in corpus.split("test")
            ]
            sixteenths = sum(map(encoding.length, songs)) * 4 / encoding.units_per_quarter
            per_sixteenth = nll * model[1][f"{encoding.element}s"] / sixteenths
        rows.append(
            Row(
                str(folder),
                config.model.name,
                encoding.name,
                nll,
                name,
                best["nll"],
                per_sixteenth,
            )
        )
    return rows


def describe_comparison(rows: Sequence[Row]) -> str:
    """A table of runs."""
    lines = [f"{'run':24}{'model':14}{'encoding':14}{'nats an element':>16}  best baseline"]
    lines[0] += f"{'nats a sixteenth':>28}"
    for row in rows:
        shared = "-" if row.per_sixteenth is None else f"{row.per_sixteenth:.3f}"
        baseline = f"{row.baseline} {row.baseline_nll:.3f}"
        lines.append(
            f"{row.run[-23:]:24}{row.model:14}{row.encoding:14}{row.nll:16.3f}  {baseline:25}"
            f"{shared:>16}"
        )
    return "\n".join(lines)
