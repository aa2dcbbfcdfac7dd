import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
from conftest import encoded, load_config, settings, spoil

from musicjax.corpus import build, preprocess, store
from musicjax.corpus.preprocess import Preprocessing
from musicjax.corpus.store import Corpus
from musicjax.encodings.note_states import song_to_note_state, unpack
from musicjax.errors import InputError
from musicjax.music import midi
from musicjax.system import checksums


@pytest.fixture(scope="module")
def corpus(folder):
    return encoded(settings(folder))


def test_a_corpus_is_read_back_as_it_was(folder, corpus, tmp_path):
    corpus.save(tmp_path / "corpus")
    back = Corpus.load(tmp_path / "corpus")
    np.testing.assert_array_equal(back.data, corpus.data)
    assert isinstance(back.data, np.memmap)
    assert back.songs == corpus.songs
    assert back.manifest == corpus.manifest
    assert back.skipped == corpus.skipped
    encoding = back.encoding
    assert encoding == corpus.encoding
    assert sum(map(len, map(back.split, ("train", "validation", "test")))) == 30
    # A song's ids are its tokens.
    song, preprocessing = back.songs[7], Preprocessing.from_config(back.manifest["settings"])
    prepared = preprocess.prepare(midi.read_song(folder / song.name), preprocessing)
    expected = encoding.sequence(prepared.song).tokens
    assert encoding.vocabulary.decode(back.rows(song).tolist()) == expected
    # The vocabulary counts the training songs alone.
    ids = np.concatenate([back.rows(song) for song in back.split("train")])
    assert np.bincount(ids, minlength=encoding.size).tolist() == list(encoding.counts)
    with pytest.raises(InputError, match="already exists"):
        corpus.save(tmp_path / "corpus")


def test_a_saved_corpus_takes_no_room_beside_the_one_that_it_was_read_from(corpus, tmp_path):
    corpus.save(tmp_path / "corpus")
    back = Corpus.load(tmp_path / "corpus")
    back.save(tmp_path / "copy")
    ours, theirs = (tmp_path / name / "data.npy" for name in ("corpus", "copy"))
    assert ours.samefile(theirs)
    again = Corpus.load(tmp_path / "copy")
    assert again.songs == back.songs
    shutil.rmtree(tmp_path / "corpus")  # which the copy does not need
    np.testing.assert_array_equal(Corpus.load(tmp_path / "copy").data, corpus.data)


