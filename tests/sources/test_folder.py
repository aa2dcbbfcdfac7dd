import hashlib
import os

import pytest
from conftest import random_song

from musicjax.errors import InputError, SongError
from musicjax.music import midi
from musicjax.sources.folder import Folder


def test_midi_files_are_found_at_any_depth(tmp_path):
    for name in ("b.MID", "a/deep/er.midi", "a/x.kar", "notes.txt", "ünï.mid"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    names = [file.name for file in Folder(tmp_path).find()]
    assert names == ["a/deep/er.midi", "a/x.kar", "b.MID", "ünï.mid"]


def test_files_without_a_suffix_are_found_if_they_are_midi(tmp_path):
    midi.write_song(random_song(1), tmp_path / "tune")
    midi.write_song(random_song(1), tmp_path / "tune.backup")
    (tmp_path / "LICENSE").write_text("Do what you like.")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to("nowhere")
    assert [file.name for file in Folder(tmp_path).find()] == ["tune"]


def test_an_empty_folder_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="no MIDI file in it at any depth; expected files that"):
        Folder(tmp_path).find()


def test_a_name_that_is_not_utf_8_is_escaped(tmp_path):
    with open(os.fsencode(tmp_path) + b"/\xff.mid", "wb"):
        pass
    (file,) = Folder(tmp_path).find()
    assert file.name == r"\xff.mid"
    assert file.path.is_file()


def test_links_out_of_the_folder_and_pipes_are_refused(tmp_path):
    root = tmp_path / "songs"
    root.mkdir()
    midi.write_song(random_song(1), tmp_path / "outside.mid")
    midi.write_song(random_song(2), root / "inside.mid")
    (root / "link.mid").symlink_to(tmp_path / "outside.mid")
    (root / "near.mid").symlink_to("inside.mid")
    (root / "round.mid").symlink_to("round.mid")
    (root / "folder").symlink_to(tmp_path)
    os.mkfifo(root / "pipe.mid")
    files = Folder(root).find()
    assert {file.name: file.metadata.get("refused", ("",))[0] for file in files} == {
        "inside.mid": "",
        "link.mid": "outside_link",
        "near.mid": "",
        "pipe.mid": "unreadable",
        "round.mid": "unreadable",
    }


def test_a_file_is_read_with_its_md5(tmp_path):
    midi.write_song(random_song(1), tmp_path / "a.mid")
    source = Folder(tmp_path)
    (file,) = source.find()
    song, md5 = source.read(file, max_bytes=10**6)
    content = file.path.read_bytes()
    assert md5 == hashlib.md5(content, usedforsecurity=False).hexdigest()
    assert song.num_notes == random_song(1).num_notes
    assert source.files_of(file) == [file.path]
    with pytest.raises(SongError) as caught:
        source.read(file, max_bytes=len(content) - 1)
    assert caught.value.reason == "too_big"
    file.path.unlink()
    with pytest.raises(SongError) as caught:
        source.read(file, max_bytes=10**6)
    assert caught.value.reason == "unreadable"
