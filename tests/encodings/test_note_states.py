import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SHARED, load_config, make_song, make_track, random_song
from hypothesis import given
from hypothesis import strategies as st

from musicjax.encodings import make_encoding
from musicjax.encodings.bars import Bars, places
from musicjax.encodings.note_states import (
    STEPS_PER_QUARTER,
    NoteStateEncoding,
    NoteStateError,
    note_state_to_song,
    note_state_to_track,
    pack,
    song_to_note_state,
    unpack,
)
from musicjax.errors import InputError
from musicjax.music import midi
from musicjax.music.song import Meter

REST, STRUCK, HELD = [0, 0], [1, 1], [1, 0]


# --- song -> matrix --------------------------------------------------------------------------


def cells(song, pitch=60):
    """The states of one pitch."""
    return song_to_note_state(song).states[:, pitch - 24].tolist()


def test_a_note_is_struck_once_and_held():
    song = make_song(make_track([(120, 360, 60), (480, 120, 60)]))
    assert cells(song) == [REST, STRUCK, HELD, HELD, STRUCK]
    assert song_to_note_state(song).states.shape == (5, 78, 2)


def test_half_a_step_rounds_up():
    song = make_song(make_track([(59, 120, 60), (60, 120, 61)]))
    assert cells(song, 60) == [STRUCK, REST]
    assert cells(song, 61) == [REST, STRUCK]


@pytest.mark.parametrize("length", [1, 10, 59])
def test_notes_shorter_than_a_step_stay(length):
    assert cells(make_song(make_track([(240, length, 60)]))) == [REST, REST, STRUCK]


def test_the_same_pitch_in_two_tracks_sounds_until_the_last_ends():
    song = make_song(make_track([(0, 240, 60)]), make_track([(120, 480, 60)]))
    assert cells(song) == [STRUCK, STRUCK, HELD, HELD, HELD]


def test_empty_tracks_are_ignored():
    song = make_song(make_track([]), make_track([(0, 240, 60)]), make_track([]))
    assert cells(song) == [STRUCK, HELD]


def test_pitches_outside_are_left_out_and_counted():
    song = make_song(make_track([(0, 120, 23), (0, 120, 24), (0, 120, 101), (0, 120, 102)]))
    encoded = song_to_note_state(song)
    assert np.flatnonzero(encoded.states[0, :, 0]).tolist() == [0, 77]
    assert (encoded.notes, encoded.outside) == (4, 2)


def test_a_song_without_a_note_in_range_is_one_clear_line():
    song = make_song(make_track([(0, 120, 10), (0, 120, 12)]), source="low.mid")
    with pytest.raises(
        NoteStateError, match=r"low.mid: no_note_in_range: .* 10 to 12; .* 24 to 10"
    ):
        song_to_note_state(song)


def test_a_meter_that_the_grid_cannot_hold_is_one_clear_line():
    song = make_song(make_track([(0, 480, 60)]), meters=(Meter(0, 3, 32),))
    with pytest.raises(NoteStateError, match=r"meter: a bar of 3/32 at tick 0 is no whole number"):
        song_to_note_state(song)


def test_a_song_that_is_far_too_long_is_one_clear_line():
    song = make_song(make_track([(0, 480_000, 60)]))
    with pytest.raises(NoteStateError, match="too_long: 4000 steps, at most 100"):
        song_to_note_state(song, most_steps=100)


@pytest.mark.parametrize("ticks_per_quarter", [1, 2, 3, 5, 7, 25, 96, 220, 479, 1024, 32_767])
def test_no_resolution_loses_steps_or_drifts(ticks_per_quarter):
    beats = np.arange(400)
    rows = np.stack([beats * ticks_per_quarter, np.full(400, ticks_per_quarter), 60 + beats % 12])
    song = make_song(make_track(rows.T), ticks_per_quarter=ticks_per_quarter)
    states = song_to_note_state(song).states
    steps, pitches = np.nonzero(states[..., 1])
    assert steps.tolist() == (4 * beats).tolist()
    assert pitches.tolist() == (36 + beats % 12).tolist()
    assert (states[..., 0].sum(1) == 1).all()


