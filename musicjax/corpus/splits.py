"""Which songs are trained on, which are held out for validation and which for test.

A source may name the splits of its songs, and so may an index.tsv beside them
(data.split_by=index). All other songs are split by a hash of their content: adding files moves
none, and copies stay in one split.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from musicjax.config import SHARE, at_least, expect, one_of, setting, settings_of
from musicjax.corpus.shards import EncodedFile
from musicjax.corpus.store import Skipped
from musicjax.errors import InputError
from musicjax.sources import SongFile
from musicjax.sources.metadata import read_table


@dataclasses.dataclass(frozen=True)
class Splitting:
    """The settings of `config.data` by which songs are held out, explained in
    configs/collection.py.
    """

    songs: int = setting(at_least(0, "0: all"))
    split_by: str = setting(one_of("content", "index"))
    validation_share: float = setting(SHARE)
    test_share: float = setting(SHARE)

    @classmethod
    def from_config(cls, data: Any) -> "Splitting":
        """The settings of `config.data`.

        Raises:
            InputError: a value that is not allowed.
        """
        settings = settings_of(cls, data, "data")
        held_out = settings.validation_share + settings.test_share
        expect(
            held_out < 1,
            "data.validation_share",
            settings.validation_share,
            f"less than 1 with data.test_share ({settings.test_share}), so that songs are left to "
            "train on",
        )
        return settings


def apply_index(songs: list[SongFile], folder: Path) -> list[SongFile]:
    """The files, each in the split that index.tsv gives it; those without one are refused.

    Raises:
        InputError: no such table, or what it names are other files.
    """
    index = read_table(folder / "index.tsv")
    splits = {file.name: (index.find(file) or {}).get("split") for file in songs}
    given = sum(map(bool, splits.values()))
    # It may name few of the files, or few of its songs may be here; but not both.
    if not given or 2 * given < min(len(songs), len(index)):
        raise InputError(
            f"{folder}/index.tsv has {len(index)} rows, and gives {given} of the {len(songs)} "
            "files a split; expected their names without suffix as id, each with train, validation "
            "or test as split"
        )
    refused = ("not_in_index", "index.tsv gives it no split")
    return [
        file.with_metadata(**({"split": split} if split else {"refused": refused}))
        for file, split in zip(songs, splits.values(), strict=True)
    ]


def assign_splits(
    songs: Sequence[EncodedFile], settings: Splitting
) -> tuple[list[EncodedFile], list[Skipped]]:
    """Assigns a split to each song whose source names none.

    If that leaves a split empty, as it may in a corpus of a few songs, the training songs nearest
    to it by hash are moved there. With `settings.songs` the songs are ranked by their hash instead:
    the splits get their shares exactly, and the rest is left out. Where the source names the
    splits, only validation songs are taken from the training songs, and only if it names none.

    Returns:
        the songs used, and those left out.
    """
    position = {row.record.content: int(row.record.content[:12], 16) / 16**12 for row in songs}
    spare = []
    if settings.songs:
        ranked = sorted(position, key=position.__getitem__)
        used = min(len(ranked), settings.songs)
        position = {content: rank / used for rank, content in enumerate(ranked)}
        detail = f"more than data.songs={settings.songs}"
        spare = [
            Skipped(row.record.name, "spare", detail)
            for row in songs
            if position[row.record.content] >= 1
        ]
        songs = [row for row in songs if position[row.record.content] < 1]
    splits = [row.record.split for row in songs]
    named = set(splits) - {""}
    shares = {"test": 0.0 if named else settings.test_share}
    shares["validation"] = 0.0 if "validation" in named else settings.validation_share
    movable = [i for i, split in enumerate(splits) if split in ("", "train")]
    for i in movable:
        u = position[songs[i].record.content]
        if u < shares["test"]:
            splits[i] = "test"
        elif u < shares["test"] + shares["validation"]:
            splits[i] = "validation"
        else:
            splits[i] = "train"
    for split, share in shares.items():
        training = [songs[i].record.content for i in movable if splits[i] == "train"]
        if share > 0 and split not in splits and len(set(training)) > 1:
            nearest = min(training, key=position.__getitem__)
            for i in movable:
                if splits[i] == "train" and songs[i].record.content == nearest:
                    splits[i] = split
    return [
        row._replace(record=dataclasses.replace(row.record, split=split))
        for row, split in zip(songs, splits, strict=True)
    ], spare
