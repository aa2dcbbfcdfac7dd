"""The encoding "events": the field's REMI. A song is a sequence of events, bar by bar.

    Bar_None TimeSig_4/4 Position_0 Pitch_60 Duration_1.0.12 Position_12 Pitch_62 ...

Each bar begins with Bar and its meter. A Position says where in the bar the notes after it begin;
each note is its Pitch and its Duration. As settings ask, its Program comes before it (and drums are
PitchDrum), its Velocity before its Duration, a Tempo after the Position of a change, and EOS at the
end of a song. A beat is a note of the meter's denominator: Duration_3.0.12 is three quarters in
3/4, three eighths in 6/8.

The ids, their texts and what they mean are those of miditok's REMI, `EventEncoding.tokenizer`: its
`encode` gives the same ids for the same notes in the same bars, its `decode` the same notes for any
ids whatever. They are written and read here by arrays, for miditok makes an object of each event.

Source: Huang and Yang, "Pop Music Transformer" (REMI), ACM Multimedia 2020; programs and meters as
in REMI+, von Rütte et al., "FIGARO", ICLR 2023; Fradet et al., "MidiTok", ISMIR 2021.
Differs from miditok: (1) note ends are moved to the grid, not lengths; (2) a note longer than
`LONGEST` beats is struck again; (3) a new meter cuts the bar that it comes in short, where miditok
lets it wait for the next; (4) a meter that the vocabulary lacks is written by another, see
`grid_meters`; (5) notes that begin together come by program, pitch and duration; (6) with `ends` a
song's last event is EOS, which miditok knows and leaves to its user.

Axes: B batch, T element, V ids, F features.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from musicjax.config import ANY, Rule, one_of, setting, settings_of
from musicjax.encodings.base import (
    MOST_COUNTED,
    NO_VOICE,
    Array,
    Context,
    EncodedPrime,
    EncodedSong,
    FixedIds,
    Plot,
    Sums,
    Table,
    shares_of_notes,
)
from musicjax.encodings.vocabulary import UNITS_PER_QUARTER
from musicjax.errors import InputError, SongError
from musicjax.music.song import Meter, Song, Tempo, Track
from musicjax.music.track_selection import family

LONGEST = 32  # beats that a Duration can last
_LONG = 1 << 20  # points of the grid, longer than any note
DRUMS = -1  # the Program of the percussion channel
_WHOLE = 4 * UNITS_PER_QUARTER
_NUMERATORS = {4: 8, 8: 12}  # the vocabulary's meters: 1/4 to 8/4, 1/8 to 12/8
_METERS = [(n, below) for below, most in _NUMERATORS.items() for n in range(1, most + 1)]
_METER_TEXTS = {f"{above}/{below}": (above, below) for above, below in _METERS}
_QPM_RANGE = (20, 400)
_PITCHES = 128
# Of a state of the grammar: from here on, what is left of each pitch's note, and of the shorter one
# of a unison, how many voices sang it before, and for how long it was heard.
_LEFT, _SHORTER, _BEFORE, _HEARD, _PASSED = 4, 4 + 128, 4 + 2 * 128, 4 + 3 * 128, 4 + 4 * 128
_VOICES = 12  # that are followed, from below
_FORGOTTEN = -(1 << 12)  # points; notes that ended longer ago are alike
_NEAR = 2  # beats to either side in which a context tells when a note ends
_BEGINNING = 8  # beats by which what has sounded is taken to be longer: a first note is no scale
_MOST_TOLD = 15  # notes at once
_MOST_REPORTED = 1000  # songs, evenly spread, that a report reads
_KINDS = (
    "PAD",
    "EOS",
    "Bar",
    "TimeSig",
    "Position",
    "Tempo",
    "Program",
    "Pitch",
    "PitchDrum",
    "Velocity",
    "Duration",
)
_PAD, _EOS, _BAR, _METER, _POSITION, _TEMPO = range(6)
_PROGRAM, _PITCH, _DRUM, _VELOCITY, _DURATION = range(6, 11)


# --- miditok's ids ---------------------------------------------------------------------------


@functools.cache
def _remi(resolution: int, velocities: int, instruments: bool, tempos: int, ends: bool) -> Any:
    """miditok's REMI; the arguments are those of EventEncoding."""
    from miditok import REMI, TokenizerConfig  # half a second, with what it imports

    return REMI(
        TokenizerConfig(
            pitch_range=(0, 127),
            drums_pitch_range=(0, 127),
            beat_res={(0, LONGEST): resolution},
            special_tokens=["PAD", "EOS"] if ends else ["PAD"],
            use_velocities=velocities > 0,
            num_velocities=velocities or 1,
            use_programs=instruments,
            use_pitchdrum_tokens=instruments,
            use_tempos=tempos > 0,
            num_tempos=tempos,
            tempo_range=_QPM_RANGE,
            log_tempos=True,
            delete_equal_successive_tempo_changes=True,
            use_time_signatures=True,
            time_signature_range={below: (1, most) for below, most in _NUMERATORS.items()},
        )
    )


