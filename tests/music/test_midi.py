import csv
import gzip
import pickle
import struct
import time

import mido
import numpy as np
import pretty_midi
import pytest
import symusic
from conftest import SHARED, make_song, make_track, random_song

from musicjax.errors import InputError
from musicjax.music import midi
from musicjax.music.song import KeySignature, Meter, Song, Tempo, Track


def same_notes(a, b):
    assert len(a.tracks) == len(b.tracks)
    for ours, theirs in zip(a.tracks, b.tracks, strict=True):
        for field in ("onset_ticks", "duration_ticks", "pitch", "velocity"):
            np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))


def test_write_then_read_gives_the_same_song(tmp_path):
    song = make_song(
        make_track([(0, 480, 60), (481, 1, 62), (97_231, 777, 127)], name="Lead", program=80),
        make_track([(0, 100, 36)], name="Kit", is_drum=True),
        tempos=(Tempo(0, 93.0), Tempo(960, 150.0), Tempo(50_000, 33.0)),
        meters=(Meter(0, 3, 4), Meter(4320, 6, 8)),
        keys=(KeySignature(0, -3, True), KeySignature(480, 2, False)),
    )
    midi.write_song(song, tmp_path / "a.mid")
    back = midi.read_song(tmp_path / "a.mid")
    same_notes(song, back)
    assert back.ticks_per_quarter == 480
    assert [(t.name, t.program, t.is_drum) for t in back.tracks] == [
        ("Lead", 80, False),
        ("Kit", 0, True),
    ]
    assert back.meters == song.meters
    assert back.keys == song.keys
    assert [tempo.tick for tempo in back.tempos] == [0, 960, 50_000]
    np.testing.assert_allclose([t.qpm for t in back.tempos], [93.0, 150.0, 33.0], rtol=1e-5)


def test_song_to_pretty_midi_and_back():
    song = random_song(3)
    pm = midi.song_to_pretty_midi(song)
    assert isinstance(pm, pretty_midi.PrettyMIDI)
    # 100 qpm: a quarter lasts 0.6 s
    first = pm.instruments[0].notes[0]
    assert first.start == pytest.approx(song.tracks[0].onset_ticks[0] / 480 * 0.6)
    back = midi.song_from_pretty_midi(pm)
    same_notes(song, back)
    assert back.main_qpm == pytest.approx(100)


def test_a_song_longer_than_pretty_midi_holds_is_refused_at_once():
    song = make_song(make_track([(10_000_000, 480, 60)]))
    with pytest.raises(InputError, match="10000480 ticks; pretty_midi holds fewer than 10000000"):
        midi.song_to_pretty_midi(song)
    last = make_song(make_track([(9_999_000, 999, 60)]), tempos=(Tempo(0, 100.0),))
    same_notes(last, midi.song_from_pretty_midi(midi.song_to_pretty_midi(last)))


@pytest.mark.parametrize("unit", ["tick", "quarter", "second"])
def test_song_to_symusic_and_back(unit):
    song = random_song(3)
    score = midi.song_to_symusic(song)
    assert isinstance(score, symusic.Score)
    assert score.note_num() == song.num_notes
    back = midi.song_from_symusic(score.to(unit), "a score")
    same_notes(song, back)
    assert (back.meters, back.keys, back.source) == (song.meters, song.keys, "a score")
    assert back.main_qpm == pytest.approx(100)
    assert midi.song_from_symusic(midi.song_to_symusic(make_song())).tracks == ()


def test_more_tracks_than_channels(tmp_path):
    pitched = [make_track([(0, 9, 60 + i)], name=str(i), program=i) for i in range(40)]
    drums = [
        make_track([(0, 9, 36)], name=n, program=p, is_drum=True) for n, p in (("a", 0), ("b", 8))
    ]
    song = make_song(*pitched[:20], *drums, *pitched[20:])
    midi.write_song(song, tmp_path / "a.mid")
    back = midi.read_song(tmp_path / "a.mid")
    same_notes(song, back)
    described = [[(t.name, t.program, t.is_drum) for t in s.tracks] for s in (song, back)]
    assert described[0] == described[1]
    # Channels are shared only when all are taken, and channel 10 (9 from 0) is for drums alone.
    written = mido.MidiFile(tmp_path / "a.mid")
    channels = [
        message.channel
        for track in written.tracks
        for message in track
        if message.type == "note_on"
    ]
    assert sorted(channels[:15]) == [*range(9), *range(10, 16)]
    assert [channel == 9 for channel in channels] == [t.is_drum for t in song.tracks]


