"""The Lakh MIDI dataset (Raffel 2016), by the layouts of its downloads.

    lmd_full/<0-f>/<md5>.mid                        named by the MD5 of the content
    lmd_matched/<A>/<B>/<C>/<TR...>/<md5>.mid       below a Million Song Dataset id
    clean_midi/<artist>/<title>.mid, <title>.1.mid  versions of a title are numbered

Years are in none of them: they come from a table, see musicjax.corpora.table.
"""

import re
from pathlib import Path, PurePosixPath

from musicjax.corpora import SongFile

_MD5 = re.compile(r"[0-9a-f]{32}")
_TRACK_ID = re.compile(r"TR[0-9A-Z]{16}")
_TITLE = re.compile(r"(.+?)(?:\.\d+)?")


def with_layout(root: Path, files: list[SongFile]) -> list[SongFile]:
    """The files, with what their places say: md5 and track_id, or artist and title."""
    above = PurePosixPath(root.resolve().name)
    return [file.with_metadata(**_told(above / file.name)) for file in files]


def _told(path: PurePosixPath) -> dict[str, str]:
    *_, grandparent, parent, _ = ("", "", *path.parts)
    if _MD5.fullmatch(path.stem):
        track_id = {"track_id": parent} if _TRACK_ID.fullmatch(parent) else {}
        return {"md5": path.stem} | track_id
    if grandparent.casefold() == "clean_midi" and (title := _TITLE.fullmatch(path.stem)):
        return {"artist": parent, "title": title[1]}
    return {}
