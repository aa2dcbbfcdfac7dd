import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SHARED, load_config, make_song, make_track, random_song
from hypothesis import given
from hypothesis import strategies as st

from musicjax.encodings import make_encoding
from musicjax.encodings.base import ShardSong
from musicjax.encodings.tokens import (
    TokenEncoding,
    quantise,
    song_to_tokens,
    tokens_to_song,
)
from musicjax.encodings.vocabulary import Vocabulary, parse_token
from musicjax.errors import InputError
from musicjax.music import midi
from musicjax.music.song import Meter
from musicjax.music.track_selection import family


def texts(song, **limits):
    return [str(token) for token in song_to_tokens(song, **limits).tokens]


def onsets_and_pitches(song):
    """128 * onset in twelfths of a quarter + pitch of every note, each once."""
    notes = song.notes()
    return np.unique(quantise(notes[:, 0], song.ticks_per_quarter) * 128 + notes[:, 2])


# --- song -> tokens --------------------------------------------------------------------------


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


def test_an_element_is_clipped_at_the_next_onset_and_the_lost_time_is_counted():
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
    assert song_to_tokens(make_song(), instruments=True).tokens == []


@given(st.integers(0, 10**9), st.integers(1, 32_767))
def test_quantise_goes_to_the_nearest_grid_point(tick, ticks_per_quarter):
    unit = int(quantise(np.array([tick]), ticks_per_quarter)[0])
    assert unit % 12 in (0, 3, 4, 6, 8, 9)
    # No two points of the grid are more than 3 units apart.
    assert abs(unit * ticks_per_quarter - 12 * tick) * 2 <= 3 * ticks_per_quarter


# --- song -> tokens -> song ------------------------------------------------------------------


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


def round_trip(path):
    song = midi.read_song(path)
    encoded = song_to_tokens(song)
    back = tokens_to_song(encoded.tokens)
    np.testing.assert_array_equal(onsets_and_pitches(back), onsets_and_pitches(song), str(path))
    total = sum(token.duration for token in encoded.tokens)
    assert total == back.end_ticks
    return encoded


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real files of ../shared/midi")
def test_round_trip_over_all_shared_files():
    read = 0
    for path in sorted(SHARED.rglob("*.mid")):
        try:
            round_trip(path)
            read += 1
        except midi.MidiError:
            continue
    assert read >= 1380


def test_round_trip_over_all_chorales(chorales):
    for path in chorales.values():
        assert len(round_trip(path).tokens) >= 30


def test_tempo_velocity_program_and_start_are_settable():
    tokens = song_to_tokens(random_song(1)).tokens
    song = tokens_to_song(tokens, qpm=77.0, velocity=33, program=40, name="x")
    assert song.main_qpm == 77
    assert set(song.tracks[0].velocity.tolist()) == {33}
    assert (song.tracks[0].program, song.tracks[0].name) == (40, "x")
    (late,) = tokens_to_song(tokens, start=100, is_drum=True).tracks
    assert late.is_drum
    np.testing.assert_array_equal(late.onset_ticks, song.tracks[0].onset_ticks + 100)


# --- instruments -----------------------------------------------------------------------------


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
        family(track): {(o, p) for o, p in zip(track.onset_ticks, track.pitch, strict=True)}
        for track in back.tracks
    }
    for name in ("piano", "bass", "drums"):
        alone = make_song(*(track for track in song.tracks if family(track) == name))
        expected = {
            (o * 12 / 480, p)
            for track in alone.tracks
            for o, p in zip(track.onset_ticks, track.pitch, strict=True)
        }
        assert by_family[name] == expected
        # Each instrument's tokens are those that it has alone.
        mine = [token for token in encoded.tokens if token.instrument == name]
        assert [token._replace(instrument="") for token in mine] == song_to_tokens(alone).tokens
    for token in encoded.tokens:
        assert parse_token(str(token)) == token
    assert str(next(t for t in encoded.tokens if t.instrument == "piano")) == "piano|C4.E4:1"


def test_instruments_move_each_on_a_time_of_its_own():
    encoding = fitted(orchestra(), instruments=True)
    ids = ids_of(encoding, orchestra())
    assert encoding.keeps_instruments
    assert encoding.streams == 3
    assert encoding.length(ids) == 7 * 12
    onsets = encoding.onsets(ids)
    assert (np.diff(onsets) >= 0).all()
    names = encoding.text(ids).split(" ")
    bass = [onset for onset, name in zip(onsets, names, strict=True) if "bass|C2" in name]
    assert bass == [6 * t + 3 for t in (0, 3, 6)]
    # What comes later than 5 quarters is cut off, of each instrument.
    (piano,) = (t for t in encoding.decode(ids, units=60, name="x") if "piano" in t.name)
    assert (piano.name, piano.program) == ("x piano", 0)
    assert int((piano.onset_ticks + piano.duration_ticks).max()) == 60