def test_each_stretch_of_one_meter_is_aligned_to_its_bars():
    # A pick-up of a quarter, two bars of 3/4, then 4/4 that begins off the first grid.
    meters = (Meter(0, 1, 4), Meter(480, 3, 4), Meter(3360 + 50, 4, 4))
    notes = [(0, 480, 60), (480, 480, 62), (3410, 480, 64), (3410 + 1920, 480, 65)]
    song = make_song(make_track(notes), meters=meters)
    encoded = song_to_note_state(song)
    assert encoded.bars == (Bars(-8, 12), Bars(28, 16))
    assert np.flatnonzero(encoded.states[..., 1].any(1)).tolist() == [0, 4, 28, 44]
    beat = places(encoded.bars, -1, 46, STEPS_PER_QUARTER).tolist()
    # The pick-up is the last quarter of a bar of 3/4.
    assert beat[:6] == [7, 8, 9, 10, 11, 0]
    assert beat[1 + 4 : 1 + 29] == [*range(12), *range(12), 0]
    assert beat[1 + 28 : 1 + 45] == [*range(16), 0]


@pytest.mark.parametrize("meters", [(Meter(0, 3, 4),), (Meter(0, 7, 8),), (Meter(1200, 5, 16),)])
def test_no_meter_drops_a_song(meters):
    plain = make_song(make_track([(i * 480, 480, 60 + i) for i in range(12)]))
    other = make_song(*plain.tracks, meters=meters)
    np.testing.assert_array_equal(
        song_to_note_state(plain).states, song_to_note_state(other).states
    )


# --- matrix -> song --------------------------------------------------------------------------


def test_the_last_notes_end():
    states = np.zeros((3, 78, 2), np.uint8)
    states[1:, 36] = 1
    states[2, 36, 1] = 0
    song = note_state_to_song(states, qpm=90, velocity=33)
    assert song.notes().tolist() == [[1, 2, 60, 33]]
    assert song.main_qpm == 90


def test_a_rest_that_is_articulated_is_a_rest_and_a_held_note_begins_where_it_first_plays():
    states = np.zeros((4, 78, 2), np.uint8)
    states[0, 10] = [0, 1]
    states[1, 10] = states[2, 10] = [1, 0]
    track = note_state_to_track(states)
    assert (track.onset_ticks.tolist(), track.duration_ticks.tolist()) == ([1], [2])


def test_the_play_bit_alone_makes_notes():
    states = np.zeros((4, 88, 1), np.uint8)
    states[:2, 5] = states[3, 5] = 1
    track = note_state_to_track(states, lowest=21, start=100)
    assert track.onset_ticks.tolist() == [100, 103]
    assert track.duration_ticks.tolist() == [2, 1]
    assert track.pitch.tolist() == [26, 26]


@st.composite
def matrices(draw, bits=2):
    steps, notes = draw(st.integers(1, 40)), 78
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    play = rng.random((steps, notes)) < draw(st.floats(0.0, 0.9))
    play[-1, rng.integers(notes)] = True  # the matrix ends with its last note
    before = np.pad(play, ((1, 0), (0, 0)))[:-1]
    struck = play & (~before | (rng.random(play.shape) < 0.3))
    return np.stack([play, struck], axis=-1).astype(np.uint8)[..., :bits]


@given(matrices())
def test_states_to_song_to_states_is_exact(states):
    np.testing.assert_array_equal(song_to_note_state(note_state_to_song(states)).states, states)


@given(matrices())
def test_pack_and_unpack(states):
    packed = pack(states)
    assert packed.shape == (len(states), 20)
    np.testing.assert_array_equal(unpack(packed, 78, 2), states)


