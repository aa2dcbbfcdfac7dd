"""An encoding: the highest note at each quarter. Id 0 is none, 1 a rest, 2 + p the pitch p."""

import dataclasses
from typing import ClassVar

import numpy as np

from musicjax.encodings.base import EncodedSong, FixedIds
from musicjax.music.song import Track


@dataclasses.dataclass(frozen=True)
class Beats(FixedIds):
    """One id a quarter note."""

    name: ClassVar[str] = "beats"
    element: ClassVar[str] = "beat"
    units_per_quarter: ClassVar[int] = 1
    unit_elements: ClassVar[bool] = True

    @property
    def size(self):
        """See Encoding."""
        return 130

    def encode(self, song):
        """See Encoding."""
        ids = np.ones(-(-song.end_ticks // song.ticks_per_quarter), np.int32)
        for onset, duration, pitch, _ in song.notes():
            first = onset // song.ticks_per_quarter
            last = -(-(onset + duration) // song.ticks_per_quarter)
            ids[first:last] = np.maximum(ids[first:last], 2 + pitch)
        repeats = int((ids[1:] == ids[:-1]).sum())
        return EncodedSong(ids, {}, {"repeats": repeats})

    def decode(self, elements, *, start=0, units=None, **track):
        """See Encoding."""
        onset = np.flatnonzero(elements[:units] > 1)
        return [
            Track(
                onset_ticks=onset + start,
                duration_ticks=np.ones_like(onset),
                pitch=elements[onset] - 2,
                **track | {"velocity": np.full(len(onset), track.get("velocity", 80))},
            )
        ]

    def text(self, elements):
        """See Encoding."""
        return " ".join(str(i - 2) if i > 1 else "rest" for i in elements.tolist())

    def units(self, elements):
        """See Encoding."""
        return elements.__array_namespace__().ones_like(elements)

    def rests(self, elements):
        """See Encoding."""
        return elements < 2
