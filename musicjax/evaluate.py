r"""Measures a trained model on its held-out test songs, beside baselines on the same music.

    python -m musicjax.evaluate --workdir=runs/vocab

A model trained with class weights is measured once more with the weights taken out of its
probabilities ("unweighted"), as generate uses it. The baselines are in
musicjax/evaluation/baselines.py.
"""

import json
from typing import Any

from musicjax import cli
from musicjax.errors import InputError


def _define_flags() -> None:
    from absl import flags

    flags.DEFINE_string("workdir", None, "Work dir of musicjax.train.", required=True)
    flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Which checkpoint.")
    flags.DEFINE_integer("window", None, "Elements of an example; default: as trained.")
    flags.DEFINE_bool("json", False, "Print one JSON object instead of a table.")


def _main(flags: Any) -> None:
    if flags.window is not None and flags.window < 1:
        raise InputError(f"window is {flags.window}; expected at least 1")
    from musicjax.evaluation import scores

    results = scores.evaluate(flags.workdir, checkpoint=flags.checkpoint, window=flags.window)
    print(json.dumps(results) if flags.json else scores.describe(results))


if __name__ == "__main__":
    cli.run(_main, _define_flags)
