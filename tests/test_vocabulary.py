import numpy as np
import pytest
from conftest import SHARED, make_song, make_track, random_song
from hypothesis import given
from hypothesis import strategies as st

from musicjax import midi
from musicjax.errors import InputError
from musicjax.part import family
from musicjax.vocabulary import (
    Token,
    Vocabulary,
    parse_token,
    quantise,
    song_to_tokens,
    tokens_to_song,
    total_units,
)


def texts(song, **limits):
    return [str(token) for token in song_to_tokens(song, **limits).tokens]


def onsets_and_pitches(song, scale=1):
    """Every (onset in twelfths of a quarter, pitch), each once."""
    notes = song.notes()
    onset = quantise(notes[:, 0], song.ticks_per_quarter)
    return np.unique(np.stack([onset, notes[:, 2]], axis=1), axis=0)


# --- golden ---------------------------------------------------------------------------------


def test_notes_chords_rests_and_their_texts():
    song = make_song(
        make_track(
            [
                (480, 480, 60),  # a rest before it
                (960, 240, 64),
                (960, 480, 67),  # a chord, as long as its longest note
                (1920, 160, 61),  # after a rest; a third of a beat
                (2080, 320, 0),
            ]
        )
    )
    assert texts(song) == ["rest:1", "C4:1", "E4.G4:1", "rest:1", "C#4:1/3", "C-1:2/3"]


def test_an_element_is_clipped_at_the_next_onset_and_the_share_is_told():
    encoded = song_to_tokens(make_song(make_track([(0, 1920, 48), (480, 480, 60)])))
    assert [str(t) for t in encoded.tokens] == ["C3:1", "C4:1"]
    assert (encoded.note_units, encoded.clipped_units) == (60, 36)


def test_long_rests_and_notes_are_cut():
    song = make_song(make_track([(0, 480 * 20, 60), (480 * 30, 480, 62)]))
    encoded = song_to_tokens(song, longest_rest=4, longest_note=8)
    assert [str(t) for t in encoded.tokens] == ["C4:8", "rest:4", "D4:1"]
    assert encoded.rests_cut == 1
    assert texts(song) == ["C4:20", "rest:10", "D4:1"]


def test_gaps_between_the_grids_are_no_rests():
    # Ends on the third of a beat, the next begins on the half: a seam of 2/12.
    song = make_song(make_track([(0, 160, 60), (240, 240, 62)]))
    assert texts(song) == ["C4:1/2", "D4:1/2"]


def test_a_song_without_notes_has_no_tokens():
    assert song_to_tokens(make_song()).tokens == []


@pytest.mark.parametrize(
    "text", ["", "C4", "H4:1", "C4:0", "C4:1/7", "rest", "C4.:1", "G#9:1", "E#4:1", "C4:1/0"]
)
def test_malformed_tokens_are_refused(text):
    with pytest.raises(ValueError, match="is not a token"):
        parse_token(text)


# --- properties -----------------------------------------------------------------------------

tokens = st.builds(
    lambda pitches, duration: Token(tuple(sorted(pitches)), duration),
    st.sets(st.integers(0, 127), max_size=6),
    st.integers(1, 500),
)


@given(tokens)
def test_token_text_round_trip(token):
    assert parse_token(str(token)) == token


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 3, 4, 6, 8, 9]),
            st.integers(0, 40),
            st.integers(1, 60),
            st.integers(0, 127),
        ),
        min_size=1,
        max_size=30,
    ),
    st.sampled_from([12, 24, 96, 480, 10080]),
)
def test_round_trip_is_exact_on_the_grid(rows, ticks_per_quarter):
    unit = ticks_per_quarter // 12
    notes = [
        ((12 * beat + part) * unit, length * unit, pitch) for part, beat, length, pitch in rows
    ]
    song = make_song(make_track(notes), ticks_per_quarter=ticks_per_quarter)
    encoded = song_to_tokens(song)
    back = tokens_to_song(encoded.tokens)
    np.testing.assert_array_equal(onsets_and_pitches(back), onsets_and_pitches(song))
    assert all(token.duration > 0 for token in encoded.tokens)
    assert 0 <= encoded.clipped_units <= encoded.note_units
    # Encoding what was decoded changes nothing.
    assert song_to_tokens(back).tokens == encoded.tokens


@given(st.integers(0, 10**9), st.integers(1, 32_767))
def test_quantise_goes_to_the_nearest_grid_point(tick, ticks_per_quarter):
    unit = int(quantise(np.array([tick]), ticks_per_quarter)[0])
    assert unit % 12 in (0, 3, 4, 6, 8, 9)
    # No two points of the grid are more than 3 units apart.
    assert abs(unit * ticks_per_quarter - 12 * tick) * 2 <= 3 * ticks_per_quarter