@pytest.mark.parametrize("error", [PermissionError, OSError])
def test_where_a_file_cannot_have_two_names_it_is_copied(corpus, tmp_path, monkeypatch, error):
    corpus.save(tmp_path / "corpus")

    def refuse(*_):
        raise error(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    Corpus.load(tmp_path / "corpus").save(tmp_path / "copy")
    ours, theirs = (tmp_path / name / "data.npy" for name in ("corpus", "copy"))
    assert not ours.samefile(theirs)
    np.testing.assert_array_equal(Corpus.load(tmp_path / "copy").data, corpus.data)


def test_a_corpus_of_note_states_is_read_back_as_it_was(folder, tmp_path):
    data = load_config("tiny", "nsm").data
    data.source, data.transpose = str(folder), False
    corpus = encoded(data)
    corpus.save(tmp_path / "corpus")
    back = Corpus.load(tmp_path / "corpus")
    assert not (tmp_path / "corpus" / "vocabulary.json").exists()
    assert back.encoding == corpus.encoding
    assert back.data.dtype == np.uint8
    transitions = back.manifest["statistics"]["transitions"]
    assert transitions == corpus.manifest["statistics"]["transitions"]
    for song in back.songs:
        expected = song_to_note_state(midi.read_song(folder / song.name)).states
        np.testing.assert_array_equal(unpack(np.asarray(back.rows(song)), 78, 2), expected)
        assert song.layout == {"bars": [[0, 16, 4]]}
    # What follows what in the training songs, all cells of it.
    steps = sum(song.length for song in back.split("train"))
    assert sum(transitions) == steps * 78


def test_nothing_half_written_is_left(corpus, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space"):
        corpus.save(tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("format", f"a corpus of format 4; this musicjax reads {store.FORMAT}: encode it again"),
        ("short data", r"damaged: data.npy holds \d+ rows, manifest.json says \d+ and songs.jsonl"),
        ("wide data", r"damaged: data.npy holds uint8 .*; expected rows of int32 \(\)"),
        ("a number alone", "not a corpus folder"),
        ("high ids", r"damaged: data.npy holds ids from \d+ to 99999; expected 0 to \d+; encode"),
        ("negative ids", r"damaged: data.npy holds ids from -1 to \d+; expected 0 to \d+; encode"),
        ("songs in another order", "and songs.jsonl .*, in order: False; encode it again"),
        ("no statistics", r"not a corpus folder \('statistics'\)"),
        ("deep", "not a corpus folder"),
        ("counts", "not a vocabulary .*expected counts that are positive"),
        ("a token twice", "not a vocabulary .*, or one twice"),
        ("no manifest", "not a corpus folder"),
        ("no data", "not a corpus folder"),
        ("no settings", "not a corpus folder"),
        ("no encoding", "not a corpus folder"),
        ("wrong setting", "not a corpus folder"),
        ("no vocabulary", "not a vocabulary"),
        ("bad json", "not a corpus folder"),
        ("a song without a field", "not a corpus folder"),
    ],
)
def test_a_corpus_that_cannot_be_is_one_clear_line(corpus, tmp_path, damage, message):
    path = tmp_path / "corpus"
    corpus.save(path)
    manifest = json.loads((path / "manifest.json").read_text())
    data, songs = np.load(path / "data.npy"), (path / "songs.jsonl").read_text().splitlines()
    vocabulary = json.loads((path / "vocabulary.json").read_text())
    match damage:
        case "format":
            manifest["format"] = 4
        case "short data":
            np.save(path / "data.npy", data[:-1])
        case "wide data":
            np.save(path / "data.npy", np.zeros((manifest["length"], 3), np.uint8))
        case "a number alone":
            np.save(path / "data.npy", np.int32(3))
        case "high ids" | "negative ids":
            data[7] = -1 if damage == "negative ids" else 99_999
            np.save(path / "data.npy", data)
        case "songs in another order":
            (path / "songs.jsonl").write_text("\n".join(songs[::-1]) + "\n")
        case "no statistics":
            del manifest["statistics"]
        case "deep":
            (path / "skipped.jsonl").write_text("[" * 99_999)
        case "counts":
            vocabulary["counts"][0] = 1.5
        case "a token twice":
            vocabulary["tokens"][1] = vocabulary["tokens"][0]
        case "no manifest":
            manifest = None
        case "no data":
            (path / "data.npy").unlink()
        case "no settings":
            del manifest["settings"]
        case "no encoding":
            del manifest["settings"]["encoding"]
        case "wrong setting":
            manifest["settings"]["longest_rest"] = "long"
        case "no vocabulary":
            (path / "vocabulary.json").unlink()
        case "bad json":
            (path / "songs.jsonl").write_text("{")
        case "a song without a field":
            (path / "songs.jsonl").write_text('{"name": "a.mid"}\n')
    if manifest:
        (path / "manifest.json").write_text(json.dumps(manifest))
    else:
        (path / "manifest.json").unlink()
    if damage != "no vocabulary":
        (path / "vocabulary.json").write_text(json.dumps(vocabulary))
    checksums.write(path)  # as who made it by other means would
    with pytest.raises(InputError, match=message) as caught:
        Corpus.load(path)
    assert "again" in str(caught.value)
    assert store.is_corpus(path) == (damage != "no manifest")


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "empty"])
@pytest.mark.parametrize(
    "name",
    ["data.npy", "manifest.json", "songs.jsonl", "skipped.jsonl", "vocabulary.json", "SHA256SUMS"],
)
def test_a_damaged_corpus_is_one_clear_line(corpus, tmp_path, name, damage):
    path, skipped = tmp_path / "corpus", [store.Skipped("a.mid", "corrupt", "")]
    dataclasses.replace(corpus, skipped=skipped).save(path)
    assert Corpus.load(path).skipped == skipped
    spoil(path / name, damage)
    with pytest.raises(InputError, match=f"{path}: (damaged: .*is|not a corpus folder)") as e:
        Corpus.load(path)
    assert "encode it again" in str(e.value)


def test_lines_of_songs_hold_any_name(corpus, tmp_path):
    names = ["line\nbreak\u2028.mid", "ünï\x1b[31m.mid", '"quoted".mid']
    songs = [
        dataclasses.replace(song, name=name)
        for song, name in zip(corpus.songs, names, strict=False)
    ]
    songs += corpus.songs[len(names) :]
    dataclasses.replace(corpus, songs=songs).save(tmp_path / "corpus")
    assert Corpus.load(tmp_path / "corpus").songs == songs


def test_any_folder_is_no_corpus_unless_it_has_a_manifest(folder, tmp_path):
    assert not store.is_corpus(folder)
    assert not store.is_corpus(tmp_path / "none")
    build.encode_corpus(build.make_plan(settings(folder)), tmp_path / "c", number_of_workers=0)
    assert store.is_corpus(tmp_path / "c")
