import time

import numpy as np
import pytest
from conftest import load_config, make_song, make_track, random_song, settings

from musicjax.corpus import build, shards
from musicjax.corpus.shards import EncodedFile, Shard
from musicjax.corpus.store import Skipped
from musicjax.errors import InputError
from musicjax.music import midi
from musicjax.music.song import KeySignature


def make_folder(path, count=3):
    for seed in range(count):
        midi.write_song(random_song(seed), path / f"{seed}.mid")
    (path / "bad.mid").write_bytes(b"<html>")
    return path


@pytest.mark.parametrize("config", ["vocab", "nsm"])
def test_a_shard_is_written_and_read_back(tmp_path, config):
    data = load_config("tiny", config).data
    data.source = str(make_folder(tmp_path))
    plan = build.make_plan(data)
    given_up = {"1.mid": ("too_slow", "took more than 30 seconds")}
    assert shards.write_shard(tmp_path / "0.npz", plan.songs, plan.job, given_up) == 2
    shard = Shard.load(tmp_path / "0.npz")
    first, slow, last, bad = shard.rows
    assert slow == Skipped("1.mid", "too_slow", "took more than 30 seconds")
    assert (bad.name, bad.reason) == ("bad.mid", "not_midi")
    for row, path in ((first, "0.mid"), (last, "2.mid")):
        alone, elements = shards.encode_file(plan.songs[int(path[0])], plan.job)
        assert row == alone
        assert row.record.name == path
        assert (row.record.split, row.record.offset) == ("", 0)
        assert row.record.length == len(elements)
    assert len(shard.data) == first.record.length + last.record.length
    assert shards.load_rows(tmp_path / "0.npz") == shard.rows
    if config == "vocab":  # its symbols are numbered from 0, as they come
        assert shard.data[0] == 0
        assert len(shard.symbols) == shard.data.max() + 1
    else:
        assert shard.symbols == []


def test_a_shard_without_a_song(tmp_path):
    (tmp_path / "bad.mid").write_bytes(b"<html>")
    for config in ("vocab", "nsm"):
        data = load_config("tiny", config).data
        data.source = str(tmp_path)
        plan = build.make_plan(data)
        assert shards.write_shard(tmp_path / "0.npz", plan.songs, plan.job, {}) == 1
        shard = Shard.load(tmp_path / "0.npz")
        assert [row.reason for row in shard.rows] == ["not_midi"]
        assert (len(shard.data), shard.symbols) == (0, [])
        assert shard.data.dtype == plan.job.encoding.rows(0).dtype


def encode_one(path, **changes):
    """The row of a folder's only file."""
    plan = build.make_plan(settings(path, **changes))
    (file,) = plan.songs
    return shards.encode_file(file, plan.job)[0]


def test_what_a_record_says_of_a_song(tmp_path):
    # Forty beats in D; the bass sounds in every other one.
    tune = [(t * 480, 480, 62 + (0, 2, 4, 5, 7, 9, 11, 12)[t % 8]) for t in range(40)]
    bass = [(t * 960, 480, 38) for t in range(20)]
    song = make_song(
        make_track(tune),
        make_track(bass, name="Bass", program=33),
        keys=(KeySignature(0, 2, False),),
    )
    midi.write_song(song, tmp_path / "a.mid")
    row = encode_one(tmp_path, track="bass", longest_rest=0)
    assert isinstance(row, EncodedFile)
    record = row.record
    assert record.parts == {
        "piano": {"notes": 40, "silent": 0.0},
        "bass": {"notes": 20, "silent": 0.5},
    }
    assert (record.key, record.key_signature, record.semitones) == ("D:maj", "D:maj", -2)
    assert record.key_margin > 0
    assert (record.rule, record.program, record.is_drum) == ("track name", 33, False)
    assert (record.qpm, record.seconds, record.bars_cut, record.length) == (120, 20, 0, 39)
    bars = {"bars": [[0, 48, 4]]}
    assert (record.repairs, record.layout, record.artist, record.year) == ([], bars, None, None)
    untransposed = encode_one(tmp_path, transpose=False).record
    assert (untransposed.key, untransposed.semitones) == (record.key, 0)


