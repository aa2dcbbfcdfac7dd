"""Draws a song as a piano roll: pitch over time, a bar for each note."""

import warnings
from pathlib import Path

import numpy as np

from musicjax.music.song import Song, pitch_name

_BLACK_KEYS = (1, 3, 6, 8, 10)
COLOURS = ("#9aa5b1", "#d1495b", "#2e86ab", "#3b8e5a", "#8f5fa8", "#e09f3e")


def plot_piano_roll(
    song: Song, path: str | Path, *, title: str = "", colours: tuple[str, ...] = COLOURS
) -> None:
    """Writes a PNG.

    Args:
        song: each track has a colour of its own; measures are counted by its meters, from 4/4.
        path: of the PNG.
        title: above the roll.
        colours: of the tracks, in order; taken again from the first if they run out.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    pitches = song.notes()[:, 2]
    low = int(pitches.min()) - 2 if len(pitches) else 58
    high = int(pitches.max()) + 2 if len(pitches) else 74
    measures = _measure_ticks(song)
    width = float(np.clip(0.42 * len(measures), 7, 40))
    height = float(np.clip(0.11 * (high - low), 3, 10))
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot(title=_plain(title), xlabel="measure", ylabel="pitch")
    for pitch in range(low, high + 1):
        if pitch % 12 in _BLACK_KEYS:
            axes.axhspan(pitch - 0.5, pitch + 0.5, color="#f0f0f0", lw=0, zorder=0)
    for track, colour in zip(song.tracks, _cycle(colours, len(song.tracks)), strict=True):
        start, end = track.onset_ticks, track.onset_ticks + track.duration_ticks
        bottom, top = track.pitch - 0.45, track.pitch + 0.45
        corners = np.stack([start, bottom, start, top, end, top, end, bottom], axis=1)
        axes.add_collection(
            PolyCollection(
                list(corners.reshape(-1, 4, 2).astype(float)),
                facecolor=colour,
                edgecolor="white",
                linewidth=0.4,
                zorder=2,
                label=_plain(track.name) or None,
            )
        )
    for tick in measures:
        axes.axvline(tick, color="#c8c8c8", lw=0.6, zorder=1)
    every = max(1, len(measures) // 24)
    axes.set_xticks(measures[::every], [str(i + 1) for i in range(0, len(measures), every)])
    named = [pitch for pitch in range(low, high + 1) if pitch % 12 in (0, 4, 7)]
    axes.set_yticks(named, list(map(pitch_name, named)))
    axes.set_xlim(0, max(song.end_ticks, 1))
    axes.set_ylim(low - 0.5, high + 0.5)
    if any(_plain(track.name) for track in song.tracks):
        figure.legend(loc="outside right upper", fontsize="small")  # beside the notes
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # it draws boxes instead
        figure.savefig(path, dpi=110)


def _plain(name: str) -> str:
    """A name as matplotlib shows it: dollars are no formula, and no leading underscore hides it."""
    return name.lstrip("_").replace("$", r"\$")


def _measure_ticks(song: Song) -> list[int]:
    """Ticks at which measures begin."""
    meters = song.meters_from_start
    ticks = []
    ends = [meter.tick for meter in meters[1:]] + [max(song.end_ticks, 1)]
    for meter, end in zip(meters, ends, strict=True):
        ticks += range(meter.tick, end, meter.ticks(song.ticks_per_quarter))
    return ticks


def _cycle(colours: tuple[str, ...], count: int) -> list[str]:
    return [colours[i % len(colours)] for i in range(count)]