def round_trip(path):
    song = midi.read_song(path)
    encoded = song_to_tokens(song)
    back = tokens_to_song(encoded.tokens)
    np.testing.assert_array_equal(onsets_and_pitches(back), onsets_and_pitches(song), str(path))
    total = sum(token.duration for token in encoded.tokens)
    assert total == back.end_ticks
    return encoded


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/midi is not there")
def test_round_trip_over_all_shared_files():
    read = 0
    for path in sorted(SHARED.rglob("*.mid")):
        try:
            round_trip(path)
            read += 1
        except midi.MidiError:
            continue
    assert read >= 1380


# --- vocabulary -----------------------------------------------------------------------------


def test_vocabulary_counts_the_training_songs_alone(tmp_path):
    train = [parse_token(t) for t in ["C4:1", "C4:1", "rest:1", "D4:1", "rest:1", "C4:1"]]
    other = [parse_token(t) for t in ["E4:1", "C4:1"]]
    vocabulary = Vocabulary.build(train, other)
    assert [str(t) for t in vocabulary.tokens[1:]] == ["C4:1", "rest:1", "D4:1", "E4:1"]
    assert vocabulary.counts == (0, 3, 2, 1)
    assert vocabulary.size == 4  # the unknown and three trained types
    assert vocabulary.encode([*train[:3], *other[:1], parse_token("F4:1")]).tolist() == [
        1,
        1,
        2,
        4,
        0,
    ]
    assert vocabulary.decode([1, 4, 0]) == [train[0], other[0]]
    assert vocabulary.is_rest.tolist()[1:] == [False, True, False]
    assert vocabulary.durations.tolist() == [0, 12, 12, 12]
    vocabulary.save(tmp_path / "v.json")
    assert Vocabulary.load(tmp_path / "v.json") == vocabulary


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_class_weights_have_mean_one_over_the_training_tokens(power):
    counts = {Token((60 + i,), 12): n for i, n in enumerate((100, 10, 1))}
    vocabulary = Vocabulary.build(counts)
    weights = vocabulary.class_weights(power)
    assert weights[0] == 0
    assert weights @ np.array(vocabulary.counts) / 111 == pytest.approx(1)
    assert weights[2] / weights[1] == pytest.approx(10**power)


def test_nearest_known_token():
    known = ["C4.E4.G4:1", "C4:1", "C4:1/2", "rest:1", "F3.A3.C4:1"]
    vocabulary = Vocabulary.build(map(parse_token, known))
    for text, expected in {
        "C4.E4.G4:3": "C4.E4.G4:1",
        "C4.E4:1": "C4.E4.G4:1",
        "C5:1/2": "C4:1/2",
        "rest:7": "rest:1",
        "A3.C4:1": "F3.A3.C4:1",
    }.items():
        assert str(vocabulary.nearest(parse_token(text))) == expected


def test_a_damaged_vocabulary_is_one_clear_line(tmp_path):
    path = tmp_path / "v.json"
    path.write_text('{"tokens": ["C4:1", "nonsense"], "counts": [1]}')
    with pytest.raises(InputError, match="not a vocabulary"):
        Vocabulary.load(path)


def test_tempo_velocity_and_program_are_settable():
    song = tokens_to_song(
        song_to_tokens(random_song(1)).tokens, qpm=77.0, velocity=33, program=40, name="x"
    )
    assert song.main_qpm == 77
    assert set(song.tracks[0].velocity.tolist()) == {33}
    assert (song.tracks[0].program, song.tracks[0].name) == (40, "x")


def orchestra():
    """Three instruments with rests of their own, drums among them."""
    piano = [(t * 480, 480, p) for t in range(0, 8, 2) for p in (60, 64)]
    bass = [(t * 240 + 120, 120, 36 + t % 3) for t in range(8)]
    drums = [(t * 160, 160, 38) for t in range(12)]
    return make_song(
        make_track(piano),
        make_track(bass, program=33, name="Bass"),
        make_track(drums, is_drum=True),
        make_track([(960, 480, 72)], program=1),
    )


def test_tokens_with_instruments_rebuild_each_of_them():
    song = orchestra()
    encoded = song_to_tokens(song, instruments=True)
    assert {token.instrument for token in encoded.tokens} == {"piano", "bass", "drums"}
    back = tokens_to_song(encoded.tokens)
    by_family = {
        family(track): [(o, p) for o, p in zip(track.onset_ticks, track.pitch, strict=True)]
        for track in back.tracks
    }
    for name in ("piano", "bass", "drums"):
        alone = [track for track in song.tracks if family(track) == name]
        expected = {
            (o * 12 / 480, p)
            for track in alone
            for o, p in zip(track.onset_ticks, track.pitch, strict=True)
        }
        assert set(by_family[name]) == expected
    # Each instrument's tokens are those that it has alone.
    for name in ("piano", "bass", "drums"):
        alone = make_song(*(track for track in song.tracks if family(track) == name))
        mine = [token for token in encoded.tokens if token.instrument == name]
        assert [token._replace(instrument="") for token in mine] == song_to_tokens(alone).tokens
    assert total_units(encoded.tokens) == 7 * 12
    for token in encoded.tokens:
        assert parse_token(str(token)) == token
    assert str(next(t for t in encoded.tokens if t.instrument == "piano")) == "piano|C4.E4:1"
