import hashlib

import pytest
from conftest import random_song

from musicjax.errors import SongError
from musicjax.music import midi
from musicjax.sources.lakh import Lakh


def write(root, *names):
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        midi.write_song(random_song(seed), path)


def test_files_are_checked_against_the_md5_of_their_names(tmp_path):
    root = tmp_path / "lmd_matched"
    write(tmp_path, "song.mid")
    content = (tmp_path / "song.mid").read_bytes()
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    for track_id, data in (("TRABC1", content), ("TRABC2", content[:-1] + b"\x01")):
        path = root / "A" / "B" / "C" / track_id.ljust(18, "0") / f"{md5}.mid"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    source = Lakh.open(str(root))
    good, damaged = source.find()
    assert good.metadata == {"md5": md5, "track_id": "TRABC1000000000000"}
    assert source.read(good, max_bytes=10**6)[1] == md5
    with pytest.raises(SongError, match="damaged, or renamed") as caught:
        source.read(damaged, max_bytes=10**6)
    assert caught.value.reason == "wrong_md5"
    with pytest.raises(SongError) as caught:
        source.read(damaged, max_bytes=10**6, check_md5=False)
    assert caught.value.reason == "corrupt"


def test_versions_of_a_title_have_one_artist_and_title(tmp_path):
    root = tmp_path / "clean_midi"
    write(root, "ABBA/Waterloo.mid", "ABBA/Waterloo.1.mid", "Queen/Mr. 5.mid", "else.mid")
    assert {file.name: file.metadata for file in Lakh.open(str(root)).find()} == {
        "ABBA/Waterloo.mid": {"artist": "ABBA", "title": "Waterloo"},
        "ABBA/Waterloo.1.mid": {"artist": "ABBA", "title": "Waterloo"},
        "Queen/Mr. 5.mid": {"artist": "Queen", "title": "Mr. 5"},
        "else.mid": {},
    }


def test_other_folders_are_not_lakh(tmp_path):
    write(tmp_path, "ABBA/Waterloo.mid", f"{'0' * 31}.mid")
    assert Lakh.open(str(tmp_path)) is None
    assert Lakh.open(str(tmp_path / "none")) is None
