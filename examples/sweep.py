"""A sweep over a setting, compared.

    python examples/sweep.py /my/midi runs/sweep

trains a run for each learning rate, ends one early that is far behind, and prints what
`musicjax compare runs/sweep/*` prints.
"""

import sys
from collections.abc import Callable
from typing import Any

import musicjax
from musicjax.evaluation import comparison


class BehindError(Exception):
    """A run is far behind the best."""


def stop_behind(best: dict[int, float], margin: float = 0.5) -> Callable[[dict, Any], None]:
    """A callback for a run; `best` is the best loss after each epoch, of all runs."""

    def callback(metrics: dict[str, Any], params: Any) -> None:
        epoch, loss = metrics["epoch"], metrics["validation_loss"]
        best[epoch] = min(best.get(epoch, loss), loss)
        if loss > best[epoch] + margin:
            raise BehindError(f"epoch {epoch}: {loss:.3f}, the best run had {best[epoch]:.3f}")

    return callback


def main(folder: str, output: str, name: str = "vocab:quick", rates=(1e-3, 3e-3, 1e-2)) -> None:
    best: dict[int, float] = {}
    workdirs = []
    for rate in rates:
        config = musicjax.get_config(name, **{"data.source": folder, "train.learning_rate": rate})
        workdirs.append(f"{output}/{rate:g}")
        try:
            musicjax.train(config, workdirs[-1], callbacks=[stop_behind(best)])
        except BehindError as behind:
            print(f"{workdirs[-1]} is given up: {behind}")
    print(comparison.describe(comparison.read_runs(workdirs)))


if __name__ == "__main__":
    main(*sys.argv[1:])