@given(st.data())
def test_every_note_is_articulated_once_in_a_step_and_plays_there(data):
    rows = data.draw(
        st.lists(
            st.tuples(st.integers(0, 9000), st.integers(1, 2000), st.integers(0, 127)),
            min_size=1,
            max_size=40,
        )
    )
    meters = data.draw(
        st.lists(
            st.builds(
                Meter, st.integers(0, 9000), st.integers(1, 12), st.sampled_from([2, 4, 8, 16])
            )
        )
    )
    song = make_song(make_track([(0, 1, 60), *rows]), meters=tuple(meters))
    encoded = song_to_note_state(song)
    play, struck = np.moveaxis(encoded.states, -1, 0)
    assert (play >= struck).all()
    inside = {pitch - 24 for _, _, pitch in [(0, 1, 60), *rows] if 24 <= pitch <= 101}
    assert set(np.flatnonzero(struck.any(0)).tolist()) == inside
    assert not play[:, sorted(set(range(78)) - inside)].any()
    # Held notes were played in the step before.
    held = play & ~struck
    assert (held[1:] <= play[:-1]).all()
    assert not held[0].any()
    again = song_to_note_state(note_state_to_song(encoded.states, bars=encoded.bars))
    np.testing.assert_array_equal(again.states, encoded.states)


def round_trip(path):
    encoded = song_to_note_state(midi.read_song(path))
    again = song_to_note_state(note_state_to_song(encoded.states, bars=encoded.bars))
    np.testing.assert_array_equal(again.states, encoded.states)
    # Bars that are counted together come back as one.
    found, expected = (
        places(each.bars, -20, len(each.states) + 20, STEPS_PER_QUARTER)
        for each in (again, encoded)
    )
    np.testing.assert_array_equal(found, expected)
    return encoded


def test_round_trip_over_all_chorales(chorales):
    for path in chorales.values():
        assert round_trip(path).outside == 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real files of ../shared/midi")
def test_round_trip_over_real_files():
    read = 0
    for path in sorted(SHARED.rglob("*.mid*")):
        try:
            round_trip(path)
            read += 1
        except midi.MidiError:
            assert "broken" in path.parts
    assert read > 1000


# --- the encoding ----------------------------------------------------------------------------


def encoding_of(**changes) -> NoteStateEncoding:
    data = load_config("tiny", "nsm").data
    data.update(changes)
    encoding = make_encoding(data)
    assert isinstance(encoding, NoteStateEncoding)
    return encoding


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lowest": 102}, r"data.lowest is 102; expected a MIDI pitch up to data.highest \(101\)"),
        ({"lowest": -1}, "data.lowest is -1; expected at least 0"),
        ({"highest": 128}, "data.highest is 128; expected a MIDI pitch, at most 127"),
    ],
)
def test_settings_that_cannot_be_are_one_clear_line(changes, message):
    with pytest.raises(InputError, match=message):
        encoding_of(**changes)


@pytest.mark.parametrize(
    ("changes", "shape", "size"),
    [({}, (78, 2), 20), ({"articulate": False}, (78, 1), 10), ({"lowest": 97}, (5, 2), 2)],
)
def test_a_song_becomes_packed_rows_of_its_matrix(changes, shape, size):
    encoding, song = encoding_of(**changes), random_song(1).transposed(36)
    assert (encoding.shape, encoding.rows(3).shape) == (shape, (3, size))
    elements = encoding.encode(song).elements
    assert (elements.dtype, elements.shape[1]) == (encoding.rows(0).dtype, size)
    whole = song_to_note_state(song, lowest=encoding.lowest, highest=encoding.highest).states
    np.testing.assert_array_equal(encoding.unpack(elements), whole[..., : shape[1]])
    np.testing.assert_array_equal(encoding.states(song).states, whole[..., : shape[1]])
    data, symbols = encoding.shard([elements, elements])
    assert len(data) == 2 * len(elements)
    assert symbols == []


def test_the_sums_of_a_song():
    # A silent step, a note of two steps, the same again, beside one outside of the matrix.
    song = make_song(make_track([(120, 240, 60), (360, 120, 60), (0, 480, 5)]))
    sums = encoding_of(lowest=60, highest=61).encode(song).sums
    assert sums.pop("at_once")[:3] == [1, 3, 0]
    # Of note 61, 4 silent steps; of 60 silent, struck; then held and struck after it played.
    assert sums == {"notes": 3, "outside": 1, "transitions": [5, 0, 0, 1, 0, 0, 1, 1]}


