"""Where songs come from. Each source lists its songs as `SongFile`s; reading them comes later."""

import dataclasses
from pathlib import Path

from musicjax.errors import InputError


@dataclasses.dataclass(frozen=True)
class SongFile:
    """One MIDI file of a source.

    Attributes:
        path: the file.
        name: relative to the source, with forward slashes; unique in it.
        metadata: what the source knows besides: artist, year, split ("train", "validation",
            "test": overrides the split by content hash).
    """

    path: Path
    name: str
    metadata: dict = dataclasses.field(default_factory=dict)


def default_track(source: str) -> str:
    """What data.track=default means: all, and of the chorales two voices."""
    return "soprano|bass" if source == "chorales" else "all"


def find_songs(source: str, split_by: str = "content") -> list[SongFile]:
    """The songs of `chorales`, or of a folder of MIDI files at any depth, sorted by name.

    Args:
        source: `config.data.source`.
        split_by: "index" takes each song's split from the folder's index.tsv.
    Raises:
        InputError: no such folder, no MIDI file in it, or no such index.
    """
    from musicjax.corpora import chorales, folder

    if source == "chorales":
        return chorales.find_songs()
    path = Path(source).expanduser()
    if not path.is_dir():
        found = "a file" if path.exists() else "not there"
        raise InputError(
            f"data.source is {source!r}, which is {found}; expected 'chorales', a folder of MIDI "
            "files, or a corpus folder"
        )
    songs = folder.find_songs(path)
    return folder.with_splits(songs, path / "index.tsv") if split_by == "index" else songs
