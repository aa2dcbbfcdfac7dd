"""The Lakh MIDI dataset (Raffel 2016), by the layouts of its downloads.

    lmd_full/<0-f>/<md5>.mid                        named by the MD5 of the content
    lmd_matched/<A>/<B>/<C>/<TR...>/<md5>.mid       below a Million Song Dataset id
    clean_midi/<artist>/<title>.mid, <title>.1.mid  versions of a title are numbered

Years are in none of them: they come from a table, see musicjax.corpora.table.
"""

import re
from pathlib import Path

from musicjax.corpora import SongFile

_MD5 = re.compile(r"(?:.*/)?(?:(TR[0-9A-Z]{16})/)?([0-9a-f]{32})\.midi?")
_TITLE = re.compile(r"(?:.*/)?clean_midi/([^/]+)/([^/]+?)(?:\.\d+)?\.midi?", re.IGNORECASE)


def with_layout(root: Path, files: list[SongFile]) -> list[SongFile]:
    """The files, with what their places say: md5 and track_id, or artist and title."""
    return [file.with_metadata(**_told(f"{root.resolve().name}/{file.name}")) for file in files]


def _told(name: str) -> dict[str, str]:
    if match := _MD5.fullmatch(name):
        track_id, md5 = match.groups()
        return {"md5": md5} | ({"track_id": track_id} if track_id else {})
    if match := _TITLE.fullmatch(name):
        artist, title = match.groups()
        return {"artist": artist, "title": title}
    return {}