@pytest.mark.parametrize("xp", [np, jnp])
def test_units_and_rests_of_elements(xp):
    encoding = encoding_of()
    states = np.zeros((3, 78, 2), np.uint8)
    states[1, 30] = [1, 0]
    states[2, 30] = [0, 1]  # a rest that is articulated is a rest
    states = xp.asarray(states)
    assert encoding.units(states).tolist() == [1, 1, 1]
    assert encoding.units(states[None]).shape == (1, 3)
    assert encoding.rests(states).tolist() == [True, False, True]
    assert encoding.onsets(np.asarray(states)).tolist() == [0, 1, 2]
    assert encoding.length(np.asarray(states)) == 3


@pytest.mark.parametrize("xp", [np, jnp])
def test_what_a_transposition_moves_out_of_the_matrix_is_lost(xp):
    encoding = encoding_of(lowest=60, highest=63)
    states = np.zeros((3, 2, 4, 2), np.uint8)
    states[:, 0, 0] = STRUCK
    states[:, 1, 2] = HELD
    moved = np.asarray(encoding.transposed(xp.asarray(states), xp.asarray(np.array([2, 0, -1]))))
    assert moved.dtype == np.uint8
    assert moved[0, 0].tolist() == [REST, REST, STRUCK, REST]
    assert moved[0, 1].tolist() == [REST] * 4
    np.testing.assert_array_equal(moved[1], states[1])
    assert moved[2, 0].tolist() == [REST] * 4
    assert moved[2, 1].tolist() == [REST, HELD, REST, REST]


def test_steps_as_text():
    states = np.zeros((4, 78, 2), np.uint8)
    states[0, [36, 39]] = STRUCK
    states[1, 36] = HELD
    states[3, 46] = STRUCK
    assert encoding_of().text(states) == "C4.Eb4 (C4) rest Bb4"


def test_decoded_tracks_end_where_they_are_cut():
    encoding, song = encoding_of(), random_song(1)
    states = encoding.states(song).states
    (track,) = encoding.decode(states, start=3, units=20, program=5, name="x")
    assert (track.program, track.name) == (5, "x")
    assert track.onset_ticks[0] == 3
    assert int((track.onset_ticks + track.duration_ticks).max()) == 23


def test_places_in_the_bar_bar_lines_and_meters():
    encoding = encoding_of()
    # Two bars of 3/4, then bars of 2/4, that are counted together to four quarters.
    layout = {"bars": [[0, 12, 4], [24, 8, 4]]}
    nothing = np.zeros((0, 78, 2), np.uint8)
    found = encoding.positions(layout, -1, 60)
    assert found.dtype == np.int32
    assert found.tolist() == [11, *range(12), *range(12), *range(16), *range(16), *range(4)]
    assert encoding.bar_lines(layout, 60, 8).tolist() == [0, 12, 24, 40]
    assert encoding.bar_lines(layout, 60, 30).tolist() == [0, 12, 24]
    assert encoding.bar_lines(layout, 60, 61).tolist() == [0]  # no example fits
    assert encoding.cycle(layout) == 16  # where the song ends
    assert encoding.meters(layout, 0, nothing) == (Meter(0, 3, 4), Meter(24, 4, 4))
    assert encoding.meters(layout, 12, nothing) == (Meter(0, 3, 4), Meter(12, 4, 4))
    assert encoding.meters(layout, 40, nothing) == (Meter(0, 4, 4),)
    # From inside a bar, with its rest as a pick-up.
    assert encoding.meters(layout, 44, nothing) == (Meter(0, 3, 4), Meter(12, 4, 4))


@pytest.mark.parametrize("articulate", [False, True])
def test_a_prime_is_the_end_of_a_song(articulate):
    encoding, song = encoding_of(articulate=articulate), random_song(1)
    states = encoding.states(song).states
    elements, start, layout, _ = encoding.prime(song, 16, "error")
    np.testing.assert_array_equal(elements, states[-16:])
    assert (start, layout["bars"]) == (len(states) - 16, [[0, 16, 4]])
    elements, start, _, _ = encoding.prime(song, None, "error")
    assert (len(elements), start) == (len(states), 0)
    with pytest.raises(NoteStateError, match="no_note_in_range"):
        encoding.prime(make_song(make_track([(0, 480, 5)])), 16, "error")


