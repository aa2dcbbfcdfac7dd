import dataclasses
import itertools
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, SHARED, encoded, load_config, make_song, make_track, random_song
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from musicjax.encodings import make_encoding
from musicjax.encodings.base import NO_VOICE
from musicjax.encodings.events import DRUMS, LONGEST, EventEncoding, grid_meters, grid_notes
from musicjax.errors import InputError, SongError
from musicjax.music import midi
from musicjax.music.song import Meter, Song, Tempo, Track


def encoding_of(**changes):
    chosen = {"resolution": 12, "velocities": 0, "instruments": False, "tempos": 0, "ends": False}
    return EventEncoding(**(chosen | {"meter": ""} | changes))


# One of each kind of setting.
ENCODINGS = [
    encoding_of(),
    encoding_of(resolution=4, ends=True),
    encoding_of(instruments=True, velocities=32, ends=True),
    encoding_of(tempos=8),
]


def text(song, **changes):
    encoding = encoding_of(**changes)
    return encoding.text(encoding.encode(song).elements)


def ids(words, **changes):
    """The ids of events, as text."""
    vocabulary = encoding_of(**changes).tokenizer.vocab
    return np.array([vocabulary[word] for word in words.split()], np.int32)


def rows(tracks, encoding):
    """What an encoding keeps of notes, sorted: onset, duration, program, pitch, velocity."""
    table = []
    for track in tracks:
        program = DRUMS if track.is_drum else track.program
        for onset, duration, pitch, velocity in zip(
            track.onset_ticks.tolist(),
            track.duration_ticks.tolist(),
            track.pitch.tolist(),
            track.velocity.tolist(),
            strict=True,
        ):
            loud = velocity if encoding.velocities else 0
            voice = program if encoding.instruments else 0
            table.append((onset, duration, voice, pitch, loud))
    return sorted(table)


def in_bins(velocity, bins):
    """The nearest of equal bins from 0 to 127; of two the louder."""
    levels = np.linspace(0, 127, bins + 1, dtype=int)[1:]
    return int(min(levels[::-1], key=lambda level: abs(int(level) - velocity)))


# --- songs ---------------------------------------------------------------------------------------

GRID = st.sampled_from([0, 3, 4, 6, 8, 9, 11])
NOTES = st.lists(
    st.tuples(
        st.builds(lambda beat, part: 12 * beat + part, st.integers(0, 30), GRID),
        st.integers(1, 12 * 16),
        st.integers(0, 127),
        st.integers(1, 127),
    ),
    min_size=1,
    max_size=12,
)
VOICES = st.sampled_from([(0, False), (33, False), (40, False), (0, True)])
METERS = st.lists(
    st.builds(
        Meter,
        st.integers(0, 60).map(lambda eighth: 6 * eighth),
        st.integers(1, 13),
        st.sampled_from([2, 4, 8, 16]),
    ),
    max_size=4,
)
TEMPOS = st.lists(
    st.builds(Tempo, st.integers(0, 300), st.floats(10, 500)), max_size=4, unique_by=lambda t: t[0]
)


@st.composite
def songs(draw):
    """Songs at 12 ticks to a quarter, on the grid."""
    tracks = []
    for notes in draw(st.lists(NOTES, min_size=1, max_size=3)):
        program, is_drum = draw(VOICES)
        onset, duration, pitch, velocity = np.array(notes).T
        tracks.append(Track("", program, is_drum, onset, duration, pitch, velocity))
    return make_song(
        *tracks,
        ticks_per_quarter=12,
        meters=tuple(draw(METERS)),
        tempos=tuple(draw(TEMPOS)),
    )


def with_ticks(song, ticks_per_quarter):
    """The same song, of a multiple of 12 ticks to a quarter."""
    factor = ticks_per_quarter // song.ticks_per_quarter
    return make_song(
        *(
            dataclasses.replace(
                track,
                onset_ticks=track.onset_ticks * factor,
                duration_ticks=track.duration_ticks * factor,
            )
            for track in song.tracks
        ),
        ticks_per_quarter=ticks_per_quarter,
        meters=tuple(meter._replace(tick=meter.tick * factor) for meter in song.meters),
        tempos=tuple(tempo._replace(tick=tempo.tick * factor) for tempo in song.tempos),
    )


# --- song -> events ------------------------------------------------------------------------------


def test_bars_positions_pitches_and_durations():
    song = make_song(make_track([(0, 480, 60), (0, 960, 64), (600, 160, 62), (480 * 9, 240, 60)]))
    assert text(song).split() == [
        *("Bar_None", "TimeSig_4/4"),
        *("Position_0", "Pitch_60", "Duration_1.0.12", "Pitch_64", "Duration_2.0.12"),
        *("Position_15", "Pitch_62", "Duration_0.4.12"),
        *("Bar_None", "TimeSig_4/4"),  # an empty bar
        *("Bar_None", "TimeSig_4/4", "Position_12", "Pitch_60", "Duration_0.6.12"),
    ]


def test_a_beat_is_a_note_of_the_denominator():
    song = make_song(make_track([(720, 720, 60), (1440, 240, 62)]), meters=(Meter(0, 6, 8),))
    assert text(song) == (
        "Bar_None TimeSig_6/8 Position_36 Pitch_60 Duration_3.0.12 "
        "Bar_None TimeSig_6/8 Position_0 Pitch_62 Duration_1.0.12"
    )
    assert "Position_12 Pitch_60 Duration_3.0.4" in text(song, resolution=4)