class _Ids(NamedTuple):
    """The ids of a vocabulary, by what they mean.

    Attributes:
        texts: [V].
        kinds: int32 [V], index of each one's kind in _KINDS.
        values: float64 [V]: a pitch, program, velocity, or tempo in quarters a minute; of a
            Position and a Duration grid points, `resolution` of them to a beat; of a TimeSig the
            numerator; else 0.
        denominators: int32 [V], of a TimeSig; of others 0.
        bar_units: int32 [V], of a TimeSig the length of its bars; of others 0.
    """

    texts: tuple[str, ...]
    kinds: np.ndarray
    values: np.ndarray
    denominators: np.ndarray
    bar_units: np.ndarray

    def of(self, kind: int, values: np.ndarray) -> np.ndarray:
        """int32: the ids of a kind whose values are nearest; of two the larger."""
        which = np.flatnonzero(self.kinds == kind)
        which = which[np.argsort(self.values[which])]
        known = self.values[which]
        after = np.minimum(np.searchsorted(known, values), len(known) - 1)
        before = np.maximum(after - 1, 0)
        nearer = np.abs(values - known[before]) < np.abs(known[after] - values)
        return which[np.where(nearer, before, after)].astype(np.int32)

    def bar_points(self, resolution: int) -> np.ndarray:
        """int32 [V]: of a TimeSig the length of its bars in points of the grid; of others 0."""
        return (self.bar_units * self.denominators * resolution // _WHOLE).astype(np.int32)

    def meter(self, meter: Meter) -> int:
        """The id of a meter."""
        same = (self.values == meter.numerator) & (self.denominators == meter.denominator)
        return int(np.flatnonzero(same)[0])


@functools.cache
def _ids_of(resolution: int, velocities: int, instruments: bool, tempos: int, ends: bool) -> _Ids:
    """What the ids of `_remi` mean."""
    vocabulary = _remi(resolution, velocities, instruments, tempos, ends).vocab
    texts = tuple(sorted(vocabulary, key=vocabulary.__getitem__))
    kinds, values, denominators = [], [], []
    for text in texts:
        kind, _, value = text.partition("_")
        kinds.append(_KINDS.index(kind))
        numerator, _, denominator = value.partition("/")
        beats, *rest = numerator.split(".")
        if kind == "Duration":
            numerator = int(beats) * resolution + int(rest[0])
        values.append(0.0 if numerator == "None" else float(numerator))
        denominators.append(int(denominator or 0))
    below = np.array(denominators, np.int32)
    bars = np.where(below, _WHOLE * np.array(values) // np.maximum(below, 1), 0)
    return _Ids(texts, np.array(kinds, np.int32), np.array(values), below, bars.astype(np.int32))


# --- a song on the grid ------------------------------------------------------------------------


class GridNotes(NamedTuple):
    """A song's notes on the grid.

    Attributes:
        notes: int64 [notes, 5]: onset and duration in twelfths of a quarter, program (0 where
            instruments are not told apart, DRUMS for drums), pitch, velocity; by onset, program,
            pitch and duration.
        moved: how many of the song's notes began or ended between the grid's points.
    """

    notes: np.ndarray
    moved: int


def grid_notes(song: Song, resolution: int, instruments: bool) -> GridNotes:
    """The notes of all of a song's tracks, at the nearest points of a grid; half a step rounds up.

    Args:
        song: any.
        resolution: of the grid, points in a quarter; it divides 12.
        instruments: whether programs are told apart.
    Returns:
        GridNotes; each note lasts at least from one point to the next.
    """
    tables = [np.zeros((0, 5), np.int64)]
    for track in song.tracks:
        program = (DRUMS if track.is_drum else track.program) if instruments else 0
        columns = (track.onset_ticks, track.duration_ticks, program, track.pitch, track.velocity)
        tables.append(np.stack(np.broadcast_arrays(*columns), axis=1).astype(np.int64))
    table = np.concatenate(tables)
    ends = table[:, 0] + table[:, 1]
    off_grid = (table[:, 0] * resolution % song.ticks_per_quarter) != 0
    off_grid |= (ends * resolution % song.ticks_per_quarter) != 0
    onset = _units(table[:, 0], song.ticks_per_quarter, resolution)
    end = _units(ends, song.ticks_per_quarter, resolution)
    table[:, 0] = onset
    table[:, 1] = np.maximum(end - onset, UNITS_PER_QUARTER // resolution)
    return GridNotes(table[_order(table)], int(off_grid.sum()))


def _order(notes: np.ndarray) -> np.ndarray:
    """By onset, program, pitch, duration and velocity."""
    return np.lexsort((notes[:, 4], notes[:, 1], notes[:, 3], notes[:, 2], notes[:, 0]))


def _units(ticks: Any, ticks_per_quarter: int, resolution: int) -> Any:
    """Twelfths of a quarter, at the nearest point of the grid."""
    points = (2 * resolution * ticks + ticks_per_quarter) // (2 * ticks_per_quarter)
    return points * (UNITS_PER_QUARTER // resolution)


def grid_meters(song: Song, resolution: int) -> list[Meter]:
    """The meters of a song's bars, each of the vocabulary, each beginning at a bar line.

    A beat is a quarter or an eighth: 2/2 is written as 4/4, 12/16 as 6/8. A bar that is too long is
    divided into equal ones, as 12/4 into 6/4; bars shorter than a half note that make up a whole
    are counted together, for many files say 1/4 of any music; other meters, such as 7/16, become
    4/4. Where a meter ends inside of a bar, that bar is written with a meter of its own; if none is
    so long, the next meter waits for the bar to end.

    Args:
        song: any.
        resolution: of the grid, as in `grid_notes`.
    Returns:
        meters at 12 ticks to a quarter, the first at 0.
    """
    meters: list[Meter] = []
    for meter in song.meters_from_start:
        tick = _units(meter.tick, song.ticks_per_quarter, resolution)
        if meters:
            last = meters[-1]
            tick = max(tick, last.tick)
            rest = (tick - last.tick) % last.ticks(UNITS_PER_QUARTER)
            cut = next((cut for cut in _METERS if _WHOLE * cut[0] == rest * cut[1]), None)
            if cut:
                meters.append(Meter(tick - rest, *cut))
            elif rest:
                tick += last.ticks(UNITS_PER_QUARTER) - rest
        meters.append(Meter(tick, *_known_meter(meter)))
    # Of several at one tick the last holds.
    return list({meter.tick: meter for meter in meters}.values())


def _known_meter(meter: Meter) -> tuple[int, int]:
    """Numerator and denominator of the vocabulary's meter for a song's."""
    above, below = meter.numerator, meter.denominator
    if below < 4:
        above, below = above * 4 // below, 4
    if below > 8 and above * 8 % below == 0:
        above, below = above * 8 // below, 8
    if below == 8 and above % 4 == 0 and above % 3:
        above, below = above // 2, 4
    if below > 8:
        return 4, 4
    above = next(n for n in range(min(above, _NUMERATORS[below]), 0, -1) if above % n == 0)
    length = _WHOLE * above // below
    return (4, 4) if 2 * length < _WHOLE and _WHOLE % length == 0 else (above, below)


def _bar_lines(meters: list[Meter], last: int) -> np.ndarray:
    """int64: the units at which bars begin, none later than the unit `last`."""
    ends = [meter.tick for meter in meters[1:]] + [last + 1]
    lines = [
        np.arange(meter.tick, min(end, last + 1), meter.ticks(UNITS_PER_QUARTER))
        for meter, end in zip(meters, ends, strict=True)
    ]
    return np.concatenate(lines)


def _holding(meters: list[Meter], units: np.ndarray) -> np.ndarray:
    """int64: which of the meters hold at some units."""
    return np.searchsorted([meter.tick for meter in meters], units, side="right") - 1


def _split(notes: np.ndarray, meters: list[Meter]) -> np.ndarray:
    """Notes of which none is longer than a Duration can be; longer ones are struck again."""
    below = np.array([meter.denominator for meter in meters])
    done, left = [], notes
    while len(left):
        most = LONGEST * _WHOLE // below[_holding(meters, left[:, 0])]
        first, rest = left.copy(), left.copy()
        first[:, 1] = np.minimum(left[:, 1], most)
        done.append(first)
        rest[:, 0] += most
        rest[:, 1] -= most
        left = rest[rest[:, 1] > 0]
    table = np.concatenate(done)
    return table[_order(table)] if len(done) > 1 else table


# --- events ------------------------------------------------------------------------------------


class _Reading(NamedTuple):
    """What a sequence of events says, as miditok reads it. Times are units.

    Attributes:
        kinds: int32 [T], as in _Ids.
        onsets: int64 [T]: of the bar for Bar and TimeSig, else of the Position that holds.
        bars: int64 [T], the bar of each.
        bar_starts, bar_lengths: int64 [bars].
        meters: int [T], the id of the TimeSig that holds.
        programs: int64 [T], that hold.
        notes: int64 [notes], elements that are the pitches of whole notes.
        durations: int64 [notes].
    """

    kinds: np.ndarray
    onsets: np.ndarray
    bars: np.ndarray
    bar_starts: np.ndarray
    bar_lengths: np.ndarray
    meters: np.ndarray
    programs: np.ndarray
    notes: np.ndarray
    durations: np.ndarray

    @property
    def end(self) -> int:
        """Where the last bar ends; 0 without bars."""
        return int(self.bar_starts[-1] + self.bar_lengths[-1]) if len(self.bars) else 0


def _at_once(onset: np.ndarray, end: np.ndarray) -> np.ndarray:
    """int64 [MOST_COUNTED + 1]: units in which so many of some notes sound."""
    changes = np.zeros(int(end.max(initial=0)) + 1, np.int64)
    np.add.at(changes, onset, 1)
    np.add.at(changes, end, -1)
    sounding = np.minimum(np.cumsum(changes[:-1]), MOST_COUNTED)
    return np.bincount(sounding, minlength=MOST_COUNTED + 1)


def _moves(now: Array, before: Array) -> Array:
    """int32 [..., 128], as of Context, from how many voices sing each pitch, and did before."""
    xp = now.__array_namespace__()
    voice = xp.cumsum(now, axis=-1)  # of who would sing each pitch: how many are below
    counted = xp.cumsum(before, axis=-1)
    sang = xp.full(voice.shape, _PITCHES)
    for each in range(_VOICES):
        pitch = (counted <= each).sum(-1, keepdims=True)  # _PITCHES, if there was no such voice
        sang = xp.where(voice == each, pitch, sang)
    moves = xp.where(sang < _PITCHES, xp.arange(_PITCHES) - sang, NO_VOICE)
    return moves.astype(xp.int32)


def _held(is_set: np.ndarray) -> np.ndarray:
    """int64 [T]: for each element the index of the last at which `is_set`; -1 before the first."""
    return np.maximum.accumulate(np.where(is_set, np.arange(len(is_set)), -1))


def _track(name: str, program: int, is_drum: bool, notes: np.ndarray) -> Track:
    """Of int [4, notes]: onset, duration, pitch and velocity."""
    onset, duration, pitch, velocity = notes
    return Track(name, program, is_drum, onset, duration, pitch, velocity)


@dataclasses.dataclass(frozen=True)
class EventEncoding(FixedIds):
    """Ids of events, each an int32.

    A song's layout is {"bar_sizes": [events of each bar]}.

    Attributes:
        resolution: points of the grid in a beat: 12 holds sixteenths and triplets, 4 sixteenths.
        velocities: bins of velocity; 0: none is written.
        instruments: notes name their program; else all are merged.
        tempos: bins of tempo; 0: none is written.
        ends: songs end with an event of their own, EOS.
        meter: of all bars, such as "1/8", whatever songs say; "": their own.
    """

    name: ClassVar[str] = "events"
    element: ClassVar[str] = "event"
    units_per_quarter: ClassVar[int] = UNITS_PER_QUARTER
    usual_length: ClassVar[int] = 800
    usual_min_p: ClassVar[float] = 0.03  # without slips, and yet a repeat may end
    exact: ClassVar[bool] = True

    resolution: int = setting(one_of(4, 12))
    velocities: int = setting(Rule(lambda bins: 0 <= bins <= 127, "0 to 127 bins (0: none)"))
    instruments: bool = setting(ANY)
    tempos: int = setting(Rule(lambda bins: not bins or bins > 1, "0 (none), or 2 bins or more"))
    ends: bool = setting(ANY)
    meter: str = setting(
        Rule(lambda text: not text or text in _METER_TEXTS, "such as 4/4, or '' for songs' own")
    )

    @classmethod
    def from_config(cls, data: Any) -> Self:
        """See Encoding. What was saved before there was `meter` has the songs' own."""
        return settings_of(cls, {"meter": "", **data}, "data")

    @property
    def tokenizer(self) -> Any:
        """The miditok.REMI whose ids these are. It is shared: leave it as it is."""
        return _remi(*self._settings)

    @property
    def _ids(self) -> _Ids:
        return _ids_of(*self._settings)

    @property
    def _settings(self) -> tuple:
        return self.resolution, self.velocities, self.instruments, self.tempos, self.ends

    @property
    def size(self) -> int:
        """See Encoding."""
        return len(self._ids.texts)

    # --- song -> elements -----------------------------------------------------------------------

    def encode(self, song: Song) -> EncodedSong:
        """See Encoding. The sums: notes; moved, see GridNotes; split, how often a note that is too
        long was struck again; repeats, events that equal the one before; and units by how many
        notes sound in them.

        Raises:
            SongError: "no_notes".
        """
        on_grid = grid_notes(song, self.resolution, self.instruments)
        if not len(on_grid.notes):
            raise SongError(song.source, "no_notes", "no note to make events of")
        alike = [Meter(0, *_METER_TEXTS[self.meter])] if self.meter else None
        meters = alike or grid_meters(song, self.resolution)
        notes = _split(on_grid.notes, meters)
        pitched = notes[notes[:, 2] != DRUMS]
        elements, bars = self._write(notes, meters, self._tempos(song, int(notes[-1, 0])))
        return EncodedSong(
            elements,
            layout={"bar_sizes": np.diff(bars, append=len(elements)).tolist()},
            sums={
                "notes": len(on_grid.notes),
                "moved": on_grid.moved,
                "split": len(notes) - len(on_grid.notes),
                "repeats": int((np.diff(elements) == 0).sum()),
                "at_once": _at_once(pitched[:, 0], pitched[:, 0] + pitched[:, 1]).tolist(),
            },
        )

    def _tempos(self, song: Song, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Units and ids of the changes of tempo until the unit `last`, the first at 0."""
        if not self.tempos:
            return np.zeros(0, np.int64), np.zeros(0, np.int32)
        at_unit = {0: song.tempos[0].qpm if song.tempos else 120.0}
        for tempo in song.tempos:
            at_unit[_units(tempo.tick, song.ticks_per_quarter, self.resolution)] = tempo.qpm
        units = np.array([unit for unit in at_unit if unit <= last], np.int64)
        bins = np.flatnonzero(self._ids.kinds == _TEMPO)
        # The nearest length of a quarter, as miditok.
        seconds = 60 / np.array([[at_unit[unit]] for unit in units.tolist()])
        ids = bins[np.abs(60 / self._ids.values[bins] - seconds).argmin(1)]
        changes = np.diff(ids, prepend=-1) != 0
        return units[changes], ids[changes]

    def _write(
        self, notes: np.ndarray, meters: list[Meter], tempos: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The events of a song's notes, and which of them are Bars."""
        ids, below = self._ids, np.array([meter.denominator for meter in meters])
        times = np.unique(np.concatenate([notes[:, 0], tempos[0]]))
        lines = _bar_lines(meters, int(times[-1]))

        def points(units: np.ndarray, at: np.ndarray) -> np.ndarray:
            """Units as points of the grid, in the meters that hold at other units."""
            return units * below[_holding(meters, at)] * self.resolution // _WHOLE

        places = points(times - lines[np.searchsorted(lines, times, side="right") - 1], times)
        parts = [
            ids.of(_PITCH, notes[:, 3]),
            ids.of(_DURATION, points(notes[:, 1], notes[:, 0])),
        ]
        if self.velocities:
            parts.insert(1, ids.of(_VELOCITY, notes[:, 4]))
        if self.instruments:
            parts[0] = np.where(notes[:, 2] == DRUMS, ids.of(_DRUM, notes[:, 3]), parts[0])
            parts.insert(0, ids.of(_PROGRAM, notes[:, 2]))
        of_bars = np.array([ids.meter(meter) for meter in meters])[_holding(meters, lines)]
        bar_id = np.full(len(lines), np.flatnonzero(ids.kinds == _BAR)[0])
        # What begins at the same time comes in this order.
        blocks = [
            (lines, [bar_id, of_bars]),
            (times, [ids.of(_POSITION, places)]),
            (tempos[0], [tempos[1]]),
            (notes[:, 0], parts),
        ]
        rows = np.full((sum(len(at) for at, _ in blocks), len(parts)), -1, np.int32)
        row = 0
        for at, columns in blocks:
            rows[row : row + len(at), : len(columns)] = np.stack(columns, axis=1)
            row += len(at)
        rows = rows[np.argsort(np.concatenate([at for at, _ in blocks]), kind="stable")]
        elements = np.append(rows[rows >= 0], np.flatnonzero(ids.kinds == _EOS).astype(np.int32))
        return elements, np.flatnonzero(elements == bar_id[0])

    def transposed(self, elements: Array, semitones: Array) -> Array:
        """See Encoding. Drums stay; a pitch that would leave 0..127 is moved back by octaves."""
        xp, ids = elements.__array_namespace__(), self._ids
        pitch = xp.asarray(ids.values.astype(np.int32))[elements] + semitones[:, None]
        pitch = xp.where(pitch < 0, pitch % 12, pitch)
        pitch = xp.where(pitch > 127, 127 - (127 - pitch) % 12, pitch)
        is_pitch = xp.asarray(ids.kinds == _PITCH)[elements]
        of_pitch = xp.asarray(ids.of(_PITCH, np.arange(128)))
        return xp.where(is_pitch, of_pitch[xp.where(is_pitch, pitch, 0)], elements)

    # --- rows -> elements -> music --------------------------------------------------------------

    def _read(self, elements: np.ndarray) -> _Reading:
        """What events say. A note needs its Pitch, Velocity and Duration one after another; without
        a Position it begins with its bar.
        """
        ids, count = self._ids, len(elements)
        kinds, values = ids.kinds[elements], ids.values[elements]
        is_bar = kinds == _BAR
        # A Position before the first Bar has a bar of its own.
        early = bool((kinds[: int(is_bar.argmax()) if is_bar.any() else count] == _POSITION).any())
        bars = np.maximum(np.cumsum(is_bar) - (0 if early else 1), 0)
        # The first meter holds from the beginning, if no note comes before it; else it is 4/4.
        first_meter = np.flatnonzero(kinds == _METER)[:1]
        first_note = np.flatnonzero(kinds >= _PITCH)[:1]
        known = len(first_meter) and not (first_note < first_meter).any()
        initial = int(elements[first_meter[0]]) if known else ids.meter(Meter(0, 4, 4))
        held = _held(kinds == _METER)
        meters = np.where(held >= 0, elements[held], initial)
        # A bar is as long as the last of its meters says.
        last = np.searchsorted(bars, np.arange(bars[-1] + 1 if count else 0), side="right") - 1
        lengths = ids.bar_units[meters[last]].astype(np.int64)
        starts = np.cumsum(lengths) - lengths
        times = values * self._units_per_point(meters)
        held = _held(is_bar | (kinds == _POSITION))
        place = np.where((held >= 0) & (kinds[held] == _POSITION), times[held], 0)
        onsets = (starts[bars] + place).astype(np.int64)
        programs = np.zeros(count, np.int64)
        if self.instruments:
            held = _held(kinds == _PROGRAM)
            programs = np.where(held >= 0, values[held], 0).astype(np.int64)
        kind_at = np.pad(kinds, (0, 2))
        duration_at = 2 if self.velocities else 1
        whole = np.isin(kinds, (_PITCH, _DRUM)) & (kind_at[duration_at:][:count] == _DURATION)
        if self.velocities:
            whole &= kind_at[1:][:count] == _VELOCITY
        notes = np.flatnonzero(whole)
        durations = np.maximum(times[notes + duration_at].astype(np.int64), 1)
        return _Reading(kinds, onsets, bars, starts, lengths, meters, programs, notes, durations)

    def _units_per_point(self, meters: np.ndarray) -> np.ndarray:
        """Of the grid, in meters of these ids."""
        return _WHOLE / (self._ids.denominators[meters] * self.resolution)

    def decode(
        self, elements: np.ndarray, *, start: int = 0, units: int | None = None, **track: Any
    ) -> list[Track]:
        """See Encoding. Any ids can be decoded; a note without a Duration is left out."""
        voice = {"name": "", "program": 0, "is_drum": False, "velocity": 80} | track
        velocity, values = voice.pop("velocity"), self._ids.values[elements].astype(np.int64)
        reading = self._read(elements)
        onset, duration = reading.onsets[reading.notes], reading.durations
        if units is not None:
            duration = np.minimum(duration, units - onset)
        if self.velocities:
            velocity = values[reading.notes + 1]
        columns = (onset + start, duration, values[reading.notes], velocity)
        table = np.stack(np.broadcast_arrays(*columns))[:, duration > 0]
        if not self.instruments:
            return [_track(**voice, notes=table)]
        programs, tracks = reading.programs[reading.notes][duration > 0], []
        for program in np.unique(programs).tolist():
            notes = table[:, programs == program]
            made = _track(voice["name"], max(program, 0), program == DRUMS, notes)
            tracks.append(dataclasses.replace(made, name=f"{made.name} {family(made)}".strip()))
        return tracks

    def resumed(self, elements: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, int]:
        """Events that go on from others, so that they stand alone.

        Args:
            elements: events.
            after: those before them.
        Returns:
            the events, from the beginning of a bar, and the unit of `after`'s time at which that
            is. Where they go on inside of a bar, its Bar, meter, last Position, and what was said
            of an unfinished note come first.
        """
        reading, first = self._read(after), self._ids.kinds[elements[:1]]
        if not len(after) or not len(elements) or first[0] == _BAR:
            return elements, reading.end
        bar = reading.bars[-1]
        inside = np.flatnonzero((reading.bars == bar) & (reading.kinds == _POSITION))
        begun = [_PITCH, _VELOCITY] if self.velocities else [_PITCH]
        begun = [_PROGRAM, *begun] if self.instruments else begun
        ending = np.where(reading.kinds == _DRUM, _PITCH, reading.kinds)
        unfinished = max(
            n for n in range(len(begun) + 1) if [*ending[len(after) - n :]] == begun[:n]
        )
        said = [
            np.flatnonzero(self._ids.kinds == _BAR),
            reading.meters[-1:],
            after[inside[:0] if first[0] == _POSITION else inside[-1:]],
            after[len(after) - unfinished :],
        ]
        restated = np.concatenate([*said, elements]).astype(elements.dtype)
        return restated, int(reading.bar_starts[bar])

    def text(self, elements: np.ndarray) -> str:
        """See Encoding: as miditok writes them."""
        return " ".join([self._ids.texts[i] for i in elements.tolist()])

    def units(self, elements: Array) -> Array:
        """See Encoding: of a TimeSig its whole bar, else 0. Their sum is where the last bar ends,
        and so ahead of time while that bar is written.
        """
        return elements.__array_namespace__().asarray(self._ids.bar_units)[elements]

    def onsets(self, elements: np.ndarray) -> np.ndarray:
        """See Encoding."""
        return self._read(elements).onsets

    def length(self, elements: np.ndarray) -> int:
        """See Encoding: until the last note has ended, and the last event begun."""
        reading = self._read(elements)
        ends = reading.onsets[reading.notes] + reading.durations
        return int(max(ends.max(initial=0), reading.onsets.max(initial=0)))

    def rests(self, elements: Array) -> Array:
        """See Encoding: none is."""
        return elements < 0

    def is_end(self, elements: Array) -> Array:
        """See Encoding: EOS is."""
        return elements.__array_namespace__().asarray(self._ids.kinds == _EOS)[elements]

    def whole(self, elements: np.ndarray) -> np.ndarray:
        """See Encoding: until the last note before the last Bar or Position."""
        kinds = self._ids.kinds[elements]
        last = np.flatnonzero((kinds == _BAR) | (kinds == _POSITION)).max(initial=0)
        said = np.flatnonzero(kinds[:last] == _DURATION)
        return elements[: said[-1] + 1] if len(said) else elements

    def grammar(self, batch: int) -> np.ndarray:
        """See Encoding: the last id, its Position (-1: none in this bar), the bar's length in
        points of the grid, and the last pitch there (-1: none; of drums 128 more); then of each
        pitch how many points its last note goes on, or, 0 or less, how long ago it ended; how many
        the other note of a unison does, which ends no later, or 0; how many notes there were when
        last any sounded before this place; and for how many points it has sounded; and, last, how
        many points have passed.
        """
        start = np.zeros((batch, _PASSED + 1), np.int32)
        start[:, [1, 3]] = -1
        start[:, _LEFT:_SHORTER] = _FORGOTTEN
        return start

    def read(self, state: Array, ids: Array) -> Array:
        """See Encoding."""
        xp, known = state.__array_namespace__(), self._ids
        kind = xp.asarray(known.kinds)[ids]
        value = xp.asarray(known.values.astype(np.int32))[ids]
        points = xp.asarray(known.bar_points(self.resolution))[ids]
        is_pitch = (kind == _PITCH) | (kind == _DRUM)
        place = xp.where(kind == _BAR, -1, xp.where(kind == _POSITION, value, state[:, 1]))
        length = xp.where(kind == _METER, points, state[:, 2])
        begins = (kind == _BAR) | (kind == _POSITION) | (kind == _PROGRAM)
        value = xp.where(kind == _DRUM, value + _PITCHES, value)
        pitch = xp.where(begins, -1, xp.where(is_pitch, value, state[:, 3]))
        lasted, shorter = state[:, _LEFT:_SHORTER], state[:, _SHORTER:_BEFORE]
        # Where a bar's meter was not read, notes are taken to end with it.
        was, whole, final = xp.maximum(state[:, 1], 0), state[:, 2], lasted.max(-1)
        to_line = xp.where(whole > 0, whole - was, final)
        passed = xp.where(kind == _BAR, to_line, xp.where(kind == _POSITION, value - was, 0))
        passed = xp.maximum(passed, 0)[:, None]
        # The notes that sounded until now, or, before a rest, until it began.
        longest = xp.minimum(passed, final[:, None])
        sang = (lasted >= longest).astype(xp.int32) + (shorter >= longest)
        before = xp.where(longest > 0, sang, state[:, _BEFORE:_HEARD])
        heard = state[:, _HEARD:_PASSED] + xp.clip(lasted, 0, passed)
        left = xp.maximum(lasted - passed, _FORGOTTEN)
        shorter = xp.maximum(shorter - passed, 0)
        # A note that joins one of its pitch: of three the two longest are followed.
        is_new = (kind == _DURATION)[:, None] & (xp.arange(_PITCHES) == state[:, 3:4])
        value = value[:, None]
        shorter = xp.where(is_new, xp.maximum(xp.minimum(left, value), shorter), shorter)
        left = xp.where(is_new, xp.maximum(left, value), left)
        last = xp.stack([ids, place, length, pitch], axis=1)
        after = [last, left, shorter, before, heard, state[:, _PASSED:] + passed]
        after = xp.concat([part.astype(state.dtype) for part in after], axis=1)
        return xp.where((ids == 0)[:, None], state, after)

    def may_follow(self, state: Array) -> Array:
        """See Encoding: what can follow in a song that `encode` wrote. A bar has its meter,
        Positions go forward and stay in it, the pitches of an instrument that begin together go up,
        a note is whole, and after the end another song begins.
        """
        xp, known = state.__array_namespace__(), self._ids
        last, place, length, pitch = state[:, :_LEFT].T[:, :, None]
        kinds, values = xp.asarray(known.kinds), xp.asarray(known.values.astype(np.int32))
        allowed = xp.asarray(self._followers())[last[:, 0]][:, kinds]
        forward = (values > place) & (values < length)
        allowed &= (kinds != _POSITION) | forward
        going_up = xp.where(kinds == _DRUM, values + _PITCHES, values) >= pitch
        return allowed & (((kinds != _PITCH) & (kinds != _DRUM)) | going_up)

    def crowds(self, state: Array, most: Any) -> Array:
        """See Encoding: notes, and places in the bar at which there is no room for one. A unison is
        two notes; a third of its pitch is one too many.
        """
        xp, known = state.__array_namespace__(), self._ids
        kinds, values = xp.asarray(known.kinds), xp.asarray(known.values.astype(np.int32))
        notes = state[:, _LEFT:_BEFORE]  # of unisons both
        places = np.arange(known.bar_points(self.resolution).max())
        passed = xp.maximum(xp.asarray(places) - xp.maximum(state[:, 1:2], 0), 0)
        full = (notes[:, None] > passed[..., None]).sum(-1) >= most  # [B, places]
        first = _PROGRAM if self.instruments else _PITCH
        begins = (kinds == first) & (values != DRUMS) & ((notes > 0).sum(-1) >= most)[:, None]
        third = (kinds == _PITCH) & (notes[:, _PITCHES:] > 0)[:, xp.clip(values, 0, _PITCHES - 1)]
        no_room = full[:, xp.clip(values, 0, len(places) - 1)]
        return begins | third | ((kinds == _POSITION) & no_room)

    def context(self, state: Array) -> Context:
        """See Encoding. Of each pitch, whatever the instrument: whether it sounds; for how much of
        the next two beats; for how little of the last two it has not, if it sounds no more; whether
        it is the last that was written at this Position; and, as a square root, in how much of the
        music so far it sounded, the scale and the register, of which the first beats say little.
        Voices are counted from below: the second note is sung by who sang the second of the notes
        before. The others are one-hot: how
        many notes sound, and how many did before; the places in the bar at which the first and the
        last of them ends (the last number: at the bar line, or later); and the Position.
        """
        xp, points = state.__array_namespace__(), _NEAR * self.resolution
        left, shorter = state[..., _LEFT:_SHORTER], state[..., _SHORTER:_BEFORE]
        before, notes = state[..., _BEFORE:_HEARD], state[..., _LEFT:_BEFORE]
        heard, passed = state[..., _HEARD:_PASSED], state[..., _PASSED:]
        now = (left > 0).astype(xp.int32) + (shorter > 0)
        place, length, last = (state[..., i, None] for i in (1, 2, 3))
        sounding, line = left > 0, int(self._ids.bar_points(self.resolution).max())
        pitches = [
            sounding,
            xp.clip(left / points, 0, 1),
            xp.where(sounding, 0, xp.clip(1 + left / points, 0, 1)),
            (last >= 0) & (last % _PITCHES == xp.arange(_PITCHES)),
            xp.sqrt(heard / (passed + _BEGINNING * self.resolution)),
        ]
        first_end = xp.where(notes > 0, notes, _LONG).min(-1, keepdims=True)
        final_end = left.max(-1, keepdims=True)
        counts = [xp.minimum(voices.sum(-1, keepdims=True), _MOST_TOLD) for voices in (now, before)]
        ends = [xp.maximum(place, 0) + lasts for lasts in (first_end, final_end)]
        ends = [xp.where(end < length, end, line) for end in ends]
        ends = [xp.where(final_end > 0, end, -1) for end in ends]
        # One comparison for all: five, one after another, take XLA seconds more to compile.
        sizes = [_MOST_TOLD + 1] * 2 + [line + 1] * 2 + [line]
        starts = np.cumsum(sizes) - sizes
        ones = [
            xp.where(number < 0, -1, number + start)
            for number, start in zip([*counts, *ends, place], starts, strict=True)
        ]
        others = (xp.concat(ones, axis=-1)[..., None] == xp.arange(sum(sizes))).any(-2)
        return Context(
            xp.stack([each.astype(xp.float32) for each in pitches], axis=-2),
            _moves(now, before),
            others.astype(xp.float32),
        )

    @property
    def id_pitches(self) -> np.ndarray:
        """See Encoding: of Pitch alone."""
        return np.where(self._ids.kinds == _PITCH, self._ids.values, -1).astype(np.int32)

    def _followers(self) -> np.ndarray:
        """bool [V, kinds]: which kinds may follow each id."""
        known = self._ids
        note = [_PROGRAM] if self.instruments else [_PITCH]
        after_pitch = [_VELOCITY] if self.velocities else [_DURATION]
        following = {
            _PAD: [_BAR],
            _EOS: [_BAR],
            _BAR: [_METER],
            _METER: [_POSITION, _BAR],
            _POSITION: [_TEMPO, *note],
            _TEMPO: [_POSITION, _BAR, *note],
            _PROGRAM: [_PITCH],
            _PITCH: after_pitch,
            _DRUM: after_pitch,
            _VELOCITY: [_DURATION],
            _DURATION: [_POSITION, _BAR, _EOS, *note],
        }
        allowed = np.zeros((len(_KINDS), len(_KINDS)), bool)
        for kind, others in following.items():
            allowed[kind, others] = True
        of_ids = allowed[known.kinds]
        kit = (known.kinds == _PROGRAM) & (known.values == DRUMS)
        of_ids[kit] = np.arange(len(_KINDS)) == _DRUM
        return of_ids

    @property
    def keeps_instruments(self) -> bool:
        """See Encoding."""
        return self.instruments

    @property
    def most_per_unit(self) -> int:
        """Events that come in a unit of time, at most, as far as music goes."""
        return 16 if self.instruments else 8

    @property
    def lead(self) -> int:
        """Units by which the sum of `units` may run ahead of time: the longest bar."""
        return int(self._ids.bar_units.max())

    # --- places in time -------------------------------------------------------------------------

    def bar_lines(self, layout: Mapping[str, Any], length: int, window: int) -> np.ndarray:
        """See Encoding."""
        sizes = np.array(layout["bar_sizes"], np.int64)
        lines = np.cumsum(sizes) - sizes
        fitting = lines[lines + window <= length]
        return fitting if len(fitting) else lines[:1]

    def meters(
        self, layout: Mapping[str, Any], start: int, elements: np.ndarray | None = None
    ) -> tuple[Meter, ...]:
        """See Encoding: those that the elements say; () without elements."""
        if elements is None or not len(elements):
            return ()
        reading, ids = self._read(elements), self._ids
        last = np.searchsorted(reading.bars, np.arange(len(reading.bar_starts)), side="right") - 1
        meters = reading.meters[last]
        return tuple(
            Meter(
                int(reading.bar_starts[bar]),
                int(ids.values[meters[bar]]),
                int(ids.denominators[meters[bar]]),
            )
            for bar in np.flatnonzero(np.diff(meters, prepend=0)).tolist()
        )

    def tempos_of(self, elements: np.ndarray) -> tuple[Tempo, ...]:
        """The tempos that elements say, the first from the beginning; () if they say none."""
        reading = self._read(elements)
        which = np.flatnonzero(reading.kinds == _TEMPO)
        at = np.where(np.arange(len(which)) == 0, 0, reading.onsets[which])
        qpm = self._ids.values[elements[which]]
        return tuple(map(Tempo, at.tolist(), qpm.tolist()))

    def prime(self, song: Song, length: int | None, unknown: str) -> EncodedPrime:
        """See Encoding. It begins with a bar; inside of a bar that is longer than `length`, with
        the Bar, its meter and a Position.
        """
        elements, layout, _ = self.encode(song)
        elements = elements[~self.is_end(elements)]
        if length is None:
            return EncodedPrime(elements, 0, layout)
        kinds, least = self._ids.kinds[elements], len(elements) - length
        of_note = _PROGRAM if self.instruments else _PITCH
        for begin, restated in ((_BAR, 0), (of_note, 3)):
            found = np.flatnonzero(kinds == begin)
            found = found[found >= least + restated]
            if len(found):
                resumed = self.resumed(elements[found[0] :], elements[: found[0]])
                return EncodedPrime(*resumed, layout)
        return EncodedPrime(elements[:0], self._read(elements).end, layout)

    def live(self) -> dict[str, Any]:
        """See Encoding. follow: of each kind, which kinds may come next; none ends the music."""
        if self.instruments:
            raise InputError("the live page plays one instrument, and these events name several")
        known, followers = self._ids, self._followers()
        followers[:, _EOS] = False
        first = [np.flatnonzero(known.kinds == kind)[:1] for kind in range(len(_KINDS))]
        return {
            "name": self.name,
            "points_per_beat": self.resolution,
            "kinds": known.kinds.tolist(),
            "values": known.values.tolist(),
            "bar_units": known.bar_units.tolist(),
            "bar_points": known.bar_points(self.resolution).tolist(),
            "follow": [followers[ids].any(0).tolist() for ids in first],
            "kind": {name: kind for kind, name in enumerate(_KINDS)},
            "units_per_quarter": self.units_per_quarter,
        }

    # --- what a corpus is like ------------------------------------------------------------------

    def features(self) -> list[np.ndarray]:
        """float32 [V, F] each: what ids are made of, for models whose ids share strength.

        Their kind; pitch class and octave; the place in the beat, the beat, and the logarithm of a
        length, for Position and Duration each; family of a program; numerator and denominator of a
        meter; and loudness and tempo, 0 to 1.
        """
        ids, size = self._ids, self.size
        values = ids.values.astype(np.int64)

        def one_hot(kind: int, numbers: np.ndarray) -> np.ndarray:
            """Columns for the numbers that ids of a kind have."""
            of_kind = ids.kinds == kind
            columns = np.unique(numbers[of_kind])
            return (of_kind[:, None] & (numbers[:, None] == columns)).astype(np.float32)

        def scale(kind: int, numbers: np.ndarray) -> np.ndarray:
            """A column, from 0 to 1."""
            of_kind = ids.kinds == kind
            largest = numbers[of_kind].max(initial=1e-9)
            return np.where(of_kind, numbers / largest, 0.0).astype(np.float32)[:, None]

        kinds = np.zeros((size, len(_KINDS)), np.float32)
        kinds[np.arange(size), ids.kinds] = 1
        parts = [
            kinds[:, kinds.any(0)],
            one_hot(_PITCH, values % 12),
            one_hot(_PITCH, values // 12),
        ]
        for kind in (_POSITION, _DURATION):
            parts += [
                one_hot(kind, values % self.resolution),
                one_hot(kind, values // self.resolution),
                scale(kind, np.log2(1 + np.maximum(ids.values, 0))),
            ]
        parts += [
            one_hot(_PROGRAM, values // 8),
            one_hot(_METER, values),
            one_hot(_METER, ids.denominators),
            scale(_VELOCITY, ids.values),
            scale(_TEMPO, np.log2(1 + np.maximum(ids.values, 0))),
        ]
        return [part for part in parts if part.shape[1] and part.any()]

    def statistics(self, total: Sums, training: Sums) -> dict[str, Any]:
        """See Encoding."""
        statistics = super().statistics(total, training)
        statistics["counts"] |= {name: int(total[name]) for name in ("notes", "moved", "split")}
        return statistics

    def describe(self, statistics: Mapping[str, Any]) -> list[str]:
        """See Encoding."""
        counts = statistics["counts"]
        notes = max(counts["notes"], 1)
        lines = [
            f"{counts['events']} events of {self.size - 1} types, {counts['events'] / notes:.2f} a "
            "note",
            f"moved to the grid: {counts['moved'] / notes:.1%} of {counts['notes']} notes",
        ]
        if counts["split"]:
            lines[-1] += f"; longer than {LONGEST} beats and struck again: {counts['split']}"
        return lines

    def report(self, songs: Sequence[np.ndarray]) -> tuple[list[Table], list[Plot]]:
        """See Encoding."""
        counts, ids = np.array(self.counts), self._ids
        total = max(int(counts.sum()), 1)
        frequent = np.argsort(-counts, kind="stable")[:20].tolist()
        kinds = [
            (kind, int((ids.kinds == i).sum()), int(n), float(n / total))
            for i, kind in enumerate(_KINDS)
            if (n := counts[ids.kinds == i].sum())
        ]
        tables = [
            Table(
                "events",
                "Most frequent events",
                f"Of the training songs; {(counts > 0).sum()} of {self.size - 1} types occur.",
                ("event", "times", "share"),
                [
                    (ids.texts[i], int(counts[i]), float(counts[i] / total))
                    for i in frequent
                    if counts[i]
                ],
            ),
            Table(
                "kinds",
                "Kinds of events",
                "Of the training songs.",
                ("kind", "types", "times", "share"),
                kinds,
            ),
        ]
        durations, polyphony = Counter(), Counter()
        for song in songs[:: -(-len(songs) // _MOST_REPORTED)]:
            reading = self._read(np.asarray(song))
            onset = reading.onsets[reading.notes]
            end = onset + reading.durations
            durations.update((reading.durations / UNITS_PER_QUARTER).tolist())
            polyphony.update(dict(enumerate(_at_once(onset, end).tolist())))
        sizes = np.sort([len(song) for song in songs])
        return tables, [
            Plot(
                "sizes",
                "Events of each song",
                "songs, the smallest first",
                "events",
                {"": ("line", np.arange(1, len(sizes) + 1), sizes)},
            ),
            *shares_of_notes(durations, polyphony),
        ]