def test_statistics_for_baselines():
    encoding = encoding_of()
    total = {"length": 100, "notes": 80, "outside": 3, "transitions": np.arange(8)}
    statistics = encoding.statistics(
        {name: np.array(n) for name, n in total.items()}, {"transitions": np.ones(8, int)}
    )
    assert statistics == {
        "counts": {"steps": 100, "notes": 80, "outside": 3},
        "transitions": [1] * 8,
    }
    assert encoding.describe(statistics) == [
        "100 steps",
        "3 of 80 notes are lower or higher than the matrix and left out",
    ]
    statistics["counts"]["outside"] = 0
    assert encoding.describe(statistics) == ["100 steps"]


@pytest.mark.parametrize("articulate", [False, True])
def test_the_report_counts_notes(articulate):
    # A quarter, twice an eighth of one pitch, that only articulate bits part, and silence.
    song = make_song(make_track([(0, 480, 60), (0, 240, 64), (240, 240, 64), (960, 480, 60)]))
    encoding = encoding_of(articulate=articulate)
    _, (durations, polyphony) = encoding.report([encoding.encode(song).elements])
    _, quarters, shares = durations.series[""]
    expected = ([0.5, 1], [0.5, 0.5]) if articulate else ([1], [1])
    assert (quarters.tolist(), shares.tolist()) == expected
    _, notes, shares = polyphony.series[""]
    assert (notes.tolist(), np.round(shares, 3).tolist()) == ([0, 1, 2], [0.333] * 3)


# --- notes that are given -------------------------------------------------------------------------


def test_given_notes_may_do_one_thing():
    elements = np.array([[REST, STRUCK, HELD]], np.uint8)
    assert encoding_of().only(elements).argmax(-1).tolist() == [[0, 2, 1]]
    assert encoding_of(articulate=False).only(elements[..., :1]).argmax(-1).tolist() == [[0, 1, 1]]
    assert encoding_of().only(elements).sum(-1).tolist() == [[1, 1, 1]]


def test_beside_a_voice_no_note_makes_it_longer():
    voice = np.zeros((4, 78, 2), np.uint8)
    voice[1:3, 40] = [STRUCK, HELD]
    allowed = encoding_of().beside(voice)
    assert allowed[:, 40].tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 0], [1, 0, 1]]
    assert allowed[:, 39].all()
    alone = encoding_of(articulate=False).beside(voice[..., :1])
    assert alone[:, 40].tolist() == [[1, 0], [0, 1], [0, 1], [1, 0]]
    highest, lowest = (
        encoding_of().beside(voice, **{name: True}) for name in ("highest", "lowest")
    )
    silent = np.array([True, False, False])
    assert (highest[1:3, 41:] == silent).all()
    assert (lowest[1:3, :40] == silent).all()
    assert highest[1:3, :40].all()
    assert lowest[1:3, 41:].all()
    assert highest[3, 41:].all()  # where the voice is silent


def test_bars_are_counted_as_they_are_written():
    song = make_song(make_track([(0, 480 * 6, 60)]), meters=(Meter(0, 2, 4),))
    encoded = encoding_of().encode(song)
    starts = encoding_of().bar_starts(encoded.layout, len(encoded.elements))
    assert starts.tolist() == [0, 8, 16]
    pick_up = dataclasses.replace(song, meters=(Meter(0, 1, 4), Meter(480, 3, 4)))
    encoded = encoding_of().encode(pick_up)
    starts = encoding_of().bar_starts(encoded.layout, len(encoded.elements))
    assert starts.tolist() == [-8, 4, 16]


def test_given_and_made_notes_are_told_apart_by_where_they_begin():
    states = np.zeros((4, 78, 2), np.uint8)
    states[:, 40] = [STRUCK, HELD, HELD, STRUCK]
    made = np.zeros((4, 78), bool)
    made[2:] = True
    given, generated = encoding_of().decode_apart(states, made, ("given", "made"), velocity=70)
    assert (given.name, generated.name) == ("given", "made")
    assert (given.onset_ticks.tolist(), given.duration_ticks.tolist()) == ([0], [3])
    assert (generated.onset_ticks.tolist(), generated.pitch.tolist()) == ([3], [64])
    assert set(generated.velocity.tolist()) == {70}
