r"""Measures a trained model on its held-out test songs, beside baselines on the same music.

    python -m musicjax.evaluate --workdir=runs/vocab [--music]

A model trained with class weights is measured once more with the weights taken out of its
probabilities ("unweighted"), as generate uses it. The baselines are in
musicjax/evaluation/baselines.py. With --music it also generates pieces, and compares what they are
like with the training and the test songs, and how much of them is copied.
Several runs are put side by side by musicjax.compare.
"""

import json
from typing import Any

from musicjax import cli
from musicjax.errors import InputError
from musicjax.generation.options import Options


def _define_flags() -> None:
    from absl import flags

    cli.define_model()
    flags.DEFINE_string("checkpoint", "best", "best, last, or an epoch of train.keep_epochs.")
    flags.DEFINE_integer("window", None, "Elements of an example; default: as trained.")
    flags.DEFINE_bool("music", False, "Generate pieces too, and compare them with the songs.")
    flags.DEFINE_integer("num", 32, "Pieces of --music.")
    flags.DEFINE_float("temperature", Options.temperature, "Of --music; as of generate.")
    flags.DEFINE_float("min_p", Options.min_p, "Of --music; as of generate.")
    flags.DEFINE_integer("max_notes", Options.max_notes, "Of --music; as of generate.")
    flags.DEFINE_bool("json", False, "Print one JSON object instead of a table.")


def _main(flags: Any) -> None:
    if flags.window is not None and flags.window < 1:
        raise InputError(f"window is {flags.window}; expected at least 1")
    given = ("num", "temperature", "min_p", "max_notes", "checkpoint")
    options = Options(**{name: getattr(flags, name) for name in given})
    from musicjax.evaluation import scores
    from musicjax.training import workdir

    folder = cli.model_folder(flags)
    results = scores.evaluate(folder, checkpoint=flags.checkpoint, window=flags.window)
    print(json.dumps(results) if flags.json else scores.describe(results), flush=True)
    model, _ = workdir.load_model(folder)
    if model.told and not flags.json:
        print(model.told)
    if flags.music:
        from musicjax.generation import review

        print(review.describe(review.review(folder, options)))


if __name__ == "__main__":
    cli.run(_main, _define_flags)
