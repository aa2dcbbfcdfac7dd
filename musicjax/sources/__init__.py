"""Where songs come from: a folder of MIDI files, Lakh, Slakh, Bach's chorales, sets of piano rolls.

To add one: a class that meets musicjax.sources.base.Source, and its line here or an entry point.
"""

from pathlib import Path

from musicjax.errors import InputError
from musicjax.registry import Registry
from musicjax.sources.base import SPLITS, SongFile, Source

__all__ = ["SOURCES", "SPLITS", "SongFile", "Source", "open_source"]

# The first that takes data.source has it; a folder takes any folder, so it is asked last.
SOURCES: Registry[type[Source]] = Registry(
    "sources",
    "data.source",
    {
        "chorales": "musicjax.sources.chorales:Chorales",
        "piano_rolls": "musicjax.sources.piano_rolls:PianoRolls",
        "slakh": "musicjax.sources.slakh:Slakh",
        "lakh": "musicjax.sources.lakh:Lakh",
        "folder": "musicjax.sources.folder:Folder",
    },
)


def open_source(source: str) -> Source:
    """The source that `config.data.source` names.

    Raises:
        InputError: no such source.
    """
    for name in sorted(SOURCES, key="folder".__eq__):
        opened = SOURCES[name].open(source)
        if opened is not None:
            return opened
    found = "a file" if Path(source).expanduser().exists() else "not there"
    raise InputError(
        f"data.source is {source!r}, which is {found}; expected 'chorales', a folder of MIDI "
        "files, a Lakh or Slakh root, a set of piano rolls (.npz), or a corpus folder"
    )
