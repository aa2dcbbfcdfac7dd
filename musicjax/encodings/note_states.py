"""The encoding "note_states": for each step of a sixteenth and each note, two bits.

    [play, articulate]   00 rest, 11 the note starts in this step, 10 it sounds on from before

01 cannot occur (one cannot articulate a rest) and is read as a rest. Steps are counted from bar
lines: a song is cut into stretches of one meter, and each stretch begins a grid of its own.

Axes: T time step, N note (low to high), C bit.
Source: paper section 2.1, after Johnson's and Shiebler's converters [3], [6].
Differs: (1) notes shorter than a step are kept as one step; (2) the last step's notes end; (3) any
resolution and any meter whose bars are whole steps; (4) the same pitch in several tracks sounds
until the last of them ends, and each attack is kept.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np

from musicjax.config import ANY, at_least, expect, setting, settings_of
from musicjax.encodings.bars import (
    Bars,
    bar_lines,
    bar_starts,
    bars_of,
    cycle,
    from_stretches,
    layout_of,
    meters,
    places,
)
from musicjax.encodings.base import (
    MOST_COUNTED,
    Array,
    EncodedSong,
    Encoding,
    Plot,
    Sums,
    Table,
    shares_of_notes,
)
from musicjax.errors import SongError
from musicjax.music.song import Meter, Song, Tempo, Track, pitch_name

STEPS_PER_QUARTER = 4
LOWEST, HIGHEST = 24, 101  # MIDI pitches; 78 notes
_MOST_REPORTED = 1000  # songs, evenly spread, whose matrices a report unpacks


class NoteStateError(SongError):
    """A song without a note state matrix. `reason`: "meter", "no_note_in_range" or "too_long"."""


class NoteStates(NamedTuple):
    """A song's note state matrix, and what the encoding lost.

    Attributes:
        states: uint8 [T, N, 2].
        bars: the stretches of one meter, in order.
        notes: of the song.
        outside: notes left out, being lower or higher than the matrix.
    """

    states: np.ndarray
    bars: tuple[Bars, ...]
    notes: int
    outside: int


def song_to_note_state(
    song: Song,
    *,
    lowest: int = LOWEST,
    highest: int = HIGHEST,
    most_steps: int = 1_000_000,
) -> NoteStates:
    """Samples all of a song's tracks, merged, on the grid of sixteenths. Half a step rounds up.

    Args:
        song: any song; choose its part first; drums count as notes.
        lowest, highest: MIDI pitches, both included; N = highest - lowest + 1. Notes outside are
            left out and counted.
        most_steps: T is at most this.
    Returns:
        NoteStates; T is the step at which the last note ends.
    Raises:
        NoteStateError: "meter": bars that are no whole number of steps; "no_note_in_range";
            "too_long".
    """
    notes = song.notes().astype(np.int64)
    inside = notes[(notes[:, 2] >= lowest) & (notes[:, 2] <= highest)]
    if not len(inside):
        spans = f"{notes[:, 2].min()} to {notes[:, 2].max()}" if len(notes) else "none"
        raise NoteStateError(
            song.source,
            "no_note_in_range",
            f"its pitches are {spans}; the matrix holds {lowest} to {highest}",
        )
    grid = _Grid(song)
    onset, end = inside[:, 0], inside[:, 0] + inside[:, 1]
    first = grid.steps(onset)
    last = np.maximum(grid.steps(end), first + 1)
    length = int(last.max())
    if length > most_steps:
        raise NoteStateError(song.source, "too_long", f"{length} steps, at most {most_steps}")
    pitch = inside[:, 2] - lowest
    changes = np.zeros((length + 1, highest - lowest + 1), np.int32)
    np.add.at(changes, (first, pitch), 1)
    np.add.at(changes, (last, pitch), -1)
    states = np.zeros((length, changes.shape[1], 2), np.uint8)
    states[..., 0] = np.cumsum(changes[:-1], axis=0) > 0
    states[first, pitch, 1] = 1
    held = tuple(bar for bar in grid.bars if bar.start < length)
    return NoteStates(states, held, len(notes), len(notes) - len(inside))


class _Grid:
    """From ticks to steps: a grid of sixteenths that begins anew where the meter changes."""

    def __init__(self, song: Song):
        self.ticks_per_quarter = song.ticks_per_quarter
        # What begins after the music matters to no note.
        meters = [meter for meter in song.meters_from_start if meter.tick <= song.end_ticks]
        starts, stretches, step = [], [], 0
        for meter in meters:
            if starts:
                step += int(self._round(np.array(meter.tick - starts[-1])))
            length = STEPS_PER_QUARTER * meter.quarters
            if length.denominator > 1:
                raise NoteStateError(
                    song.source,
                    "meter",
                    f"a bar of {meter.numerator}/{meter.denominator} at tick {meter.tick} is no "
                    "whole number of sixteenths",
                )
            starts.append(meter.tick)
            stretches.append(Bars(step, int(length), meter.denominator))
        self._ticks = np.array(starts, np.int64)
        self._steps = np.array([bar.start for bar in stretches], np.int64)
        self.bars = from_stretches(stretches)

    def _round(self, ticks: np.ndarray) -> np.ndarray:
        doubled = 2 * STEPS_PER_QUARTER * ticks + self.ticks_per_quarter
        return doubled // (2 * self.ticks_per_quarter)

    def _stretch(self, ticks: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._ticks, ticks, side="right") - 1

    def steps(self, ticks: np.ndarray) -> np.ndarray:
        """The nearest step of each tick; never past the next stretch's first."""
        stretch = self._stretch(ticks)
        steps = self._steps[stretch] + self._round(ticks - self._ticks[stretch])
        after = np.append(self._steps[1:], np.iinfo(np.int64).max)[stretch]
        return np.minimum(steps, after)


