import csv
import gzip
import pickle
import struct

import numpy as np
import pretty_midi
import pytest
from conftest import SHARED, make_song, make_track, random_song

from musicjax import midi
from musicjax.song import KeySignature, Meter, Tempo


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
def test_every_shared_file_is_read_or_refused_with_a_reason():
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
