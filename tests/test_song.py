import numpy as np
import pytest
from conftest import make_song, make_track

from musicjax.song import KeySignature, Tempo, Track


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
