"""Bach's 371 chorales (Riemenschneider's edition), out of the music21 package: no download.

They are read from MusicXML once, in parallel (a minute on two cores), and kept as MIDI files in the
user's cache folder, one track a voice; from there they are a folder like any other.
"""

import contextlib
import importlib.metadata
import shutil
import tempfile
from pathlib import Path

import numpy as np
import platformdirs

from musicjax import midi, workers
from musicjax.corpora import SongFile, folder
from musicjax.song import KeySignature, Meter, Song, Tempo, Track

_TICKS_PER_QUARTER = 480
_CHOIR_AAHS = 52
_QPM = 80.0


def cache_folder() -> Path:
    """Where the MIDI files are kept; its name holds music21's version."""
    version = importlib.metadata.version("music21")
    return platformdirs.user_cache_path("musicjax") / f"chorales-music21-{version}"


def find_songs() -> list[SongFile]:
    """The chorales as MIDI files; made on the first call."""
    target = cache_folder()
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Complete or not there: a run that is stopped leaves nothing that a later one would trust.
        temporary = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
        try:
            _render_all(temporary)
            with contextlib.suppress(OSError):  # another process was first: its files are the same
                temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder.find_songs(target)


def _render_all(target: Path) -> None:
    from music21.corpus import chorales
    from tqdm import tqdm

    names = sorted(set(map(str, chorales.Iterator(returnType="filename"))))
    tasks = [(names[i : i + 8], target) for i in range(0, len(names), 8)]
    with tqdm(total=len(names), desc="reading Bach's chorales (once)", unit="chorale") as bar:
        for number, result in workers.run(_render, tasks, workers=workers.cores()):
            if isinstance(result, workers.Failure):
                raise RuntimeError(f"{tasks[number][0]}: {result.detail}")
            bar.update(len(tasks[number][0]))


def _render(names: list[str], target: Path) -> None:
    from music21 import corpus

    for name in names:
        song = song_from_score(corpus.parse(name))
        midi.write_song(song, target / f"{name.removeprefix('bach/')}.mid")


def song_from_score(score) -> Song:
    """A music21 Score as a Song, one track a part. Ties are joined; repeats are not unfolded."""

    def ticks(quarters) -> int:
        return round(quarters * _TICKS_PER_QUARTER)

    tracks = []
    for part in score.parts:
        rows = [
            (ticks(note.offset), ticks(note.quarterLength), pitch.midi)
            for note in part.stripTies().flatten().notes
            if note.quarterLength > 0  # grace notes have no length
            for pitch in note.pitches
        ]
        if rows:
            onset, duration, pitch = np.array(rows).T
            velocity = np.full(len(rows), 80)
            tracks.append(
                Track(part.partName or "", _CHOIR_AAHS, False, onset, duration, pitch, velocity)
            )
    first = score.parts[0].flatten()
    return Song(
        tracks=tuple(tracks),
        ticks_per_quarter=_TICKS_PER_QUARTER,
        meters=tuple(
            Meter(ticks(m.offset), m.numerator, m.denominator)
            for m in first.getElementsByClass("TimeSignature")
        ),
        tempos=(Tempo(0, _QPM),),
        keys=tuple(
            KeySignature(ticks(k.offset), k.sharps, getattr(k, "mode", "major") == "minor")
            for k in first.getElementsByClass("KeySignature")
        ),
    )
