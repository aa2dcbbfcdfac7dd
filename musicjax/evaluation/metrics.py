"""What a passage of music is like, in figures.

The figures are the same for real and for generated music; `musicjax.evaluation.distance` compares
sets of songs by them. Most are of notes, however they are written as numbers; those of elements
tell whether a model says the same thing over and over.

To add a measure: one function of a Passage, and its line in MEASURES or an entry point of the group
musicjax.measures.

Bars and beats are those of the song's meters, 4/4 where it has none. A beat is a note of the
meter's denominator; in compound meters (6, 9, 12 and so on of eighths or shorter) it is three of
them: 6/8 has two beats of a dotted quarter, 3/8 three of an eighth. A first meter that does not
last a bar of the next is a pick-up, the end of such a bar. A note is on a point of a grid if it
begins within half a tick of it.

Drums have rhythm and no pitch: they are left out of pitch_range, pitch_class_entropy,
scale_consistency, leaps and polyphony.

Where notes are compared with one another (groove_consistency, self_similarity, repeated_3_grams,
longest_repeat), times are moved to the nearest twelfth of a quarter, which holds sixteenths and
triplets, so that the resolution of a song does not matter.

Sources:

    MusPy       Dong et al., "MusPy: A Toolkit for Symbolic Music Generation", ISMIR 2020
    MuseGAN     Dong et al., "MuseGAN: Multi-track Sequential Generative Adversarial Networks for
                Symbolic Music Generation and Accompaniment", AAAI 2018
    C-RNN-GAN   Mogren, "C-RNN-GAN: Continuous recurrent neural networks with adversarial
                training", NIPS workshop 2016
    MusDr       Wu and Yang, "The Jazz Transformer on the Front Line: Exploring the Shortcomings of
                AI-composed Music through Quantitative Measures", ISMIR 2020
    mgeval      Yang and Lerch, "On the evaluation of generative models in music", Neural Computing
                and Applications 32, 2020
    Museformer  Yu et al., "Museformer: Transformer with Fine- and Coarse-Grained Attention for
                Music Generation", NeurIPS 2022
    skyline     Uitdenbogerd and Zobel, "Melodic Matching Techniques for Large Music Databases", ACM
                Multimedia 1999
    seq-rep-n   Welleck et al., "Neural Text Generation With Unlikelihood Training", ICLR 2020

Axes: T element, M meter, S stretch of time in which the same notes sound.
"""

import bisect
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from musicjax.encodings.bars import Bars, from_stretches
from musicjax.encodings.note_states import song_to_note_state
from musicjax.music.song import Song
from musicjax.registry import Registry

_LEAP = 7  # semitones; wider than a fifth
_MAJOR = [0, 2, 4, 5, 7, 9, 11]
_SLOTS = 12  # of a quarter note, where the times of notes are compared
_MOST_BARS = 500  # that are compared with one another


class Sounding(NamedTuple):
    """What sounds in each stretch of time in which that does not change.

    Attributes:
        start, length: int [S], in ticks; together they are the passage.
        pitches: int [S], how many different ones sound.
        pitched: int [S], the same without drums.
        highest: int [S], pitch without drums; -1 in silence.
    """

    start: np.ndarray
    length: np.ndarray
    pitches: np.ndarray
    pitched: np.ndarray
    highest: np.ndarray


