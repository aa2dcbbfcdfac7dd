import numpy as np
import pytest
from conftest import make_song, make_track

from musicjax.music.key import Key
from musicjax.music.song import (
    PITCH_CLASS_NAMES,
    KeySignature,
    Meter,
    Tempo,
    Track,
    pitch_name,
)


def test_notes_are_sorted_and_read_only():
    track = make_track([(480, 10, 60), (0, 10, 64), (0, 10, 50)])
    assert track.onset_ticks.tolist() == [0, 0, 480]
    assert track.pitch.tolist() == [50, 64, 60]
    with pytest.raises(ValueError, match="read-only"):
        track.pitch[0] = 1


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("onset_ticks", [-1]),
        ("duration_ticks", [0]),
        ("pitch", [128]),
        ("velocity", [0]),
        ("velocity", [1, 2]),
    ],
)
def test_values_out_of_range_are_refused(field, values):
    arrays = dict(onset_ticks=[0], duration_ticks=[1], pitch=[60], velocity=[64])
    with pytest.raises(ValueError, match=field):
        Track("", 0, False, **{k: np.array(v) for k, v in (arrays | {field: values}).items()})


def test_transposing_keeps_drums_and_stays_in_range():
    song = make_song(
        make_track([(0, 1, 0), (0, 1, 60), (0, 1, 127)]),
        make_track([(0, 1, 36)], is_drum=True),
        keys=(KeySignature(0, 2, False),),
    )
    up, down = song.transposed(3), song.transposed(-2)
    assert up.tracks[0].pitch.tolist() == [3, 63, 118]
    assert down.tracks[0].pitch.tolist() == [10, 58, 125]
    assert up.tracks[1].pitch.tolist() == down.tracks[1].pitch.tolist() == [36]
    assert down.keys == (KeySignature(0, 0, False),)  # D major to C major
    assert song.tracks[0].pitch.tolist() == [0, 60, 127]


def test_main_qpm_is_the_tempo_held_longest():
    track = make_track([(0, 4800, 60)])
    assert make_song(track).main_qpm == 120
    song = make_song(track, tempos=(Tempo(0, 60.0), Tempo(480, 90.0), Tempo(4000, 200.0)))
    assert song.main_qpm == 90


def test_notes_of_all_tracks_and_of_none():
    song = make_song(make_track([(480, 10, 60)]), make_track([(0, 20, 40)]))
    assert song.notes().tolist() == [[0, 20, 40, 90], [480, 10, 60, 90]]
    assert song.end_ticks == 490
    assert make_song().notes().shape == (0, 4)
    assert make_song().end_ticks == 0


def test_seconds_follow_the_tempos():
    song = make_song(
        make_track([(0, 480, 60), (480 * 7, 480, 60)]),
        tempos=(Tempo(0, 60.0), Tempo(480 * 4, 120.0), Tempo(480 * 100, 1.0)),
    )
    assert song.seconds == 4 + 2
    assert make_song(make_track([(0, 960, 60)])).seconds == 1.0  # at 120 quarters a minute


def test_a_program_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"program is 128, expected 0\.\.127"):
        make_track([(0, 1, 60)], program=128)


def test_pitches_and_keys_have_one_list_of_names():
    assert [pitch_name(pitch) for pitch in (0, 60, 63, 70, 127)] == [
        "C-1",
        "C4",
        "Eb4",
        "Bb4",
        "G9",
    ]
    for tonic, name in enumerate(PITCH_CLASS_NAMES):
        assert pitch_name(60 + tonic) == f"{name}4"
        assert Key(tonic, True, 0.0).name == f"{name}:min"


@pytest.mark.parametrize(
    ("fifths", "minor", "tonic", "name"),
    [
        (0, False, 0, "C:maj"),
        (0, True, 9, "A:min"),
        (-3, True, 0, "C:min"),
        (-3, False, 3, "Eb:maj"),
        (7, False, 1, "C#:maj"),
        (-7, True, 8, "Ab:min"),
    ],
)
def test_a_key_signature_has_a_tonic(fifths, minor, tonic, name):
    key = KeySignature(0, fifths, minor)
    assert (key.tonic, key.name) == (tonic, name)


@pytest.mark.parametrize(
    ("numerator", "denominator", "quarters", "ticks"),
    [(4, 4, 4, 1920), (6, 8, 3, 1440), (7, 8, 3.5, 1680), (1, 64, 1 / 16, 30), (3, 1, 12, 5760)],
)
def test_a_bar_has_a_length(numerator, denominator, quarters, ticks):
    meter = Meter(0, numerator, denominator)
    assert (meter.quarters, meter.ticks(480)) == (quarters, ticks)
    assert Meter(0, 1, 64).ticks(4) == 1  # never none


def test_meters_from_the_start():
    track = make_track([(0, 4800, 60)])
    assert make_song(track).meters_from_start == (Meter(0, 4, 4),)
    late = Meter(960, 3, 4)
    assert make_song(track, meters=(late,)).meters_from_start == (Meter(0, 4, 4), late)
    # Of several at one tick the last holds.
    first, second = Meter(0, 2, 4), Meter(0, 6, 8)
    assert make_song(track, meters=(second, first, late)).meters_from_start == (second, late)
