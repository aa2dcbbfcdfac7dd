r"""Draws songs as piano rolls: pitch over time, a bar for each note, the louder the darker.

    python -m musicjax.rendering.piano_roll song.mid [more.mid ...] [--output=roll.svg]

draws any MIDI files, each beside itself as a .png unless --output says otherwise; with --together
all of them in one picture, one below the other.
"""

import functools
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from musicjax import cli
from musicjax.errors import InputError
from musicjax.music import midi, notation
from musicjax.music.song import Song, pitch_name
from musicjax.system import files

FORMATS = ("png", "svg")
COLOURS = ("#9aa5b1", "#d1495b", "#2e86ab", "#3b8e5a", "#8f5fa8", "#e09f3e")

_BLACK_KEYS = (1, 3, 6, 8, 10)
_SOFTEST = 0.35  # how much of its colour a note of velocity 0 has
_OWN_FONT = "DejaVu Sans"  # travels with matplotlib
_LETTERS_AN_INCH = 9  # of a title
_LONGEST_LABEL = 30  # letters of a track's name
_MOST_LINES = 400  # of bars; fewer are drawn of longer songs
_MOST_BEATS = 200  # whose lines are drawn


class Grid(NamedTuple):
    """What stands behind the notes of a song.

    Attributes:
        bars: int [bars], ticks at which they begin.
        numbers: of the bars.
        beats: int [beats], ticks of the beats that are no bar's.
        low, high: pitches of the lowest and the highest row.
    """

    bars: np.ndarray
    numbers: list[int]
    beats: np.ndarray
    low: int
    high: int

    @property
    def named(self) -> list[int]:
        """Pitches that are named: C, E and G, or C alone where there are many."""
        classes = (0, 4, 7) if self.high - self.low < 40 else (0,)
        return [pitch for pitch in range(self.low, self.high + 1) if pitch % 12 in classes]


def grid_of(song: Song) -> Grid:
    """Bars, beats and rows of a song.

    Raises:
        InputError: more than 5,000 bars, such as hours of silence.
    """
    quarter, bars = song.ticks_per_quarter, notation.bars(song)
    pitches = song.notes()[:, 2]
    low = int(pitches.min()) - 2 if len(pitches) else 58
    high = int(pitches.max()) + 2 if len(pitches) else 74
    beats = []
    for bar in bars:
        # Those of a pick-up are counted from the bar line that it leads to.
        first = bar.beat if bar.number else (bar.stop - bar.start) % bar.beat
        count = max(int((bar.stop - bar.start - first) / bar.beat) + 1, 0)
        beats += [bar.start + first + i * bar.beat for i in range(count)]
    starts = [round(bar.start * quarter) for bar in bars]
    ticks = sorted({round(beat * quarter) for beat in beats} - set(starts))
    ticks = [tick for tick in ticks if tick < song.end_ticks]
    return Grid(
        np.array(starts),
        [bar.number for bar in bars],
        np.array(ticks, int),
        max(low, 0),
        high,
    )


def plot_piano_roll(
    song: Song, path: str | Path, *, title: str = "", colours: tuple[str, ...] = COLOURS
) -> None:
    """Writes a PNG or an SVG, whole or not at all.

    Args:
        song: each track has a colour of its own; bars are counted by its meters, from 4/4.
        path: of the picture; its suffix says which.
        title: above the roll; any text.
        colours: of the tracks, in order; taken again from the first if they run out.
    Raises:
        InputError: another suffix, or hours of silence.
    """
    plot_piano_rolls([(title, song)], path, colours=colours)


def plot_piano_rolls(
    songs: Sequence[tuple[str, Song]],
    path: str | Path,
    *,
    title: str = "",
    colours: tuple[str, ...] = COLOURS,
) -> None:
    """Writes a picture of several songs, one below the other on the same scale of time and pitch,
    such as what checkpoints make of one prime.

    Args:
        songs: each after what stands above it; at least one.
        path: of the picture, .png or .svg.
        title: above all of them.
        colours: of each song's tracks.
    Raises:
        InputError: another suffix, or hours of silence.
    """
    import matplotlib
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise InputError(f"{path}: expected a picture's name to end in .png or .svg")
    grids = [grid_of(song) for _, song in songs]
    low, high = min(grid.low for grid in grids), max(grid.high for grid in grids)
    quarters = max(max(song.end_ticks, 1) / song.ticks_per_quarter for _, song in songs)
    bars = max(len(grid.bars) for grid in grids)
    width = float(np.clip(0.42 * bars, 7, 40))
    height = float(np.clip(0.11 * (high - low), 3, 10 if len(songs) == 1 else 4))
    letters = int(width * _LETTERS_AN_INCH)
    names = [track.name for _, song in songs for track in song.tracks]
    settings: dict[Any, Any] = {
        "font.family": _families("".join([title, *(name for name, _ in songs), *names])),
        "text.parse_math": False,  # a dollar is a dollar
        "svg.hashsalt": "musicjax",  # the same song gives the same bytes
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height * len(songs)), layout="constrained")
        if title:
            figure.suptitle(_plain(title, letters, lines=2))
        all_axes = figure.subplots(len(songs), squeeze=False)[:, 0]
        labels: dict[str, Any] = {}
        for axes, (name, song), grid in zip(all_axes, songs, grids, strict=True):
            labels |= _draw(axes, song, grid._replace(low=low, high=high), colours)
            axes.set_title(_plain(name, letters, lines=2))
            axes.set_xlim(0, quarters * song.ticks_per_quarter)
        all_axes[-1].set_xlabel("bar")
        if labels:
            where = "outside right center"  # beside the notes
            figure.legend(labels.values(), labels.keys(), loc=where, fontsize="small")
        content = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(content, format=kind, dpi=110, metadata=metadata)
    with files.new_file(path) as file:
        file.write(content.getvalue())


