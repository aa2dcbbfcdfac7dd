from fractions import Fraction

import numpy as np
import pytest
from conftest import make_song, make_track
from hypothesis import assume, given
from hypothesis import strategies as st

from musicjax.encodings.bars import (
    Bars,
    bar_lines,
    bars_of,
    cycle,
    from_stretches,
    layout_of,
    meters,
    places,
)
from musicjax.encodings.note_states import note_state_to_song, song_to_note_state
from musicjax.music.song import Meter

UNITS = 4  # to a quarter, unless said otherwise


@st.composite
def songs_bars(draw):
    """What from_stretches makes of stretches of any meters, each of a unit at least."""
    stretches, start = [], 0
    for _ in range(draw(st.integers(1, 4))):
        denominator = draw(st.sampled_from([2, 4, 8, 16]))
        numerator = draw(st.integers(1, 12))
        length = Fraction(4 * UNITS * numerator, denominator)
        stretches.append(Bars(start, int(max(length, 1)), denominator))
        start += draw(st.integers(1, 60))
    return from_stretches(stretches)


# --- pick-ups ----------------------------------------------------------------------------------


def test_a_song_that_begins_with_whole_bars_begins_at_0():
    assert from_stretches([Bars(0, 16)]) == (Bars(0, 16),)
    stretches = (Bars(0, 12), Bars(24, 16), Bars(30, 8))
    assert from_stretches(stretches) == stretches


def test_a_first_stretch_shorter_than_a_bar_of_the_next_is_the_end_of_such_a_bar():
    assert from_stretches([Bars(0, 4), Bars(4, 12, 8), Bars(40, 16)]) == (
        Bars(-8, 12, 8),
        Bars(40, 16),
    )
    # As long as a bar, or later in the song: no pick-up.
    for stretches in [(Bars(0, 4), Bars(12, 12)), (Bars(0, 16), Bars(32, 12), Bars(36, 16))]:
        assert from_stretches(stretches) == stretches


def test_stretches_that_hold_no_unit_are_left_out():
    assert from_stretches([Bars(0, 16), Bars(0, 12), Bars(24, 8), Bars(24, 16)]) == (
        Bars(0, 12),
        Bars(24, 16),
    )


# --- places ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "units", "expected"),
    [(16, 4, 16), (4, 4, 16), (8, 4, 16), (12, 4, 12), (6, 4, 6), (20, 4, 20), (12, 12, 48)],
)
def test_short_bars_that_divide_four_quarters_are_counted_together(length, units, expected):
    assert cycle(Bars(0, length), units) == expected


def test_places_of_a_pick_up_and_of_what_is_before_the_song():
    bars = (Bars(-8, 12), Bars(28, 16))
    found = places(bars, -9, 50, UNITS)
    assert found.dtype == np.int32
    assert found.tolist() == [11, *range(12), *range(12), *range(12), *range(16), *range(6)]


