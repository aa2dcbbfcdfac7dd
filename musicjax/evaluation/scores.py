"""A model's metrics on its held-out test songs, beside baselines on the same music."""

import itertools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from musicjax.config import settings_of
from musicjax.evaluation.baselines import BASELINES, Predict
from musicjax.models.base import Batch, Model
from musicjax.training import compilation_cache, devices, workdir
from musicjax.training.dataset import Examples, ordered_batches
from musicjax.training.settings import ExampleSettings, TrainSettings
from musicjax.training.trainer import make_evaluate
from musicjax.training.workdir import Standing

Results = dict[str, dict[str, float]]
_MOST_READ = 100_000  # elements that a standing is measured on: seconds, of most models


def evaluate(folder: str | Path, *, checkpoint: str = "best", window: int | None = None) -> Results:
    """The test songs' metrics of a model, and of baselines.

    Args:
        folder: work dir of a run of musicjax.train.
        checkpoint: "best", "last", or an epoch of train.keep_epochs, such as "10".
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
        every = ordered_batches(examples, batch_size)
        cut = window and model.any_window and model.every_element
        return map(_without_padding, every) if cut else every

    measure = make_evaluate(model)
    results = {"model": measure(trained.params, batches())}
    unweighted = model.unweighted(trained.params)
    if unweighted is not trained.params:
        results["unweighted"] = measure(unweighted, batches())
    for name, baseline in BASELINES.items():
        if baseline.kind == model.encoding.kind and (predict := baseline.fit(corpus, model)):
            results[name] = score(model, batches(), predict)
    return results


def _without_padding(batch: Batch) -> Batch:
    """The batch without most of what is after its longest song's end: a power of two remains, so
    that few lengths are compiled.
    """
    size = 1 << int(batch["length"].max() - 1).bit_length()
    kept = {name: batch[name][:, : size + 1] for name in ("elements", "positions") if name in batch}
    return {**batch, **kept}


def stand(folder: str | Path) -> Standing:
    """A run's best checkpoint beside the strongest baseline, on songs that it was not trained on:
    the validation songs, or without any the test songs. Some of their examples, if they are many.
    It is kept in the work dir. Where several processes trained together, each calls it.

    Raises:
        InputError: no such work dir.
    """
    trained = workdir.load_trained(folder)
    model, corpus = trained.model, workdir.load_songs(folder)
    split = "validation" if corpus.split("validation") else "test"
    batch_size = settings_of(TrainSettings, trained.config.train, "train").batch_size
    settings = settings_of(ExampleSettings, trained.config.train, "train")
    examples = Examples(corpus, split, model, settings, training=False)
    all_batches = -(-len(examples) // batch_size)
    most = max(_MOST_READ // (batch_size * examples.window), 1)

    def batches() -> Iterable[Batch]:
        every = -(-all_batches // most)
        return itertools.islice(ordered_batches(examples, batch_size), 0, None, every)

    own = make_evaluate(model)(model.unweighted(trained.params), batches())
    metric = "nll" if "nll" in own else "loss"
    others = {
        name: score(model, batches(), predict)[metric]
        for name, baseline in BASELINES.items()
        if baseline.kind == model.encoding.kind and (predict := baseline.fit(corpus, model))
    }
    name = min(others, key=others.__getitem__)
    standing = Standing(trained.step, split, metric, own[metric], name, others[name])
    if devices.is_first():
        workdir.save_standing(folder, standing)
    return standing


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
