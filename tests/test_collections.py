"""Lakh's and Slakh's layouts, and tables of years."""

import hashlib
import os

import pytest
import yaml
from conftest import SHARED, encoded, make_song, make_track, random_song, settings

from musicjax import corpora, midi
from musicjax.corpora import SongFile
from musicjax.corpora.table import read_table
from musicjax.errors import InputError, SongError

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/midi is not there")


def song_bytes(seed, tmp_path):
    midi.write_song(random_song(seed), tmp_path / "song.mid")
    content = (tmp_path / "song.mid").read_bytes()
    return content, hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_lakh_files_are_checked_against_their_names_and_found_in_tables(tmp_path):
    root, md5s = tmp_path / "lmd_matched", []
    for seed in range(4):
        content, md5 = song_bytes(seed, tmp_path)
        md5s.append(md5)
        place = root / "A" / "B" / "C" / f"TRABC{seed:013d}" / f"{md5}.mid"
        place.parent.mkdir(parents=True)
        place.write_bytes(content if seed else content[:-1] + b"\x01")  # damaged on its way
    files = corpora.find_songs(str(root))
    assert {file.metadata["md5"] for file in files} == set(md5s)
    assert files[2].metadata["track_id"] == "TRABC0000000000002"
    corpus = encoded(settings(root))
    assert {row["name"].split("/")[-1]: row["reason"] for row in corpus.skipped} == {
        f"{md5s[0]}.mid": "wrong_md5"
    }
    unchecked = encoded(settings(root, check_md5=False))
    assert unchecked.manifest["skipped"] == {"corrupt": 1}
    # By the file's MD5; and by the track id, in the Million Song Dataset's own file.
    table = tmp_path / "years.csv"
    rows = [f"{md5},Artist {i},{1970 + 5 * i}" for i, md5 in enumerate(md5s)]
    table.write_text("\n".join(["md5,artist,year", *rows]))
    one = encoded(settings(root, table=str(table), decade=1980))
    assert [(song["artist"], song["year"]) for song in one.songs] == [
        ("Artist 2", 1980),
        ("Artist 3", 1985),
    ]
    assert one.manifest["skipped"] == {"other_year": 2}
    table.write_text("1985<SEP>TRABC0000000000003<SEP>Someone<SEP>A Song\n0<SEP>TRX<SEP>a<SEP>b\n")
    one = encoded(settings(root, table=str(table), first_year=1985, last_year=1985))
    assert [(song["artist"], song["title"]) for song in one.songs] == [("Someone", "A Song")]
    assert one.manifest["skipped"] == {"unknown_year": 3}


def test_clean_midi_keeps_one_version_of_a_title(tmp_path):
    root = tmp_path / "clean_midi"
    for seed, name in enumerate(["ABBA/Waterloo.mid", "ABBA/Waterloo.1.mid", "Queen/Waterloo.mid"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        midi.write_song(random_song(seed), root / name)
    corpus = encoded(settings(root))
    assert [(s["artist"], s["title"]) for s in corpus.songs] == [
        ("ABBA", "Waterloo"),
        ("Queen", "Waterloo"),
    ]
    assert [(row["reason"], row["detail"]) for row in corpus.skipped] == [
        ("version", "of ABBA/Waterloo.1.mid")
    ]
    assert len(encoded(settings(root, versions=2)).songs) == 3
    assert len(encoded(settings(root, versions=0)).songs) == 3


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ("path\tyear\na/b/x.mid\t1999", "b/x.mid"),  # the source lies below the table's root
        ("path\tyear\nx.mid\t1999", "b/x.mid"),  # and above it
        ("id\tyear\nx\t1999", "b/x.mid"),
        ("track;year\nTrack00001;1999", "train/Track00001"),
        ("file,decade\nx.mid,1990s", "x.mid"),
    ],
)
def test_a_song_is_found_by_a_tail_of_its_path(tmp_path, row, name):
    (tmp_path / "t").write_text(row)
    found = read_table(tmp_path / "t").find(SongFile(tmp_path, name))
    assert found["decade"] == 1990


def test_a_tail_that_two_rows_share_finds_neither(tmp_path):
    (tmp_path / "t").write_text("path\tyear\na/x.mid\t1999\nb/x.mid\t1971\n")
    table = read_table(tmp_path / "t")
    assert table.find(SongFile(tmp_path, "x.mid")) is None
    assert table.find(SongFile(tmp_path, "c/x.mid")) is None
    assert table.find(SongFile(tmp_path, "b/x.mid"))["year"] == 1971


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\n1\t2\n", "its columns are a, b; expected one of md5"),
        ("md5,year\nx,nineteen\n", "line 2: year is 'nineteen'; expected a number"),
        ("", "its columns are none"),
        (b"\xff\xfe\x00", "not a table of songs"),
    ],
)
def test_a_table_that_cannot_be_is_one_clear_line(tmp_path, folder, text, message):
    path = tmp_path / "table"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        encoded(settings(folder, table=str(path)))