def test_settings_add_programs_velocities_and_tempos():
    song = make_song(
        make_track([(480, 480, 36)], is_drum=True),
        make_track([(480, 480, 40)], program=33),
        tempos=(Tempo(0, 20.0), Tempo(240, 400.0), Tempo(480, 401.0)),
    )
    assert text(song) == (
        "Bar_None TimeSig_4/4 Position_12 Pitch_36 Duration_1.0.12 Pitch_40 Duration_1.0.12"
    )
    assert text(song, instruments=True, velocities=32, tempos=4).split() == [
        *("Bar_None", "TimeSig_4/4", "Position_0", "Tempo_20.0", "Position_6", "Tempo_400.0"),
        *("Position_12", "Program_-1", "PitchDrum_36", "Velocity_91", "Duration_1.0.12"),
        *("Program_33", "Pitch_40", "Velocity_91", "Duration_1.0.12"),
    ]


def test_notes_off_the_grid_move_to_its_nearest_points_and_are_counted():
    # A twelfth is 40 ticks, a sixteenth 120.
    song = make_song(make_track([(19, 480, 60), (500, 10, 62), (960, 120, 64)]))
    for resolution, expected in (
        (12, [(0, 12, 60), (13, 1, 62), (24, 3, 64)]),
        (4, [(0, 12, 60), (12, 3, 62), (24, 3, 64)]),
    ):
        notes, moved = grid_notes(song, resolution, False)
        assert list(map(tuple, notes[:, [0, 1, 3]].tolist())) == expected
        assert moved == 2


def test_a_song_without_notes_is_no_song():
    with pytest.raises(SongError, match="no_notes"):
        encoding_of().encode(make_song())


@pytest.mark.parametrize("below", [4, 8])
def test_a_note_longer_than_a_duration_is_struck_again_until_it_ends(below):
    longest = LONGEST * 48 // below
    song = make_song(
        make_track([(6, 2 * longest + 7, 60), (6, longest, 64)]),
        ticks_per_quarter=12,
        meters=(Meter(0, 3, below),),
    )
    encoding = encoding_of()
    made = encoding.encode(song)
    assert rows(encoding.decode(made.elements), encoding) == [
        (6, longest, 0, 60, 0),
        (6, longest, 0, 64, 0),
        (6 + longest, longest, 0, 60, 0),
        (6 + 2 * longest, 7, 0, 60, 0),
    ]
    assert (made.sums["notes"], made.sums["split"]) == (2, 2)


# --- meters --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("meter", "expected"),
    [
        ("3/4", "3/4"),
        ("2/4", "2/4"),
        ("12/8", "12/8"),
        ("5/8", "5/8"),
        ("1/4", "4/4"),  # of any music, in many files
        ("2/8", "4/4"),
        ("2/2", "4/4"),
        ("3/2", "6/4"),
        ("1/1", "4/4"),
        ("6/16", "3/8"),
        ("4/8", "2/4"),
        ("7/16", "4/4"),
        ("12/4", "6/4"),
        ("15/8", "5/8"),
        ("11/4", "4/4"),
        ("255/64", "4/4"),
    ],
)
def test_meters_of_the_vocabulary(meter, expected):
    above, below = map(int, meter.split("/"))
    song = make_song(make_track([(0, 480, 60)]), meters=(Meter(0, above, below),))
    assert text(song).startswith(f"Bar_None TimeSig_{expected} Position_0")


@pytest.mark.parametrize(
    ("meters", "expected"),
    [
        ([(0, 4, 4), (96, 3, 4)], [(0, 4, 4), (96, 3, 4)]),
        # A pick-up, and a bar cut short by an eighth.
        ([(0, 1, 4), (12, 4, 4)], [(0, 1, 4), (12, 4, 4)]),
        ([(0, 4, 4), (12, 4, 4)], [(0, 1, 4), (12, 4, 4)]),
        ([(0, 4, 4), (48 + 42, 3, 4)], [(0, 4, 4), (48, 7, 8), (90, 3, 4)]),
        # No meter is so long: it waits for the bar line; what then has no time left is gone.
        ([(0, 4, 4), (50, 3, 4)], [(0, 4, 4), (96, 3, 4)]),
        ([(0, 4, 4), (50, 3, 4), (70, 5, 4)], [(0, 4, 4), (96, 5, 4)]),
        # The last of several at one tick.
        ([(0, 4, 4), (0, 2, 4), (24, 3, 8)], [(0, 2, 4), (24, 3, 8)]),
    ],
)
def test_where_meters_change(meters, expected):
    song = make_song(ticks_per_quarter=12, meters=tuple(Meter(*meter) for meter in meters))
    assert list(map(tuple, grid_meters(song, 12))) == expected


@given(songs())
def test_bars_follow_one_another(song):
    meters = grid_meters(song, 12)
    assert meters[0].tick == 0
    for meter, after in itertools.pairwise(meters):
        assert after.tick > meter.tick
        assert (after.tick - meter.tick) % meter.ticks(12) == 0


@pytest.mark.parametrize("meter", ["1/8", "2/4", "3/4", "12/8"])
@given(song=songs())
def test_all_bars_may_be_alike(meter, song):
    encoding = encoding_of(meter=meter)
    made = encoding.encode(song)
    meters = encoding.meters(made.layout, 0, made.elements)
    assert [f"{numerator}/{below}" for _, numerator, below in meters] == [meter]
    if not made.sums["split"]:  # an eighth's beats are shorter
        assert rows(encoding.decode(made.elements), encoding) == rows(song.tracks, encoding)


