"""Sets of piano rolls in one .npz file, such as the four that the field compares models on.

For each split, train, valid and test: `<split>_rolls` uint8 [steps, notes], 1 where a note sounds,
all pieces end to end, and `<split>_lengths` int [pieces], the steps of each.
"""

from pathlib import Path

import numpy as np

from musicjax.corpora import SongFile
from musicjax.errors import InputError

_SPLITS = {"train": "train", "valid": "validation", "test": "test"}


def song_file(source: str) -> SongFile:
    """The file that holds them all.

    Raises:
        InputError: not there.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        raise InputError(f"data.source is {source!r}, which is not there; expected an .npz file")
    return SongFile(path, path.name)


def read_rolls(source: str) -> list[tuple[str, str, np.ndarray]]:
    """Each piece's name, split, and roll uint8 [steps, notes].

    Raises:
        InputError: not such a file.
    """
    path = song_file(source).path
    pieces = []
    try:
        with np.load(path) as arrays:
            for key, split in _SPLITS.items():
                rolls, lengths = arrays[f"{key}_rolls"], arrays[f"{key}_lengths"]
                if rolls.ndim != 2 or lengths.sum() != len(rolls) or rolls.max(initial=0) > 1:
                    raise ValueError(f"{key}_rolls is {rolls.shape}, its lengths {lengths.sum()}")
                for number, roll in enumerate(np.split(rolls, np.cumsum(lengths)[:-1])):
                    pieces.append((f"{key}/{number}", split, roll.astype(np.uint8)))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path}: not a set of piano rolls ({error}); expected train_rolls, train_lengths, "
            "valid_rolls, ... as musicjax/corpora/piano_rolls.py describes"
        ) from None
    return pieces
