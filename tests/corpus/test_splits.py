import dataclasses
import hashlib
from collections import Counter

import pytest
from conftest import encoded, load_config, random_song, settings

from musicjax.corpus import splits
from musicjax.corpus.shards import EncodedFile
from musicjax.corpus.splits import Splitting
from musicjax.corpus.store import SongRecord
from musicjax.errors import InputError
from musicjax.music import midi
from musicjax.sources.folder import Folder

BLANK = SongRecord(
    name="",
    split="",
    offset=0,
    length=1,
    content="",
    md5="",
    qpm=120,
    seconds=1,
    rule="all",
    program=0,
    is_drum=False,
    semitones=0,
    key=None,
    key_margin=None,
    key_signature=None,
    bars_cut=0,
    moved=0.0,
    repairs=[],
    parts={},
    layout={},
)


def song(name: str, split: str = "", content: str = "") -> EncodedFile:
    content = hashlib.sha256((content or name).encode()).hexdigest()
    record = dataclasses.replace(BLANK, name=name, split=split, content=content)
    return EncodedFile(record, "", {})


def assign(rows, **changes):
    """Split by name, and the names left out."""
    changes = {"songs": 0, "validation_share": 0.0, "test_share": 0.0} | changes
    used, spare = splits.assign_splits(rows, Splitting(split_by="content", **changes))
    return {row.record.name: row.record.split for row in used}, spare


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation_share": 1.0}, "data.validation_share is 1.0; expected 0 <= share < 1"),
        ({"test_share": -0.1}, "data.test_share is -0.1; expected 0 <= share < 1"),
        (
            {"validation_share": 0.5, "test_share": 0.5},
            r"data.validation_share is 0.5; expected less than 1 with data.test_share \(0.5\)",
        ),
        ({"split_by": "name"}, "data.split_by is 'name'; expected one of 'content', 'index'"),
        ({"songs": -1}, r"data.songs is -1; expected at least 0 \(0: all\)"),
    ],
)
def test_settings_that_cannot_be_are_one_clear_line(changes, message):
    with pytest.raises(InputError, match=message):
        Splitting.from_config(settings("", **changes))


def test_songs_are_held_out_by_a_hash_of_their_content():
    songs = [song(str(i)) for i in range(2000)]
    assigned, spare = assign(songs, validation_share=0.1, test_share=0.2)
    counts = Counter(assigned.values())
    assert 150 < counts["validation"] < 250
    assert 330 < counts["test"] < 470
    assert spare == []
    # Neither other songs nor their order matter, and copies stay together.
    others = [song(f"other {i}") for i in range(100)]
    copies = [song(f"copy {i}", content=str(i)) for i in range(2000)]
    again, _ = assign([*others, *songs[::-1], *copies], validation_share=0.1, test_share=0.2)
    assert {name: again[name] for name in assigned} == assigned
    assert all(again[f"copy {name}"] == split for name, split in assigned.items())
    assert set(assign(songs)[0].values()) == {"train"}


def test_a_corpus_of_three_songs_still_has_all_splits():
    for names in ("abc", "xyz", "123"):
        assigned, _ = assign([song(name) for name in names], validation_share=0.1, test_share=0.1)
        assert sorted(assigned.values()) == ["test", "train", "validation"]


def test_a_fixed_number_of_songs_is_split_exactly():
    songs = [song(str(i)) for i in range(30)]
    assigned, spare = assign(songs, songs=16, test_share=0.125)
    assert Counter(assigned.values()) == {"train": 14, "test": 2}
    assert {row.reason for row in spare} == {"spare"}
    assert {row.detail for row in spare} == {"more than data.songs=16"}
    assert {row.name for row in spare} | set(assigned) == set(map(str, range(30)))
    # Fewer than asked for keep the proportion.
    assigned, spare = assign(songs, songs=400, test_share=0.125)
    assert Counter(assigned.values()) == {"train": 26, "test": 4}
    assert spare == []


def test_the_splits_that_a_source_names_stay():
    named = [song(f"{split} {i}", split) for split in ("train", "test") for i in range(50)]
    assigned, _ = assign(named, validation_share=0.3, test_share=0.4)
    assert all(assigned[f"test {i}"] == "test" for i in range(50))
    # No more test songs, but validation songs out of those to train on.
    counts = Counter(assigned.values())
    assert counts["test"] == 50
    assert 5 < counts["validation"] < 25
    all_three = [*named, song("validation", "validation")]
    assigned, _ = assign(all_three, validation_share=0.3, test_share=0.4)
    assert Counter(assigned.values()) == {"train": 50, "test": 50, "validation": 1}


def test_splits_stay_when_files_are_added_and_copies_stay_together(tmp_path):
    for seed in range(60):
        midi.write_song(random_song(seed), tmp_path / f"{seed:02d}.mid")
    before = encoded(settings(tmp_path))
    for seed in range(60, 90):
        midi.write_song(random_song(seed), tmp_path / f"{seed:02d}.mid")
    for seed in range(60):  # copies a tone higher: the same music in C
        midi.write_song(random_song(seed).transposed(2), tmp_path / f"copy{seed:02d}.mid")
    after = encoded(settings(tmp_path, dedupe_notes=False))
    split = {record.name: record.split for record in after.songs}
    for record in before.songs:
        assert split[record.name] == record.split
        assert split[f"copy{record.name}"] == record.split
    assert all(len(before.split(name)) > 0 for name in ("train", "validation", "test"))


# --- index.tsv -------------------------------------------------------------------------------


def test_an_index_decides_the_splits(folder, tmp_path):
    source = tmp_path / "songs"
    source.mkdir()
    for file in sorted(folder.glob("*.mid"))[:8]:
        (source / file.name).write_bytes(file.read_bytes())
    rows = [f"{i:02d}\t{'test' if i in (2, 5) else 'train'}" for i in range(7)]
    (source / "index.tsv").write_text("\n".join(["id\tsplit", *rows]) + "\n")
    data = load_config("tiny", "nsm").data
    data.source, data.split_by, data.validation_share = str(source), "index", 0.3
    corpus = encoded(data)
    assert [song.name for song in corpus.split("test")] == ["02.mid", "05.mid"]
    assert len(corpus.songs) == 7
    assert [(row.name, row.reason) for row in corpus.skipped] == [("07.mid", "not_in_index")]
    assert len(corpus.split("validation")) >= 1


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("id\tsplit\n00\tdev\n", "line 2: split is 'dev'; expected train, validation, test"),
        ("id\tsplit\n99\ttrain\n", "1 rows, and gives 0 of the 30 files a split; expected their"),
        ("id\tyear\n00\t1975\n", "gives 0 of the 30 files a split"),
        # A column of something else, which is the name of one file by chance.
        (
            "track\tsplit\n" + "".join(f"{i}\ttrain\n" for i in range(10, 210, 10)),
            "20 rows, and gives 2 of the 30 files a split",
        ),
        (None, "not a table of songs"),
    ],
)
def test_an_index_that_cannot_be_is_one_clear_line(folder, tmp_path, index, message):
    if index:
        (tmp_path / "index.tsv").write_text(index)
    with pytest.raises(InputError, match=message):
        splits.apply_index(Folder(folder).find(), tmp_path)
