"""Symbolic music with recurrent networks in JAX/Flax.

    sources -> music.Song -> encodings -> corpus -> models, training -> evaluation, generation

What may be called from Python is in musicjax.api, and is imported when it is first asked for:

    run = musicjax.train(musicjax.get_config("vocab:quick"), "runs/mine")
    pieces = run.generate(num=4)

docs/architecture.md walks through the packages, docs/extending.md says how to add to them.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

from musicjax.system import stop

__version__ = "0.1.0"

if TYPE_CHECKING:
    from musicjax.api import *  # noqa: F403

# As in musicjax.api, which is not imported to know them.
__all__ = [  # noqa: F405
    "Corpus",
    "Encoding",
    "InputError",
    "KeySignature",
    "Meter",
    "Options",
    "Run",
    "Song",
    "SongError",
    "SongRecord",
    "Tempo",
    "Track",
    "decode_song",
    "encode",
    "encode_song",
    "get_config",
    "get_encoding",
    "load",
    "load_corpus",
    "prepare_song",
    "read_song",
    "song_from_pretty_midi",
    "song_from_symusic",
    "song_to_pretty_midi",
    "song_to_symusic",
    "train",
    "write_pieces",
    "write_song",
]


class _Package(types.ModuleType):
    """musicjax.train and musicjax.encode are functions, though the modules of the commands have the
    same names: Python would put those in their place whenever they are imported.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in ("encode", "train") and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

if sys.argv[:1] == ["-m"]:  # a command: its imports take a while, and it can be stopped before
    stop.catch()


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("musicjax.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