def note_state_to_track(
    states: np.ndarray,
    *,
    lowest: int = LOWEST,
    start: int = 0,
    velocity: int = 80,
    program: int = 0,
    is_drum: bool = False,
    name: str = "",
) -> Track:
    """The notes of a note state matrix, at STEPS_PER_QUARTER ticks to a quarter note.

    A note lasts until it is struck again, or does not play. One that plays without having been
    struck begins where it first plays.

    Args:
        states: 0 or 1 [T, N, 2], or [T, N, 1] of the play bit alone.
        lowest: MIDI pitch of the first note.
        start: onset of the first step, in ticks.
        velocity, program, is_drum, name: of the track.
    """
    play = states[..., 0].astype(bool)
    before = np.pad(play, ((1, 0), (0, 0)))[:-1]
    begins = play & ~before
    if states.shape[-1] == 2:
        begins |= play & states[..., 1].astype(bool)
    after = np.pad(begins | ~play, ((0, 1), (0, 0)), constant_values=True)[1:]
    # Transposed, the n-th beginning of a note and its n-th end belong together.
    pitch, onset = np.nonzero(begins.T)
    _, last = np.nonzero((play & after).T)
    return Track(
        name=name,
        program=program,
        is_drum=is_drum,
        onset_ticks=onset + start,
        duration_ticks=last + 1 - onset,
        pitch=pitch + lowest,
        velocity=np.full(len(onset), velocity),
    )


def note_state_to_song(
    states: np.ndarray, *, qpm: float = 120.0, bars: Sequence[Bars] = (), **track: Any
) -> Song:
    """The song of a note state matrix.

    Args:
        states: as in note_state_to_track.
        qpm: tempo in quarter notes a minute.
        bars: of the matrix, for the meters; 4/4 without.
        **track: as in note_state_to_track.
    """
    return Song(
        (note_state_to_track(states, **track),),
        STEPS_PER_QUARTER,
        meters=meters(bars, 0, STEPS_PER_QUARTER),
        tempos=(Tempo(0, qpm),),
    )


def pack(states: np.ndarray) -> np.ndarray:
    """uint8 [T, ceil(N C / 8)]: the bits of a matrix [T, N, C], note after note."""
    return np.packbits(states.reshape(len(states), -1), axis=-1)


def unpack(packed: Array, notes: int, bits: int) -> Array:
    """uint8 [..., N, C]: what `pack` packed, of numpy or jax."""
    flat = packed.__array_namespace__().unpackbits(packed, axis=-1, count=notes * bits)
    return flat.reshape(*packed.shape[:-1], notes, bits)


