"""Music as numbers: tokens of notes, chords and rests; note state matrices.

To add one: a module that meets musicjax.encodings.base.Encoding, and its line here or an entry
point.
"""

from typing import Any

from musicjax.encodings.base import Encoding
from musicjax.registry import Registry

ENCODINGS: Registry[type[Encoding]] = Registry(
    "encodings",
    "data.encoding",
    {
        "tokens": "musicjax.encodings.tokens:TokenEncoding",
        "note_states": "musicjax.encodings.note_states:NoteStateEncoding",
        "events": "musicjax.encodings.events:EventEncoding",
    },
)


def make_encoding(data: Any) -> Encoding:
    """The encoding that `config.data`, or a corpus's settings, describe.

    Raises:
        InputError: no such encoding, or a setting that cannot be.
    """
    return ENCODINGS[data["encoding"]].from_config(data)