def test_a_meter_that_events_cannot_write_is_refused():
    config = load_config(name="events")
    config.data.meter = "7/16"
    with pytest.raises(InputError, match=r"data\.meter is '7/16'; expected such as 4/4"):
        make_encoding(config.data)


def test_what_was_saved_before_bars_could_be_alike_has_the_songs_own():
    config = load_config(name="events")
    del config.data.meter
    assert make_encoding(config.data) == make_encoding(load_config(name="events").data)


# --- events -> song ------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [encoding_of(), encoding_of(instruments=True, velocities=32)])
@given(song=songs(), ticks_per_quarter=st.sampled_from([12, 96, 480]))
def test_a_song_on_the_grid_comes_back_exactly(encoding, song, ticks_per_quarter):
    made = encoding.encode(with_ticks(song, ticks_per_quarter))
    assert made.sums["moved"] == 0
    assert made.sums["split"] == 0
    expected = rows(song.tracks, encoding)
    if encoding.velocities:
        expected = sorted((*row[:4], in_bins(row[4], encoding.velocities)) for row in expected)
    assert rows(encoding.decode(made.elements), encoding) == expected
    assert made.elements.dtype == encoding.rows(0).dtype
    assert made.elements.min() > 0
    assert sum(made.layout["bar_sizes"]) == len(made.elements)
    # The meters too, as far as there is music.
    last = max(row[0] for row in expected)
    meters = [meter for meter in grid_meters(song, 12) if meter.tick <= last]
    pairs = zip(meters, [None, *meters], strict=False)
    changes = [meter for meter, before in pairs if before is None or meter[1:] != before[1:]]
    assert list(encoding.meters(made.layout, 0, made.elements)) == changes


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(song=songs())
def test_miditok_writes_the_same_ids(encoding, song):
    made = encoding.encode(song)
    same = Song(
        tuple(encoding.decode(made.elements)),
        12,
        meters=encoding.meters(made.layout, 0, made.elements),
        tempos=encoding.tempos_of(made.elements),
    )
    theirs = encoding.tokenizer.encode(midi.song_to_symusic(same))
    theirs = theirs if encoding.instruments else theirs[0]
    end = ["EOS_None"] * encoding.ends
    assert encoding.text(made.elements).split() == theirs.tokens + end
    assert made.elements.tolist() == theirs.ids + [encoding.tokenizer.vocab[word] for word in end]


@pytest.mark.parametrize("encoding", ENCODINGS)
@examples(max_examples=200)
@given(data=st.data())
def test_any_ids_are_read_as_miditok_reads_them(encoding, data):
    by_kind: dict[str, list[int]] = {}
    for word, i in encoding.tokenizer.vocab.items():
        by_kind.setdefault(word.partition("_")[0], []).append(i)
    pitches = by_kind["Pitch"] + by_kind.get("PitchDrum", [])
    parts = [by_kind.get("Program"), pitches, by_kind.get("Velocity"), by_kind["Duration"]]
    note = st.tuples(*(st.sampled_from(part) for part in parts if part))
    bar = st.tuples(*(st.sampled_from(by_kind[kind]) for kind in ("Bar", "TimeSig", "Position")))
    any_id = st.tuples(st.integers(0, encoding.size - 1))
    position = st.tuples(st.sampled_from(by_kind["Position"]))
    blocks = data.draw(st.lists(st.one_of(note, note, position, bar, any_id), min_size=1))
    elements = np.array([i for block in blocks for i in block], np.int32)
    score = encoding.tokenizer.decode(
        elements.tolist() if encoding.instruments else [elements.tolist()]
    )
    finer = score.ticks_per_quarter / 12
    theirs = [
        (
            int(note.time / finer),
            max(int(note.duration / finer), 1),
            DRUMS if track.is_drum else track.program,
            note.pitch,
            note.velocity if encoding.velocities else 0,
        )
        for track in score.tracks
        for note in track.notes
    ]
    tracks = encoding.decode(elements)
    assert rows(tracks, encoding) == sorted(theirs)
    notes = [end for *_, end in theirs]
    assert encoding.length(elements) >= max([onset + d for onset, d, *_ in theirs], default=0)
    assert len(encoding.onsets(elements)) == len(elements)
    assert len(notes) == sum(map(len, tracks))


def round_trip(path, encoding):
    """A file's ids; its notes must come back as they are on the grid."""
    song = midi.read_song(path)
    made = encoding.encode(song)
    notes = grid_notes(song, encoding.resolution, encoding.instruments).notes
    tracks = encoding.decode(made.elements)
    if made.sums["split"]:
        assert sum(int(track.duration_ticks.sum()) for track in tracks) == notes[:, 1].sum()
    else:
        notes[:, 4] = 0 if not encoding.velocities else notes[:, 4]
        velocity = {v: in_bins(v, encoding.velocities) for v in np.unique(notes[:, 4]) if v}
        expected = sorted((*row[:4], velocity.get(row[4], 0)) for row in notes.tolist())
        assert rows(tracks, encoding) == expected, path
    return song, made


