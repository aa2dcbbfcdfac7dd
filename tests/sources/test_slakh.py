import time

import pytest
import yaml
from conftest import make_song, make_track, random_song

from musicjax.errors import SongError
from musicjax.music import midi
from musicjax.sources.slakh import Slakh

PIANO = {"S00": ("Piano", 0, False, random_song(1))}


def write_slakh(root, name, stems, uuid="0" * 32, whole=None, **metadata):
    """A track of Slakh's layout. stems: {"S00": (inst_class, program, is_drum, Song or None)}."""
    folder = root / name
    (folder / "MIDI").mkdir(parents=True)
    metadata_of_stems = {
        stem: {"inst_class": kind, "program_num": program, "is_drum": drum, "midi_saved": False}
        for stem, (kind, program, drum, _) in stems.items()
    }
    text = yaml.safe_dump({"UUID": uuid, "stems": metadata_of_stems} | metadata)
    (folder / "metadata.yaml").write_text(text)
    for stem, (_, _, _, song) in stems.items():
        if song:
            midi.write_song(song, folder / "MIDI" / f"{stem}.mid")
    if whole:
        midi.write_song(whole, folder / "all_src.mid")


def read(source, index=0):
    return source.read(source.find()[index], max_bytes=10**6)


def test_a_song_is_its_stems_with_their_classes(tmp_path):
    # All stems' tracks are named after the song, as in the real ones.
    tunes = [random_song(seed) for seed in range(5)]
    stems = {
        "S00": ("Guitar", 30, False, tunes[0]),
        "S01": ("Drums", 128, True, tunes[1]),
        "S02": ("Piano", 1, False, tunes[2]),
        "S03": ("Strings (continued)", 52, False, tunes[3]),
        "S04": ("Sound effects", 103, False, None),  # listed without a file
        "S05": ("Piano", 2, False, tunes[4]),
    }
    whole = make_song(make_track([(0, 480, 60 + i % 12) for i in range(20)], program=103))
    write_slakh(tmp_path, "Track1", stems, whole=whole, uuid="c" * 32)
    source = Slakh.open(str(tmp_path))
    song, uuid = read(source)
    assert uuid == "c" * 32
    assert [track.inst_class for track in song.tracks] == [stem[0] for stem in stems.values()]
    assert [track.is_drum for track in song.tracks] == [False, True, False, False, False, False]
    # Out of all_src.mid, where no other track has its program.
    assert len(song.tracks[4]) == 20
    assert song.repairs == ()
    names = [path.name for path in source.files_of(source.find()[0])]
    midi_files = ["S00.mid", "S01.mid", "S02.mid", "S03.mid", "S05.mid", "all_src.mid"]
    assert names == ["metadata.yaml", *midi_files]
    (tmp_path / "Track1" / "all_src.mid").unlink()
    assert read(source)[0].repairs == ("stem S04",)


def test_folders_are_splits(tmp_path):
    for folder in ("train/Track1", "validation/Track2", "test/Track3", "omitted/Track4", "Track5"):
        write_slakh(tmp_path, folder, PIANO)
    metadata = {file.name: file.metadata for file in Slakh.open(str(tmp_path)).find()}
    assert metadata.pop("omitted/Track4")["refused"][0] == "omitted"
    assert metadata == {
        "Track5": {},
        "test/Track3": {"split": "test"},
        "train/Track1": {"split": "train"},
        "validation/Track2": {"split": "validation"},
    }


def test_a_folder_with_other_midi_files_is_not_slakh(tmp_path):
    assert Slakh.open(str(tmp_path)) is None
    write_slakh(tmp_path, "Track1", PIANO)
    assert Slakh.open(str(tmp_path)) == Slakh(tmp_path)
    midi.write_song(random_song(1), tmp_path / "other.mid")
    assert Slakh.open(str(tmp_path)) is None


def test_a_track_without_midi_files_has_a_reason(tmp_path):
    stems = PIANO | {"S01": ("Bass", 33, False, random_song(2))}
    write_slakh(tmp_path, "Track1", stems)
    source = Slakh(tmp_path)
    (file,) = source.find()
    for path in tmp_path.glob("Track1/MIDI/*"):
        path.unlink()
    with pytest.raises(SongError) as caught:
        source.read(file, max_bytes=10**6)
    assert caught.value.reason == "missing_stems"


@pytest.mark.parametrize("name", ["MIDI/S00.mid", "all_src.mid", "metadata.yaml", "MIDI"])
def test_links_out_of_the_root_are_not_followed(tmp_path, name):
    write_slakh(tmp_path, "root/Track1", PIANO | {"S01": ("Bass", 33, False, None)})
    midi.write_song(random_song(1), tmp_path / "root" / "Track1" / "all_src.mid")
    source = Slakh(tmp_path / "root")
    (file,) = source.find()
    path = file.path.parent / name
    path.rename(tmp_path / "outside")
    path.symlink_to(tmp_path / "outside")
    with pytest.raises(SongError) as caught:
        source.read(file, max_bytes=10**6)
    assert caught.value.reason == "outside_link"


@pytest.mark.parametrize(
    "metadata",
    [
        "- a\n- list",
        "UUID: " + "0" * 32 + "\nstems: {../../S00: {}}",
        "UUID: " + "0" * 32 + "\nstems: {S00: {is_drum: false}}",
        "a: &a [*a]",
        "[" * 5000,
        "!!python/object/apply:os.system [exit]",
        "",
        "a0: &a0 [x, x]\n"
        + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 30))
        + "UUID: *a29",
    ],
)
def test_metadata_that_cannot_be_costs_its_track_alone(tmp_path, metadata):
    write_slakh(tmp_path, "Track1", PIANO)
    write_slakh(tmp_path, "Track2", PIANO)
    (tmp_path / "Track2" / "metadata.yaml").write_text(metadata)
    start = time.perf_counter()
    with pytest.raises(SongError, match="corrupt: not the metadata of a track"):
        read(Slakh(tmp_path), 1)
    assert time.perf_counter() - start < 5
    assert read(Slakh(tmp_path), 0)[0].num_notes > 0