def _draw(axes: Any, song: Song, grid: Grid, colours: tuple[str, ...]) -> dict[str, Any]:
    """Draws a song; returns its tracks' names with what stands for them in a legend."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    for pitch in range(grid.low, grid.high + 1):
        if pitch % 12 in _BLACK_KEYS:
            axes.axhspan(pitch - 0.5, pitch + 0.5, color="#f0f0f0", lw=0, zorder=0)
    labels = {}
    for number, track in enumerate(song.tracks):
        colour = np.array(to_rgb(colours[number % len(colours)]))
        start, end = track.onset_ticks, track.onset_ticks + track.duration_ticks
        bottom, top = track.pitch - 0.45, track.pitch + 0.45
        corners = np.stack([start, bottom, start, top, end, top, end, bottom], axis=1)
        share = (_SOFTEST + (1 - _SOFTEST) * np.minimum(track.velocity / 90, 1))[:, None]
        shades = cast(Any, (share * colour + (1 - share)).tolist())
        axes.add_collection(
            PolyCollection(
                list(corners.reshape(-1, 4, 2).astype(float)),
                facecolors=shades,
                edgecolor="white",
                linewidth=0.4,
                zorder=2,
            )
        )
        name = _plain(track.name, _LONGEST_LABEL)
        if name:
            labels[name] = Patch(color=tuple(colour.tolist()))
    every = -(-len(grid.bars) // _MOST_LINES)
    axes.vlines(grid.bars[::every], 0, 128, color="#b4b4b4", lw=0.8, zorder=1)
    if len(grid.beats) <= _MOST_BEATS:
        axes.vlines(grid.beats, 0, 128, color="#dcdcdc", lw=0.5, zorder=1)
    every = max(1, len(grid.bars) // 24)
    axes.set_xticks(grid.bars[::every], list(map(str, grid.numbers[::every])))
    axes.set_yticks(grid.named, list(map(pitch_name, grid.named)))
    axes.set_ylim(grid.low - 0.5, grid.high + 0.5)
    axes.set_ylabel("pitch")
    return labels


# --- any name can be shown ------------------------------------------------------------------------


def _plain(name: str, most: int, lines: int = 1) -> str:
    """A name of so many letters a line, cut off if it is longer, with what no font here has as
    escapes.
    """
    known = set().union(*map(_letters, _families(name)))
    name = "".join(
        c if ord(c) in known or c.isspace() else c.encode("unicode_escape").decode() for c in name
    )
    name = name.lstrip("_ ")  # matplotlib hides labels that begin with an underscore
    return textwrap.fill(name, most, max_lines=lines, placeholder="…")


@functools.lru_cache(maxsize=256)
def _families(text: str) -> list[str]:
    """Font families that have the letters of a text together, as far as fonts here have them."""
    families = [_OWN_FONT]
    missing = {ord(c) for c in text if c.isprintable()} - _letters(_OWN_FONT)
    for name in _fonts() if missing else ():
        if missing & _letters(name):
            families.append(name)
            missing -= _letters(name)
    return families


@functools.cache
def _fonts() -> dict[str, str]:
    """The upright fonts of normal weight here: files by family. The last resort, which has a box
    for every letter, is none.
    """
    from matplotlib import font_manager

    fonts = font_manager.fontManager.ttflist
    upright = [
        f
        for f in fonts
        if (f.style, f.variant) == ("normal", "normal") and "Last Resort" not in f.name
    ]
    return {f.name: f.fname for f in upright if f.weight in (400, "normal", "regular")}


@functools.lru_cache(maxsize=1024)
def _letters(family: str) -> frozenset[int]:
    """The code points that a font family has; none of one that cannot be read."""
    from matplotlib import ft2font

    try:
        return frozenset(ft2font.FT2Font(_fonts()[family]).get_charmap())
    except (RuntimeError, OSError):
        return frozenset()


# --- the command ----------------------------------------------------------------------------------


def _define_flags() -> None:
    from absl import flags

    flags.DEFINE_string("output", None, "Picture, .png or .svg; default: beside each file.")
    flags.DEFINE_bool("together", False, "One picture of all files.")
    flags.DEFINE_string("title", None, "Above the picture; default: the files' names.")


def _main(flags: Any, paths: Sequence[str]) -> None:
    if not paths:
        raise InputError(
            "no file is named; expected python -m musicjax.rendering.piano_roll FILE.mid"
        )
    if flags.output and len(paths) > 1 and not flags.together:
        raise InputError(f"output is one file for {len(paths)} songs; add --together")
    songs = [(Path(path).name, midi.read_song(path)) for path in paths]
    if flags.together:
        output = Path(flags.output or Path(paths[0]).with_suffix(".png"))
        plot_piano_rolls(songs, output, title=flags.title or "")
        print(output)
        return
    for path, (name, song) in zip(paths, songs, strict=True):
        output = Path(flags.output or Path(path).with_suffix(".png"))
        plot_piano_roll(song, output, title=name if flags.title is None else flags.title)
        print(output)


if __name__ == "__main__":
    cli.run(_main, _define_flags, arguments=True)
