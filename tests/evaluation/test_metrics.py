import numpy as np
import pytest
from conftest import make_song, make_track

from musicjax.evaluation.metrics import MEASURES, Measure, Passage, describe, measure, shared_cells
from musicjax.music.song import Tempo

# Twelve ticks to a quarter: C for a quarter, E and G for one, a quarter of silence, E for one.
NOTES = [(0, 12, 60), (12, 12, 64), (12, 12, 67), (36, 12, 64)]
SONG = make_song(make_track(NOTES), ticks_per_quarter=12, tempos=(Tempo(0, 90.0),))
ELEMENTS = np.array([5, 7, 7, 7, 2, 5, 5])
PASSAGE = Passage(SONG, 48, ELEMENTS)


def test_each_measure_of_a_passage_by_hand():
    assert measure(PASSAGE) == {
        "elements": 7,
        "seconds": pytest.approx(4 * 60 / 90),
        "distinct": 3,
        "pitches": 3,
        "notes_at_once": 1.0,
        "most_at_once": 2,
        "silence": 0.25,
        "repetition": pytest.approx(3 / 6),
        "longest_run": 3,
    }


def test_silence_at_the_end_counts_and_what_is_after_it_does_not():
    longer = measure(PASSAGE._replace(ticks=96))
    assert (longer["silence"], longer["notes_at_once"]) == (0.625, 0.5)
    shorter = measure(PASSAGE._replace(ticks=18))
    assert (shorter["silence"], shorter["notes_at_once"]) == (0.0, pytest.approx(24 / 18))


def test_two_notes_of_one_pitch_sound_as_one():
    song = make_song(make_track([(0, 12, 60)]), make_track([(0, 6, 60)]), ticks_per_quarter=12)
    assert measure(Passage(song, 12, ELEMENTS))["most_at_once"] == 1


@pytest.mark.parametrize("elements", [np.zeros(0, int), np.zeros((0, 4, 2), int)])
def test_nothing_can_be_measured(elements):
    found = measure(Passage(make_song(ticks_per_quarter=12), 0, elements))
    assert (found["elements"], found["distinct"], found["longest_run"]) == (0, 0, 0)
    assert (found["silence"], found["repetition"], found["pitches"]) == (1.0, 0.0, 0)


def test_steps_of_notes_are_compared_whole():
    states = np.zeros((4, 3, 2), np.uint8)
    states[1:3, 1] = 1
    found = measure(PASSAGE._replace(elements=states))
    assert (found["distinct"], found["longest_run"]) == (2, 2)
    assert found["repetition"] == pytest.approx(1 / 3)


def test_a_line_for_people():
    line = describe(measure(PASSAGE), "token")
    assert line.startswith("7 tokens, 3 s, 3 distinct, 3 pitches, 1.0 notes at once, at most 2")
    assert "25% silent" in line
    assert line.endswith("the same token at most 3 times in a row")


def test_a_measure_is_added_by_a_function(monkeypatch):
    monkeypatch.setitem(MEASURES._things, "highest", None)  # taken away again after the test
    MEASURES.register("highest", Measure(lambda p: int(p.song.notes()[:, 2].max()), "up to {}"))
    assert measure(PASSAGE)["highest"] == 67
    assert describe(measure(PASSAGE), "token").endswith("up to 67")


def test_cells_that_songs_share():
    assert shared_cells([SONG, SONG]) == [1.0]
    other = make_song(make_track([(0, 12, 60), (48, 12, 64)]), ticks_per_quarter=12)
    # 4 of the 16 cells of one and of the 8 of the other: 4 / (16 + 8 - 4)
    assert shared_cells([SONG, other]) == [pytest.approx(0.2)]
    assert shared_cells([SONG, other, make_song()]) == [pytest.approx(0.2)]
    apart = make_song(make_track([(0, 48, 100)]), ticks_per_quarter=12)
    assert shared_cells([SONG, apart, SONG]) == [0.0, 1.0, 0.0]