# --- the encoding ----------------------------------------------------------------------------


def encoding_of(**changes) -> TokenEncoding:
    data = load_config("tiny").data
    data.update(changes)
    encoding = make_encoding(data)
    assert isinstance(encoding, TokenEncoding)
    return encoding


def in_shard(encoding, songs, training=None):
    """The ShardSongs of a shard of songs, of which the first `training` are trained on."""
    encoded = [encoding.encode(song).elements for song in songs]
    data, symbols = encoding.shard(encoded)
    starts = np.cumsum([0, *map(len, encoded)])
    return [
        ShardSong(data[start:stop], symbols, training is None or i < training)
        for i, (start, stop) in enumerate(itertools.pairwise(starts))
    ]


def fitted(*songs, training=None, **changes) -> TokenEncoding:
    encoding = encoding_of(**changes)
    return encoding.fit(in_shard(encoding, songs, training))


def ids_of(encoding, song) -> np.ndarray:
    return encoding.vocabulary.encode(encoding.sequence(song).tokens)


@pytest.mark.parametrize("name", ["longest_rest", "longest_note"])
def test_settings_that_cannot_be_are_one_clear_line(name):
    with pytest.raises(InputError, match=rf"data.{name} is -1; expected at least 0 \(quarters"):
        encoding_of(**{name: -1})


def test_the_limits_of_the_settings_hold_and_0_is_none():
    song = make_song(make_track([(0, 480 * 20, 60), (480 * 30, 480, 62)]))
    short = encoding_of(longest_rest=2, longest_note=3).sequence(song).tokens
    assert list(map(str, short)) == ["C4:3", "rest:2", "D4:1"]
    whole = encoding_of(longest_rest=0, longest_note=0).sequence(song).tokens
    assert list(map(str, whole)) == ["C4:20", "rest:10", "D4:1"]


def test_a_song_becomes_indices_of_its_types_and_sums():
    # A note of 3 quarters clipped to 1, twice the same note, a long rest.
    notes = [(0, 1440, 60), (480, 480, 62), (960, 480, 62), (480 * 20, 480, 60)]
    encoded = encoding_of(longest_rest=4).encode(make_song(make_track(notes)))
    assert list(map(str, encoded.elements.types)) == ["C4:1", "D4:1", "rest:4"]
    assert encoded.elements.indices.tolist() == [0, 1, 1, 2, 0]
    assert len(encoded.elements) == 5
    sums = {"note_units": 72, "clipped_units": 24, "rests_cut": 1, "repeats": 1}
    assert encoded.sums == sums
    assert encoded.layout == {"bars": [[0, 48, 4]]}


def test_a_corpus_vocabulary_is_counted_in_the_training_songs_of_all_shards():
    encoding, songs = encoding_of(), [random_song(seed) for seed in range(6)]
    shards = [*in_shard(encoding, songs[:3]), *in_shard(encoding, songs[3:], training=1)]
    fit = encoding.fit(shards)
    training = [t for song in songs[:4] for t in encoding.sequence(song).tokens]
    other = [t for song in songs[4:] for t in encoding.sequence(song).tokens]
    assert fit.vocabulary == Vocabulary.build(training, other)
    assert (fit.size, fit.counts) == (fit.vocabulary.size, fit.vocabulary.counts)
    for shard, song in zip(shards, songs, strict=True):
        rows = fit.renumber(shard.elements, shard.symbols)
        assert rows.dtype == fit.rows(0).dtype
        assert fit.vocabulary.decode(rows.tolist()) == encoding.sequence(song).tokens


def test_a_token_of_songs_left_out_has_no_id():
    encoding = fitted(make_song(make_track([(0, 480, 60)])))
    rows = encoding.renumber(np.array([0, 1, 0], np.int32), ["C4:1", "D4:1"])
    assert rows.tolist() == [1, 0, 1]


def test_the_vocabulary_is_saved_and_loaded(tmp_path):
    encoding = fitted(random_song(1))
    encoding.save(tmp_path)
    loaded = encoding_of().load(tmp_path)
    assert loaded == encoding
    assert hash(loaded) == hash(encoding)
    assert loaded != encoding_of()
    (tmp_path / "vocabulary.json").unlink()
    with pytest.raises(InputError, match="not a vocabulary"):
        encoding_of().load(tmp_path)


