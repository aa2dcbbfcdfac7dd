"""Runs side by side: what their configs differ in, how they trained, and how well they did."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musicjax.config import flat_fields
from musicjax.errors import InputError
from musicjax.evaluation.scores import evaluate
from musicjax.training import workdir
from musicjax.training.trainer import best_line
from musicjax.training.workdir import Standing


class Run(NamedTuple):
    """A run in a comparison.

    Attributes:
        name: its work dir.
        fields: of its config, by their dotted names.
        lines: of its metrics.jsonl.
        split: that was measured after each epoch.
        unit: of its loss.
        standing: beside its strongest baseline, if that was measured.
    """

    name: str
    fields: dict[str, Any]
    lines: list[dict[str, Any]]
    split: str
    unit: str
    standing: Standing | None

    @property
    def best(self) -> dict[str, Any]:
        """The line of its best epoch."""
        return best_line(self.lines, self.split)

    @property
    def losses(self) -> list[float]:
        """Of the split, after each epoch."""
        return [line[f"{self.split}_loss"] for line in self.lines]


def read_runs(folders: Sequence[str | Path]) -> list[Run]:
    """What work dirs say of their runs.

    Raises:
        InputError: no work dir, or nothing was trained in it yet.
    """
    runs = []
    for folder in folders:
        model, config = workdir.load_model(folder)
        lines = workdir.load_metrics(folder)
        if not lines:
            raise InputError(f"{folder}: no epoch yet; train for at least one")
        split = "validation" if "validation_loss" in lines[-1] else "test"
        standing = workdir.load_standing(folder)
        runs.append(Run(str(folder), flat_fields(config), lines, split, model.loss_unit, standing))
    return runs


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The fields in which the configs differ, with each run's value; None where it has no such."""
    names = dict.fromkeys(name for run in runs for name in run.fields)
    values = {name: [run.fields.get(name) for run in runs] for name in names}
    return {name: of for name, of in values.items() if any(value != of[0] for value in of)}


def describe(runs: Sequence[Run]) -> str:
    """Two tables: how the runs did, and what their configs differ in."""
    rows: list[tuple] = [("run", "epochs", "best", "loss", "", "minutes", "beside")]
    for run in runs:
        minutes = sum(line["seconds"] for line in run.lines) / 60
        rows.append(
            (
                run.name,
                f"{run.lines[-1]['epoch']}/{run.fields['train.epochs']}",
                str(run.best["epoch"]),
                f"{run.best[f'{run.split}_loss']:.4f}",
                f"{run.unit}, {run.split}",
                f"{minutes:.1f}",
                str(run.standing or "-").partition(": ")[2] or "-",
            )
        )
    differing = differences(runs)
    fields = [("differs in", *(run.name for run in runs))]
    fields += [(name, *values) for name, values in differing.items()]
    tables = [rows, fields] if differing else [rows]
    return "\n\n".join(map(_table, tables))


def _table(rows: list[tuple]) -> str:
    texts = [[*map(str, row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in texts)
    return "\n".join(lines)


def plot(runs: Sequence[Run], path: str | Path) -> None:
    """Draws the held-out losses over epochs, the best epochs marked; a panel for each unit.

    Args:
        runs: of `read_runs`.
        path: of the PNG.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    units = list(dict.fromkeys((run.unit, run.split) for run in runs))
    figure = Figure(figsize=(7, 4.5 * len(units)), layout="constrained")
    panels = figure.subplots(len(units), squeeze=False)[:, 0]
    for (unit, split), axes in zip(units, panels, strict=True):
        axes.set(xlabel="epoch", ylabel=f"{split} loss ({unit})")
        for i, run in enumerate(runs):
            if (run.unit, run.split) == (unit, split):
                epochs = [line["epoch"] for line in run.lines]
                best = run.best["epoch"]
                label = f"{run.name[-40:]}: {min(run.losses):.3f} at epoch {best}".replace(
                    "$", r"\$"
                )
                axes.plot(epochs, run.losses, f"C{i}", label=label)
                axes.plot(best, min(run.losses), "o", color=f"C{i}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


class Tested(NamedTuple):
    """A run on the test songs.

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


def on_test_songs(folders: Sequence[str | Path], *, checkpoint: str = "best") -> list[Tested]:
    """Runs side by side, on the same test songs.

    Args:
        folders: work dirs.
        checkpoint: "best", "last", or an epoch of train.keep_epochs, such as "10".
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
        network, config = workdir.load_model(folder)
        if not network.gives_nll:
            raise InputError(
                f"{folder}: a model of {config.model.name} without likelihoods (model.loss); its "
                "test songs cannot be compared with others': leave --test out"
            )
        model, *baselines = evaluate(folder, checkpoint=checkpoint).items()
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
            Tested(
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


def describe_tested(rows: Sequence[Tested]) -> str:
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
