import dataclasses
import math

import numpy as np
import pytest
from conftest import make_song, make_track, random_song
from hypothesis import given
from hypothesis import strategies as st

from musicjax.encodings.tokens import song_to_tokens, tokens_to_song
from musicjax.evaluation.metrics import MEASURES, Measure, Passage, describe, measure, shared_cells
from musicjax.music import midi
from musicjax.music.song import Meter, Tempo
from musicjax.music.track_selection import choose_part

# Twelve ticks to a quarter: C for a quarter, E and G for one, a quarter of silence, E for one.
NOTES = [(0, 12, 60), (12, 12, 64), (12, 12, 67), (36, 12, 64)]
SONG = make_song(make_track(NOTES), ticks_per_quarter=12, tempos=(Tempo(0, 90.0),))
ELEMENTS = np.array([5, 7, 7, 7, 2, 5, 5])
PASSAGE = Passage(SONG, 48, ELEMENTS)


def passage(notes, ticks=None, *, meters=(), ticks_per_quarter=12, **track):
    """Of one track of (onset, duration, pitch), until the last note ends."""
    song = make_song(make_track(notes, **track), meters=meters, ticks_per_quarter=ticks_per_quarter)
    return Passage(song, song.end_ticks if ticks is None else ticks, np.zeros(0, int))


def at(*onsets, **options):
    """Of notes of one tick that begin there."""
    return passage([(onset, 1, 60) for onset in onsets], **options)


def melody(*pitches, length=12, **options):
    """Of one note after another."""
    return passage([(i * length, length, p) for i, p in enumerate(pitches)], **options)


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
        "on_beat": 1.0,
        "off_eighths": 0.0,
        "off_sixteenths": 0.0,
        "bars": 1.0,
        "notes_a_bar": 4.0,
        "notes_a_second": pytest.approx(4 / (4 * 60 / 90)),
        "empty_bars": 0.0,
        "pitch_range": 7,
        "pitch_class_entropy": 1.5,
        "scale_consistency": 1.0,
        "leaps": 0.0,
        "polyphony": pytest.approx(4 / 3),
        "repeated_3_grams": 0.0,
        "longest_repeat": 0,
    }  # and no pair of bars


def test_silence_at_the_end_counts_and_what_is_after_it_does_not():
    longer = measure(dataclasses.replace(PASSAGE, ticks=96))
    assert (longer["silence"], longer["notes_at_once"]) == (0.625, 0.5)
    assert (longer["bars"], longer["empty_bars"], longer["notes_a_bar"]) == (2.0, 0.5, 2.0)
    shorter = measure(dataclasses.replace(PASSAGE, ticks=18))
    assert (shorter["silence"], shorter["notes_at_once"]) == (0.0, pytest.approx(24 / 18))
    assert (shorter["notes_a_bar"], shorter["pitch_range"]) == (pytest.approx(3 / 18 * 48), 7)


def test_what_comes_before_the_first_note_is_not_silence():
    upbeat = measure(passage([(36, 12, 60), (60, 12, 62)]))
    assert (upbeat["silence"], upbeat["notes_at_once"]) == (pytest.approx(12 / 36), 24 / 36)
    assert upbeat["bars"] == 72 / 48


def test_two_notes_of_one_pitch_sound_as_one():
    song = make_song(make_track([(0, 12, 60)]), make_track([(0, 6, 60)]), ticks_per_quarter=12)
    found = measure(Passage.of_song(song))
    assert (found["most_at_once"], found["polyphony"]) == (1, 1.0)


@pytest.mark.parametrize("elements", [np.zeros(0, int), np.zeros((0, 4, 2), int)])
def test_of_nothing_little_can_be_said(elements):
    assert measure(Passage(make_song(ticks_per_quarter=12), 0, elements)) == {
        "elements": 0,
        "seconds": 0.0,
        "distinct": 0,
        "pitches": 0,
        "notes_at_once": 0.0,
        "most_at_once": 0,
        "silence": 1.0,
        "repetition": 0.0,
        "longest_run": 0,
        "bars": 0.0,
        "longest_repeat": 0,
    }


