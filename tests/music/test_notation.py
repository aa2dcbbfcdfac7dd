import warnings
from fractions import Fraction

import numpy as np
import pytest
from conftest import make_song, make_track, random_song

from musicjax.errors import InputError
from musicjax.music import midi, notation
from musicjax.music.song import KeySignature, Meter, Tempo
from musicjax.sources.chorales import song_from_score


def rows(song):
    """Onset, duration and pitch of each track, in quarters."""
    quarter = song.ticks_per_quarter
    return [
        sorted(
            zip(
                (track.onset_ticks / quarter).tolist(),
                (track.duration_ticks / quarter).tolist(),
                track.pitch.tolist(),
                strict=True,
            )
        )
        for track in song.tracks
    ]


def read_back(text, kind):
    from music21 import converter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return song_from_score(converter.parse(text, format=kind))


@pytest.mark.parametrize("name", ["bwv10.7.mid", "bwv117.4.mid", "bwv86.6.mid"])
@pytest.mark.parametrize("kind", ["musicxml", "abc"])
def test_a_chorale_reads_back_with_the_same_notes(chorales, name, kind):
    song = midi.read_song(chorales[name])
    write = notation.to_musicxml if kind == "musicxml" else notation.to_abc
    text = write(song, title="Lobe <den> & 100 % $", composer="J. S. Bach")
    back = read_back(text, kind)
    assert rows(back) == rows(song)
    if kind == "musicxml":
        assert [track.name for track in back.tracks] == [track.name for track in song.tracks]
        assert back.meters == song.meters
        assert [key.fifths for key in back.keys] == [key.fifths for key in song.keys]
        assert "Lobe &lt;den&gt; &amp; 100 % $" in text


def test_meter_pick_up_key_and_tempo_are_written():
    song = make_song(
        make_track([(0, 480, 66), (480, 960, 67), (1440, 2400, 69), (3840, 480, 70)]),
        meters=(Meter(0, 1, 4), Meter(480, 3, 4), Meter(3360, 6, 8)),
        keys=(KeySignature(0, 1, False),),
        tempos=(Tempo(0, 90.0), Tempo(3360, 60.0)),
    )
    bars = notation.bars(song)
    assert [bar.number for bar in bars] == [0, 1, 2, 3]
    assert [float(bar.start) for bar in bars] == [0, 1, 4, 7]
    assert bars[0].meter.numerator == 3
    assert [bar.beat for bar in bars] == [1, 1, 1, Fraction(3, 2)]
    text = notation.to_musicxml(song)
    for part in (
        'implicit="yes" number="0"',
        "<fifths>1</fifths>",
        "<beats>3</beats>",
        "<beats>6</beats>",
        "<per-minute>90</per-minute>",
        "<per-minute>60</per-minute>",
    ):
        assert part in text
    assert rows(read_back(text, "musicxml")) == rows(song)
    abc = notation.to_abc(song)
    for part in ("M:3/4", "K:G\n", "Q:1/4=90", "[M:6/8]", "[Q:1/4=60]"):
        assert part in abc


def test_chords_overlaps_and_triplets_are_written():
    song = make_song(
        make_track(
            [
                *[(0, 480, 60), (0, 480, 64), (0, 1920, 48)],  # a chord over a long note
                *[(480 + 160 * i, 160, 72 + i) for i in range(3)],  # triplets
                (960, 600, 67),  # no length of one note
                (1800, 60, 61),  # a thirty-second
            ]
        )
    )
    for kind, text in (
        ("musicxml", notation.to_musicxml(song)),
        ("abc", notation.to_abc(song)),
    ):
        [back] = rows(read_back(text, kind)) if kind == "musicxml" else [None]
        if back:
            assert back == rows(song)[0]
        else:
            assert "(3:2:1c1/2" in text
            assert "[CE]" in text


def test_meters_may_change_anywhere():
    meters = (Meter(0, 4, 4), Meter(7, 7, 64), Meter(911, 5, 4), Meter(912, 3, 4))
    song = make_song(make_track([(i * 313, 290, 60 + i) for i in range(9)]), meters=meters)
    for text in (notation.to_musicxml(song), notation.to_abc(song)):
        assert len(text) > 300
    lines = [bar.start for bar in notation.bars(song)]
    assert lines == sorted(set(lines))