def test_a_song_without_tracks_is_written(tmp_path):
    midi.write_song(make_song(tempos=(Tempo(0, 90.0),)), tmp_path / "a.mid")
    with pytest.raises(midi.MidiError, match="no_notes"):
        midi.read_song(tmp_path / "a.mid")


def test_the_same_song_gives_the_same_bytes(tmp_path):
    for name in "ab":
        midi.write_song(random_song(3), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("name", ["Flöte", "Флейта", "长笛", "フルート", "", "a\tb", "x" * 70_000])
def test_track_names_of_any_script_are_kept(tmp_path, name):
    midi.write_song(make_song(make_track([(0, 1, 60)], name=name)), tmp_path / "a.mid")
    assert midi.read_song(tmp_path / "a.mid").tracks[0].name == name


def test_a_track_name_that_is_not_text_is_replaced(tmp_path):
    midi.write_song(make_song(make_track([(0, 1, 60)], name="a\udcff")), tmp_path / "a.mid")
    assert midi.read_song(tmp_path / "a.mid").tracks[0].name == "a?"


def test_the_longest_song_is_written_in_under_a_second(tmp_path):
    rng, count = np.random.default_rng(0), 200_000
    onset = np.sort(rng.integers(0, (midi.MAX_QUARTERS - 1) * 480, count))
    pitch, velocity = rng.integers(30, 90, count), np.full(count, 90)
    song = Song((Track("", 0, False, onset, np.ones(count, int), pitch, velocity),), 480)
    start = time.perf_counter()
    midi.write_song(song, tmp_path / "long.mid")
    assert time.perf_counter() - start < 1
    back = midi.read_song(tmp_path / "long.mid")
    np.testing.assert_array_equal(back.notes()[:, [0, 2]], song.notes()[:, [0, 2]])


def test_overlapping_notes_of_one_pitch_end_in_the_order_of_their_onsets(tmp_path):
    midi.write_song(make_song(make_track([(0, 100, 60), (10, 20, 60)])), tmp_path / "a.mid")
    back = midi.read_song(tmp_path / "a.mid")
    assert back.notes()[:, :2].tolist() == [[0, 30], [10, 90]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(ticks_per_quarter=40_000), "40000 ticks a quarter note; expected at most 32767"),
        (dict(tempos=(Tempo(0, 3.0),)), r"a tempo of 3 qpm; expected 3\.58 to 6e7"),
        (dict(tempos=(Tempo(0, 1e9),)), r"a tempo of 1e\+09 qpm"),
        (dict(meters=(Meter(0, 300, 4),)), "a meter of 300/4; expected 1 to 255 over one of 1, 2"),
        (dict(meters=(Meter(0, 4, 3),)), "a meter of 4/3"),
        (dict(keys=(KeySignature(0, 8, False),)), "a key of 8 fifths; expected -7 to 7"),
        (dict(meters=(Meter(2**28, 4, 4),)), "268435456 ticks without an event"),
    ],
)
def test_what_a_midi_file_cannot_hold_is_one_clear_line(tmp_path, changes, message):
    song = make_song(make_track([(0, 1, 60)]), source="song.mid", **changes)
    with pytest.raises(InputError, match=f"song.mid cannot be a MIDI file: it has {message}"):
        midi.write_song(song, tmp_path / "a.mid")
    assert not (tmp_path / "a.mid").exists()