@pytest.mark.parametrize(
    ("piece", "unsaid"),
    [
        (Passage(make_song(), 4 * 480, ELEMENTS), {"on_beat", "leaps", "polyphony", "pitch_range"}),
        (passage([(3, 5, 60)]), {"leaps", "repeated_3_grams", "self_similarity"}),
        (melody(36, 38, 36, 38, is_drum=True), {"leaps", "pitch_range", "scale_consistency"}),
    ],
    ids=["silence", "one note", "drums"],
)
def test_a_measure_is_a_number_or_left_out(piece, unsaid):
    found = measure(piece)
    assert all(map(math.isfinite, found.values()))
    assert unsaid.isdisjoint(found)
    assert describe(found, "step").startswith(f"{len(piece.elements)} steps")


def test_steps_of_notes_are_compared_whole():
    states = np.zeros((4, 3, 2), np.uint8)
    states[1:3, 1] = 1
    found = measure(dataclasses.replace(PASSAGE, elements=states))
    assert (found["distinct"], found["longest_run"]) == (2, 2)
    assert found["repetition"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("meter", "beats"),
    [
        ((4, 4), [0, 12, 24]),
        ((2, 2), [0, 24]),
        ((3, 8), [0, 6, 12, 18, 24, 30]),
        ((5, 8), [0, 6, 12, 18, 24, 30]),
        ((6, 4), [0, 12, 24]),
        ((6, 8), [0, 18]),
        ((12, 8), [0, 18]),
        ((6, 16), [0, 9, 18, 27]),
    ],
)
def test_beats_are_of_the_meter(meter, beats):
    for onset in range(36):
        found = MEASURES["on_beat"].apply(at(onset, ticks=36, meters=(Meter(0, *meter),)))
        assert found == float(onset in beats), onset


@pytest.mark.parametrize(
    ("onset", "expected"), [(0, (0, 0)), (6, (0, 0)), (3, (1, 0)), (9, (1, 0)), (4, (1, 1))]
)
def test_off_the_eighths_and_off_the_sixteenths(onset, expected):
    found = measure(at(onset))
    assert (found["off_eighths"], found["off_sixteenths"]) == expected


def test_beats_are_counted_from_the_bar_line():
    # Five eighths, and then a bar of 4/4 that begins off the beats of the first.
    change = (Meter(0, 5, 8), Meter(30, 4, 4))
    assert measure(at(30, 42, 54, 66, meters=change))["on_beat"] == 1.0
    assert measure(at(36, 48, 60, 72, meters=change))["on_beat"] == 0.0
    # A bar of five sixteenths: the next begins between the eighths of the first.
    assert measure(at(15, 21, meters=(Meter(0, 5, 16),)))["off_eighths"] == 0.0


def test_a_pick_up_is_the_end_of_a_bar():
    piece = at(6, 18, 42, ticks=54)
    assert measure(piece)["on_beat"] == 0.0
    # Seven eighths and then 4/4: the first beat falls on tick 6.
    picked_up = at(6, 18, 42, ticks=54, meters=(Meter(0, 7, 8), Meter(42, 4, 4)))
    assert measure(picked_up)["on_beat"] == 1.0
    assert measure(picked_up)["bars"] == measure(piece)["bars"] == 54 / 48
    alike = at(0, 42, ticks=90, meters=(Meter(0, 7, 8), Meter(42, 4, 4)))
    assert measure(alike)["groove_consistency"] == pytest.approx(1 - 2 / 48)
    # A passage that ends before the bar does.
    assert measure(dataclasses.replace(picked_up, ticks=30))["on_beat"] == 1.0
    # Of 6/8, the last three eighths are one beat.
    assert measure(at(0, 6, 12, 18, meters=(Meter(0, 3, 8), Meter(18, 6, 8))))["on_beat"] == 0.5


def test_an_onset_next_to_a_point_of_the_grid_is_on_it():
    # Ten ticks to a quarter: a sixteenth is two and a half.
    found = measure(at(2, 3, 5, 7, 8, 9, 10, 11, ticks_per_quarter=10))
    assert found["off_sixteenths"] == 2 / 8
    assert measure(at(479, 480, 481, ticks_per_quarter=480))["on_beat"] == pytest.approx(1 / 3)


