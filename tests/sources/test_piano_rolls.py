import contextlib
import random

import numpy as np
import pytest
from conftest import load_config

from musicjax.encodings import make_encoding
from musicjax.errors import InputError, SongError
from musicjax.music.song import Song
from musicjax.sources import piano_rolls
from musicjax.sources.piano_rolls import PianoRolls


def make_set(path, **changes):
    """A set of 3, 2 and 1 pieces, with arrays changed."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, lengths in (("train", [5, 9, 7]), ("valid", [4, 12]), ("test", [6])):
        rolls = (rng.random((sum(lengths), 88)) < 0.3).astype(np.uint8)
        arrays |= {f"{split}_rolls": rolls, f"{split}_lengths": np.array(lengths, np.int32)}
    arrays |= changes
    np.savez(path, **{name: values for name, values in arrays.items() if values is not None})
    return arrays


def test_pieces_are_songs_in_their_own_splits(tmp_path):
    arrays = make_set(tmp_path / "a.npz")
    source = PianoRolls.open(str(tmp_path / "a.npz"))
    files = source.find()
    assert [(file.name, file.metadata["split"]) for file in files] == [
        ("train/0", "train"),
        ("train/1", "train"),
        ("train/2", "train"),
        ("valid/0", "validation"),
        ("valid/1", "validation"),
        ("test/0", "test"),
    ]
    song, md5 = source.read(files[1], max_bytes=1)
    assert (song.ticks_per_quarter, song.meters, song.tempos) == (4, (), ())
    roll = np.zeros((9, 88), int)
    for onset, duration, pitch, _ in song.notes().tolist():
        roll[onset : onset + duration, pitch - 21] += 1
    np.testing.assert_array_equal(roll, arrays["train_rolls"][5:14])
    assert md5 != source.read(files[0], max_bytes=1)[1]


def test_a_run_of_ones_is_one_note(tmp_path):
    roll = np.zeros((6, 88), np.uint8)
    roll[[0, 1, 3], 0] = 1
    roll[2:5, 87] = 1
    make_set(tmp_path / "a.npz", test_rolls=roll)
    source = PianoRolls(tmp_path / "a.npz")
    song, _ = source.read(source.find()[-1], max_bytes=1)
    assert song.notes()[:, :3].tolist() == [[0, 2, 21], [2, 3, 108], [3, 1, 21]]
    assert song.end_ticks == 5  # the silent step after the last note is not kept


def test_a_silent_piece_has_a_reason(tmp_path):
    make_set(tmp_path / "a.npz", test_rolls=np.zeros((6, 88), np.uint8))
    source = PianoRolls(tmp_path / "a.npz")
    with pytest.raises(SongError) as caught:
        source.read(source.find()[-1], max_bytes=1)
    assert caught.value.reason == "no_notes"


def test_the_file_is_loaded_again_only_if_it_has_changed(tmp_path, monkeypatch):
    path, loads, load = tmp_path / "a.npz", [], np.load
    monkeypatch.setattr(piano_rolls.np, "load", lambda file: loads.append(file) or load(file))
    make_set(path)
    source = PianoRolls(path)
    for file in source.find():
        source.read(file, max_bytes=1)
    assert len(loads) == 1
    make_set(path, test_rolls=np.ones((8, 88), bool), test_lengths=np.array([8]))
    song, _ = source.read(source.find()[-1], max_bytes=1)
    assert (song.end_ticks, len(loads)) == (8, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"valid_rolls": None}, "valid_rolls"),
        ({"test_lengths": np.array([7])}, "test_rolls has 6 steps, its lengths 7"),
        ({"test_lengths": np.array([7, -1])}, "test_lengths is not a list of lengths"),
        ({"test_lengths": np.array([6.0])}, "test_lengths is not a list of lengths"),
        ({"test_rolls": np.full((6, 88), 2)}, "other values than the integers 0 and 1"),
        ({"test_rolls": np.full((6, 88), -1)}, "other values than the integers 0 and 1"),
        ({"test_rolls": np.full((6, 88), 0.5)}, "other values than the integers 0 and 1"),
        ({"test_rolls": np.full((6, 88), np.nan)}, "other values than the integers 0 and 1"),
        ({"test_rolls": np.ones((6, 78), int)}, r"\[6, 78\], not \[steps, 88\]: one column for"),
        ({"test_rolls": np.ones(6, int)}, r"test_rolls is \[6\], not \[steps, 88\]"),
        ({"test_rolls": np.array([{}])}, "pickle"),
    ],
)
def test_what_is_no_set_of_rolls_is_one_clear_line(tmp_path, changes, message):
    make_set(tmp_path / "a.npz", **changes)
    with pytest.raises(InputError, match=f"not a set of piano rolls .*{message}"):
        PianoRolls(tmp_path / "a.npz").find()


def test_a_damaged_file_is_refused_or_is_still_a_set(tmp_path):
    path = tmp_path / "a.npz"
    make_set(path)
    content, rng = path.read_bytes(), random.Random(0)
    damaged = [b"", b"no zip", content[: len(content) // 2], content[:-1]]
    for _ in range(300):
        mutant = bytearray(content)
        for _ in range(rng.choice([1, 1, 4])):
            mutant[rng.randrange(len(mutant))] = rng.randrange(256)
        damaged.append(bytes(mutant))
    for mutant in damaged:
        path.write_bytes(mutant)
        piano_rolls._load_version.cache_clear()
        with contextlib.suppress(InputError):
            assert len(PianoRolls(path).find()) == 6


def test_events_are_one_way_to_write_a_roll(tmp_path):
    """So that the likelihood of the events is at most the roll's (benchmarks.polyphonic)."""
    make_set(tmp_path / "a.npz")
    source = PianoRolls(tmp_path / "a.npz")
    encoding = make_encoding(load_config("nottingham_events", "polyphonic").data)
    for file in source.find():
        song, _ = source.read(file, max_bytes=1)
        elements = encoding.encode(song).elements
        rolls = []
        decoded = Song(tuple(encoding.decode(elements)), 12)
        for notes in (song.notes(), decoded.notes() // [3, 3, 1, 1]):
            roll = np.zeros((40, 128), int)
            for onset, duration, pitch, _ in notes.tolist():
                roll[onset : onset + duration, pitch] += 1
            rolls.append(roll)
        np.testing.assert_array_equal(*rolls)
        np.testing.assert_array_equal(encoding.encode(decoded).elements, elements)