def smf(division=480, kind=1, tracks=(b"\x00\x90\x3c\x40\x60\x80\x3c\x40\x00\xff\x2f\x00",)):
    """The bytes of a MIDI file of one note."""
    head = b"MThd" + struct.pack(">IHHH", 6, kind, len(tracks), division)
    return head + b"".join(b"MTrk" + struct.pack(">I", len(t)) + t for t in tracks)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not_midi"),
        (b"<!DOCTYPE html><p>404", "not_midi"),
        (gzip.compress(smf(), mtime=0), "not_midi"),
        (b"MThd", "not_midi"),
        (smf()[:30], "corrupt"),
        (smf(kind=2), "type_2"),
        (smf(division=0), "bad_ticks"),
        (smf(division=0xE728), "bad_ticks"),  # SMPTE: 25 frames of 40
        (smf(tracks=(b"\x00\xff\x2f\x00",)), "no_notes"),
        (
            smf(tracks=(b"\xff\xff\xff\x7f\x90\x3c\x40\x60\x80\x3c\x40\x00\xff\x2f\x00",)),
            "too_long",
        ),
    ],
)
def test_bad_files_get_a_reason(tmp_path, content, reason):
    path = tmp_path / "bad.mid"
    path.write_bytes(content)
    with pytest.raises(midi.MidiError) as caught:
        midi.read_song(path)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.reason, again.detail) == (
        str(caught.value),
        reason,
        caught.value.detail,
    )


def test_missing_file_gets_a_reason(tmp_path):
    with pytest.raises(midi.MidiError, match="missing"):
        midi.read_song(tmp_path / "none.mid")


@pytest.mark.parametrize(
    "wrapper", [b"RIFF\x00\x01\x00\x00RMIDdata\x00\x01\x00\x00", b"\x00" * 128]
)
def test_wrapped_files_are_read(tmp_path, wrapper):
    path = tmp_path / "wrapped.mid"
    path.write_bytes(wrapper + smf())
    assert midi.read_song(path).num_notes == 1


def test_nonsense_events_are_left_out(tmp_path):
    events = (
        b"\x00\xff\x58\x04\x00\x02\x18\x08"  # meter 0/4
        b"\x00\xff\x58\x04\x04\xff\x18\x08"  # meter 4/2^255
        b"\x00\xff\x51\x03\x00\x00\x00"  # 0 microseconds a quarter
        b"\x00\xff\x59\x02\xec\x00"  # 20 flats
        b"\x00\xb0\x07\xa8"  # data byte over 127
        b"\x00\x90\x3c\x40\x60\x80\x3c\x40\x00\xff\x2f\x00"
    )
    path = tmp_path / "odd.mid"
    path.write_bytes(smf(tracks=(events,)))
    song = midi.read_song(path)
    assert (song.meters, song.tempos, song.keys) == ((), (), ())
    assert song.notes().tolist() == [[0, 96, 60, 64]]


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/midi is not there")
def test_every_shared_file_is_refused_with_a_reason_or_read_and_written(tmp_path):
    with (SHARED / "MANIFEST.tsv").open() as manifest:
        table = csv.DictReader(manifest, delimiter="\t")
        rows = [row for row in table if row["path"].endswith(".mid")]
    refused = {}
    for row in rows:
        try:
            song = midi.read_song(SHARED / row["path"])
        except midi.MidiError as error:
            refused[row["path"]] = error.reason
        else:
            assert song.num_notes > 0
            assert song.ticks_per_quarter > 0
            midi.write_song(song, tmp_path / "a.mid")
            back = midi.read_song(tmp_path / "a.mid")
            same_notes(song, back)
            described = [[(t.name, t.program, t.is_drum) for t in s.tracks] for s in (song, back)]
            assert described[0] == described[1]
            assert (back.meters, back.keys) == (song.meters, song.keys)
            assert [tempo.tick for tempo in back.tempos] == [tempo.tick for tempo in song.tempos]
            quarters = [[6e7 / tempo.qpm for tempo in s.tempos] for s in (song, back)]
            np.testing.assert_allclose(*quarters, rtol=0, atol=1)  # microseconds
    assert len(rows) == 1423
    # What is refused is refused for cause: all of it was put there as broken.
    assert all(path.startswith("broken/") for path in refused), refused
    assert set(refused.values()) <= {
        "not_midi",
        "corrupt",
        "type_2",
        "bad_ticks",
        "too_long",
        "no_notes",
    }
