"""A source: tunes that are made up when they are read. data.source=tunes:60 names 60 of them."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from musicjax.music.song import Song, Track
from musicjax.sources import SongFile, Source


@dataclasses.dataclass(frozen=True)
class Tunes(Source):
    """`count` tunes of 32 quarters, each a walk up and down a scale."""

    count: int

    @classmethod
    def open(cls, source):
        """See Source."""
        kind, _, count = source.partition(":")
        return cls(int(count)) if kind == "tunes" else None

    def find(self):
        """See Source."""
        return [SongFile(Path(f"tune {i}"), f"tune {i:04d}") for i in range(self.count)]

    def read(self, file, *, max_bytes, check_md5=True):
        """See Source."""
        rng = np.random.default_rng(int(file.name[5:]))
        degree = np.clip(np.cumsum(rng.integers(-1, 2, 32)) + 4, 0, 7)
        pitch = np.array([60, 62, 64, 65, 67, 69, 71, 72])[degree]
        beats = np.arange(32)
        track = Track("Tune", 0, False, beats * 4, np.full(32, 4), pitch, np.full(32, 80))
        md5 = hashlib.md5(pitch.tobytes()).hexdigest()
        return Song((track,), 4, source=file.name), md5

    def files_of(self, file):
        """See Source: none; the name says all."""
        return []
