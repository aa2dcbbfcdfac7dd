r"""Measures a trained model on its held-out test songs, beside two baselines on the same music.

    python -m musicjax.evaluate --workdir=runs/vocab

Tokens. A model trained with class weights is measured once more with the weights taken out of its
probabilities ("unweighted"), as generate uses it. A loss that weighs the classes has another best
unigram: frequency times weight. Each figure is given against the unigram that is best for it.

    unigram       each token by its frequency in the training songs
    repeat last   the last token again, with the share of repeats in the training songs as its
                  probability; the rest goes to the unigram

Note states. Where the model's output is a probability, the baselines have one too, with the
training songs' shares: how often a cell plays and is struck, knowing nothing, or whether the note
played in the step before.

    all silent    no note plays
    repeat last   the last step again
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np

from musicjax import cli
from musicjax.corpus import Corpus
from musicjax.errors import InputError
from musicjax.vocabulary import Vocabulary


def evaluate(
    workdir: str | Path, *, checkpoint: str = "best", window: int | None = None
) -> dict[str, dict[str, float]]:
    """The test songs' metrics of the model, and of two baselines.

    Args:
        workdir: of a run of musicjax.train.
        checkpoint: "best" or "last".
        window: steps of the segments to measure; default: as trained. Only for a model of note
            states that has the same weights for all steps, which then reads longer contexts.
    Returns:
        for each of "model", "unweighted" (if it was trained with class weights) and the baselines
        the metrics of its model module.
    Raises:
        InputError: no such work dir, no test song, or a window that does not fit the model.
    """
    from flax import nnx

    from musicjax import checkpoint as checkpoints
    from musicjax import compilation
    from musicjax.dataset import examples, ordered_batches
    from musicjax.loop import make_evaluate
    from musicjax.models import MODELS

    compilation.enable_cache()
    trained = checkpoints.load_trained(workdir, checkpoint)
    config, vocabulary = trained.config, trained.vocabulary
    if window:
        if not config.model.get("tied", False):
            raise InputError(
                f"window is {window}; {workdir} holds a model with weights for segments of "
                f"{config.train.window}, and cannot be measured on others"
            )
        # As many steps at once as in training.
        batch_size = config.train.batch_size * config.train.window // window
        config.train.update(window=window, batch_size=max(batch_size, 1), starts="bars")
    module = MODELS[config.model.name]
    held_out = Corpus.load(Path(workdir) / "test_songs")
    source = examples(held_out, "test", config.train)
    loss = module.make_loss(config, vocabulary)

    def batches():
        return ordered_batches(source, config.train.batch_size)

    def measured(model) -> dict[str, float]:
        graph, params = nnx.split(model)

        def loss_fn(params, batch, dropout_key):
            return loss(nnx.merge(graph, params), batch, dropout_key)

        return make_evaluate(loss_fn, module.metrics)(params, batches())

    results = {"model": measured(trained.model)}
    if vocabulary:
        class_weights = vocabulary.class_weights(config.train.class_weights)
        if config.train.class_weights:
            module.unweight(trained.model, class_weights)
            results["unweighted"] = measured(trained.model)
        pairs = np.concatenate([b["tokens"][b["present"] > 0, -2:] for b in batches()])
        repeat_share = held_out.manifest["repeat_share"]
        for name, repeat in (("unigram", 0.0), ("repeat last", repeat_share)):
            results[name] = module.metrics(token_sums(pairs, vocabulary, class_weights, repeat))
    else:
        sums = state_sums(batches(), held_out.manifest["transitions"], config)
        results |= {name: module.metrics(values) for name, values in sums.items()}
    return results


def token_sums(
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


def state_sums(batches, transitions: list[int], config) -> dict[str, dict[str, float]]:
    """The sums of "all silent" and "repeat last", under the names that the bi-axial loss uses.

    Args:
        batches: of segments.
        transitions: int [8], counts of the training songs: index 4 played before + 2 play +
            articulate.
        config: of the run.
    """
    from musicjax.models.biaxial import task

    counts = np.array(transitions, np.float64).reshape(2, 2, 2) + 0.5  # none is impossible
    # Probability of play, and of articulate given play: [played before].
    shares = {
        "all silent": [_shares(counts.sum(0))] * 2,
        "repeat last": [_shares(counts[0]), _shares(counts[1])],
    }
    totals = {name: Counter() for name in shares}
    for batch in batches:
        rows = batch["present"] > 0
        states, length = batch["states"][rows].astype(np.int64), batch["length"][rows]
        before, target, _ = task({"states": states, "beat": batch["beat"]}, config.train.target)
        inside = (np.arange(target.shape[1]) < length[:, None])[..., None, None]
        target = target * inside
        for name, table in shares.items():
            guess = before * inside if name == "repeat last" else np.zeros_like(target)
            weight = 1 + (config.train.sounding_weight - 1) * target[..., :1]
            squares = (guess - target) ** 2
            sums = {
                "segments": len(states),
                "steps": length.sum(),
                "bits": length.sum() * target[0, 0].size,
                "squares": squares.sum(),
                "total": (squares * weight).sum(),
                "examples": len(states),
            }
            if config.model.loss == "likelihood":
                p, a = np.array(table)[before[..., 0]].transpose(3, 0, 1, 2)
                play, struck = target[..., 0], target[..., 1:].sum(-1)
                nats = -np.log(np.where(play, p, 1 - p))
                if target.shape[-1] == 2:
                    nats -= play * np.log(np.where(struck, a, 1 - a))
                nats = nats * inside[..., 0]
                total = (nats * weight[..., 0]).sum()
                sums |= {"nats": nats.sum(), "total": total, "examples": length.sum()}
            for bit, bit_name in enumerate(("play", "articulate")[: target.shape[-1]]):
                sums |= {
                    f"{bit_name}_hits": (guess * target)[..., bit].sum(),
                    f"{bit_name}_guessed": guess[..., bit].sum(),
                    f"{bit_name}_there": target[..., bit].sum(),
                }
            totals[name].update({key: float(value) for key, value in sums.items()})
    return {name: dict(total) for name, total in totals.items()}


def _shares(counts: np.ndarray) -> tuple[float, float]:
    """Share of cells that play, and of those that are struck. counts: [play, articulate]."""
    return counts[1].sum() / counts.sum(), counts[1, 1] / counts[1].sum()


def describe(results: dict[str, dict[str, float]]) -> str:
    """A table of the results."""
    model = results["model"]
    known = (
        "loss nats perplexity accuracy weighted_accuracy squares squares_per_bit play_precision "
        "play_recall play_f1 articulate_precision articulate_recall articulate_f1"
    )
    columns = [name for name in known.split() if name in model]
    lines = [" " * 12 + "".join(f"{name:>{max(len(name) + 2, 12)}}" for name in columns)]
    for name, metrics in results.items():
        cells = (f"{metrics[c]:{max(len(c) + 2, 12)}.4f}" for c in columns)
        lines.append(f"{name:12}" + "".join(cells))
    if "tokens" in model:
        seen = model["tokens"] + model["unseen"]
        lines.append(
            f"on {model['tokens']} tokens of the test songs; {model['unseen']} of {seen} are not "
            "in the training songs and left out"
        )
    else:
        lines.append(f"on {model['steps']} steps of the test songs")
    return "\n".join(lines)


def _define_flags() -> None:
    from absl import flags

    flags.DEFINE_string("workdir", None, "Work dir of musicjax.train.", required=True)
    flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Which checkpoint.")
    flags.DEFINE_integer("window", None, "Steps of a segment of note states; default: as trained.")
    flags.DEFINE_bool("json", False, "Print one JSON object instead of a table.")


def _main(flags) -> None:
    if flags.window is not None and flags.window < 1:
        raise InputError(f"window is {flags.window}; expected at least 1")
    results = evaluate(flags.workdir, checkpoint=flags.checkpoint, window=flags.window)
    print(json.dumps(results) if flags.json else describe(results))


if __name__ == "__main__":
    cli.run(_main, _define_flags)
