"""A song: tracks of notes, with its meters, tempos and key signatures.

Musical time is counted in ticks, `ticks_per_quarter` of them to a quarter note, as in a MIDI file
(Standard MIDI Files 1.0, RP-001). Nothing here knows of files or of seconds.
"""

import dataclasses
from fractions import Fraction
from typing import NamedTuple

import numpy as np

PITCH_CLASS_NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


def pitch_name(pitch: int) -> str:
    """The name of a MIDI pitch: 60 is C4."""
    return f"{PITCH_CLASS_NAMES[pitch % 12]}{pitch // 12 - 1}"


def key_name(tonic: int, minor: bool) -> str:
    """The name of a key by the pitch class of its tonic, such as "C:maj" or "A:min"."""
    return f"{PITCH_CLASS_NAMES[tonic]}:{'min' if minor else 'maj'}"


class Meter(NamedTuple):
    """A time signature: `numerator` notes of 1 / `denominator` in each bar, from `tick` on."""

    tick: int
    numerator: int
    denominator: int

    @property
    def quarters(self) -> Fraction:
        """Length of a bar in quarter notes, exact."""
        return Fraction(4 * self.numerator, self.denominator)

    def ticks(self, ticks_per_quarter: int) -> int:
        """Length of a bar in ticks, rounded down, at least 1."""
        return max(4 * self.numerator * ticks_per_quarter // self.denominator, 1)


class Tempo(NamedTuple):
    """`qpm` quarter notes a minute, from `tick` on."""

    tick: int
    qpm: float


class KeySignature(NamedTuple):
    """A key as the file claims it: `fifths` sharps (negative: flats), major or minor."""

    tick: int
    fifths: int
    minor: bool

    @property
    def tonic(self) -> int:
        """Pitch class, 0 = C .. 11 = B."""
        return (7 * self.fifths + (9 if self.minor else 0)) % 12

    @property
    def name(self) -> str:
        """Such as "C:maj" or "A:min"."""
        return key_name(self.tonic, self.minor)


@dataclasses.dataclass(frozen=True, eq=False)
class Track:
    """One instrument's notes, sorted by onset, then pitch.

    The four note arrays have equal shape [notes]. They are copied and made read-only.

    Attributes:
        name: as the file gives it; may be empty, and may be wrong.
        program: General MIDI program, 0..127.
        is_drum: on the percussion channel, where pitch names an instrument.
        onset_ticks: int32, >= 0.
        duration_ticks: int32, > 0.
        pitch: uint8 MIDI numbers, 0..127; 60 is middle C.
        velocity: uint8, 1..127.
        inst_class: the instrument by the corpus's own metadata, such as "Piano" (Slakh); may be
            empty.

    Raises:
        ValueError: arrays of different lengths, or values outside these ranges.
    """

    name: str
    program: int
    is_drum: bool
    onset_ticks: np.ndarray
    duration_ticks: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    inst_class: str = ""

    def __post_init__(self):
        if not 0 <= self.program <= 127:
            raise ValueError(f"program is {self.program}, expected 0..127")
        arrays = {}
        for field, dtype, low, high in (
            ("onset_ticks", np.int32, 0, 2**31 - 1),
            ("duration_ticks", np.int32, 1, 2**31 - 1),
            ("pitch", np.uint8, 0, 127),
            ("velocity", np.uint8, 1, 127),
        ):
            values = np.asarray(getattr(self, field))
            if values.ndim != 1 or len(values) != len(self.onset_ticks):
                raise ValueError(
                    f"{field} has shape {values.shape}, expected ({len(self.onset_ticks)},)"
                )
            if len(values) and (values.min() < low or values.max() > high):
                raise ValueError(
                    f"{field} spans {values.min()}..{values.max()}, expected {low}..{high}"
                )
            arrays[field] = values.astype(dtype)
        order = np.lexsort((arrays["pitch"], arrays["onset_ticks"]))
        for field, values in arrays.items():
            values = values[order]
            values.flags.writeable = False
            object.__setattr__(self, field, values)

    def __len__(self) -> int:
        return len(self.pitch)


@dataclasses.dataclass(frozen=True, eq=False)
class Song:
    """A piece of music. Immutable: whatever changes it makes a new one.

    Attributes:
        tracks: in the file's order; may be empty.
        ticks_per_quarter: at least 1.
        meters: sorted by tick, as the next two are; empty means 4/4.
        tempos: empty means 120 quarters a minute.
        keys: signatures; empty means not known.
        source: where it came from, for reports.
        repairs: what reading it had to repair: "meter", "tempo", "key_signature", "note_length".
    """

    tracks: tuple[Track, ...]
    ticks_per_quarter: int
    meters: tuple[Meter, ...] = ()
    tempos: tuple[Tempo, ...] = ()
    keys: tuple[KeySignature, ...] = ()
    source: str = ""
    repairs: tuple[str, ...] = ()

    def __post_init__(self):
        if self.ticks_per_quarter <= 0:
            raise ValueError(f"ticks_per_quarter is {self.ticks_per_quarter}, expected > 0")
        for field in ("meters", "tempos", "keys"):
            object.__setattr__(self, field, tuple(sorted(getattr(self, field))))

    @property
    def num_notes(self) -> int:
        """Notes in all tracks."""
        return sum(len(track) for track in self.tracks)

    @property
    def end_ticks(self) -> int:
        """Tick at which the last note ends; 0 without notes."""
        ends = [int((t.onset_ticks + t.duration_ticks).max()) for t in self.tracks if len(t)]
        return max(ends, default=0)

    @property
    def meters_from_start(self) -> tuple[Meter, ...]:
        """The meters that hold, the first at tick 0, at most one at each tick.

        Before the first meter of the song it is 4/4; of several at one tick the last holds.
        """
        at_tick = {meter.tick: meter for meter in (Meter(0, 4, 4), *self.meters)}
        return tuple(at_tick.values())

    @property
    def main_qpm(self) -> float:
        """The tempo that holds for the longest time, in quarters a minute; 120 if none is given."""
        changes = [tempo.tick for tempo in self.tempos[1:]] + [self.end_ticks]
        held = {}
        for tempo, until in zip(self.tempos, changes, strict=True) if self.tempos else ():
            seconds = max(until - tempo.tick, 0) / tempo.qpm
            held[tempo.qpm] = held.get(tempo.qpm, 0.0) + seconds
        return max(held, key=held.__getitem__, default=120.0)

    @property
    def seconds(self) -> float:
        """Until the last note ends."""
        tempos = self.tempos or (Tempo(0, 120.0),)
        ticks = np.array([0, *(tempo.tick for tempo in tempos[1:]), self.end_ticks])
        lengths = np.diff(np.minimum(ticks, self.end_ticks))
        return float(lengths @ [60 / tempo.qpm for tempo in tempos]) / self.ticks_per_quarter

    def notes(self) -> np.ndarray:
        """All tracks' notes as one int32 [notes, 4]: onset_ticks, duration_ticks, pitch, velocity.

        Sorted by onset, then pitch.
        """
        columns = ("onset_ticks", "duration_ticks", "pitch", "velocity")
        if not self.tracks:
            return np.zeros((0, 4), np.int32)
        table = np.stack(
            [np.concatenate([getattr(t, c) for t in self.tracks]) for c in columns], axis=1
        ).astype(np.int32)
        return table[np.lexsort((table[:, 2], table[:, 0]))]

    def stretch(self, start: int, stop: int) -> "Song":
        """The notes that begin from tick `start` on and before `stop`, where the last of them ends;
        `start` becomes tick 0, at which the meter, tempo and key that held go on.
        """

        def cut(track: Track) -> Track:
            onset = track.onset_ticks
            inside = (onset >= start) & (onset < stop)
            return dataclasses.replace(
                track,
                onset_ticks=onset[inside] - start,
                duration_ticks=np.minimum(track.duration_ticks[inside], stop - onset[inside]),
                pitch=track.pitch[inside],
                velocity=track.velocity[inside],
            )

        def going_on(rows: tuple) -> tuple:
            held = [row for row in rows if row.tick <= start][-1:]
            later = [row for row in rows if row.tick > start]
            return tuple(row._replace(tick=max(row.tick - start, 0)) for row in (*held, *later))

        return dataclasses.replace(
            self,
            tracks=tuple(map(cut, self.tracks)),
            meters=going_on(self.meters),
            tempos=going_on(self.tempos),
            keys=going_on(self.keys),
        )

    def transposed(self, semitones: int) -> "Song":
        """This song, its pitched tracks moved by `semitones`; drums stay.

        A pitch that would leave 0..127 is moved back by octaves. The key signatures move too.
        """

        def move(track: Track) -> Track:
            if track.is_drum:
                return track
            pitch = track.pitch.astype(np.int32) + semitones
            pitch = np.where(pitch < 0, pitch % 12, pitch)
            pitch = np.where(pitch > 127, 127 - (127 - pitch) % 12, pitch)
            return dataclasses.replace(track, pitch=pitch)

        # A semitone is seven fifths; keep the name with the fewest accidentals.
        keys = tuple(
            key._replace(fifths=(key.fifths + 7 * semitones + 5) % 12 - 5) for key in self.keys
        )
        return dataclasses.replace(self, tracks=tuple(map(move, self.tracks)), keys=keys)
