"""Any folder of MIDI files, at any depth."""

import csv
import dataclasses
import os
from pathlib import Path

from musicjax.corpora import SongFile
from musicjax.errors import InputError

SUFFIXES = (".mid", ".midi", ".kar", ".rmi", ".smf")


def find_songs(root: Path) -> list[SongFile]:
    """All files below `root` whose suffix is one of SUFFIXES in any case. Links to folders are not
    followed.

    Raises:
        InputError: there is none.
    """
    songs = [
        SongFile(path, path.relative_to(root).as_posix())
        for folder, _, names in os.walk(root)
        for path in (Path(folder, name) for name in names)
        if path.suffix.lower() in SUFFIXES
    ]
    if not songs:
        raise InputError(
            f"data.source is {str(root)!r}: no MIDI file in it at any depth; expected files that "
            f"end in {', '.join(SUFFIXES)}"
        )
    return sorted(songs, key=lambda song: song.name)


def with_splits(songs: list[SongFile], index: Path) -> list[SongFile]:
    """The songs with the splits that a table gives them; those it does not name are left out.

    Args:
        songs: of find_songs.
        index: tab-separated, with a line of headings: `id` is a file's name without suffix,
            `split` is train, validation or test.
    Raises:
        InputError: no such table, or none of its songs is there.
    """
    try:
        with index.open(newline="", encoding="utf-8") as file:
            splits = {row["id"]: row["split"] for row in csv.DictReader(file, delimiter="\t")}
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise InputError(
            f"{index}: data.split_by=index needs a table with columns id and split ({error!r}); "
            "write one, or use data.split_by=content"
        ) from None
    wrong = sorted(set(splits.values()) - {"train", "validation", "test"})
    found = [
        dataclasses.replace(song, metadata=song.metadata | {"split": splits[song.path.stem]})
        for song in songs
        if song.path.stem in splits
    ]
    if wrong or not found:
        what = f"its splits are {', '.join(map(repr, wrong))}" if wrong else "it names none of them"
        raise InputError(
            f"{index}: {what}; expected ids of the folder's files, each with train, validation or "
            "test"
        )
    return found