@pytest.mark.parametrize("xp", [np, jnp])
def test_types_that_training_never_saw_are_read_as_unknown(xp):
    songs = [make_song(make_track([(0, 480, pitch)])) for pitch in (60, 61)]
    encoding = fitted(*songs, training=1)
    rows = xp.asarray(np.array([[1, 2], [0, 2]], np.int32))
    assert encoding.size == 2
    assert encoding.unpack(rows).tolist() == [[1, 0], [0, 0]]
    assert encoding.unpack(rows).dtype == xp.int32
    assert encoding.all_elements(rows).tolist() == [[1, 2], [0, 2]]
    assert encoding.text(np.array([1, 2])) == "C4:1 C#4:1"


@pytest.mark.parametrize("xp", [np, jnp])
def test_units_and_rests_of_elements(xp):
    song = make_song(make_track([(480, 240, 60), (1440, 480, 62)]))
    encoding = fitted(song)
    ids = xp.asarray(ids_of(encoding, song))
    assert encoding.units(ids).tolist() == [12, 6, 18, 12]
    assert encoding.rests(ids).tolist() == [True, False, True, False]
    assert encoding.onsets(np.asarray(ids)).tolist() == [0, 12, 18, 36]
    assert encoding.length(np.asarray(ids)) == 48


def test_decoded_tracks_end_where_they_are_cut():
    song = random_song(1)
    encoding = fitted(song)
    ids = ids_of(encoding, song)
    (track,) = encoding.decode(ids, name="Tune", program=5, velocity=40)
    notes, start = [], 0
    for token in encoding.sequence(song).tokens:
        notes += [(start, token.duration, pitch) for pitch in token.pitches]
        start += token.duration
    found = zip(track.onset_ticks, track.duration_ticks, track.pitch, strict=True)
    assert list(found) == notes
    assert (track.name, track.program, set(track.velocity.tolist())) == ("Tune", 5, {40})
    (cut,) = encoding.decode(ids, start=7, units=100)
    assert cut.onset_ticks[0] == track.onset_ticks[0] + 7
    assert int((cut.onset_ticks + cut.duration_ticks).max()) == 107


def test_a_prime_is_the_end_of_a_song():
    song = random_song(1)
    encoding = fitted(song)
    elements, start, layout, _ = encoding.prime(song, 8, "error")
    ids = ids_of(encoding, song)
    assert elements.tolist() == ids[-8:].tolist()
    assert start == encoding.onsets(ids)[-8]
    assert layout == {"bars": [[0, 48, 4]]}
    whole, start, _, _ = encoding.prime(song, None, "error")
    assert (whole.tolist(), start) == (ids.tolist(), 0)
    assert encoding.prime(song, 10_000, "error")[0].tolist() == ids.tolist()
    assert len(encoding.prime(song, 0, "error")[0]) == 0


def test_what_a_model_does_not_know_of_a_prime():
    encoding = fitted(make_song(make_track([(0, 480, 60), (480, 480, 64)])))
    song = make_song(make_track([(i * 480, 480, p) for i, p in enumerate((60, 76, 64))]))
    with pytest.raises(InputError, match=r"1 of the prime's last 3 tokens are unknown .*\(E5:1\)"):
        encoding.prime(song, 3, "error")
    assert encoding.text(encoding.prime(song, 3, "nearest")[0]) == "C4:1 E4:1 E4:1"
    assert encoding.text(encoding.prime(song, 3, "drop")[0]) == "C4:1 E4:1"
    # What comes before the prime may be unknown.
    assert encoding.text(encoding.prime(song, 1, "error")[0]) == "E4:1"


def test_a_model_does_not_know_what_came_in_other_songs_alone():
    trained, other = (
        make_song(make_track([(i * 480, 480, p) for i in range(9)])) for p in (60, 72)
    )
    encoding = encoding_of()
    shards = [*in_shard(encoding, [trained]), *in_shard(encoding, [other], training=0)]
    encoding = encoding.fit(shards)
    assert len(encoding.vocabulary.tokens) == encoding.size + 1
    prime = encoding.prime(other, 4, "nearest")
    assert (encoding.text(prime.elements), prime.unknown) == ("C4:1 C4:1 C4:1 C4:1", 4)


