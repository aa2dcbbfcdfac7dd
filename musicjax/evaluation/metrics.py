"""What a passage of music is like, in figures: is it one note over and over, or silence?

To add a measure: one function of a Passage, and its line in MEASURES or an entry point of the group
musicjax.measures.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from musicjax.encodings.note_states import song_to_note_state
from musicjax.music.song import Song
from musicjax.registry import Registry


class Passage(NamedTuple):
    """A stretch of music.

    Attributes:
        song: its notes; tick 0 is its beginning.
        ticks: its length; silence at the end counts.
        elements: [T, ...], as they were encoded or generated.
        element: what one is called, such as "token".
    """

    song: Song
    ticks: int
    elements: np.ndarray
    element: str = "element"


@dataclasses.dataclass(frozen=True)
class Measure:
    """A figure of a passage.

    Attributes:
        apply: computes it.
        text: shows it to people, such as "{:.0%} silent"; {element} is what one is called.
    """

    apply: Callable[[Passage], float]
    text: str


def seconds(passage: Passage) -> float:
    """Playing time at the song's main tempo."""
    return passage.ticks / passage.song.ticks_per_quarter * 60 / passage.song.main_qpm


def pitches(passage: Passage) -> int:
    """Different pitches."""
    return len(np.unique(passage.song.notes()[:, 2]))


def _sounding(passage: Passage) -> np.ndarray:
    """int [ticks]: how many pitches sound in each tick."""
    changes = np.zeros((passage.ticks + 1, 128), np.int32)
    notes = passage.song.notes().astype(np.int64)
    end = np.minimum(notes[:, 0] + notes[:, 1], passage.ticks)
    np.add.at(changes, (np.minimum(notes[:, 0], passage.ticks), notes[:, 2]), 1)
    np.add.at(changes, (end, notes[:, 2]), -1)
    return (np.cumsum(changes[:-1], axis=0) > 0).sum(1)


def notes_at_once(passage: Passage) -> float:
    """Pitches that sound, mean over time."""
    return float(_sounding(passage).mean()) if passage.ticks else 0.0


def most_at_once(passage: Passage) -> int:
    """Pitches that sound, at most."""
    return int(_sounding(passage).max(initial=0))


def silence(passage: Passage) -> float:
    """Share of time in which no note sounds."""
    return float((_sounding(passage) == 0).mean()) if passage.ticks else 1.0


def distinct(passage: Passage) -> int:
    """Different elements."""
    return len(np.unique(passage.elements, axis=0)) if len(passage.elements) else 0


def _repeats(passage: Passage) -> np.ndarray:
    """bool [T - 1]: whether an element equals the one before."""
    same = passage.elements[1:] == passage.elements[:-1]
    return same.all(axis=tuple(range(1, same.ndim)))


def repetition(passage: Passage) -> float:
    """Share of elements that equal the one before."""
    repeats = _repeats(passage)
    return float(repeats.mean()) if len(repeats) else 0.0


def longest_run(passage: Passage) -> int:
    """Times that one element comes in a row, at most."""
    runs = [len(list(run)) for same, run in itertools.groupby(_repeats(passage).tolist()) if same]
    return max(runs, default=0) + (1 if len(passage.elements) else 0)


MEASURES: Registry[Measure] = Registry(
    "measures",
    "a measure",
    {
        "elements": Measure(lambda passage: len(passage.elements), "{} {element}s"),
        "seconds": Measure(seconds, "{:.0f} s"),
        "distinct": Measure(distinct, "{} distinct"),
        "pitches": Measure(pitches, "{} pitches"),
        "notes_at_once": Measure(notes_at_once, "{:.1f} notes at once"),
        "most_at_once": Measure(most_at_once, "at most {}"),
        "silence": Measure(silence, "{:.0%} silent"),
        "repetition": Measure(repetition, "{:.0%} as the {element} before"),
        "longest_run": Measure(longest_run, "the same {element} at most {} times in a row"),
    },
)


def measure(passage: Passage) -> dict[str, float]:
    """All measures of a passage, by name."""
    return {name: measure.apply(passage) for name, measure in MEASURES.items()}


def describe(metrics: dict[str, float], element: str) -> str:
    """What `measure` returns, in a line; `element` is what one is called, such as "token"."""
    shown = (MEASURES[name].text.format(value, element=element) for name, value in metrics.items())
    return ", ".join(shown)


def shared_cells(songs: Sequence[Song]) -> list[float]:
    """For each pair of songs, how many of the cells (sixteenth, pitch) in which either sounds both
    do: 1 for the same song twice, 0 for two that have none in common. Songs without notes are left
    out.
    """
    plays = [
        song_to_note_state(song, lowest=0, highest=127).states[..., 0] > 0
        for song in songs
        if song.num_notes
    ]

    def share(a: np.ndarray, b: np.ndarray) -> float:
        both = min(len(a), len(b))
        common = (a[:both] & b[:both]).sum()
        return float(common / (a.sum() + b.sum() - common))

    return [share(a, b) for a, b in itertools.combinations(plays, 2)]