def test_a_song_without_the_part_says_which_tracks_it_has(tmp_path):
    midi.write_song(random_song(1), tmp_path / "a.mid")
    assert encode_one(tmp_path, track="drums") == Skipped("a.mid", "no_track", "has Piano")
    few = encode_one(tmp_path, least_notes=1000)
    assert (few.reason, few.detail) == ("few_notes", "62 notes, at least 1000")


@pytest.mark.parametrize(
    ("error", "reason", "detail"),
    [
        (ZeroDivisionError("division\nby zero"), "failed", "ZeroDivisionError: division by zero"),
        (MemoryError(), "too_big", "does not fit into memory"),
        (ValueError("x" * 1000), "failed", "ValueError: " + "x" * 488),
    ],
)
def test_an_unforeseen_error_costs_the_file_alone(tmp_path, monkeypatch, error, reason, detail):
    def fails(*_):
        raise error

    midi.write_song(random_song(1), tmp_path / "a.mid")
    monkeypatch.setattr(shards.preprocess, "prepare", fails)
    assert encode_one(tmp_path) == Skipped("a.mid", reason, detail)


def test_an_error_of_the_settings_is_no_error_of_a_file(tmp_path):
    midi.write_song(random_song(1), tmp_path / "a.mid")
    with pytest.raises(InputError, match=r"data.track is '\(': neither one of"):
        encode_one(tmp_path, track="(")


# --- hostile files ---------------------------------------------------------------------------


def midi_bytes(events: bytes) -> bytes:
    """A file of type 0 with these events, 480 ticks to a quarter."""
    track = events + b"\x00\xff\x2f\x00"
    return b"MThd\0\0\0\x06\0\0\0\x01\x01\xe0" + b"MTrk" + len(track).to_bytes(4, "big") + track


NOTE = b"\x00\x90\x3c\x50\x83\x60\x80\x3c\x00"  # a quarter of middle C


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        # 2^28 - 1 ticks of silence, the most that one delta time holds; eight of them overflow.
        (midi_bytes(NOTE * 9 + b"\xff\xff\xff\x7f" + NOTE[1:]), "too_long"),
        (midi_bytes((b"\xff\xff\xff\x7f" + NOTE[1:]) * 9), "bad_ticks"),
        # A tempo at each tick: 540,000 of them in what is just small enough a file.
        (midi_bytes(NOTE * 9 + b"\x01\xff\x51\x03\x07\xa1\x20" * 540_000), None),
        (midi_bytes(NOTE * 9 + b"\x01\xff\x58\x04\x04\x02\x18\x08" * 480_000), None),
        # As many notes as fit, all at once, by running status.
        (midi_bytes(b"\x00\x90\x3c\x50" + b"\x00\x3c\x50" * 1_300_000), "no_notes"),
        # Well-formed ones, a tick each.
        (midi_bytes(b"\x00\x90" + b"\x3c\x50\x01\x3c\x00\x00" * 640_000 + b"\x3c\x00"), None),
    ],
    ids=["silence", "overflow", "tempos", "meters", "notes at once", "notes"],
)
@pytest.mark.parametrize("config", ["vocab", "nsm"])
def test_hostile_files_are_bounded(tmp_path, content, reason, config):
    (tmp_path / "hostile.mid").write_bytes(content)
    data = load_config("tiny", config).data
    data.source = str(tmp_path)
    plan = build.make_plan(data)
    started = time.perf_counter()
    row, _ = shards.encode_file(plan.songs[0], plan.job)
    assert getattr(row, "reason", None) == reason, row
    assert time.perf_counter() - started < data.seconds_per_file


def test_a_huge_file_is_not_read(tmp_path):
    with (tmp_path / "huge.mid").open("wb") as file:
        file.truncate(200_000_000)
    started = time.perf_counter()
    assert encode_one(tmp_path) == Skipped("huge.mid", "too_big", "200.0 MB, at most 4")
    assert time.perf_counter() - started < 0.5


def test_shards_hold_numbers_as_they_are(tmp_path):
    data = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Shard([Skipped("ünï.mid", "a", "b")], data, ["C4:1", "é"]).save(tmp_path / "s.npz")
    back = Shard.load(tmp_path / "s.npz")
    assert back.rows == [Skipped("ünï.mid", "a", "b")]
    assert back.symbols == ["C4:1", "é"]
    np.testing.assert_array_equal(back.data, data)
    assert [path.name for path in tmp_path.iterdir()] == ["s.npz"]