def test_recordings_are_moved_to_sixteenths():
    rng = np.random.default_rng(0)
    exact = random_song(3)
    [track] = exact.tracks
    onset = np.maximum(track.onset_ticks + rng.integers(-25, 26, len(track)), 0)
    [played] = make_song(
        make_track(list(zip(onset, track.duration_ticks - 30, track.pitch, strict=True)))
    ).tracks
    score = notation.score_of(make_song(played))
    starts = [
        each.start
        for voice in score.parts[0].voices
        for bar in voice
        for each in bar
        if each.pitches and not each.went_on
    ]
    assert {start * 2 for start in starts} <= set(range(1000))  # its eighths again
    assert len(set(starts)) == len(set(track.onset_ticks.tolist()))


@pytest.mark.parametrize("name", ["bwv10.7.mid", "bwv86.6.mid"])
def test_the_voices_of_a_chorale_are_taken_apart(chorales, name):
    song = midi.read_song(chorales[name])
    joined = make_song(make_track(song.notes()[:, :3].tolist()))
    apart = notation.in_voices(joined)
    assert tuple(track.name for track in apart.tracks) == notation.VOICE_NAMES
    assert sorted(apart.notes().tolist()) == sorted(joined.notes().tolist())
    same = sum(
        len(set(ours) & set(theirs)) for ours, theirs in zip(rows(apart), rows(song), strict=True)
    )
    assert same > 0.85 * song.num_notes  # 0.96 of all chorales together


def test_one_line_stays_one_and_several_instruments_stay_apart():
    tune = make_song(make_track([(i * 480, 480, 60 + i % 5) for i in range(8)], name="Tune"))
    assert [track.name for track in notation.in_voices(tune).tracks] == ["Tune"]
    band = make_song(make_track([(0, 480, 60)]), make_track([(0, 480, 40)], program=33))
    assert notation.in_voices(band) is band
    drums = make_song(make_track([(0, 480, 36)], is_drum=True))
    assert notation.in_voices(drums) is drums
    cluster = make_song(make_track([(0, 480, 60 + i) for i in range(12)]))
    assert notation.in_voices(cluster) is cluster
    assert notation.in_voices(make_song()).num_notes == 0


@pytest.mark.parametrize(
    ("pitch", "fifths", "name"),
    [
        (60, 0, ("C", 0, 4)),
        (66, 0, ("F", 1, 4)),
        (70, 0, ("B", -1, 4)),
        (70, 3, ("A", 1, 4)),
        (61, -4, ("D", -1, 4)),
        (59, -7, ("C", -1, 4)),
        (60, 7, ("B", 1, 3)),
        (0, 0, ("C", 0, -1)),
    ],
)
def test_pitches_are_spelled_after_the_key(pitch, fifths, name):
    assert notation.spelled(pitch, fifths) == name


def test_a_key_is_estimated_where_the_song_has_none():
    song = make_song(
        make_track(
            [(i * 480, 480, 62 + n) for i, n in enumerate((0, 2, 4, 5, 7, 9, 11, 12, 0, 4, 7, 0))]
        )
    )
    assert "K:D\n" in notation.to_abc(song)


def test_bad_input_is_one_line(tmp_path):
    one = make_song(make_track([(0, 480, 60)]))
    with pytest.raises(InputError, match=r"musicxml or \.abc"):
        notation.write_score(one, tmp_path / "a.pdf")
    with pytest.raises(InputError, match="no pitched note"):
        notation.write_score(make_song(), tmp_path / "a.abc")
    hours = make_song(make_track([(0, 480, 60), (480 * 50_000, 480, 60)]))
    with pytest.raises(InputError, match="more than 5000 bars"):
        notation.write_score(hours, tmp_path / "a.musicxml")
    assert not list(tmp_path.iterdir())
    notation.write_score(one, tmp_path / "a.abc", title="two\nlines\x00")
    assert "T:two lines\n" in (tmp_path / "a.abc").read_text()
