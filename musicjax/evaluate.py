r"""Measures a trained model on its held-out test songs, beside two baselines on the same tokens.

    python -m musicjax.evaluate --workdir=runs/vocab

A model trained with class weights is measured once more with the weights taken out of its
probabilities ("unweighted"), as generate uses it. The baselines know no context, or only the last
token:

    unigram       each token by its frequency in the training songs
    repeat last   the last token again, with the share of repeats in the training songs as its
                  probability; the rest goes to the unigram

A loss that weighs the classes has another best unigram: frequency times weight. Each figure is
given against the unigram that is best for it.
"""

import json
from pathlib import Path

import numpy as np

from musicjax import cli
from musicjax.corpus import Corpus
from musicjax.vocabulary import Vocabulary


def evaluate(workdir: str | Path, *, checkpoint: str = "best") -> dict[str, dict[str, float]]:
    """The test songs' metrics of the model, and of "unigram" and "repeat last".

    Args:
        workdir: of a run of musicjax.train.
        checkpoint: "best" or "last".
    Returns:
        for each of "model", "unweighted" (if it was trained with class weights), "unigram" and
        "repeat last" the metrics of its model module.
    Raises:
        InputError: no such work dir, or no window in its test songs.
    """
    import jax.numpy as jnp
    from flax import nnx

    from musicjax import checkpoint as checkpoints
    from musicjax import compilation
    from musicjax.dataset import Windows, ordered_batches
    from musicjax.loop import make_evaluate
    from musicjax.models import MODELS

    compilation.enable_cache()
    trained = checkpoints.load_trained(workdir, checkpoint)
    options = trained.config.train
    held_out = Corpus.load(Path(workdir) / "test_songs")
    windows = Windows(held_out, "test", options.window, options.pad)
    module = MODELS[trained.config.model.name]
    class_weights = trained.vocabulary.class_weights(options.class_weights)
    graph, params = nnx.split(trained.model)

    def loss_fn(params, batch, dropout_key):
        model = nnx.merge(graph, params)
        return module.loss(model, batch, jnp.asarray(class_weights), dropout_key)

    run = make_evaluate(loss_fn, module.metrics)
    results = {"model": run(params, ordered_batches(windows, options.batch_size))}
    if options.class_weights:
        module.unweight(trained.model, class_weights)
        params = nnx.state(trained.model)
        batches = ordered_batches(windows, options.batch_size)
        results["unweighted"] = run(params, batches)
    pairs = np.concatenate(
        [
            windows[np.arange(i, min(i + 4096, len(windows)))][:, -2:]
            for i in range(0, len(windows), 4096)
        ]
    )
    for name, repeat in (("unigram", 0.0), ("repeat last", held_out.manifest["repeat_share"])):
        sums = baseline_sums(pairs, trained.vocabulary, class_weights, repeat)
        results[name] = module.metrics(sums)
    return results


def baseline_sums(
    pairs: np.ndarray, vocabulary: Vocabulary, class_weights: np.ndarray, repeat: float
) -> dict[str, float]:
    """A baseline's sums, under the names that the vocabulary model's loss uses.

    Args:
        pairs: int [examples, 2]: the last token and the one to predict; ids, 0 for unseen.
        vocabulary: with the training songs' counts.
        class_weights: [V].
        repeat: probability that the last token comes again; the rest is the unigram's.
    """
    last, target = pairs[pairs[:, 1] > 0].T
    counts = np.array(vocabulary.counts, np.float64)

    def nats(unigram: np.ndarray) -> np.ndarray:
        again = np.where(last > 0, repeat, 0.0)
        return -np.log((1 - again) * (unigram / unigram.sum())[target] + again * (last == target))

    weight = class_weights[target].astype(np.float64)
    guess = np.where((last > 0) & (repeat > 0), last, counts.argmax())
    correct = guess == target
    return {
        "tokens": float(len(target)),
        "unseen": float(len(pairs) - len(target)),
        "nats": nats(counts).sum(),
        "correct": float(correct.sum()),
        "weight": weight.sum(),
        "weighted_nats": (weight * nats(counts * class_weights)).sum(),
        "weighted_correct": (weight * correct).sum(),
    }


def describe(results: dict[str, dict[str, float]]) -> str:
    """A table of the results."""
    columns = ("loss", "nats", "perplexity", "accuracy", "weighted_accuracy")
    lines = [" " * 12 + "".join(f"{name:>18}" for name in columns)]
    for name, metrics in results.items():
        lines.append(f"{name:12}" + "".join(f"{metrics[column]:18.4f}" for column in columns))
    model = results["model"]
    seen = model["tokens"] + model["unseen"]
    lines.append(
        f"on {model['tokens']} tokens of the test songs; {model['unseen']} of {seen} are not in "
        "the training songs and left out"
    )
    return "\n".join(lines)


def _define_flags() -> None:
    from absl import flags

    flags.DEFINE_string("workdir", None, "Work dir of musicjax.train.", required=True)
    flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Which checkpoint.")
    flags.DEFINE_bool("json", False, "Print one JSON object instead of a table.")


def _main(flags) -> None:
    results = evaluate(flags.workdir, checkpoint=flags.checkpoint)
    print(json.dumps(results) if flags.json else describe(results))


if __name__ == "__main__":
    cli.run(_main, _define_flags)
