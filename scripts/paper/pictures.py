"""Pictures of numbers, as PNG files."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure  # no pyplot: no global state, no display

WIDTH, HEIGHT, DPI = 6.4, 3.6, 90
GREY = "#9aa5b1"


def _axes(xlabel: str, ylabel: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    return figure, axes


def step_losses(losses: np.ndarray, an_epoch: int, levels: Mapping[str, float], path: Path) -> None:
    """The loss of each training step, their means over epochs, and baselines as lines."""
    figure, axes = _axes("training step", "squared error of a song")
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, color=GREY, lw=0.6, label="each step")
    whole = losses[: len(losses) // an_epoch * an_epoch].reshape(-1, an_epoch)
    axes.plot(an_epoch * np.arange(1, len(whole) + 1), whole.mean(1), label="mean of an epoch")
    for number, (name, level) in enumerate(levels.items(), 1):
        axes.axhline(level, ls="--", lw=1, color=f"C{number}", label=f"{name} (test songs)")
    axes.set_ylim(0, float(np.nanquantile(losses, 0.99)) * 1.2)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=DPI)


def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    ylabel: str,
    path: Path,
    *,
    xlabel: str = "epoch",
    levels: Mapping[str, float] | None = None,
    log: bool = False,
) -> None:
    """Curves by name, x and y each, with levels as dashed lines; log: both axes."""
    figure, axes = _axes(xlabel, ylabel)
    for name, (x, y) in lines.items():
        axes.plot(x, y, marker="." if len(x) < 20 else None, label=name)
    for name, level in (levels or {}).items():
        axes.axhline(level, ls="--", lw=1, color=GREY)
        axes.annotate(name, (0.99, level), xycoords=("axes fraction", "data"), ha="right")
    if log:
        axes.loglog()
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=DPI)


def bars(
    values: Mapping[str, float], xlabel: str, path: Path, *, marked: Collection[str] = ()
) -> None:
    """A bar for each name, the first on top; the marked ones grey."""
    figure, axes = _axes(xlabel, "")
    names = list(values)[::-1]
    colours = [GREY if name in marked else "C0" for name in names]
    drawn = axes.barh(names, [values[name] for name in names], color=colours)
    axes.bar_label(drawn, fmt="%.3g", padding=2, fontsize="small")
    axes.margins(x=0.12)
    figure.set_size_inches(WIDTH, 1 + 0.28 * len(names))
    figure.savefig(path, dpi=DPI)