@given(songs_bars(), st.integers(-40, 10), st.integers(1, 200))
def test_places_count_up_inside_a_bar_and_begin_anew_at_bar_lines(bars, start, length):
    found = places(bars, start, start + length, UNITS)
    units = np.arange(start, start + length)
    lines = set(bar_lines(bars, start + length, UNITS).tolist()) if start + length > 0 else set()
    for unit, before, place in zip(units[1:], found, found[1:], strict=False):
        assert place in (before + 1, 0)
        if unit > 0:
            assert (place == 0) == (unit in lines)
    cycles = [cycle(bar, UNITS) for bar in bars]
    assert found.min() >= 0
    assert found.max() < max(cycles)
    # Any part of it alone is the same.
    np.testing.assert_array_equal(places(bars, start + length // 2, start + length, UNITS),
                                  found[length // 2 :])  # fmt: skip


@given(songs_bars(), st.integers(0, 100))
def test_where_a_song_ends_the_places_come_again_after_a_cycle(bars, later):
    start = bars[-1].start + later
    around = cycle(bars[-1], UNITS)
    found = places(bars, start, start + 3 * around, UNITS).reshape(3, around)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert sorted(found[0].tolist()) == list(range(around))


def test_bar_lines_of_a_pick_up():
    # 0 is among them, though the song begins inside a bar.
    assert bar_lines((Bars(-8, 12), Bars(28, 8)), 70, UNITS).tolist() == [0, 4, 16, 28, 44, 60]
    assert bar_lines((Bars(0, 16),), 33, UNITS).tolist() == [0, 16, 32]


@given(songs_bars())
def test_a_layout_keeps_the_bars(bars):
    assert tuple(bars_of(layout_of(bars))) == bars


# --- meters ------------------------------------------------------------------------------------


def test_meters_say_the_denominator_or_a_shorter_note():
    assert meters([Bars(0, 12, 4)], 0, UNITS) == (Meter(0, 3, 4),)
    assert meters([Bars(0, 12, 8)], 0, UNITS) == (Meter(0, 6, 8),)
    assert meters([Bars(0, 16, 2)], 0, UNITS) == (Meter(0, 2, 2),)
    assert meters([Bars(0, 7, 4)], 0, UNITS) == (Meter(0, 7, 16),)
    assert meters([Bars(0, 4, 4)], 0, UNITS) == (Meter(0, 4, 4),)  # counted together


def test_meters_from_inside_a_bar_begin_with_a_pick_up():
    bars = (Bars(0, 16), Bars(24, 12))
    assert meters(bars, 0, UNITS) == (Meter(0, 4, 4), Meter(24, 3, 4))
    assert meters(bars, 4, UNITS) == (Meter(0, 3, 4), Meter(12, 4, 4), Meter(20, 3, 4))
    # The bar of the pick-up is cut short by the next meter.
    assert meters(bars, 20, UNITS) == (Meter(0, 3, 4), Meter(4, 3, 4))
    assert meters(bars, 24, UNITS) == (Meter(0, 3, 4),)
    assert meters(bars, 30, UNITS) == (Meter(0, 3, 8), Meter(6, 3, 4))
    assert meters((Bars(-8, 12),), 0, UNITS) == (Meter(0, 1, 4), Meter(4, 3, 4))


def told(bars, start, length):
    """Whether meters say all from `start` to `length`: a bar that has begun before `start` must
    end before what comes next, and a first stretch from a bar line on must not look like a pick-up.
    """
    first = [bar for bar in bars if bar.start <= start][-1]
    later = [bar for bar in bars if bar.start > start]
    place = (start - first.start) % cycle(first, UNITS)
    until = min([length, *(bar.start for bar in later)])
    if place:
        return start + cycle(first, UNITS) - place < until
    return not later or later[0].start - start >= cycle(later[0], UNITS)


@given(songs_bars(), st.integers(1, 200), st.integers(0, 40))
def test_meters_round_trip_with_song_to_note_state(bars, length, start):
    """A song from any unit on, written with its meters and read again, has the same places."""
    length = max(length, start + 1)
    assume(told(bars, start, length))
    song = make_song(
        make_track([(0, length - start, 60)]),
        ticks_per_quarter=UNITS,
        meters=meters(bars, start, UNITS),
    )
    again = song_to_note_state(song).bars
    np.testing.assert_array_equal(
        places(again, 0, length - start, UNITS), places(bars, start, length, UNITS)
    )


@given(songs_bars(), st.integers(1, 200))
def test_states_and_bars_round_trip(bars, length):
    assume(told(bars, 0, length))
    states = np.zeros((length, 78, 2), np.uint8)
    states[:, 30] = 1
    song = note_state_to_song(states, bars=[bar for bar in bars if bar.start < length])
    again = song_to_note_state(song)
    np.testing.assert_array_equal(again.states, states)
    np.testing.assert_array_equal(
        places(again.bars, 0, length, UNITS), places(bars, 0, length, UNITS)
    )