class BarGrid(NamedTuple):
    """The bars of a passage, in stretches of one meter. Time is counted in parts of a tick, so that
    all is exact.

    Attributes:
        parts: of a tick.
        begin: int [M], in parts, of each meter.
        line: int [M], in parts, of its first bar; before the passage if that has a pick-up.
        length: int [M], of a bar, in parts.
        beat: int [M], in parts.
        bars: int [M], how many of it are begun.
        duration: of the passage, in bars.
    """

    parts: int
    begin: np.ndarray
    line: np.ndarray
    length: np.ndarray
    beat: np.ndarray
    bars: np.ndarray
    duration: float

    def locate(self, ticks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The meter [...], the bar [...] and the place in the bar, in parts [...], of ticks."""
        time = ticks * self.parts
        meter = np.searchsorted(self.begin, time, side="right") - 1
        since, place = np.divmod(time - self.line[meter], self.length[meter])
        return meter, (np.cumsum(self.bars) - self.bars)[meter] + since, place


@dataclasses.dataclass(frozen=True, eq=False)
class Passage:
    """A stretch of music.

    Attributes:
        song: its notes; tick 0 is its beginning.
        ticks: its length; silence at the end counts, what begins later does not.
        elements: [T, ...], as they were encoded or generated; none if it never was.
        element: what one is called, such as "token".
    """

    song: Song
    ticks: int
    elements: np.ndarray
    element: str = "element"

    @classmethod
    def of_song(cls, song: Song) -> "Passage":
        """All of a song, until its last note ends."""
        return cls(song, song.end_ticks, np.zeros(0, np.int32))

    @functools.cached_property
    def notes(self) -> np.ndarray:
        """int64 [notes, 4]: onset, end, pitch, and whether it is a drum's, by onset and pitch.
        Those that sound on are cut off at the end of the passage.
        """
        notes = np.zeros((self.song.num_notes, 4), np.int64)
        first = 0
        for track in self.song.tracks:
            rows = notes[first : first + len(track)]
            rows[:, 0] = track.onset_ticks
            rows[:, 1] = rows[:, 0] + track.duration_ticks
            rows[:, 2] = track.pitch
            rows[:, 3] = track.is_drum
            first += len(track)
        notes = notes[notes[:, 0] < self.ticks]
        notes[:, 1] = np.minimum(notes[:, 1], self.ticks)
        return notes[np.lexsort((notes[:, 2], notes[:, 0]))]

    @property
    def pitched(self) -> np.ndarray:
        """The notes that are not of drums."""
        return self.notes[self.notes[:, 3] == 0]

    @property
    def heard(self) -> int:
        """Ticks from its first note on; 0 without one."""
        return self.ticks - int(self.notes[0, 0]) if len(self.notes) else 0

    @functools.cached_property
    def sounding(self) -> Sounding:
        """What sounds when."""
        notes, pitched = self.notes, self.pitched
        moments = np.unique(np.concatenate([[0, self.ticks], notes[:, 0], notes[:, 1]]))
        roll = melodic = _roll(notes, moments)
        if len(pitched) < len(notes):
            melodic = _roll(pitched, moments)
        highest = np.where(melodic.any(1), 127 - melodic[:, ::-1].argmax(1), -1)
        return Sounding(moments[:-1], np.diff(moments), roll.sum(1), melodic.sum(1), highest)

    @functools.cached_property
    def bars(self) -> BarGrid:
        """Its bars; the last may be incomplete. None if it has no length."""
        meters = self.song.meters_from_start
        # Sixteenths are whole too.
        parts = math.lcm(4, *(meter.denominator for meter in meters))
        whole = 4 * parts * self.song.ticks_per_quarter
        stretches = from_stretches(
            [
                Bars(tick * parts, numerator * whole // denominator, denominator)
                for tick, numerator, denominator in meters
            ]
        )
        stretches = [stretch for stretch in stretches if stretch.start < max(self.ticks, 1) * parts]
        line, length, denominator = np.array(stretches).T
        begin = np.maximum(line, 0)
        until = np.append(begin[1:], self.ticks * parts)
        beats = map(_notes_of_beat, length * denominator // whole, denominator)
        return BarGrid(
            parts,
            begin,
            line,
            length,
            np.array(list(beats)) * whole // denominator,
            -((line - until) // length) * (until > 0),  # rounded up
            float(((until - begin) / length).sum()),
        )

    @functools.cached_property
    def onsets(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where its notes begin: meter, bar and place in the bar, as `BarGrid.locate`."""
        return self.bars.locate(self.notes[:, 0])

    @functools.cached_property
    def onset_slots(self) -> np.ndarray:
        """int [notes]: in which twelfth of a quarter of its bar each begins."""
        meter, _, place = self.onsets
        slots = _nearest(place * _SLOTS, self.bars.parts * self.song.ticks_per_quarter)
        return np.minimum(slots, self.bar_slots[meter] - 1)

    @property
    def bar_slots(self) -> np.ndarray:
        """int [M]: twelfths of a quarter in a bar of each meter, rounded up."""
        return -(-self.bars.length * _SLOTS // (self.bars.parts * self.song.ticks_per_quarter))

    @functools.cached_property
    def events(self) -> np.ndarray:
        """int [events]: what begins at one time, and when the next follows, as a number: the same
        one for the same pitches and the same time. The last event ends with its notes.
        """
        notes = self.notes
        if not len(notes):
            return np.zeros(0, np.int64)
        slots = _nearest(notes[:, :2] * _SLOTS, self.song.ticks_per_quarter)
        onset, event = np.unique(slots[:, 0], return_inverse=True)
        struck = np.zeros((len(onset), 128), bool)
        struck[event, notes[:, 2]] = True
        end = max(slots[event == event[-1], 1].max(), onset[-1] + 1)
        keys = np.packbits(struck, axis=1).view(np.int64)
        keys = np.column_stack([keys, np.diff(onset, append=end)])
        return np.unique(keys, axis=0, return_inverse=True)[1].ravel()


def _roll(notes: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """bool [S, 128]: the pitches that sound from each moment to the next."""
    changes = np.zeros((len(moments), 128), np.int32)
    begin, end = np.searchsorted(moments, notes[:, :2]).T
    np.add.at(changes, (begin, notes[:, 2]), 1)
    np.add.at(changes, (end, notes[:, 2]), -1)
    return np.cumsum(changes[:-1], axis=0) > 0


def _notes_of_beat(numerator: int, denominator: int) -> int:
    """How many notes of the denominator a beat has."""
    return 3 if denominator >= 8 and numerator > 3 and numerator % 3 == 0 else 1


def _nearest(numerator: np.ndarray, denominator: int) -> np.ndarray:
    """The nearest whole number to a fraction; half rounds up."""
    return (2 * numerator + denominator) // (2 * denominator)


@dataclasses.dataclass(frozen=True)
class Measure:
    """A figure of a passage.

    Attributes:
        apply: computes it; None where it cannot be said, such as the leaps of one note.
        text: shows it in generate's line about a piece, such as "{:.0%} silent"; {element} is what
            one is called. Empty: tables alone show it.
    """

    apply: Callable[[Passage], float | None]
    text: str = ""


# --- length ---------------------------------------------------------------------------------------


def seconds(passage: Passage) -> float:
    """Playing time at the song's main tempo."""
    return passage.ticks / passage.song.ticks_per_quarter * 60 / passage.song.main_qpm


def bars(passage: Passage) -> float:
    """Bars, as a fraction."""
    return passage.bars.duration


# --- rhythm ---------------------------------------------------------------------------------------


def on_beat(passage: Passage) -> float | None:
    """Share of notes that begin on a beat."""
    meter, _, _ = passage.onsets
    return _share(_on_grid(passage, passage.bars.beat[meter]))


def off_eighths(passage: Passage) -> float | None:
    """Share of notes that begin on no eighth of their bar."""
    return _share(~_on_grid(passage, _note_value(passage, 8)))


def off_sixteenths(passage: Passage) -> float | None:
    """Share of notes that begin on no sixteenth of their bar."""
    return _share(~_on_grid(passage, _note_value(passage, 16)))


def _note_value(passage: Passage, denominator: int) -> int:
    """Length of 1 / denominator, in parts of a tick."""
    return 4 * passage.bars.parts * passage.song.ticks_per_quarter // denominator


def _on_grid(passage: Passage, spacing: np.ndarray | int) -> np.ndarray:
    """bool [notes]: whether each begins at a multiple of `spacing` in its bar."""
    after = passage.onsets[2] % spacing
    return 2 * np.minimum(after, spacing - after) <= passage.bars.parts


def _share(which: np.ndarray) -> float | None:
    return float(which.mean()) if len(which) else None


def notes_a_bar(passage: Passage) -> float | None:
    """Notes that begin in a bar, mean over the passage.

    Source: mgeval, note count per bar. Differs: (1) an incomplete bar counts in part.
    """
    return len(passage.notes) / passage.bars.duration if passage.ticks else None


def notes_a_second(passage: Passage) -> float | None:
    """Notes that begin in a second, mean over the passage, at the song's main tempo."""
    return len(passage.notes) / seconds(passage) if passage.ticks else None


def empty_bars(passage: Passage) -> float | None:
    """Share of bars in which no note sounds; None without bars.

    Source: MuseGAN; MusPy's empty_measure_rate. Differs from it: (1) a note that ends at a bar line
    does not sound in the next bar; (2) there is no further bar after a passage that ends with one;
    (3) any meters.
    """
    number = int(passage.bars.bars.sum())
    if not number:
        return None
    _, first, _ = passage.onsets
    _, last, _ = passage.bars.locate(passage.notes[:, 1] - 1)
    changes = np.bincount(first, minlength=number + 1) - np.bincount(last + 1, minlength=number + 1)
    return float((np.cumsum(changes[:-1]) == 0).mean())


def groove_consistency(passage: Passage) -> float | None:
    """How alike the rhythms of neighbouring bars are: 1 - the share of the places in a bar at which
    a note begins in one of them alone. Mean over pairs; None without one.

    Source: MusPy's groove_consistency, after the grooving pattern similarity of MusDr, which is of
    all pairs of bars. Differs from it: (1) places are twelfths of a quarter, whatever the song's
    resolution; (2) no further bar after a passage that ends with one; (3) a pair of bars of
    different meters is left out.
    """
    meter, bar, _ = passage.onsets
    first, alike = 0, []
    for number, (bars, slots) in enumerate(
        zip(passage.bars.bars.tolist(), passage.bar_slots.tolist(), strict=True)
    ):
        struck = np.zeros((bars, slots), bool)
        mine = meter == number
        struck[bar[mine] - first, passage.onset_slots[mine]] = True
        alike.append((struck[1:] == struck[:-1]).mean(1))
        first += bars
    pairs = np.concatenate(alike)
    return float(pairs.mean()) if len(pairs) else None


# --- pitch ----------------------------------------------------------------------------------------


def pitches(passage: Passage) -> int:
    """Different pitches, drums' among them."""
    return len(np.unique(passage.notes[:, 2]))


def pitch_range(passage: Passage) -> int | None:
    """Semitones from the lowest note to the highest.

    Source: mgeval, pitch range.
    """
    pitch = passage.pitched[:, 2]
    return int(pitch.max() - pitch.min()) if len(pitch) else None


def _pitch_classes(passage: Passage) -> np.ndarray:
    """int [12]: how many notes are of each pitch class."""
    return np.bincount(passage.pitched[:, 2] % 12, minlength=12)


def pitch_class_entropy(passage: Passage) -> float | None:
    """Entropy of the notes' pitch classes, in bits: 0 for one pitch class, 3.58 for all alike.

    Source: MusDr, pitch-class histogram entropy; MusPy's pitch_class_entropy. Differs from MusDr:
    (1) of the whole passage, not of windows of one or four bars.
    """
    counts = _pitch_classes(passage)
    if not counts.any():
        return None
    shares = counts[counts > 0] / counts.sum()
    return float((shares * -np.log2(shares)).sum())


def scale_consistency(passage: Passage) -> float | None:
    """Share of notes in the major or natural minor scale that holds the most of them.

    Source: C-RNN-GAN; MusPy's scale_consistency.
    """
    counts = _pitch_classes(passage)
    held = [np.roll(counts, -tonic)[_MAJOR].sum() for tonic in range(12)]
    return float(max(held) / counts.sum()) if counts.any() else None


def leaps(passage: Passage) -> float | None:
    """Share of the steps of the top line that are wider than a fifth, which is 7 semitones. The top
    line is of the notes that begin where no higher note sounds.

    Source: skyline. Differs: (1) there a note begins the line anew wherever it begins; here not
    below a note that sounds on.
    """
    sounding, notes = passage.sounding, passage.pitched
    stretch = np.searchsorted(sounding.start, notes[:, 0])
    top = notes[notes[:, 2] == sounding.highest[stretch]]
    # Two tracks may play one note.
    _, first = np.unique(top[:, 0], return_index=True)
    return _share(np.abs(np.diff(top[first, 2])) > _LEAP)


# --- texture --------------------------------------------------------------------------------------


def notes_at_once(passage: Passage) -> float:
    """Pitches that sound, mean over the time from the first note on."""
    sounding = passage.sounding
    return float(sounding.length @ sounding.pitches / passage.heard) if passage.heard else 0.0


def most_at_once(passage: Passage) -> int:
    """Pitches that sound, at most."""
    return int(passage.sounding.pitches.max(initial=0))


def polyphony(passage: Passage) -> float | None:
    """Pitches that sound, mean over the time in which one does.

    Source: MusPy's polyphony.
    """
    sounding = passage.sounding
    time = sounding.length[sounding.pitched > 0].sum()
    return float(sounding.length @ sounding.pitched / time) if time else None


def silence(passage: Passage) -> float:
    """Share of the time from the first note on in which none sounds. Before it a bar is not silent:
    it has an upbeat, or a piece's prime sounds on.
    """
    sounding = passage.sounding
    sounds = sounding.length[sounding.pitches > 0].sum()
    return float(1 - sounds / passage.heard) if passage.heard else 1.0


# --- form -----------------------------------------------------------------------------------------


def self_similarity(passage: Passage) -> float | None:
    """How alike the bars are: of the notes of two bars, the share that both have, at the same place
    in the bar, of the same pitch and length. Mean over all pairs of bars with notes, of the first
    500 of them; None without a pair.

    Source: Museformer, bar-pair similarity, there by the distance of the bars.
    """
    notes, (_, bar, _) = passage.notes, passage.onsets
    used = np.unique(bar)[:_MOST_BARS]
    if len(used) < 2:
        return None
    length = _nearest((notes[:, 1] - notes[:, 0]) * _SLOTS, passage.song.ticks_per_quarter)
    keys = np.column_stack([passage.onset_slots, length, notes[:, 2]])
    kept = bar <= used[-1]
    different, key = np.unique(keys[kept], axis=0, return_inverse=True)
    has = np.zeros((len(used), len(different)), np.float32)
    has[np.searchsorted(used, bar[kept]), key.ravel()] = 1
    common, sizes = has @ has.T, has.sum(1)
    similarity = common / (sizes[:, None] + sizes - common)
    return float(similarity[np.triu_indices(len(used), 1)].mean())


def repeated_3_grams(passage: Passage) -> float | None:
    """Share of runs of three events that were there before in the passage: all but the different
    ones. An event is what begins at one time, and how long until the next.

    Source: seq-rep-n.
    """
    grams = _grams(passage.events, 3)
    return (len(grams) - len(np.unique(grams))) / len(grams) if len(grams) else None


def longest_repeat(passage: Passage) -> int:
    """Events of the longest stretch that comes twice in the passage, not overlapping."""
    events = passage.events

    def comes_twice(length: int) -> bool:
        grams = _grams(events, length)
        _, first, gram = np.unique(grams, return_index=True, return_inverse=True)
        return bool((np.arange(len(grams)) - first[gram] >= length).any())

    # If a stretch comes twice, so does its beginning.
    return bisect.bisect_left(
        range(1, len(events) // 2 + 1), True, key=lambda length: not comes_twice(length)
    )


def _grams(events: np.ndarray, length: int) -> np.ndarray:
    """int [events - length + 1]: a number for each run of so many events, the same for equal runs.

    Runs of 1, 2, 4, ... are numbered by pairs of shorter ones (Karp, Miller and Rosenberg 1972).
    """
    grams, known = events, 1
    while known < length:
        step = min(known, length - known)
        if len(grams) <= step:
            return grams[:0]
        pairs = grams[:-step] * (grams.max() + 1) + grams[step:]
        grams, known = np.unique(pairs, return_inverse=True)[1], known + step
    return grams


# --- elements -------------------------------------------------------------------------------------


def distinct(passage: Passage) -> int:
    """Different elements."""
    return len({element.tobytes() for element in passage.elements})


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
        "on_beat": Measure(on_beat, "{:.0%} of notes on a beat"),
        "off_eighths": Measure(off_eighths, "{:.0%} off the eighths"),
        "off_sixteenths": Measure(off_sixteenths),
        "bars": Measure(bars),
        "notes_a_bar": Measure(notes_a_bar),
        "notes_a_second": Measure(notes_a_second),
        "empty_bars": Measure(empty_bars),
        "groove_consistency": Measure(groove_consistency),
        "pitch_range": Measure(pitch_range),
        "pitch_class_entropy": Measure(pitch_class_entropy),
        "scale_consistency": Measure(scale_consistency),
        "leaps": Measure(leaps),
        "polyphony": Measure(polyphony),
        "self_similarity": Measure(self_similarity),
        "repeated_3_grams": Measure(repeated_3_grams),
        "longest_repeat": Measure(longest_repeat),
    },
)


def measure(passage: Passage) -> dict[str, float]:
    """All measures of a passage, by name; those that cannot be said of it are left out."""
    found = {name: measure.apply(passage) for name, measure in MEASURES.items()}
    return {name: value for name, value in found.items() if value is not None}


def describe(metrics: dict[str, float], element: str) -> str:
    """What `measure` returns, in a line; `element` is what one is called, such as "token"."""
    texts = {name: MEASURES[name].text for name in metrics}
    return ", ".join(
        text.format(metrics[name], element=element) for name, text in texts.items() if text
    )


def shared_cells(songs: Sequence[Song]) -> list[float]:
    """For each pair of songs, how many of the cells (sixteenth, pitch) in which either sounds both
    do: 1 for the same song twice, 0 for two that have none in common. Songs without notes are left
    out.
    """
    plays = [
        # Without the meters, of which a grid of sixteenths may not hold every one.
        song_to_note_state(dataclasses.replace(song, meters=()), lowest=0, highest=127).states[
            ..., 0
        ]
        > 0
        for song in songs
        if song.num_notes
    ]

    def share(a: np.ndarray, b: np.ndarray) -> float:
        both = min(len(a), len(b))
        common = (a[:both] & b[:both]).sum()
        return float(common / (a.sum() + b.sum() - common))

    return [share(a, b) for a, b in itertools.combinations(plays, 2)]
