"""The Lakh MIDI dataset (Raffel 2016), by the layouts of its downloads.

    lmd_full/<0-f>/<md5>.mid                        named by the MD5 of the content
    lmd_matched/<A>/<B>/<C>/<TR...>/<md5>.mid       below a Million Song Dataset id
    clean_midi/<artist>/<title>.mid, <title>.1.mid  versions of a title are numbered

None of them has the year: that comes from a table, see musicjax.sources.metadata.
"""

import dataclasses
import os
import re
from collections.abc import Iterator
from typing import Self

from musicjax.sources.base import SongFile
from musicjax.sources.folder import Folder

_MD5 = re.compile(r"[0-9a-f]{32}")
_TRACK_ID = re.compile(r"TR[0-9A-Z]{16}")
_TITLE = re.compile(r"(.+?)(?:\.\d+)?")
_FIELDS = {"md5", "title"}  # one of them is in each metadata


@dataclasses.dataclass(frozen=True)
class Lakh(Folder):
    """A folder with files whose paths hold metadata: md5 and track_id, or artist and title."""

    @classmethod
    def open(cls, source: str) -> Self | None:
        """A folder in which at least one path holds metadata."""
        opened = super().open(source)
        if opened is None or not any(file.metadata.keys() & _FIELDS for file in opened.walk()):
            return None
        return opened

    def walk(self) -> Iterator[SongFile]:
        """The files, in any order, with their metadata."""
        root = self.root.resolve().name
        for file in super().walk():
            yield file.with_metadata(**_metadata(f"{root}/{file.name}"))


def _metadata(path: str) -> dict[str, str]:
    """What a path holds that begins with the name of the source's folder."""
    *_, grandparent, parent, name = ("", "", *path.split("/"))
    stem = os.path.splitext(name)[0]
    if _MD5.fullmatch(stem):
        track_id = {"track_id": parent} if _TRACK_ID.fullmatch(parent) else {}
        return {"md5": stem} | track_id
    if grandparent.casefold() == "clean_midi" and (title := _TITLE.fullmatch(stem)):
        return {"artist": parent, "title": title[1]}
    return {}
