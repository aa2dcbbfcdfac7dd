"""What is true of every source."""

import pickle

import numpy as np
import pytest
from conftest import random_song

from musicjax.errors import InputError
from musicjax.music import midi
from musicjax.sources import open_source
from musicjax.sources.chorales import Chorales
from musicjax.sources.folder import Folder
from musicjax.sources.lakh import Lakh
from musicjax.sources.piano_rolls import PianoRolls
from musicjax.sources.slakh import Slakh


def place(kind, folder):
    """A source of a kind, with one song; what data.source is for it."""
    paths = {
        Folder: "a.mid",
        Lakh: f"{'0' * 32}.mid",
        Slakh: "Track1/MIDI/S00.mid",
    }
    if kind in paths:
        path = folder / paths[kind]
        path.parent.mkdir(parents=True, exist_ok=True)
        midi.write_song(random_song(1), path)
        if kind is Slakh:
            stem = "{inst_class: Piano, program_num: 0, is_drum: false}"
            metadata = f"UUID: {'a' * 32}\nstems: {{S00: {stem}}}\n"
            (folder / "Track1" / "metadata.yaml").write_text(metadata)
        return str(folder)
    arrays = {}
    for split in ("train", "valid", "test"):
        arrays |= {f"{split}_rolls": np.ones((4, 88), np.uint8), f"{split}_lengths": [4]}
    np.savez(folder / "rolls.npz", **arrays)
    return str(folder / "rolls.npz")


@pytest.mark.parametrize("kind", [Folder, Lakh, Slakh, PianoRolls])
def test_a_source_is_known_by_its_layout_and_is_pickled(tmp_path, kind):
    source = open_source(place(kind, tmp_path))
    assert type(source) is kind
    assert source.default_track == "all"
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source
    file = copy.find()[0]
    song, md5 = copy.read(pickle.loads(pickle.dumps(file)), max_bytes=10**6, check_md5=False)
    assert song.num_notes > 0
    assert len(md5) == 32
    assert all(path.is_file() for path in copy.files_of(file))


def test_the_chorales_are_known_by_their_name():
    source = open_source("chorales")
    assert source == pickle.loads(pickle.dumps(source)) == Chorales()
    assert source.default_track == "soprano|bass"


def test_what_is_no_source_is_one_clear_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="which is not there; expected 'chorales', a folder"):
        open_source(str(tmp_path / "none"))
    with pytest.raises(InputError, match="which is a file; expected 'chorales', a folder"):
        open_source(str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"which is not there; expected a \.npz file"):
        open_source(str(tmp_path / "none.npz"))
