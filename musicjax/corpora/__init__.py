"""Where songs come from. Each source lists its songs as `SongFile`s; reading them comes later."""

import dataclasses
import hashlib
from pathlib import Path

from musicjax import midi
from musicjax.errors import InputError, SongError
from musicjax.song import Song

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class SongFile:
    """One MIDI file of a source, or one of its songs that is kept in several.

    Attributes:
        path: the file; of a Slakh track its metadata.yaml.
        name: relative to the source, with forward slashes; unique in it, and text that can be
            written (bytes that are no UTF-8 are escaped).
        metadata: what the source knows besides: artist, title, year; split ("train",
            "validation", "test": overrides the split by content hash); md5 that the content is
            said to have, uuid, track_id; and refused, (reason, detail), if it is not to be read.
    """

    path: Path
    name: str
    metadata: dict = dataclasses.field(default_factory=dict)

    def with_metadata(self, **metadata) -> "SongFile":
        """This file, more being known of it."""
        return dataclasses.replace(self, metadata=self.metadata | metadata)


def default_track(source: str) -> str:
    """What data.track=default means: all, and of the chorales two voices."""
    return "soprano|bass" if source == "chorales" else "all"


def find_songs(source: str) -> list[SongFile]:
    """The songs of `chorales`, of a Slakh root, or of a folder of MIDI files at any depth, sorted
    by name; what the layout of Lakh tells of a file is in its metadata.

    Args:
        source: `config.data.source`.
    Raises:
        InputError: no such folder, or no song in it.
    """
    from musicjax.corpora import chorales, folder, lakh, slakh

    if source == "chorales":
        return chorales.find_songs()
    path = Path(source).expanduser()
    if not path.is_dir():
        found = "a file" if path.exists() else "not there"
        raise InputError(
            f"data.source is {source!r}, which is {found}; expected 'chorales', a folder of MIDI "
            "files, a Lakh or Slakh root, or a corpus folder"
        )
    files = folder.find_songs(path)
    return slakh.find_songs(path, files) or lakh.with_layout(path, files)


def read_song(file: SongFile, most_bytes: int, check_md5: bool = True) -> tuple[Song, str]:
    """A song, and the MD5 of its file; of a Slakh track that of the file it was made from.

    Args:
        file: of find_songs.
        most_bytes: larger files are not read.
        check_md5: refuse a file whose name says another MD5 than it has.
    Raises:
        SongError: "unreadable", "too_big", "wrong_md5", "missing_stems", or as musicjax.midi tells.
    """
    from musicjax.corpora import slakh

    if slakh.is_track(file):
        return slakh.read_song(file, most_bytes)
    content = read_bytes(file.path, most_bytes)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if check_md5 and file.metadata.get("md5", md5) != md5:
        raise SongError(file.path, "wrong_md5", f"the content's is {md5}: damaged, or renamed")
    return midi.song_from_bytes(content, file.path), md5


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """A file's content.

    Raises:
        SongError: "unreadable" or "too_big".
    """
    try:
        size = path.stat().st_size
        if size > most_bytes:
            raise SongError(path, "too_big", f"{size / 1e6:.1f} MB, at most {most_bytes / 1e6:g}")
        return path.read_bytes()
    except OSError as error:
        raise SongError(path, "unreadable", str(error.strerror)) from None
