import json
import shutil

import numpy as np
import pytest
from conftest import SHARED, encoded, load_config, make_song, make_track, random_song, settings
from test_vocabulary import round_trip

from musicjax import cleaning, encode, encoders, midi
from musicjax.corpora import find_songs
from musicjax.corpus import Corpus
from musicjax.errors import InputError


def test_a_folder_gives_its_midi_files_at_any_depth(tmp_path):
    for name in ("b.MID", "a/deep/er.midi", "a/x.kar", "notes.txt", "ünï.mid"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    names = [file.name for file in find_songs(str(tmp_path))]
    assert names == ["a/deep/er.midi", "a/x.kar", "b.MID", "ünï.mid"]


def test_a_missing_or_empty_folder_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="not there; expected 'chorales', a folder"):
        find_songs(str(tmp_path / "none"))
    with pytest.raises(InputError, match="no MIDI file in it"):
        find_songs(str(tmp_path))


def test_the_default_track_is_all_and_of_the_chorales_two_voices(folder):
    assert load_config().data.track == "default"
    assert cleaning.with_track(settings("chorales")).track == "soprano|bass"
    corpus = encoded(settings(folder))
    assert corpus.manifest["settings"]["track"] == "all"


def test_round_trip_over_all_chorales(chorales):
    assert len(chorales) == 350  # 371 numbers in Riemenschneider's edition, 21 of them twice
    for path in chorales.values():
        assert len(round_trip(path).tokens) >= 30