def test_a_token_is_at_the_place_of_its_onset():
    # A pick-up of a quarter, then 3/4.
    rows = [(0, 480, 60), (480, 240, 62), (720, 1200, 64), (1920, 480, 65)]
    song = make_song(make_track(rows), meters=(Meter(0, 1, 4), Meter(480, 3, 4)))
    encoded = encoding_of().encode(song)
    assert encoded.layout == {"bars": [[-24, 36, 4]]}
    encoding = encoding_of()
    places = encoding.positions(encoded.layout, 0, 61)
    assert places[[0, 12, 18, 48]].tolist() == [24, 0, 6, 0]
    assert encoding.cycle(encoded.layout) == 36
    nothing = np.zeros(0, np.int32)
    assert encoding.meters(encoded.layout, 0, nothing) == (Meter(0, 1, 4), Meter(12, 3, 4))
    # From inside a bar: its rest is a pick-up.
    assert encoding.meters(encoded.layout, 36, nothing) == (Meter(0, 1, 4), Meter(12, 3, 4))
    _, start, layout, _ = encoding_of().prime(song, 1, "drop")
    assert (start, layout) == (48, encoded.layout)


def test_meters_that_no_twelfths_hold_and_those_after_the_music():
    late = (Meter(2400, 4, 4), Meter(2880, 3, 4), Meter(2881, 2, 4))
    song = make_song(make_track([(0, 2880, 60)]), meters=(Meter(0, 3, 32), *late))
    # A bar of 4.5 twelfths; 3/4 ends with the music.
    assert encoding_of().encode(song).layout == {"bars": [[0, 4, 32], [60, 48, 4], [72, 36, 4]]}


def test_features_say_what_tokens_are_made_of():
    encoding = fitted(make_song(make_track([(0, 480, 60), (0, 480, 76), (960, 240, 61)])))
    ids = {str(token): i for i, token in enumerate(encoding.vocabulary.tokens)}
    pitches, classes, durations = encoding.features()
    assert [part.dtype for part in (pitches, classes, durations)] == [np.float32] * 3
    assert [part.shape for part in (pitches, classes)] == [(4, 129), (4, 12)]
    assert np.flatnonzero(pitches[ids["C4.E5:1"]]).tolist() == [60, 76]
    assert np.flatnonzero(classes[ids["C4.E5:1"]]).tolist() == [0, 4]
    assert np.flatnonzero(pitches[ids["rest:1"]]).tolist() == [128]
    assert not classes[ids["rest:1"]].any()
    assert (durations.sum(1) == 1).all()
    assert (durations[ids["C4.E5:1"]] == durations[ids["rest:1"]]).all()
    assert (durations[ids["C#4:1/2"]] != durations[ids["rest:1"]]).any()


def test_statistics_for_baselines():
    encoding = fitted(random_song(1))
    total = {"length": 100, "songs": 3, "rests_cut": 2, "note_units": 80, "clipped_units": 20}
    training = {"length": 60, "songs": 2, "repeats": 29}
    arrays = ({name: np.array(n) for name, n in sums.items()} for sums in (total, training))
    statistics = encoding.statistics(*arrays)
    types = len(encoding.vocabulary.tokens) - 1
    assert statistics == {
        "counts": {"tokens": 100, "types": types, "types_in_training": types, "rests_cut": 2},
        "clipped_share": 0.25,
        "repeat_share": 0.5,
    }
    assert encoding.describe(statistics) == [
        f"100 tokens of {types} types ({types} in the training songs)",
        "clipped by the next onset: 25.0% of the notes' time; rests cut: 2",
    ]


def test_the_report_counts_tokens():
    song = make_song(make_track([(0, 480, 60), (480, 480, 60), (960, 480, 64), (1920, 480, 60)]))
    encoding = fitted(song)
    (table,), plots = encoding.report([ids_of(encoding, song)])
    assert table.rows == [("C4:1", 3, 0.6), ("rest:1", 1, 0.2), ("E4:1", 1, 0.2)]
    assert "20.0% are rests" in table.text
    names = [plot.name for plot in plots]
    assert names == ["growth", "frequencies", "durations", "polyphony"]
    _, types, shares = plots[3].series[""]
    assert (types.tolist(), shares.tolist()) == ([0, 1], [0.2, 0.8])


def test_encodings_of_other_settings_differ():
    assert encoding_of() == encoding_of()
    assert encoding_of() != encoding_of(instruments=True)
    assert dataclasses.replace(encoding_of(), longest_rest=1) != encoding_of()