def write_slakh(root, name, stems, uuid="0" * 32, whole=None, **metadata):
    """A track of Slakh's layout. stems: {"S00": (inst_class, program, is_drum, Song or None)}."""
    folder = root / name
    (folder / "MIDI").mkdir(parents=True)
    told = {
        stem: {"inst_class": kind, "program_num": program, "is_drum": drum, "midi_saved": False}
        for stem, (kind, program, drum, _) in stems.items()
    }
    text = yaml.safe_dump({"UUID": uuid, "stems": told} | metadata)
    (folder / "metadata.yaml").write_text(text)
    for stem, (_, _, _, song) in stems.items():
        if song:
            midi.write_song(song, folder / "MIDI" / f"{stem}.mid")
    if whole:
        midi.write_song(whole, folder / "all_src.mid")


def test_slakh_stems_are_chosen_by_their_class(tmp_path):
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
    for split in ("train", "validation", "test"):
        write_slakh(tmp_path, f"{split}/Track1", stems, whole=whole, uuid=split[0] * 32)
    assert corpora.find_songs(str(tmp_path))[0].metadata == {"split": "test"}
    with pytest.raises(InputError, match="corrupt: 3"):  # "t" and "v" are no hex digits
        encoded(settings(tmp_path))
    for split, digit in (("train", "a"), ("validation", "b"), ("test", "c")):
        path = tmp_path / split / "Track1" / "metadata.yaml"
        path.write_text(path.read_text().replace(split[0] * 32, digit * 32))
    corpus = encoded(settings(tmp_path, track="piano", same_notes=True))
    assert {s["name"]: s["split"] for s in corpus.songs} == {
        f"{split}/Track1": split for split in ("train", "validation", "test")
    }
    assert {s["track"] for s in corpus.songs} == {"inst_class"}
    song, uuid = corpora.read_song(corpora.find_songs(str(tmp_path))[0], 10**6)
    assert uuid == "c" * 32
    notes = {track.inst_class: len(track) for track in song.tracks}
    assert notes["Sound effects"] == 20  # out of all_src.mid, where nothing else has its program
    assert [track.is_drum for track in song.tracks] == [False, True, False, False, False, False]
    assert song.repairs == ()
    (tmp_path / "test" / "Track1" / "all_src.mid").unlink()
    song, _ = corpora.read_song(corpora.find_songs(str(tmp_path))[0], 10**6)
    assert song.repairs == ("stem S04",)


def test_omitted_slakh_tracks_are_told_of(tmp_path):
    stems = {"S00": ("Piano", 0, False, random_song(1))}
    write_slakh(tmp_path, "train/Track1", stems, uuid="1" * 32)
    write_slakh(tmp_path, "omitted/Track2", stems, uuid="2" * 32)
    corpus = encoded(settings(tmp_path))
    assert [row["reason"] for row in corpus.skipped] == ["omitted"]


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
    ],
)
def test_metadata_that_cannot_be_costs_its_track_alone(tmp_path, metadata):
    stems = {"S00": ("Piano", 0, False, random_song(1))}
    write_slakh(tmp_path, "Track1", stems)
    write_slakh(tmp_path, "Track2", stems)
    (tmp_path / "Track2" / "metadata.yaml").write_text(metadata)
    with pytest.raises(SongError, match="corrupt"):
        corpora.read_song(corpora.find_songs(str(tmp_path))[1], 10**6)
    assert len(encoded(settings(tmp_path)).songs) == 1


@needs_shared
@pytest.mark.parametrize("track", ["piano", "bass", "drums", "guitar"])
def test_the_slakh_folders_by_decade(track):
    table = SHARED / "slakh" / "derived" / "index.tsv"
    data = settings(SHARED / "slakh", track=track, table=str(table), decade=2020)
    corpus = encoded(data)
    rows = [line.split("\t") for line in table.read_text().splitlines()[1:]]
    of_decade = {f"derived/{row[0]}" for row in rows if row[5] == "2020"}
    copies = {row["name"] for row in corpus.skipped if row["reason"] == "same_notes"}
    assert {song["name"] for song in corpus.songs} | copies == of_decade
    assert len(corpus.songs) >= 15


def test_links_out_of_the_folder_and_pipes_are_not_read(tmp_path):
    source = tmp_path / "songs"
    source.mkdir()
    midi.write_song(random_song(1), tmp_path / "outside.mid")
    midi.write_song(random_song(2), source / "inside.mid")
    (source / "link.mid").symlink_to(tmp_path / "outside.mid")
    (source / "near.mid").symlink_to("inside.mid")
    (source / "round.mid").symlink_to("round.mid")
    os.mkfifo(source / "pipe.mid")
    corpus = encoded(settings(source))
    assert [song["name"] for song in corpus.songs] == ["inside.mid"]
    assert {row["name"]: row["reason"] for row in corpus.skipped} == {
        "link.mid": "outside_link",
        "near.mid": "copy",
        "round.mid": "unreadable",
        "pipe.mid": "unreadable",
    }


def test_a_slakh_track_is_found_by_the_uuid_of_its_source(tmp_path):
    for number in range(2):
        stems = {"S00": ("Piano", 0, False, random_song(number))}
        write_slakh(tmp_path / "slakh", f"Track{number}", stems, uuid=f"{number}" * 32)
    (tmp_path / "t.csv").write_text(f"uuid,artist,year\n{'1' * 32},Someone,1975\n")
    corpus = encoded(settings(tmp_path / "slakh", table=str(tmp_path / "t.csv"), decade=1970))
    assert [(song["name"], song["artist"]) for song in corpus.songs] == [("Track1", "Someone")]
    assert corpus.manifest["skipped"] == {"unknown_year": 1}
