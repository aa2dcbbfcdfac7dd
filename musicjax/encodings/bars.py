"""Where the bars of a song are, in units of time: what encodings keep of its meters.

A song is cut into stretches of one meter. A first stretch that is shorter than a bar of the next is
a pick-up: it is the end of such a bar. Bars shorter than four quarters that divide them are counted
together, up to four quarters: many files say 1/4.
"""

import itertools
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from musicjax.music.song import Meter

_WHOLE = 4  # quarters that short bars are counted together up to


class Bars(NamedTuple):
    """A stretch of one meter: bars of `length` units, the first at `start`, which is negative where
    a song begins with a pick-up. `denominator` is of the meter, for 3/4 is as long as 6/8.
    """

    start: int
    length: int
    denominator: int = 4


def from_stretches(stretches: Sequence[Bars]) -> tuple[Bars, ...]:
    """A song's bars from its stretches, in order: those that are empty are left out, and a pick-up
    becomes the end of a bar.
    """
    pairs = zip(stretches, [*stretches[1:], None], strict=True)
    bars = [bar for bar, after in pairs if after is None or after.start > bar.start]
    if len(bars) > 1 and bars[1].start - bars[0].start < bars[1].length:
        return (bars[1]._replace(start=bars[1].start - bars[1].length), *bars[2:])
    return tuple(bars)


def layout_of(bars: Sequence[Bars]) -> dict[str, Any]:
    """The bars as a song's layout keeps them, in JSON."""
    return {"bars": [list(bar) for bar in bars]}


def bars_of(layout: Mapping[str, Any]) -> list[Bars]:
    """The bars of a song's layout."""
    return [Bars(*bar) for bar in layout["bars"]]


def cycle(bar: Bars, units_per_quarter: int) -> int:
    """Units after which the places in a stretch come again."""
    whole = _WHOLE * units_per_quarter
    return whole if whole % bar.length == 0 else bar.length


def places(bars: Sequence[Bars], start: int, stop: int, units_per_quarter: int) -> np.ndarray:
    """int32 [stop - start]: where in its bar each unit is, from 0.

    Args:
        bars: of a song.
        start, stop: units; those before the song continue its first bars backwards.
        units_per_quarter: of the bars.
    """
    units = np.arange(start, stop)
    firsts = np.array([bar.start for bar in bars])
    stretch = np.maximum(np.searchsorted(firsts, units, side="right") - 1, 0)
    cycles = np.array([cycle(bar, units_per_quarter) for bar in bars])
    return ((units - firsts[stretch]) % cycles[stretch]).astype(np.int32)


def bar_lines(bars: Sequence[Bars], length: int, units_per_quarter: int) -> np.ndarray:
    """int64: the units of a song of `length` units at which a bar begins; 0 is among them."""
    lines = _lines(bars, [cycle(bar, units_per_quarter) for bar in bars], length)
    return np.unique(np.maximum(lines, 0))


def bar_starts(bars: Sequence[Bars], length: int) -> np.ndarray:
    """int64: the units at which each bar of a song begins, those that are counted together, too;
    that of a pick-up, which is the end of a bar, is negative.
    """
    return _lines(bars, [bar.length for bar in bars], length)


def _lines(bars: Sequence[Bars], apart: Sequence[int], length: int) -> np.ndarray:
    ends = [*(bar.start for bar in bars[1:]), length]
    lines = [
        np.arange(bar.start, end, units) for bar, end, units in zip(bars, ends, apart, strict=True)
    ]
    return np.concatenate(lines)


def meters(bars: Sequence[Bars], start: int, units_per_quarter: int) -> tuple[Meter, ...]:
    """The meters of a song's time from unit `start` on, which becomes tick 0; a bar that has begun
    before is a pick-up.
    """
    before = [bar for bar in bars if bar.start <= start]
    held = [*before[-1:], *(bar for bar in bars if bar.start > start)]
    ends, found = [bar.start - start for bar in held[1:]], []
    for bar, end in itertools.zip_longest(held, ends):
        length = cycle(bar, units_per_quarter)
        tick, place = max(bar.start - start, 0), max(start - bar.start, 0) % length
        if place:
            found.append(_meter(tick, length - place, bar.denominator, units_per_quarter))
            tick += length - place
        if end is None or tick < end:
            found.append(_meter(tick, length, bar.denominator, units_per_quarter))
    return tuple(found)


def _meter(tick: int, length: int, denominator: int, units_per_quarter: int) -> Meter:
    """A bar of `length` units, in notes of 1 / denominator or shorter ones."""
    quarters = Fraction(length, units_per_quarter)
    while (quarters * denominator / 4).denominator > 1 and denominator < 64:
        denominator *= 2
    return Meter(tick, max(round(quarters * denominator / 4), 1), denominator)