def test_round_trip_over_all_chorales(chorales):
    encoding = encoding_of(resolution=4)
    moved = notes = 0
    for path in chorales.values():
        song, made = round_trip(path, encoding)
        assert made.sums["notes"] == song.num_notes
        moved, notes = moved + made.sums["moved"], notes + song.num_notes
    assert moved / notes < 0.001  # a few thirty-seconds


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real files of ../shared/midi")
@pytest.mark.parametrize("folder", ["pop909", "multitrack", "folk_nottingham"])
def test_round_trip_over_shared_files(folder):
    for path in sorted((SHARED / folder).rglob("*.mid"))[::4]:
        for encoding in (encoding_of(), encoding_of(instruments=True, velocities=32)):
            song, made = round_trip(path, encoding)
            assert made.sums["notes"] == song.num_notes


def test_what_is_malformed_is_left_out():
    encoding = encoding_of()
    # A Duration alone, Pitches without one, Positions without a note. A note without a Position
    # begins with its bar; the bar before has no meter and so is 4/4.
    elements = ids(
        "Duration_1.0.12 Pitch_60 Position_3 Bar_None TimeSig_3/4 Pitch_61 Duration_1.0.12 "
        "Position_12 Pitch_62 Pitch_63 Duration_2.0.12 PAD_None Position_0 Position_24"
    )
    assert rows(encoding.decode(elements), encoding) == [(48, 12, 0, 61, 0), (60, 24, 0, 63, 0)]
    for none in (elements[:0], np.zeros(4, np.int32)):
        (track,) = encoding.decode(none)
        assert len(track) == 0
        assert encoding.length(none) == 0


def test_decoded_tracks_begin_and_end_where_they_are_asked_to():
    encoding, song = encoding_of(), random_song(1)
    elements = encoding.encode(song).elements
    (track,) = encoding.decode(elements, name="Tune", program=5, velocity=40)
    assert (track.name, track.program, set(track.velocity.tolist())) == ("Tune", 5, {40})
    np.testing.assert_array_equal(track.onset_ticks * 40, song.tracks[0].onset_ticks)
    (cut,) = encoding.decode(elements, start=7, units=100)
    assert cut.onset_ticks[0] == track.onset_ticks[0] + 7
    assert int((cut.onset_ticks + cut.duration_ticks).max()) == 107
    assert len(cut) == (track.onset_ticks < 100).sum()


def test_each_program_is_a_track():
    encoding = encoding_of(instruments=True)
    song = make_song(
        make_track([(0, 480, 60)], program=26, name="Lead"),
        make_track([(0, 480, 62)], program=25),
        make_track([(0, 480, 36)], is_drum=True),
        make_track([(480, 480, 64)], program=26),
    )
    tracks = encoding.decode(encoding.encode(song).elements, name="made", program=3)
    assert [(t.name, t.program, t.is_drum, len(t)) for t in tracks] == [
        ("made drums", 0, True, 1),
        ("made guitar", 25, False, 1),
        ("made guitar", 26, False, 2),
    ]
    assert encoding.keeps_instruments
    assert not encoding_of().keeps_instruments


def test_tempos_are_written_and_read():
    encoding = encoding_of(tempos=16)
    song = make_song(
        make_track([(0, 9600, 60)]), tempos=(Tempo(480, 90.0), Tempo(960, 90.1), Tempo(9600, 60.0))
    )
    made = encoding.encode(song)
    assert encoding.text(made.elements).count("Tempo") == 1  # the last is after the music
    (tempo,) = encoding.tempos_of(made.elements)
    assert tempo.tick == 0
    assert tempo.qpm == pytest.approx(90, rel=0.11)
    assert encoding_of().tempos_of(encoding_of().encode(song).elements) == ()


# --- what all encodings do -----------------------------------------------------------------------


def test_the_vocabulary_is_miditoks():
    for encoding in ENCODINGS:
        vocabulary = encoding.tokenizer.vocab
        assert vocabulary["PAD_None"] == 0  # id 0 is none
        assert encoding.size == len(vocabulary) == len(encoding.counts)
        words = encoding.text(np.arange(encoding.size)).split(" ")
        assert [vocabulary[word] for word in words] == list(range(encoding.size))
    assert [encoding_of(resolution=r).size for r in (4, 12)] == [326, 678]
    assert encoding_of(instruments=True, velocities=32, tempos=32).size == 999


def test_an_encoding_is_a_small_value():
    encoding = encoding_of()
    song = random_song(1)
    before = encoding.encode(song).elements
    assert len(pickle.dumps(encoding)) < 300  # no tokenizer goes to a worker process
    again = pickle.loads(pickle.dumps(encoding))
    assert again == encoding
    assert hash(again) == hash(encoding)
    np.testing.assert_array_equal(again.encode(song).elements, before)
    for changes in ({"resolution": 4}, {"velocities": 8}, {"instruments": True}, {"tempos": 4}):
        assert encoding_of(**changes) != encoding