def test_chorales_have_four_voices_in_time(chorales):
    song = midi.read_song(chorales["bwv269.mid"])  # "Aus meines Herzens Grunde", G major, 3/4
    assert [track.name for track in song.tracks] == ["Soprano", "Alto", "Tenor", "Bass"]
    assert song.meters[0][1:] == (3, 4)
    assert song.keys[0].fifths == 1
    soprano = song.tracks[0]
    assert soprano.pitch[:4].tolist() == [67, 67, 74, 71]
    assert (soprano.onset_ticks[:4] // 480).tolist() == [0, 1, 3, 4]


def test_one_bad_file_among_many_is_skipped_and_counted(folder, tmp_path):
    source = tmp_path / "midi"
    shutil.copytree(folder, source)
    (source / "bad.mid").write_bytes(b"<html>")
    (source / "empty.mid").write_bytes(b"")
    (source / "link.mid").symlink_to(source / "gone.mid")
    midi.write_song(
        make_song(make_track([(0, 480, 36)], name="Kit", is_drum=True)), source / "drums.mid"
    )
    corpus = encoded(settings(source))
    assert {row["name"]: row["reason"] for row in corpus.skipped} == {
        "bad.mid": "not_midi",
        "empty.mid": "not_midi",
        "link.mid": "unreadable",
        "drums.mid": "no_track",
    }
    counts = corpus.manifest["counts"]
    assert counts["files"] == 34 == counts["songs"] + counts["skipped"]
    assert encode.fingerprint(settings(source), find_songs(str(source)))
    text = encode.describe(corpus)
    assert "skipped 4 files" in text
    assert "2  not_midi" in text


def test_a_source_without_the_part_names_the_tracks(folder):
    with pytest.raises(InputError, match=r"none of its 30 files .*'drums'.* named 'Piano' in 30"):
        encoded(settings(folder, track="drums"))


def test_a_corpus_is_read_back_as_it_was(folder, tmp_path):
    corpus = encoded(settings(folder))
    corpus.save(tmp_path / "corpus")
    back = Corpus.load(tmp_path / "corpus")
    np.testing.assert_array_equal(back.data, corpus.data)
    assert back.songs == corpus.songs
    assert back.vocabulary == corpus.vocabulary
    assert sum(map(len, map(back.split, ("train", "validation", "test")))) == 30
    # A song's ids are its tokens.
    song = back.songs[7]
    prepared = cleaning.prepare(midi.read_song(folder / song["name"]), settings(folder))
    expected = encoders.tokens_of(prepared.song, settings(folder)).tokens
    assert back.vocabulary.decode(back.encoded(song).tolist()) == expected
    # The vocabulary counts the training songs alone.
    ids = np.concatenate([back.encoded(s) for s in back.split("train")])
    assert np.bincount(ids, minlength=back.vocabulary.size).tolist() == list(back.vocabulary.counts)
    with pytest.raises(InputError, match="already exists"):
        corpus.save(tmp_path / "corpus")
    test = back.only("test")
    assert [s["name"] for s in test.songs] == [s["name"] for s in back.split("test")]
    for mine, theirs in zip(test.songs, back.split("test"), strict=True):
        np.testing.assert_array_equal(test.encoded(mine), back.encoded(theirs))


def test_nothing_half_written_is_left(folder, tmp_path, monkeypatch):
    corpus = encoded(settings(folder))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space"):
        corpus.save(tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["format", "short data", "no manifest", "bad json"])
def test_a_damaged_corpus_is_refused(folder, tmp_path, damage):
    path = tmp_path / "corpus"
    encode.encode_corpus(settings(folder), path, number_of_workers=0)
    manifest = json.loads((path / "manifest.json").read_text())
    match damage:
        case "format":
            (path / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
        case "short data":
            np.save(path / "data.npy", np.load(path / "data.npy")[:-1])
        case "no manifest":
            (path / "manifest.json").unlink()
        case "bad json":
            (path / "songs.jsonl").write_text("{")
    with pytest.raises(InputError, match="encode it again"):
        Corpus.load(path)


def test_cached_until_a_setting_or_a_file_changes(folder, tmp_path):
    source, cache = tmp_path / "midi", tmp_path / "cache"
    shutil.copytree(folder, source)
    data = settings(source)
    first = encode.open_corpus(data, cache)
    assert encode.open_corpus(data, cache).manifest == first.manifest
    assert len(list(cache.iterdir())) == 1
    data.transpose = False
    assert len(encode.open_corpus(data, cache).songs) == 30
    assert len(list(cache.iterdir())) == 2
    midi.write_song(random_song(99), source / "99.mid")
    assert len(encode.open_corpus(data, cache).songs) == 31
    midi.write_song(random_song(100, quarters=40), source / "99.mid")
    changed = encode.open_corpus(data, cache)
    assert len(list(cache.iterdir())) == 4
    assert len(changed.songs) == 31
    # A corpus folder is a source as well.
    data.source = str(next(cache.iterdir()))
    assert len(encode.open_corpus(data, cache).songs) in (30, 31)


def test_splits_stay_when_files_are_added_and_copies_stay_together(tmp_path):
    for seed in range(60):
        midi.write_song(random_song(seed), tmp_path / f"{seed:02d}.mid")
    before = encoded(settings(tmp_path))
    for seed in range(60, 90):
        midi.write_song(random_song(seed), tmp_path / f"{seed:02d}.mid")
    for seed in range(60):  # copies a tone higher: the same music in C
        midi.write_song(random_song(seed).transposed(2), tmp_path / f"copy{seed:02d}.mid")
    after = encoded(settings(tmp_path, same_notes=True))
    split = {song["name"]: song["split"] for song in after.songs}
    for song in before.songs:
        assert split[song["name"]] == song["split"]
        assert split[f"copy{song['name']}"] == song["split"]
    assert all(len(before.split(name)) > 0 for name in ("train", "validation", "test"))


def test_a_corpus_of_three_songs_still_has_all_splits(tmp_path):
    for seed in range(3):
        midi.write_song(random_song(seed), tmp_path / f"{seed}.mid")
    corpus = encoded(settings(tmp_path))
    assert sorted(song["split"] for song in corpus.songs) == ["test", "train", "validation"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/midi is not there")
def test_broken_files_land_as_songs_or_as_skipped():
    corpus = encoded(settings(SHARED / "broken"))
    counts = corpus.manifest["counts"]
    assert counts["files"] == 90 == counts["songs"] + counts["skipped"]
    assert {row["name"] for row in corpus.skipped}.isdisjoint(s["name"] for s in corpus.songs)
    # 300 bars of silence do not become one long rest.
    longest = max(t.duration for t in corpus.vocabulary.tokens if not t.pitches)
    assert longest <= 4 * 12
