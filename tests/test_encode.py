"""Encoding at size: many workers, stops and goes, files that hang, names that bite."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import symusic
from conftest import ROOT, SHARED, encoded, load_config, random_song, settings

from musicjax import encode, midi
from musicjax.corpus import Corpus
from musicjax.errors import InputError

FILES = ("manifest.json", "songs.jsonl", "skipped.jsonl", "data.npy", "vocabulary.json")


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """200 files, some of them bad: seven shards."""
    path = tmp_path_factory.mktemp("many")
    for seed in range(190):
        midi.write_song(random_song(seed, quarters=24), path / f"{seed:03d}.mid")
    for number in range(10):
        (path / f"{number * 20:03d}x.mid").write_bytes(b"<html>")
    return path


def command(source, output, *more):
    return [
        *(sys.executable, "-m", "musicjax.encode", "--config=configs/vocab.py:tiny"),
        *(f"--config.data.source={source}", f"--output={output}", *more),
    ]


def same_bytes(a, b):
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in FILES)


def test_the_same_bytes_with_any_workers_and_after_a_kill(many, tmp_path):
    data = settings(many)
    one = encode.encode_corpus(data, tmp_path / "one", number_of_workers=1)
    assert len(one.songs) == 190
    encode.encode_corpus(data, tmp_path / "four", number_of_workers=4)
    assert same_bytes(tmp_path / "one", tmp_path / "four")
    partial = tmp_path / ".killed.partial"
    process = subprocess.Popen(
        command(many, tmp_path / "killed", "--workers=1"),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not list(partial.glob("*.npz")):
        assert process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed").exists()
    before = {path.name: path.stat().st_mtime_ns for path in partial.glob("*.npz")}
    assert 1 <= len(before) < 7
    again = subprocess.run(
        command(many, tmp_path / "killed"), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "190 songs of 200 files" in again.stdout
    assert not partial.exists()
    assert same_bytes(tmp_path / "one", tmp_path / "killed")


def test_what_was_done_is_not_done_again_but_with_other_settings(many, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(encode, "_assemble", stopped)
    data = settings(many)
    with pytest.raises(KeyboardInterrupt):
        encode.encode_corpus(data, tmp_path / "corpus", number_of_workers=0)
    monkeypatch.undo()
    partial = tmp_path / ".corpus.partial"
    done = {path.name: path.stat().st_mtime_ns for path in partial.glob("*.npz")}
    assert len(done) == 7
    monkeypatch.setattr(encode.shards, "write_shard", stopped)
    assert len(encode.encode_corpus(data, tmp_path / "corpus", number_of_workers=0).songs) == 190
    # The leavings of other settings are not used.
    shutil.copytree(tmp_path / "corpus", partial)
    (partial / "fingerprint").write_text("another")
    (partial / "0.npz").write_bytes(b"")
    data.transpose = False
    shutil.rmtree(tmp_path / "corpus")
    with pytest.raises(KeyboardInterrupt):
        encode.encode_corpus(data, tmp_path / "corpus", number_of_workers=0)


def test_nothing_is_left_of_what_gave_no_song(folder, tmp_path):
    data = settings(folder, track="drums")
    with pytest.raises(InputError, match="none of its 30 files gave a song"):
        encode.encode_corpus(data, tmp_path / "corpus", number_of_workers=0)
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_folder_is_not_encoded_again(folder, tmp_path):
    encode.encode_corpus(settings(folder), tmp_path / "corpus", number_of_workers=0)
    data = settings(tmp_path / "corpus")
    with pytest.raises(InputError, match="a corpus folder: train on it as it is"):
        encode.encode_corpus(data, tmp_path / "again", number_of_workers=0)


def test_a_file_that_takes_too_long_costs_itself_alone(folder, tmp_path):
    source = tmp_path / "songs"
    shutil.copytree(folder, source)
    score = symusic.Score(480)
    score.tracks.append(symusic.Track())
    onset = np.arange(390_000, dtype=np.int32) * 120
    score.tracks[0].notes = symusic.Note.from_numpy(
        onset, np.ones_like(onset), (60 + onset % 12).astype(np.int8), np.full(len(onset), 80, "i1")
    )
    score.dump_midi(source / "05 long.mid")
    data = settings(source, seconds_per_file=0.5, most_megabytes=100.0, longest_minutes=0.0)
    corpus = encode.encode_corpus(data, tmp_path / "corpus", number_of_workers=2)
    assert [(row["name"], row["reason"]) for row in corpus.skipped] == [("05 long.mid", "too_slow")]
    assert len(corpus.songs) == 30


def test_what_no_one_thought_of_costs_the_file_alone(folder, monkeypatch):
    real = encode.shards.cleaning.prepare

    def surprised(song, data):
        if song.source.endswith("07.mid"):
            raise ZeroDivisionError("division by zero")
        return real(song, data)

    monkeypatch.setattr(encode.shards.cleaning, "prepare", surprised)
    corpus = encoded(settings(folder))
    (row,) = corpus.skipped
    assert row == {
        "name": "07.mid",
        "reason": "failed",
        "detail": "ZeroDivisionError: division by zero",
    }


def test_names_that_bite(tmp_path):
    source = tmp_path / "songs"
    source.mkdir()
    names = [
        "<img src=x onerror=alert(1)>.mid",
        "line\nbreak\u2028\x1b[31m.mid",
        "..\\..\\up.mid",
        "-rf *.mid",
    ]
    for seed, name in enumerate(names):
        midi.write_song(random_song(seed), source / name)
    bytes_name = os.fsencode(source) + b"/\xff\xfe.mid"
    (source / names[0]).rename(os.fsdecode(bytes_name))
    (source / names[0]).write_bytes(b"MThd")
    corpus = encode.encode_corpus(settings(source), tmp_path / "corpus")
    assert {song["name"] for song in corpus.songs} == {"\\xff\\xfe.mid", *names[1:]}
    assert [row["name"] for row in corpus.skipped] == [names[0]]
    assert sorted(os.listdir(tmp_path)) == ["corpus", "songs"]
    assert Corpus.load(tmp_path / "corpus").songs == corpus.songs


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/midi is not there")
def test_every_shared_file_lands_as_a_song_or_as_skipped(tmp_path):
    data = settings(SHARED, track="piano")
    corpus = encode.encode_corpus(data, tmp_path / "corpus")
    songs = [song["name"] for song in corpus.songs]
    skipped = [row["name"] for row in corpus.skipped]
    assert len(songs) + len(skipped) == len({*songs, *skipped}) == 1423
    assert "failed" not in corpus.manifest["skipped"]
    assert sum(corpus.manifest["skipped"].values()) == len(skipped)
    manifest = json.loads((tmp_path / "corpus" / "manifest.json").read_text())
    assert manifest["counts"]["files"] == 1423


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
)
@pytest.mark.parametrize("config", ["vocab", "nsm"])
def test_hostile_files_are_bounded(tmp_path, content, reason, config):
    (tmp_path / "hostile.mid").write_bytes(content)
    data = load_config("tiny", config).data
    data.source, data.validation_share, data.test_share = str(tmp_path), 0.0, 0.0
    started = time.perf_counter()
    (file,) = encode.corpora.find_songs(str(tmp_path))
    row, _ = encode.shards.encode_file(file, data)
    assert row.get("reason") == reason, row
    assert time.perf_counter() - started < data.seconds_per_file


def test_a_huge_file_is_not_read(tmp_path):
    with (tmp_path / "huge.mid").open("wb") as file:
        file.truncate(200_000_000)
    (file,) = encode.corpora.find_songs(str(tmp_path))
    started = time.perf_counter()
    row, _ = encode.shards.encode_file(file, settings(tmp_path))
    assert row["reason"] == "too_big"
    assert row["detail"] == "200.0 MB, at most 4"
    assert time.perf_counter() - started < 0.5
