"""Bach's chorales, from the music21 package: no download. Of the 371 numbers in Riemenschneider's
edition 21 repeat another, so that there are 350 songs. Of 18 with parts of instruments besides,
which play along or between the lines, the choir alone is kept.

They are read from MusicXML once, in parallel (half a minute on two cores), and kept as MIDI
files in the user's cache folder, one track a voice; from there they are a folder like any other.
"""

import dataclasses
import importlib.metadata
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from musicjax.errors import InputError
from musicjax.music import midi
from musicjax.music.song import KeySignature, Meter, Song, Tempo, Track
from musicjax.music.track_selection import choose_part
from musicjax.sources.base import SongFile, Source
from musicjax.sources.folder import Folder
from musicjax.system import cache, files, workers

_TICKS_PER_QUARTER = 480
_CHOIR_AAHS = 52
_QPM = 80.0
_CHOIR = "soprano|alto|tenor|bass"  # parts by their names, which three chorales do not have
_RENDERING = 3  # raise it when the same score would give another file


@dataclasses.dataclass(frozen=True)
class Chorales(Source):
    """The chorales as MIDI files."""

    default_track: ClassVar[str] = "soprano|bass"

    @classmethod
    def open(cls, source: str) -> Self | None:
        """The source that is named "chorales"."""
        return cls() if source == "chorales" else None

    def find(self) -> list[SongFile]:
        """The files, sorted by name; they are made by the first call."""
        folder = cache_folder()
        if not folder.is_dir():
            cache.expect_writable()
            try:
                with files.new_folder(folder) as temporary:
                    _render_all(temporary)
            except (OSError, InputError):
                if not folder.is_dir():
                    raise
                # Another process was first; its files are the same.
        return Folder(folder).find()


def cache_folder() -> Path:
    """Where the MIDI files are kept; its name holds music21's version and ours."""
    version = f"{importlib.metadata.version('music21')}-{_RENDERING}"
    return cache.root() / f"chorales-music21-{version}"


def _render_all(target: Path) -> None:
    from music21.corpus import chorales
    from tqdm import tqdm

    names = sorted(set(map(str, chorales.Iterator(returnType="filename"))))
    tasks = [(names[i : i + 8], target) for i in range(0, len(names), 8)]
    with tqdm(
        total=len(names), desc="reading Bach's chorales (once)", unit="chorale", disable=None
    ) as bar:
        for index, result in workers.run(_render, tasks, workers=workers.cores()):
            if isinstance(result, workers.Failure):
                raise RuntimeError(f"{tasks[index][0]}: {result.detail}")
            bar.update(len(tasks[index][0]))


def _render(names: list[str], target: Path) -> None:
    from music21 import corpus

    for name in names:
        # From the source: else music21 keeps a pickle of each, which takes longer than reading it.
        song = song_from_score(corpus.parse(name, forceSource=True))
        choir, _ = choose_part(song, _CHOIR)
        song = choir if choir.tracks else song
        midi.write_song(song, target / f"{name.removeprefix('bach/')}.mid")


def song_from_score(score: Any) -> Song:
    """A music21 Score as a Song, one track a part.

    Ties are joined, in the score itself, since a copy takes as long as reading it; repeats are not
    unfolded; a pick-up is a first bar of its own length.
    """

    def ticks(quarters: Any) -> int:
        return round(quarters * _TICKS_PER_QUARTER)

    first = score.parts[0].flatten()
    meters = _with_pick_up(  # before a tie from it makes the pick-up longer
        tuple(
            Meter(ticks(m.offset), m.numerator, m.denominator)
            for m in first.getElementsByClass("TimeSignature")
        ),
        score.parts[0],
    )
    tracks = []
    for part in score.parts:
        part.stripTies(inPlace=True)
        rows = [
            (ticks(note.offset), ticks(note.quarterLength), pitch.midi)
            for note in part.flatten().notes
            if note.quarterLength > 0  # grace notes have no length
            for pitch in note.pitches
        ]
        if rows:
            onset, duration, pitch = np.array(rows).T
            velocity = np.full(len(rows), 80)
            tracks.append(
                Track(part.partName or "", _CHOIR_AAHS, False, onset, duration, pitch, velocity)
            )
    return Song(
        tracks=tuple(tracks),
        ticks_per_quarter=_TICKS_PER_QUARTER,
        meters=meters,
        tempos=(Tempo(0, _QPM),),
        keys=tuple(
            KeySignature(ticks(k.offset), k.sharps, getattr(k, "mode", "major") == "minor")
            for k in first.getElementsByClass("KeySignature")
        ),
    )


def _with_pick_up(meters: tuple[Meter, ...], part: Any) -> tuple[Meter, ...]:
    """The meters of a part, the first from the end of its pick-up on, if it has one."""
    measure = next(iter(part.getElementsByClass("Measure")), None)
    length = Fraction(measure.duration.quarterLength) if measure is not None else Fraction(0)
    if not meters or not 0 < length < meters[0].quarters:
        return meters
    denominator = 4 * length.limit_denominator(8).denominator
    pick_up = Meter(0, round(length * denominator / 4), denominator)
    first = meters[0]._replace(tick=round(length * _TICKS_PER_QUARTER))
    return (pick_up, first, *meters[1:])
