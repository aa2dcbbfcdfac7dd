r"""Puts runs side by side: how they did, what their configs differ in, and their curves.

    python -m musicjax.compare runs/a runs/b [--plot=compare.png] [--test]

The table and the curves are of the songs that were measured after each epoch. With --test each
model is measured on its test songs too, which must be the same, beside its best baseline: in nats a
sixteenth, where the encodings are exact.
"""

import json
from pathlib import Path
from typing import Any

from musicjax import cli
from musicjax.errors import InputError
from musicjax.system import files

_PICTURES = (".png", ".pdf", ".svg")


def _define_flags() -> None:
    from absl import flags

    flags.DEFINE_string("plot", "compare.png", "Picture of the curves; nothing is drawn for ''.")
    flags.DEFINE_bool("test", False, "Measure the test songs too.")
    flags.DEFINE_string("checkpoint", "best", "best, last, or an epoch's number; of --test.")
    flags.DEFINE_bool("json", False, "Print a JSON object for each run instead of tables.")


def _main(flags: Any, folders: list[str]) -> None:
    if not folders:
        raise InputError("expected work dirs, such as musicjax.compare runs/a runs/b")
    plot = Path(flags.plot)
    if flags.plot:
        if plot.suffix not in _PICTURES:
            raise InputError(f"plot is {flags.plot!r}; expected a name that ends in {_PICTURES[0]}")
        files.writable_folder(plot.parent)
    from musicjax.evaluation import comparison

    runs = comparison.read_runs(folders)
    tested = comparison.on_test_songs(folders, checkpoint=flags.checkpoint) if flags.test else []
    if flags.json:
        for i, run in enumerate(runs):
            test = {"test": tested[i]._asdict()} if tested else {}
            print(json.dumps(run._asdict() | {"best": run.best} | test))
    else:
        print(comparison.describe(runs))
        if tested:
            print("\n" + comparison.describe_tested(tested))
    if flags.plot:
        comparison.plot(runs, plot)
        if not flags.json:
            print(f"\nthe curves are {flags.plot}")


if __name__ == "__main__":
    cli.run(_main, _define_flags, arguments=True)