def test_bars_in_which_nothing_sounds():
    # A bar, a note held over the next, an empty one, and a note in the last.
    piece = passage([(0, 12, 60), (36, 60, 62), (150, 6, 60)])
    assert measure(piece)["bars"] == 156 / 48
    assert measure(piece)["empty_bars"] == 1 / 4


def test_grooves_of_neighbouring_bars():
    assert measure(at(0, 12, 48, 60, 96, 108))["groove_consistency"] == 1.0
    # One place more in the second bar, and two others in the third.
    piece = at(0, 12, 48, 60, 72, 96, 102)
    assert measure(piece)["groove_consistency"] == pytest.approx(1 - (1 + 3) / 2 / 48)
    # From 3/4 to 4/4 there is nothing to compare; after it all differs.
    piece = at(0, 36, 72, 126, meters=(Meter(0, 3, 4), Meter(72, 4, 4)))
    assert measure(piece)["groove_consistency"] == pytest.approx((1 + 1 - 2 / 48) / 2)


def test_the_scale_that_holds_the_most_notes():
    d_major = [62, 64, 66, 67, 69, 71, 73]
    assert measure(melody(*d_major))["scale_consistency"] == 1.0
    assert measure(melody(*d_major, 65))["scale_consistency"] == 7 / 8
    assert measure(melody(*range(60, 72)))["pitch_class_entropy"] == pytest.approx(np.log2(12))
    assert measure(melody(60, 72, 48))["pitch_class_entropy"] == 0.0


def test_leaps_of_the_top_line():
    assert measure(melody(60, 67, 59, 60))["leaps"] == pytest.approx(1 / 3)
    # The bass moves below a note that is held, and the melody goes on by a step.
    held = [(0, 24, 72), (12, 12, 40), (24, 12, 74)]
    assert measure(passage(held))["leaps"] == 0.0
    # A note that ended does not: 72, 40, 74.
    assert measure(passage([(0, 12, 72), *held[1:]]))["leaps"] == 1.0
    # Two tracks in unison are one line; drums are none.
    tune, drums = make_track([(0, 12, 60), (12, 12, 62)]), make_track([(6, 6, 90)], is_drum=True)
    song = make_song(tune, tune, drums, ticks_per_quarter=12)
    assert measure(Passage.of_song(song))["leaps"] == 0.0


def test_bars_that_are_alike():
    bar = [60, 62, 64, 65]
    assert measure(melody(*bar, *bar))["self_similarity"] == 1.0
    assert measure(melody(*bar, *bar, 71, 72, 74, 76))["self_similarity"] == pytest.approx(1 / 3)
    # Three notes of five; where they are, and how long, matters.
    assert measure(melody(*bar, 60, 62, 64, 67))["self_similarity"] == pytest.approx(3 / 5)
    assert measure(melody(*bar, *bar[::-1]))["self_similarity"] == 0.0
    short = [(48 + 12 * i, 6, pitch) for i, pitch in enumerate(bar)]
    whole = [(12 * i, 12, pitch) for i, pitch in enumerate(bar)]
    assert measure(passage(whole + short))["self_similarity"] == 0.0
    # An empty bar between is no bar to compare.
    later = [(onset + 96, length, pitch) for onset, length, pitch in whole]
    assert measure(passage(whole + later))["self_similarity"] == 1.0


def test_what_comes_again():
    found = measure(melody(60, 62, 64, 60, 62, 64))
    assert (found["repeated_3_grams"], found["longest_repeat"]) == (1 / 4, 3)
    # The same pitches in another rhythm are not the same.
    found = measure(passage([(0, 3, 60), (3, 3, 62), (6, 9, 60), (15, 9, 62), (24, 9, 64)]))
    assert (found["repeated_3_grams"], found["longest_repeat"]) == (0.0, 0)
    found = measure(melody(60, 60, 60, 60, 60))
    assert (found["repeated_3_grams"], found["longest_repeat"]) == (2 / 3, 2)


@given(st.lists(st.integers(60, 62), max_size=14))
def test_the_longest_repeat_is_the_longest(pitches):
    found = measure(melody(*pitches))["longest_repeat"]

    def comes_twice(length):
        starts = range(len(pitches) - length + 1)
        runs = [tuple(pitches[start : start + length]) for start in starts]
        return any(runs[i] == runs[j] for i in starts for j in starts if j - i >= length)

    assert found == max((n for n in range(1, len(pitches) + 1) if comes_twice(n)), default=0)


