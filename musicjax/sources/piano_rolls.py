"""Sets of piano rolls in one .npz file, such as the four of Boulanger-Lewandowski et al. 2012.

For each split, train, valid and test: `<split>_rolls`, integers [steps, 88], 1 where a note sounds,
of the 88 keys of a piano, all pieces end to end; and `<split>_lengths`, int [pieces], the steps of
each. A step counts as a sixteenth note; 4/4, 120 qpm.

Differs from the files: (1) silent steps after the last note of a piece are not kept (of the four
sets, 6 steps in 3 pieces); (2) a run of ones is one note, for a roll cannot show a repeated one.
"""

import dataclasses
import functools
import hashlib
import zipfile
from pathlib import Path
from typing import Self

import numpy as np

from musicjax.errors import InputError, SongError
from musicjax.music.song import Song, Track
from musicjax.sources.base import SongFile, Source
from musicjax.system import files

STEPS_PER_QUARTER = 4
LOWEST, HIGHEST = 21, 108  # MIDI pitches of the first and the last column
_SPLITS = {"train": "train", "valid": "validation", "test": "test"}
_VELOCITY = 80


@dataclasses.dataclass(frozen=True)
class PianoRolls(Source):
    """The pieces of a set, in its own splits. `path` is of the .npz file."""

    path: Path

    @classmethod
    def open(cls, source: str) -> Self | None:
        """Any .npz file.

        Raises:
            InputError: no such file.
        """
        if not source.endswith(".npz"):
            return None
        path = Path(source).expanduser()
        if not path.is_file():
            raise InputError(f"data.source is {source!r}, which is not there; expected a .npz file")
        return cls(path)

    def find(self) -> list[SongFile]:
        """The pieces, in the order of the file: "train/0", "train/1", ...

        Raises:
            InputError: the file is not a set of piano rolls.
        """
        return [
            SongFile(self.path, name, {"split": _SPLITS[name.partition("/")[0]]})
            for name in _load(self.path)
        ]

    def read(self, file: SongFile, *, max_bytes: int, check_md5: bool = True) -> tuple[Song, str]:
        """A piece, and the MD5 of its roll. The file is loaded once in each process.

        Args:
            file: of `find`.
            max_bytes, check_md5: not used: the file is of many songs, and says no MD5.
        Raises:
            SongError: "no_notes".
            InputError: the file is not a set of piano rolls.
        """
        roll = _load(file.path)[file.name]
        # Transposed, the n-th onset of a pitch and its n-th end belong together.
        edges = np.diff(roll.T.astype(np.int8), prepend=0, append=0)
        pitch, onset = np.nonzero(edges == 1)
        _, end = np.nonzero(edges == -1)
        if not len(onset):
            raise SongError(f"{file.path}: {file.name}", "no_notes", "a silent piece")
        track = Track(
            name="",
            program=0,
            is_drum=False,
            onset_ticks=onset,
            duration_ticks=end - onset,
            pitch=pitch + LOWEST,
            velocity=np.full(len(onset), _VELOCITY),
        )
        song = Song((track,), STEPS_PER_QUARTER, source=f"{file.path}: {file.name}")
        return song, hashlib.md5(roll.tobytes(), usedforsecurity=False).hexdigest()


def _load(path: Path) -> dict[str, np.ndarray]:
    """Each piece's roll, uint8 [steps, 88], by its name; read anew if the file has changed."""
    try:
        stat = path.stat()
        return _load_version(path, stat.st_mtime_ns, stat.st_size)
    except files.ARRAY_ERRORS as error:
        raise InputError(
            f"{path}: not a set of piano rolls ({error}); expected train_rolls, train_lengths, "
            "valid_rolls, ... as musicjax/sources/piano_rolls.py describes"
        ) from None


@functools.lru_cache(maxsize=1)
def _load_version(path: Path, mtime_ns: int, size: int) -> dict[str, np.ndarray]:
    pieces = {}
    with zipfile.ZipFile(path) as file:
        if damaged := file.testzip():  # numpy would not read so far as to find it
            raise ValueError(f"{damaged} is damaged")
    with path.open("rb") as file, np.load(file) as arrays:
        for key in _SPLITS:
            rolls, lengths = arrays[f"{key}_rolls"], arrays[f"{key}_lengths"]
            _check(key, rolls, lengths)
            for number, roll in enumerate(
                np.split(rolls.astype(np.uint8), np.cumsum(lengths))[:-1]
            ):
                pieces[f"{key}/{number}"] = roll
    return pieces


def _check(key: str, rolls: np.ndarray, lengths: np.ndarray) -> None:
    """Raises a ValueError if the arrays of a split are not what they must be."""
    keys = HIGHEST - LOWEST + 1
    if rolls.ndim != 2 or rolls.shape[1] != keys:
        raise ValueError(
            f"{key}_rolls is {list(rolls.shape)}, not [steps, {keys}]: one column for each MIDI "
            f"pitch from {LOWEST} to {HIGHEST}"
        )
    if rolls.dtype.kind not in "biu" or rolls.min(initial=0) < 0 or rolls.max(initial=0) > 1:
        raise ValueError(f"{key}_rolls has other values than the integers 0 and 1")
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or lengths.min(initial=0) < 0:
        raise ValueError(f"{key}_lengths is not a list of lengths")
    if lengths.sum() != len(rolls):
        raise ValueError(f"{key}_rolls has {len(rolls)} steps, its lengths {lengths.sum()}")
