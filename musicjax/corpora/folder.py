"""Any folder of MIDI files, at any depth."""

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