@pytest.mark.parametrize("seed", range(3))
def test_the_resolution_of_a_song_does_not_matter(seed):
    song = random_song(seed)
    coarse = [
        (onset // 40, duration // 40, pitch) for onset, duration, pitch, _ in song.notes().tolist()
    ]
    again = make_song(
        make_track(coarse), ticks_per_quarter=12, meters=song.meters, tempos=song.tempos
    )
    assert measure(Passage.of_song(again)) == pytest.approx(measure(Passage.of_song(song)))


def test_chorales_are_as_they_were_found(chorales):
    # Of the soprano and bass of all chorales 82 % begin on a beat, 0.4 % off the eighths.
    found = []
    for path in list(chorales.values())[::7]:
        part, _ = choose_part(midi.read_song(path), "soprano|bass")
        tokens = song_to_tokens(part).tokens
        if tokens:
            found.append(measure(Passage.of_song(tokens_to_song(tokens))))
    means = {name: np.mean([each[name] for each in found]) for name in found[0]}
    assert means["on_beat"] == pytest.approx(0.82, abs=0.02)
    assert means["off_eighths"] < 0.01
    assert means["off_sixteenths"] == 0
    assert means["leaps"] == pytest.approx(0.43, abs=0.05)
    assert means["repeated_3_grams"] == pytest.approx(0.03, abs=0.015)


def random_passage(seed):
    """Tracks of pitched notes and one of drums; its last bar is not complete, and no bar that a
    note ends with is empty: there MusPy counts otherwise."""
    rng = np.random.default_rng(seed)

    def track(is_drum):
        onset = np.append(rng.integers(0, 440, 60), 450)
        rows = np.stack([onset, rng.integers(1, 12, 61), rng.integers(40, 80, 61)], axis=1)
        rows = rows[(rows[:, 0] < 96) | (rows[:, 0] > 192)]  # two bars are empty
        rows[:, 1] = np.minimum(rows[:, 1], np.where(rows[:, 0] < 96, 95 - rows[:, 0], 99))
        return make_track(rows[rows[:, 1] > 0], is_drum=is_drum)

    song = make_song(track(False), track(False), track(True), ticks_per_quarter=12)
    return Passage.of_song(song)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(3))
def test_as_muspy_measures(seed):
    muspy = pytest.importorskip("muspy", reason="muspy is not installed")
    piece = random_passage(seed)

    def music(tracks):
        return muspy.Music(
            resolution=12,
            tracks=[
                muspy.Track(
                    is_drum=track.is_drum,
                    notes=[
                        muspy.Note(*map(int, note))
                        for note in zip(
                            track.onset_ticks,
                            track.pitch,
                            track.duration_ticks,
                            track.velocity,
                            strict=True,
                        )
                    ],
                )
                for track in tracks
            ],
        )

    whole, pitched = music(piece.song.tracks), music(piece.song.tracks[:2])
    expected = {
        "polyphony": muspy.polyphony(whole),
        "pitch_class_entropy": muspy.pitch_class_entropy(whole),
        "scale_consistency": muspy.scale_consistency(whole),
        "groove_consistency": muspy.groove_consistency(whole, 48),
        "empty_bars": muspy.empty_measure_rate(whole, 48),
        "pitch_range": muspy.pitch_range(pitched),  # of drums too
    }
    assert expected["empty_bars"] > 0
    found = measure(piece)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    of_pitched = measure(Passage.of_song(make_song(*piece.song.tracks[:2], ticks_per_quarter=12)))
    assert of_pitched["pitches"] == muspy.n_pitches_used(pitched)


def test_a_line_for_people():
    line = describe(measure(PASSAGE), "token")
    assert line.startswith("7 tokens, 3 s, 3 distinct, 3 pitches, 1.0 notes at once, at most 2")
    assert "25% silent" in line
    assert "the same token at most 3 times in a row" in line
    assert line.endswith("100% of notes on a beat, 0% off the eighths")


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