@dataclasses.dataclass(frozen=True)
class NoteStateEncoding(Encoding):
    """Note state matrices; rows of a corpus are packed bits.

    Attributes:
        lowest, highest: MIDI pitches, both included.
        articulate: whether there are two bits a note, or play alone.
    """

    name: ClassVar[str] = "note_states"
    kind: ClassVar[Literal["ids", "matrix"]] = "matrix"
    element: ClassVar[str] = "step"
    units_per_quarter: ClassVar[int] = STEPS_PER_QUARTER
    unit_elements: ClassVar[bool] = True
    usual_temperature: ClassVar[float] = 0.9
    exact: ClassVar[bool] = True

    lowest: int = setting(at_least(0))
    highest: int = setting(at_least(0))
    articulate: bool = setting(ANY)

    @classmethod
    def from_config(cls, data: Any) -> Self:
        """See Encoding."""
        encoding = settings_of(cls, data, "data")
        low, high = encoding.lowest, encoding.highest
        expect(low <= high, "data.lowest", low, f"a MIDI pitch up to data.highest ({high})")
        expect(high < 128, "data.highest", high, "a MIDI pitch, at most 127")
        return encoding

    @property
    def shape(self) -> tuple[int, int]:
        """Notes N and bits C of an element."""
        return self.highest - self.lowest + 1, 2 if self.articulate else 1

    # --- song -> elements -----------------------------------------------------------------------

    def states(self, song: Song) -> NoteStates:
        """A prepared song's matrix.

        Raises:
            NoteStateError: there is none.
        """
        encoded = song_to_note_state(song, lowest=self.lowest, highest=self.highest)
        return encoded if self.articulate else encoded._replace(states=encoded.states[..., :1])

    def encode(self, song: Song) -> EncodedSong:
        """See Encoding. The sums: notes, those of them that are outside of the matrix, steps by how
        many notes sound in them, and `_transitions`.
        """
        encoded = self.states(song)
        sounding = np.minimum(encoded.states[..., 0].sum(1, dtype=np.int64), MOST_COUNTED)
        return EncodedSong(
            pack(encoded.states),
            layout=layout_of(encoded.bars),
            sums={
                "notes": encoded.notes,
                "outside": encoded.outside,
                "at_once": np.bincount(sounding, minlength=MOST_COUNTED + 1).tolist(),
                "transitions": _transitions(encoded.states).tolist(),
            },
        )

    def rows(self, count: int) -> np.ndarray:
        """See Encoding."""
        notes, bits = self.shape
        return np.zeros((count, -(-notes * bits // 8)), np.uint8)

    # --- rows -> elements -> music --------------------------------------------------------------

    def unpack(self, rows: Array) -> Array:
        """See Encoding."""
        return unpack(rows, *self.shape)

    def transposed(self, elements: Array, semitones: Array) -> Array:
        """See Encoding; what leaves the matrix is lost, silence takes its place."""
        xp = elements.__array_namespace__()
        notes = elements.shape[2]
        source = xp.arange(notes) - semitones[:, None]
        inside = ((source >= 0) & (source < notes))[:, None, :, None]
        index = xp.clip(source, 0, notes - 1)[:, None, :, None]
        moved = xp.take_along_axis(elements, index, axis=2)
        return xp.where(inside, moved, xp.zeros_like(moved))

    def decode(
        self, elements: np.ndarray, *, start: int = 0, units: int | None = None, **track: Any
    ) -> list[Track]:
        """See Encoding."""
        states = elements[:units]
        return [note_state_to_track(states, lowest=self.lowest, start=start, **track)]

    def text(self, elements: np.ndarray) -> str:
        """See Encoding: each step's notes, those that sound on in brackets; "rest" if none does."""
        steps = []
        for state in elements:
            notes = [
                pitch_name(note + self.lowest)
                if state[note, -1]
                else f"({pitch_name(note + self.lowest)})"
                for note in np.flatnonzero(state[:, 0]).tolist()
            ]
            steps.append(".".join(notes) or "rest")
        return " ".join(steps)

    def units(self, elements: Array) -> Array:
        """See Encoding: one each."""
        return elements.__array_namespace__().ones(elements.shape[:-2], np.int32)

    def rests(self, elements: Array) -> Array:
        """See Encoding."""
        return ~(elements[..., 0] > 0).any(-1)

    # --- places in time -------------------------------------------------------------------------

    def positions(self, layout: Mapping[str, Any], start: int, stop: int) -> np.ndarray:
        """See Encoding."""
        return places(bars_of(layout), start, stop, STEPS_PER_QUARTER)

    def bar_lines(self, layout: Mapping[str, Any], length: int, window: int) -> np.ndarray:
        """See Encoding."""
        lines = bar_lines(bars_of(layout), length, STEPS_PER_QUARTER)
        fitting = lines[lines + window <= length]
        return fitting if len(fitting) else lines[:1]

    def last_change(self, layout: Mapping[str, Any]) -> int:
        """See Encoding."""
        return bars_of(layout)[-1].start

    def cycle(self, layout: Mapping[str, Any]) -> int:
        """See Encoding."""
        return cycle(bars_of(layout)[-1], STEPS_PER_QUARTER)

    def meters(
        self, layout: Mapping[str, Any], start: int, elements: np.ndarray
    ) -> tuple[Meter, ...]:
        """See Encoding."""
        return meters(bars_of(layout), start, STEPS_PER_QUARTER)

    # --- notes that are given ---------------------------------------------------------------------

    def only(self, elements: np.ndarray) -> np.ndarray:
        """See Encoding: rest; the note sounds on; it starts. Or, without articulate: rest; play."""
        way = elements[..., 0] * (1 + elements[..., 1:].sum(-1, dtype=np.uint8))
        return np.eye(1 + elements.shape[-1], dtype=bool)[way]

    def beside(
        self, kept: np.ndarray, *, highest: bool = False, lowest: bool = False
    ) -> np.ndarray:
        """See Encoding."""
        play = kept[..., 0] > 0
        allowed = np.ones((*play.shape, 1 + kept.shape[-1]), bool)
        ended = np.pad(play[:-1], [(1, 0), (0, 0)]) & ~play
        allowed[ended, 1] = False
        if not self.articulate:  # nor would a note before be told from it
            allowed[np.pad(play[1:], [(0, 1), (0, 0)]) & ~play, 1] = False
        above = np.logical_or.accumulate(play, axis=1) & highest
        below = np.logical_or.accumulate(play[:, ::-1], axis=1)[:, ::-1] & lowest
        allowed[above | below, 1:] = False
        allowed[play] = self.only(kept)[play]
        return allowed

    def bar_starts(self, layout: Mapping[str, Any], length: int) -> np.ndarray:
        """See Encoding."""
        return bar_starts(bars_of(layout), length)

    def decode_apart(
        self, elements: np.ndarray, made: np.ndarray, names: tuple[str, str], **track: Any
    ) -> list[Track]:
        """See Encoding."""
        whole = note_state_to_track(elements, lowest=self.lowest, **track)
        is_made = made[whole.onset_ticks, whole.pitch - self.lowest]
        tracks = []
        for name, rows in zip(names, (~is_made, is_made), strict=True):
            fields = ("onset_ticks", "duration_ticks", "pitch", "velocity")
            notes = {field: getattr(whole, field)[rows] for field in fields}
            tracks.append(dataclasses.replace(whole, name=name, **notes))
        return tracks

    def live(self) -> dict[str, Any]:
        """See Encoding."""
        notes, bits = self.shape
        return {"name": self.name, "lowest": self.lowest, "notes": notes, "bits": bits}

    # --- what a corpus is like ------------------------------------------------------------------

    def statistics(self, total: Sums, training: Sums) -> dict[str, Any]:
        """See Encoding. transitions: int [8], see `_transitions`."""
        statistics = super().statistics(total, training)
        statistics["counts"] |= {name: int(total[name]) for name in ("notes", "outside")}
        return {**statistics, "transitions": training["transitions"].tolist()}

    def describe(self, statistics: Mapping[str, Any]) -> list[str]:
        """See Encoding."""
        counts = statistics["counts"]
        lines = [f"{counts['steps']} steps"]
        if counts["outside"]:
            lines.append(
                f"{counts['outside']} of {counts['notes']} notes are lower or higher than the "
                "matrix and left out"
            )
        return lines

    def report(self, songs: Sequence[np.ndarray]) -> tuple[list[Table], list[Plot]]:
        """See Encoding."""
        durations, polyphony = Counter(), Counter()
        for song in songs[:: -(-len(songs) // _MOST_REPORTED)]:
            states = self.unpack(np.asarray(song)).astype(bool)
            play = states[..., 0].T.ravel()  # note by note
            struck = play & ~np.pad(states[:-1, :, 0], [(1, 0), (0, 0)]).T.ravel()
            struck |= states[..., 1:].any(-1).T.ravel()
            lengths = np.bincount(np.cumsum(struck)[play])[1:]
            durations.update((lengths / STEPS_PER_QUARTER).tolist())
            polyphony.update(states[..., 0].sum(1).tolist())
        return [], shares_of_notes(durations, polyphony)


def _transitions(states: np.ndarray) -> np.ndarray:
    """int [8]: how often a cell [play, articulate] follows one that played, or not: index
    4 played before + 2 play + articulate. What a baseline needs that repeats the last step.
    """
    play, articulate = states[..., 0], states[..., 1:].sum(-1, dtype=np.uint8)
    states_seen = 2 * play + articulate
    states_seen[1:] += 4 * play[:-1]
    return np.bincount(states_seen.ravel(), minlength=8)