def test_miditok_is_imported_late_and_asks_no_network():
    code = """
import socket, sys
from musicjax.encodings.events import EventEncoding
encoding = EventEncoding(
    resolution=12, velocities=0, instruments=False, tempos=0, ends=False, meter=""
)
assert "miditok" not in sys.modules
def refuse(*arguments, **options):
    raise AssertionError("the network was asked")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
print(encoding.size)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "678"


@pytest.mark.parametrize("xp", [np, jnp])
def test_a_meter_moves_time_on_by_its_bar(xp):
    encoding = encoding_of()
    song = make_song(
        make_track([(0, 480, 60), (480 * 3, 960, 62), (480 * 6, 480, 64)]),
        meters=(Meter(0, 3, 4), Meter(480 * 3, 6, 8), Meter(480 * 6, 4, 4)),
    )
    elements = encoding.encode(song).elements
    units = encoding.units(xp.asarray(elements))
    assert units.tolist() == [0, 36, 0, 0, 0, 0, 36, 0, 0, 0, 0, 48, 0, 0, 0]
    assert encoding.onsets(elements).tolist() == [0] * 5 + [36] * 5 + [72] * 5
    assert encoding.length(elements) == 84
    assert encoding.lead == 96  # 8/4
    assert not encoding.rests(xp.asarray(elements)).any()

    @jax.jit
    def elapsed(ids):
        add = lambda i, time: time + encoding.units(ids[i])  # noqa: E731
        return jax.lax.fori_loop(0, len(ids), add, jnp.int32(0))

    assert int(elapsed(jnp.asarray(elements))) == units.sum() == 120


@pytest.mark.parametrize("xp", [np, jnp])
def test_events_are_transposed_like_their_song(xp):
    for encoding in (encoding_of(), encoding_of(instruments=True)):
        song = make_song(
            make_track([(0, 480, 2), (480, 480, 60), (960, 480, 126)]),
            make_track([(0, 480, 36)], is_drum=encoding.instruments),
        )
        elements = np.append(encoding.encode(song).elements, 0)
        both = xp.asarray(np.stack([elements, elements]))
        moved = encoding.transposed(both, xp.asarray(np.array([-5, 3])))
        for row, semitones in zip(moved, (-5, 3), strict=True):
            expected = encoding.decode(encoding.encode(song.transposed(semitones)).elements)
            assert rows(encoding.decode(np.asarray(row)), encoding) == rows(expected, encoding)
            assert int(row[-1]) == 0


def test_bar_lines_are_the_elements_at_which_bars_begin():
    encoding, song = encoding_of(), random_song(1)
    made = encoding.encode(song)
    length = len(made.elements)
    lines = encoding.bar_lines(made.layout, length, 0)
    np.testing.assert_array_equal(lines, np.flatnonzero(made.elements == ids("Bar_None")[0]))
    fitting = encoding.bar_lines(made.layout, length, 40)
    np.testing.assert_array_equal(fitting, lines[lines + 40 <= length])
    assert encoding.bar_lines(made.layout, length, length + 1).tolist() == [0]


def test_a_prime_is_the_end_of_a_song_from_a_bar_on():
    encoding, song = encoding_of(), random_song(1)
    elements, layout, _ = encoding.encode(song)
    for length in (30, 60, len(elements)):
        prime, start, its_layout, _ = encoding.prime(song, length, "error")
        assert 0 < len(prime) <= length
        assert prime.tolist() == elements[-len(prime) :].tolist()
        assert encoding.text(prime).startswith("Bar_None TimeSig_4/4 Position")
        assert start == encoding.onsets(elements)[len(elements) - len(prime)]
        assert its_layout == layout
    assert encoding.prime(song, None, "error")[0].tolist() == elements.tolist()
    assert len(encoding.prime(song, 0, "error")[0]) == 0
    assert len(encoding.prime(song, 2, "error")[0]) == 0


def test_a_song_ends_with_its_end():
    encoding, song = encoding_of(ends=True), random_song(1)
    elements, layout, _ = encoding.encode(song)
    without = encoding_of().encode(song)
    assert encoding.text(elements) == encoding_of().text(without.elements) + " EOS_None"
    assert sum(layout["bar_sizes"]) == len(elements)
    for xp in (np, jnp):
        is_end = encoding.is_end(xp.asarray(elements))
        assert is_end.tolist() == [False] * (len(elements) - 1) + [True]
        assert not encoding_of().is_end(xp.asarray(without.elements)).any()
    # It takes no time, and says nothing of notes.
    assert rows(encoding.decode(elements), encoding) == rows(
        encoding_of().decode(without.elements), encoding
    )
    assert encoding.length(elements) == encoding_of().length(without.elements)
    assert encoding.units(elements)[-1] == 0
    # What is to be continued has not ended.
    for length in (None, 30):
        prime = encoding.prime(song, length, "error").elements
        assert prime.tolist() == elements[-len(prime) - 1 : -1].tolist()


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (8, "Position_24 Pitch_64 Duration_0.6.12 Pitch_76 Duration_0.6.12"),
        (7, "Position_24 Pitch_64 Duration_0.6.12 Pitch_76 Duration_0.6.12"),
        (6, "Position_24 Pitch_76 Duration_0.6.12"),
        (5, "Position_24 Pitch_76 Duration_0.6.12"),
    ],
)
def test_a_prime_inside_of_a_long_bar_says_where_it_is(length, expected):
    encoding = encoding_of()
    notes = [(i * 240, 240, 60 + i) for i in range(5)]
    song = make_song(make_track([*notes, (960, 240, 76)]), meters=(Meter(0, 3, 4),))
    prime, start, _, _ = encoding.prime(song, length, "error")
    assert encoding.text(prime) == f"Bar_None TimeSig_3/4 {expected}"
    assert start == 0


@pytest.mark.parametrize("encoding", [encoding_of(), encoding_of(instruments=True, velocities=8)])
@given(song=songs(), share=st.floats(0, 1))
def test_events_that_go_on_from_others_stand_alone(encoding, song, share):
    elements = encoding.encode(song).elements
    cut = round(share * len(elements))
    before, after = elements[:cut], elements[cut:]
    resumed, start = encoding.resumed(after, before)
    # Together they are the song, wherever it is cut; a note that is cut in two comes with the end.
    tracks = encoding.decode(before) + encoding.decode(resumed, start=start)
    assert rows(tracks, encoding) == rows(encoding.decode(elements), encoding)
    if len(after):
        assert encoding.text(resumed).startswith("Bar_None")
        assert resumed[-len(after) :].tolist() == after.tolist()
    assert resumed.dtype == elements.dtype


def test_what_ids_are_made_of():
    for encoding in ENCODINGS:
        parts = encoding.features()
        for part in parts:
            assert part.dtype == np.float32
            assert len(part) == encoding.size
            assert part.any(0).all()
            assert part.min() >= 0
            assert part.max() == 1
        together = np.concatenate(parts, axis=1)
        assert not together[0, len(parts[0][0]) :].any()
        of = dict(zip(encoding.tokenizer.vocab, together, strict=True))
        step = encoding.resolution
        # Notes an octave apart have a part more in common than others, lengths a beat apart too.
        assert of["Pitch_60"] @ of["Pitch_72"] == 2
        assert of["Pitch_60"] @ of["Pitch_73"] == 1
        a, b = of[f"Duration_1.1.{step}"], of[f"Duration_2.1.{step}"]
        assert a @ b > of[f"Duration_1.1.{step}"] @ of[f"Duration_2.2.{step}"]
    assert of["Tempo_20.0"] @ of["Tempo_400.0"] > 1


def test_a_corpus_of_events(folder):
    data = load_config("tiny", "events").data
    data.source = str(folder)
    corpus = encoded(data)
    encoding = corpus.encoding
    assert isinstance(encoding, EventEncoding)
    training = np.concatenate([corpus.rows(song) for song in corpus.split("train")])
    assert encoding.counts == tuple(np.bincount(training, minlength=encoding.size).tolist())
    statistics = {"counts": corpus.manifest["counts"]}
    notes = sum(random_song(seed).num_notes for seed in range(30))
    assert statistics["counts"]["notes"] == notes
    first, second = encoding.describe(statistics)
    assert first == f"{len(corpus.data)} events of 326 types, {len(corpus.data) / notes:.2f} a note"
    assert second == f"moved to the grid: 0.0% of {notes} notes"
    tables, plots = encoding.report([corpus.rows(song) for song in corpus.songs])
    assert [table.name for table in tables] == ["events", "kinds"]
    assert sum(row[2] for row in tables[1].rows) == len(training)
    assert {row[0] for row in tables[1].rows} == {
        *("EOS", "Bar", "TimeSig", "Position", "Pitch", "Duration"),
    }
    assert [plot.name for plot in plots] == ["sizes", "durations", "polyphony"]
    _, lengths, shares = plots[1].series[""]
    assert lengths.tolist() == [0.5, 1.0, 2.0]
    assert shares.sum() == pytest.approx(1)


def test_notes_struck_again_are_told():
    encoding = encoding_of()
    sums = {"length": 20, "songs": 1, "repeats": 2, "notes": 4, "moved": 1, "split": 3}
    sums = {name: np.array(n) for name, n in sums.items()}
    statistics = encoding.statistics(sums, sums)
    assert statistics == {
        "counts": {"events": 20, "notes": 4, "moved": 1, "split": 3},
        "repeat_share": 2 / 19,
    }
    assert encoding.describe(statistics)[1] == (
        "moved to the grid: 25.0% of 4 notes; longer than 32 beats and struck again: 3"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 5}, "data.resolution is 5; expected one of 4, 12"),
        ({"velocities": 128}, "data.velocities is 128; expected 0 to 127 bins"),
        ({"tempos": 1}, r"data.tempos is 1; expected 0 \(none\), or 2 bins or more"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    data = load_config("tiny", "events").data
    data.update(changes)
    with pytest.raises(InputError, match=message):
        make_encoding(data)


# --- the grammar ---------------------------------------------------------------------------------


def allowed_after(encoding, elements):
    """bool [T + 1, V]: the ids that may come after each number of elements."""

    def step(state, ids):
        after = encoding.read(state, ids)
        return after, after

    start = jnp.asarray(encoding.grammar(1))
    _, states = jax.lax.scan(step, start, jnp.asarray(elements)[:, None])
    return np.asarray(encoding.may_follow(jnp.concatenate([start, states[:, 0]])))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_song_keeps_to_the_grammar(encoding):
    for seed in range(3):
        tracks = random_song(seed).tracks
        drums = make_track([(t * 480, 120, 36 + t % 3) for t in range(30)], is_drum=True)
        meters = (Meter(0, 3, 4), Meter(480 * 15, 6, 8), Meter(480 * 22, 4, 4))
        tempos = (Tempo(0, 90.0), Tempo(480 * 17, 140.0))
        song = make_song(*tracks, *[drums] * encoding.instruments, meters=meters, tempos=tempos)
        elements = encoding.encode(song).elements
        allowed = allowed_after(encoding, elements)
        assert allowed[np.arange(len(elements)), elements].all()
        assert not allowed[:, 0].any()
        assert allowed.any(-1).all()
        assert allowed.mean() < 0.6


def test_what_the_grammar_forbids():
    encoding = encoding_of(ends=True)
    known = {text: i for i, text in enumerate(encoding._ids.texts)}

    def may(text, *before):
        ids = np.array([known[each] for each in before], np.int32)
        return bool(allowed_after(encoding, ids)[-1, known[text]])

    bar = ("Bar_None", "TimeSig_3/4")
    note = ("Position_4", "Pitch_60", next(t for t in known if t.startswith("Duration")))
    assert may("Bar_None")
    assert not may("Pitch_60")
    assert may("TimeSig_3/4", "Bar_None")
    assert not may("Position_0", "Bar_None")
    assert may("Position_0", *bar)
    last = 3 * encoding.resolution - 1
    assert may(f"Position_{last}", *bar)
    assert not may(f"Position_{last + 1}", *bar)  # it would be in the next bar
    assert may("Position_5", *bar, *note)
    assert not may("Position_4", *bar, *note)  # it holds already
    assert not may("Position_3", *bar, *note)  # backwards
    assert may("Pitch_64", *bar, *note)
    assert may("Pitch_60", *bar, *note)  # a unison
    assert not may("Pitch_59", *bar, *note)
    assert not may("Pitch_64", *bar, "Position_0", "Pitch_60")  # a note is whole
    assert may("Position_0", *bar, *note, *bar)
    assert may("EOS_None", *bar, *note)
    assert not may("EOS_None", *bar)  # an empty bar
    assert not may("EOS_None", *bar, "Position_0", "Pitch_60")
    assert may("Bar_None", *bar, *note, "EOS_None")  # another song
    assert not may("Position_5", *bar, *note, "EOS_None")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_context_is_what_sounds_where_the_next_event_comes(encoding):
    song = make_song(*random_song(2).tracks, meters=(Meter(0, 3, 4), Meter(480 * 15, 4, 4)))
    names, longest = encoding._ids.texts, 8 * encoding.resolution
    longest = max(longest, 12 * encoding.resolution)  # 8/4 and 12/8, in their own beats
    elements = encoding.encode(song).elements
    state, sounded, gone = encoding.grammar(1), 0, 0
    for count, element in enumerate(elements, 1):
        state = encoding.read(state, np.array([element]))
        context = encoding.context(state)
        reading = encoding._read(elements[:count])
        now, bar = reading.onsets[-1], reading.bar_starts[-1]
        # A new bar's meter is not known until it is said.
        bar_end = bar + reading.bar_lengths[-1 if names[element] != "Bar_None" else -2 :][0]
        ends = np.full(128, -9999)
        for at, lasts in zip(reading.notes, reading.durations, strict=True):
            if names[elements[at]].startswith("Pitch_"):
                pitch = int(encoding._ids.values[elements[at]])
                ends[pitch] = max(ends[pitch], reading.onsets[at] + lasts)
        sounds, left = ends > now, ends - now
        planes = context.pitches[0]
        np.testing.assert_array_equal(planes[0], sounds)
        np.testing.assert_allclose(planes[1], np.clip(left / 24, 0, 1))
        np.testing.assert_allclose(planes[2], np.where(sounds, 0, np.clip(1 + left / 24, 0, 1)))
        heard = np.zeros((128, max(now, 1)), bool)
        for at, lasts in zip(reading.notes, reading.durations, strict=True):
            if names[elements[at]].startswith("Pitch_"):
                pitch, onset = int(encoding._ids.values[elements[at]]), reading.onsets[at]
                heard[pitch, onset : onset + lasts] = True
        np.testing.assert_allclose(planes[4] ** 2, heard.sum(1) * (now > 0) / (now + 96), atol=1e-6)
        # The last pitch since the Position, if one was said.
        since = [names[id] for id in elements[:count]]
        while since and since[-1].split("_")[0] in ("Pitch", "Velocity", "Duration", "EOS"):
            if since.pop().startswith("Pitch_"):
                last = names[elements[len(since)]]
                assert planes[3].argmax() == int(last.removeprefix("Pitch_"))
                break
        else:
            assert not planes[3].any()
        how_many, _, first, final, place = np.split(
            context.others[0], np.cumsum([16, 16, longest + 1, longest + 1])
        )
        assert how_many.argmax() == min(sounds.sum(), 15)
        assert how_many.sum() == 1
        unit = 12 // encoding.resolution
        for one_hot, choose in ((first, min), (final, max)):
            assert one_hot.sum() == sounds.any()
            if sounds.any():
                end = choose(ends[sounds].tolist())
                expected = (end - bar) // unit if end < bar_end else longest
                assert one_hot.argmax() == expected, (names[element], count)
        assert place.sum() == (names[element].split("_")[0] not in ("Bar", "TimeSig"))
        if place.any():
            assert place.argmax() == (now - bar) // unit
        sounded, gone = max(sounded, sounds.sum()), gone + planes[2].sum()
    assert sounded > 1
    assert gone > 0


def test_voices_are_counted_from_below():
    encoding = encoding_of(ends=True)

    def after(text):
        state = encoding.grammar(1)
        for id in ids(text, ends=True):
            state = encoding.read(state, np.array([id]))
        context = encoding.context(state)
        now, before = (context.others[0, 16 * i : 16 * (i + 1)].argmax() for i in (0, 1))
        return context.moves[0], int(now), int(before)

    bar, beat = "Bar_None TimeSig_4/4 Position_0 ", " Duration_1.0.12 "
    moves, *counts = after(bar + "Pitch_50")
    assert (moves == NO_VOICE).all()  # nothing came before
    assert counts == [0, 0]
    # Two voices in unison, and one above.
    chord = f"{bar}Pitch_50{beat}Pitch_50{beat}Pitch_64{beat}"
    moves, *counts = after(chord + "Position_12")
    assert counts == [0, 3]
    np.testing.assert_array_equal(moves, np.arange(128) - 50)  # the lowest is next
    moves, *counts = after(chord + "Position_12 Pitch_48" + beat)
    assert counts == [1, 3]
    assert moves[[47, 48, 52]].tolist() == [-3, -2, 2]  # below it the first, above it the second
    moves, *counts = after(chord + f"Position_12 Pitch_48{beat}Pitch_48{beat}")
    assert counts == [2, 3]
    assert moves[[47, 48, 65]].tolist() == [-3, -16, 1]
    moves, *counts = after(chord + f"Position_12 Pitch_48{beat}Pitch_52{beat}Pitch_60{beat}")
    assert counts == [3, 3]
    assert moves[[47, 61]].tolist() == [-3, NO_VOICE]
    # A rest does not make them forget who sang; a note that goes on is a voice.
    moves, *counts = after(f"{bar}Pitch_50{beat}Pitch_60 Duration_2.0.12 Position_12")
    assert counts == [1, 2]
    assert moves[[49, 62]].tolist() == [-1, 2]
    _, *counts = after(chord + "Position_24")
    assert counts == [0, 3]
    # Of a unison each note ends by itself, and who sang the shorter sings on: both sang 50.
    for lasting in (beat + "Pitch_50 Duration_2.0.12 ", " Duration_2.0.12 Pitch_50" + beat):
        moves, *counts = after(f"{bar}Pitch_50{lasting}Pitch_64{beat}Position_12")
        assert counts == [1, 3]
        assert moves[[49, 52]].tolist() == [-1, 2]
    moves, *counts = after(f"{bar}Pitch_50{beat}Pitch_50 Duration_2.0.12 Pitch_50{beat}Position_12")
    assert counts == [1, 2]  # of three the two longest are followed


def test_the_first_and_the_last_note_of_a_unison_end():
    encoding = encoding_of(ends=True)
    state = encoding.grammar(1)
    text = "Bar_None TimeSig_4/4 Position_0 Pitch_50 Duration_1.0.12 Pitch_50 Duration_2.0.12"
    for id in ids(text, ends=True):
        state = encoding.read(state, np.array([id]))
    counts, ends = np.split(encoding.context(state).others[0], [32])
    assert counts.argmax() == 2
    first, last, _ = np.split(ends, [len(ends) // 3 + 1, 2 * (len(ends) // 3 + 1)])
    assert (first.argmax(), last.argmax()) == (12, 24)


def test_a_piece_that_was_cut_is_whole_without_its_last_chord():
    encoding = encoding_of(ends=True)
    bar = "Bar_None TimeSig_4/4 Position_0 "
    chord = "Pitch_50 Duration_1.0.12 Pitch_64 Duration_1.0.12"
    for cut in ("Position_12 Pitch_50 Duration_1.0.12", "Position_12 Pitch_50", "Position_12"):
        whole = encoding.whole(np.array(ids(f"{bar}{chord} {cut}", ends=True)))
        assert encoding.text(whole) == bar + chord
    for cut in ("Bar_None", "Bar_None TimeSig_3/4"):
        whole = encoding.whole(np.array(ids(f"{bar}{chord} {cut}", ends=True)))
        assert encoding.text(whole) == bar + chord
    for alone in (bar + chord, bar, chord, ""):
        elements = np.array(ids(alone, ends=True), np.int32)
        np.testing.assert_array_equal(encoding.whole(elements), elements)


def test_ids_stand_for_pitches():
    for encoding in ENCODINGS:
        pitches = encoding.id_pitches
        names = [f"Pitch_{pitch}" for pitch in pitches[pitches >= 0].tolist()]
        assert names == [name for name in encoding._ids.texts if name.startswith("Pitch_")]


def test_no_more_notes_at_once_than_allowed():
    encoding = encoding_of(ends=True)
    known = {text: i for i, text in enumerate(encoding._ids.texts)}
    two = ("Pitch_60", "Duration_1.0.12", "Pitch_64", "Duration_0.6.12")
    state = encoding.grammar(1)
    for text in ("Bar_None", "TimeSig_4/4", "Position_0", *two):
        state = encoding.read(state, np.array([known[text]]))

    def crowds(text, most):
        return bool(encoding.crowds(state, most)[0, known[text]])

    assert crowds("Pitch_67", 2)
    assert not crowds("Pitch_67", 3)
    # Until the second note ends there is no place for a third.
    assert crowds("Position_5", 2)
    assert not crowds("Position_6", 2)
    assert crowds("Position_6", 1)
    assert not crowds("Position_12", 1)
    assert not crowds("Bar_None", 1)
    # A unison is two notes, each as long as it is, and not three.
    for text in ("Pitch_60", "Duration_0.8.12"):
        state = encoding.read(state, np.array([known[text]]))
    assert crowds("Pitch_67", 3)
    assert not crowds("Pitch_67", 4)
    assert crowds("Pitch_60", 4)
    assert crowds("Position_6", 2)
    assert not crowds("Position_8", 2)
