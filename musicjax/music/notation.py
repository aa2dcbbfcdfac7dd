"""Songs as scores: bars, voices, and files that notation programs read (MusicXML and ABC).

A score says less than a song. What is written differs from what is played:

    (1) Notes begin and end on thirty-seconds and on triplets of sixteenths. Where more than a few
        notes lie elsewhere, as in recordings, they are moved to sixteenths and triplets of eighths.
    (2) Notes of a track that begin and end together are a chord. A track has four voices at most:
        where more notes sound than that, the one that began first ends.
    (3) Drums and velocities are left out; one tempo is written a bar.
    (4) Where the song has no key signature, the estimated key is written. Pitches are spelled
        after the key.

Time is in quarter notes, exact (Fraction).
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musicjax.errors import InputError
from musicjax.music import key as keys
from musicjax.music.song import KeySignature, Meter, Song, Track
from musicjax.system import files

FORMATS = ("musicxml", "abc")
VOICE_NAMES = ("Soprano", "Alto", "Tenor", "Bass")

_MOST_BARS = 5_000
_MOST_VOICES = 4
_BARS_A_LINE = 4  # of ABC
_SLOTS = 24  # of a quarter
_FINE = [slot for slot in range(_SLOTS) if slot % 3 == 0 or slot % 2 == 0]
_COARSE = [slot for slot in range(_SLOTS) if slot % 6 == 0 or slot % 8 == 0]
_PLAYED = 0.05  # share of onsets off the fine grid, above which the coarse one is taken
_TOLERANCE = Fraction(1, 96)  # quarters that an onset may be off a grid: a tick of coarse files
# Lengths that one note can have: plain, dotted, and a third of a plain one's double.
_PLAIN = [Fraction(8, 2**k) for k in range(9)]
_LENGTHS = sorted(
    length
    for length in {
        *_PLAIN,
        *(p * Fraction(3, 2) for p in _PLAIN),
        *(p * Fraction(2, 3) for p in _PLAIN),
    }
    if 2 * _SLOTS % length.denominator == 0
)


class Bar(NamedTuple):
    """A bar of a song.

    Attributes:
        number: from 1; 0 is a pick-up.
        start, stop: in quarters; shorter than the meter says at a pick-up, and where the meter
            changes early.
        meter: that holds.
    """

    number: int
    start: Fraction
    stop: Fraction
    meter: Meter

    @property
    def beat(self) -> Fraction:
        """In quarters: a note of the denominator, or three in compound meters such as 6/8."""
        _, numerator, denominator = self.meter
        compound = denominator >= 8 and numerator > 3 and numerator % 3 == 0
        return Fraction(4 * (3 if compound else 1), denominator)


class Written(NamedTuple):
    """A note, a chord or a rest of a score.

    Attributes:
        start, length: in quarters; of a length that one note can have, inside of one bar.
        pitches: MIDI numbers, upwards; none for a rest.
        goes_on: it is tied to the next of its voice.
        went_on: the one before is tied to it.
    """

    start: Fraction
    length: Fraction
    pitches: tuple[int, ...]
    goes_on: bool
    went_on: bool


class Part(NamedTuple):
    """A track as it is written: voices [voices][bars][...]."""

    track: Track
    voices: list[list[list[Written]]]


class Score(NamedTuple):
    """A song as it is written."""

    song: Song
    bars: list[Bar]
    parts: list[Part]
    key: KeySignature


# --- bars -----------------------------------------------------------------------------------------


def bars(song: Song) -> list[Bar]:
    """The bars of a song until its last note ends, at least one.

    A first meter that does not last a bar of the next is a pick-up, the end of such a bar. A meter
    that changes anywhere does so at the nearest 48th of a quarter, of which bars are made.

    Raises:
        InputError: more than 5,000 bars, such as hours of silence.
    """
    quarter = song.ticks_per_quarter
    meters = song.meters_from_start
    end = max(Fraction(song.end_ticks, quarter), Fraction(1, quarter))
    starts = [_bar_line(meter.tick, quarter) for meter in meters]
    stretches = [
        (start, min(stop, end), meter)
        for start, stop, meter in zip(starts, [*starts[1:], end], meters, strict=True)
        if start < end
    ]
    if sum((stop - start) / meter.quarters for start, stop, meter in stretches) > _MOST_BARS:
        raise InputError(
            f"{song.source or 'the song'}: more than {_MOST_BARS} bars, too many for a score; "
            "is it mostly silent?"
        )
    found = []
    if len(stretches) > 1:
        (start, stop, _), (_, _, meter) = stretches[:2]
        if stop - start < meter.quarters:
            found.append(Bar(0, start, stop, meter))
            stretches = stretches[1:]
    for i, (start, stop, meter) in enumerate(stretches):
        while start < stop:
            until = start + meter.quarters
            if i + 1 < len(stretches):
                until = min(until, stop)
            found.append(Bar(len(found) + (not found or found[0].number), start, until, meter))
            start = until
    return found


def _bar_line(tick: int, quarter: int) -> Fraction:
    return Fraction(round(Fraction(2 * _SLOTS * tick, quarter)), 2 * _SLOTS)


# --- voices ---------------------------------------------------------------------------------------


def in_voices(song: Song, most: int = 4) -> Song:
    """A song for few voices with a track for each: those of one program, joined and taken apart.

    Where at most `most` notes begin together, each goes to a voice that is free, in the order of
    their pitches and so that voices move the least; further notes join the nearest voice. Voices
    that cross come out uncrossed. A song of several programs, with drums, or with more than `most`
    notes at once for over a tenth of the time stays as it is.

    Args:
        song: any.
        most: voices; four are named as those of a choir.
    """
    tracks = [track for track in song.tracks if len(track)]
    notes = song.notes()
    if not tracks or len({(t.program, t.is_drum) for t in tracks}) > 1 or tracks[0].is_drum:
        return song
    if _crowded(notes, most) > 0.1:
        return song
    voice = _voices_of(notes, min(most, _most_at_once(notes)))
    count = int(voice.max()) + 1
    names = VOICE_NAMES if count == len(VOICE_NAMES) else [f"Voice {i + 1}" for i in range(count)]
    if count == 1:
        names = [tracks[-1].name]
    made = []
    for number, name in enumerate(names):
        onset, duration, pitch, velocity = notes[voice == number].T
        made.append(Track(name, tracks[0].program, False, onset, duration, pitch, velocity))
    return dataclasses.replace(song, tracks=tuple(track for track in made if len(track)))


def _at_once(notes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each stretch of time in which the same notes sound: its length, and how many they are."""
    end = notes[:, 0] + notes[:, 1]
    moments = np.unique(np.concatenate([notes[:, 0], end]))
    changes = np.zeros(len(moments), np.int64)
    np.add.at(changes, np.searchsorted(moments, notes[:, 0]), 1)
    np.add.at(changes, np.searchsorted(moments, end), -1)
    return np.diff(moments), np.cumsum(changes)[:-1]


def _crowded(notes: np.ndarray, most: int) -> float:
    """Share of the sounding time in which more notes sound."""
    length, number = _at_once(notes)
    return float(length[number > most].sum() / max(length[number > 0].sum(), 1))


def _most_at_once(notes: np.ndarray) -> int:
    return int(_at_once(notes)[1].max(initial=1))


def _voices_of(notes: np.ndarray, count: int) -> np.ndarray:
    """int [notes]: the voice of each, 0 the highest."""
    # Where a voice usually is, until it has sung.
    last = np.quantile(notes[:, 2], 1 - (np.arange(count) + 0.5) / count).tolist()
    until, voice = [-1] * count, np.zeros(len(notes), np.int64)
    onsets, first = np.unique(notes[:, 0], return_index=True)
    for onset, rows in zip(
        onsets.tolist(), np.split(np.arange(len(notes)), first[1:]), strict=True
    ):
        rows = rows[::-1].tolist()  # from the highest
        pitches = [int(notes[row, 2]) for row in rows]
        free = [v for v in range(count) if until[v] <= onset] or [
            min(range(count), key=lambda v: abs(last[v] - pitches[0]))
        ]
        held = {v: last[v] for v in range(count) if v not in free}

        def cost(chosen: Sequence[int], pitches: Sequence[int], held: dict = held) -> float:
            moved = sum(abs(last[v] - p) for v, p in zip(chosen, pitches, strict=True))
            crossed = sum(
                (p < other) if v < w else (p > other)
                for v, p in zip(chosen, pitches, strict=True)
                for w, other in held.items()
            )
            return moved + 12 * crossed

        some = min(len(rows), len(free))
        choice = min(
            (
                (voices, which)
                for voices in itertools.combinations(free, some)
                for which in _some(len(rows), some)
            ),
            key=lambda pair: cost(pair[0], [pitches[i] for i in pair[1]]),
        )
        sung = dict(zip(choice[1], choice[0], strict=True))
        for i, row in enumerate(rows):
            v = sung.get(i)
            if v is None:  # more notes than voices are free
                nearest = min(sung, key=lambda j: abs(pitches[j] - pitches[i]))
                voice[row] = sung[nearest]
            else:
                voice[row], last[v] = v, pitches[i]
                until[v] = int(notes[row, 0] + notes[row, 1])
    return voice


def _some(of: int, count: int) -> Iterable[tuple[int, ...]]:
    """Ways to choose so many of the notes that begin together; of great many the outer ones."""
    if of > 8:
        upper = (count + 1) // 2
        return [(*range(upper), *range(of - (count - upper), of))]
    return itertools.combinations(range(of), count)


# --- song -> score --------------------------------------------------------------------------------


def score_of(song: Song) -> Score:
    """A song as it is written: see the module's docstring.

    Raises:
        InputError: no pitched note, or too many bars.
    """
    tracks = [track for track in song.tracks if len(track) and not track.is_drum]
    if not tracks:
        raise InputError(f"{song.source or 'the song'}: no pitched note, so there is no score")
    all_bars = bars(song)
    grid = _grid_of(song)
    parts = []
    for track in tracks:
        voices = _in_lines(_chords(track, song.ticks_per_quarter, grid, all_bars[-1].stop))
        parts.append(Part(track, [_in_bars(line, all_bars) for line in voices]))
    return Score(song, all_bars, parts, _key_of(song))


def _grid_of(song: Song) -> list[int]:
    onsets = song.notes()[:, 0].astype(np.int64)
    place = onsets * _SLOTS % (_SLOTS * song.ticks_per_quarter) / song.ticks_per_quarter
    off = np.abs(place[:, None] - np.array([*_FINE, _SLOTS])).min(axis=1, initial=_SLOTS)
    return _COARSE if (off > _SLOTS * float(_TOLERANCE)).mean() > _PLAYED else _FINE


def _on_grid(ticks: int, quarter: int, grid: list[int]) -> Fraction:
    whole, rest = divmod(ticks, quarter)
    exact = Fraction(rest * _SLOTS, quarter)
    nearest = min([*grid, _SLOTS], key=lambda slot: abs(slot - exact))
    return whole + Fraction(nearest, _SLOTS)


def _chords(
    track: Track, quarter: int, grid: list[int], end: Fraction
) -> list[tuple[Fraction, Fraction, tuple[int, ...]]]:
    """Start, stop and pitches of what begins and ends together, by start and from the highest."""
    chords: dict[tuple[Fraction, Fraction], set[int]] = {}
    for onset, duration, pitch in zip(
        track.onset_ticks.tolist(), track.duration_ticks.tolist(), track.pitch.tolist(), strict=True
    ):
        start = _on_grid(onset, quarter, grid)
        stop = min(_on_grid(onset + duration, quarter, grid), end)
        if stop <= start:
            later = [
                whole + Fraction(slot, _SLOTS)
                for whole in (int(start), int(start) + 1)
                for slot in grid
            ]
            stop = min(time for time in later if time > start)
        if start < end:
            chords.setdefault((start, stop), set()).add(pitch)
    rows = [(start, stop, tuple(sorted(pitches))) for (start, stop), pitches in chords.items()]
    return sorted(rows, key=lambda row: (row[0], -row[2][-1]))


def _in_lines(chords: list) -> list[list]:
    """Chords in as few lines as needed, in each of which they follow one another."""
    lines: list[list] = []
    for start, stop, pitches in chords:
        free = [line for line in lines if line[-1][1] <= start]
        if not free and len(lines) < _MOST_VOICES:
            lines.append([])
            free = [lines[-1]]
        if free:  # the one that is nearest in pitch
            line = min(free, key=lambda line: abs(line[-1][2][-1] - pitches[-1]) if line else 0)
        else:
            line = min(lines, key=lambda line: line[-1][0])
            before = line[-1]
            if before[0] == start:  # a chord of unequal lengths
                line[-1] = (start, max(before[1], stop), tuple(sorted({*before[2], *pitches})))
                continue
            line[-1] = (before[0], start, before[2])
        line.append((start, stop, pitches))
    return lines


def _in_bars(line: list, all_bars: list[Bar]) -> list[list[Written]]:
    """A line with its rests, cut at bar lines and into lengths that one note can have."""
    filled, time = [], all_bars[0].start
    for start, stop, pitches in line:
        if start > time:
            filled.append((time, start, ()))
        filled.append((start, stop, pitches))
        time = stop
    if time < all_bars[-1].stop:
        filled.append((time, all_bars[-1].stop, ()))
    written: list[list[Written]] = [[] for _ in all_bars]
    number = 0
    for begin, stop, pitches in filled:
        start = begin
        while start < stop:
            while all_bars[number].stop <= start:
                number += 1
            bar = all_bars[number]
            for length in _lengths(start - bar.start, min(stop, bar.stop) - start, bar.beat):
                goes_on, went_on = bool(pitches) and start + length < stop, start > begin
                each = Written(start, length, pitches, goes_on, bool(pitches) and went_on)
                written[number].append(each)
                start += length
    return written


def _lengths(place: Fraction, length: Fraction, beat: Fraction) -> list[Fraction]:
    """Lengths of the notes that are tied to one of any length, from a place in the bar."""
    made = []
    while length:
        if length in _LENGTHS:
            step = length
        else:
            to_beat = beat - place % beat
            step = to_beat if to_beat < length and to_beat in _LENGTHS else None
            step = step or max(each for each in _LENGTHS if each <= length)
        made.append(step)
        place, length = place + step, length - step
    return made


def _key_of(song: Song) -> KeySignature:
    if song.keys:
        return song.keys[0]
    found = keys.estimate_key(song)
    if found is None:
        return KeySignature(0, 0, False)
    fifths = (7 * (found.tonic + 3 * found.minor) + 5) % 12 - 5
    return KeySignature(0, fifths, found.minor)


def spelled(pitch: int, fifths: int) -> tuple[str, int, int]:
    """The letter, the accidental (1: sharp, -1: flat) and the octave (4 from middle C) of a pitch.

    Args:
        pitch: MIDI number.
        fifths: of the key signature. Of twelve names in fifths those are taken that hold the scale,
            three flats and two sharps more: in C, Eb Bb F C G D A E B F# C# G#.
    """
    lowest = fifths - 3
    letter, accidental = _name_at(lowest + (7 * pitch - lowest) % 12)
    return letter, accidental, (pitch - accidental) // 12 - 1


def _name_at(place: int) -> tuple[str, int]:
    """The letter and the accidental of a place on the line of fifths; C is at 0, G at 1."""
    accidental, letter = divmod(place + 1, 7)
    return "FCGDAEB"[letter], accidental


def _signs(accidental: int, sharp: str, flat: str) -> str:
    return (sharp if accidental > 0 else flat) * abs(accidental)


# --- files ----------------------------------------------------------------------------------------


def write_score(song: Song, path: str | Path, *, title: str = "", composer: str = "") -> None:
    """Writes a score, whole or not at all: .musicxml (or .xml) or .abc.

    Raises:
        InputError: another suffix, or as score_of.
    """
    path = Path(path)
    suffix = path.suffix.lower().replace(".xml", ".musicxml").removeprefix(".")
    write = {"musicxml": to_musicxml, "abc": to_abc}.get(suffix)
    if write is None:
        raise InputError(f"{path}: expected a score's name to end in .musicxml or .abc")
    files.write_text(path, write(song, title=title, composer=composer))


def to_musicxml(song: Song, *, title: str = "", composer: str = "") -> str:
    """The text of a MusicXML 4.0 file, by music21.

    Args:
        song: a part for each track.
        title: of the work.
        composer: of the work.
    Raises:
        InputError: as score_of.
    """
    from music21 import clef, instrument, metadata, stream
    from music21.musicxml.m21ToXml import GeneralObjectExporter

    score = score_of(song)
    whole = stream.Score()
    whole.metadata = metadata.Metadata(title=_line(title) or "Untitled")
    whole.metadata.composer = _line(composer) or "musicjax"
    for number, part in enumerate(score.parts, 1):
        name = _line(part.track.name) or f"Track {number}"
        staff = stream.Part(id=f"P{number}", partName=name)
        player = instrument.instrumentFromMidiProgram(part.track.program)
        player.partName, player.partId = name, f"P{number}"
        player.midiChannel = (*range(9), *range(10, 16))[number % 15]  # the tenth is for drums
        staff.insert(0, player)
        for index, bar in enumerate(score.bars):
            staff.append(_music21_bar(score, part, index, bar, first_part=number == 1))
        low = float(np.median(part.track.pitch)) < 57
        staff[stream.Measure][0].insert(0, clef.BassClef() if low else clef.TrebleClef())
        whole.insert(0, staff)
    return GeneralObjectExporter().parse(whole).decode()


def _music21_bar(score: Score, part: Part, index: int, bar: Bar, *, first_part: bool) -> Any:
    from music21 import key, meter, stream, tempo

    measure = stream.Measure(number=bar.number)
    if bar.number == 0:
        measure.showNumber = stream.enums.ShowNumber.NEVER
    before = score.bars[index - 1] if index else None
    if before is None or before.meter[1:] != bar.meter[1:]:
        measure.timeSignature = meter.TimeSignature(
            f"{bar.meter.numerator}/{bar.meter.denominator}"
        )
    if before is None:
        measure.keySignature = key.KeySignature(score.key.fifths)
    qpm = _qpm_at(score.song, bar.start)
    if first_part and (before is None or qpm != _qpm_at(score.song, before.start)):
        measure.insert(0, tempo.MetronomeMark(number=qpm, referent=1.0))
    missing = bar.meter.quarters - (bar.stop - bar.start)
    if missing:
        # A pick-up is the end of a bar, others that are short the beginning.
        setattr(measure, "paddingLeft" if bar.number == 0 else "paddingRight", missing)
    voices = [voice[index] for voice in part.voices]
    lines = [line for line in voices if any(each.pitches for each in line)] or voices[:1]
    for number, line in enumerate(lines, 1):
        into = measure if len(lines) == 1 else stream.Voice(id=str(number))
        for each in line:
            into.insert(each.start - bar.start, _music21_note(each, score.key.fifths))
        if into is not measure:
            measure.insert(0, into)
    return measure


def _music21_note(each: Written, fifths: int) -> Any:
    from music21 import chord, note, pitch, tie

    if not each.pitches:
        return note.Rest(quarterLength=each.length)
    pitches = []
    for number in each.pitches:
        letter, accidental, octave = spelled(number, fifths)
        made = pitch.Pitch(letter, octave=octave)
        if accidental:
            made.accidental = pitch.Accidental(accidental)
        pitches.append(made)
    made = note.Note(pitches[0]) if len(pitches) == 1 else chord.Chord(pitches)
    made.quarterLength = each.length
    kind = {(True, False): "start", (True, True): "continue", (False, True): "stop"}
    if (each.goes_on, each.went_on) in kind:
        made.tie = tie.Tie(kind[each.goes_on, each.went_on])
    return made


def to_abc(song: Song, *, title: str = "", composer: str = "") -> str:
    """The text of an ABC file, as of the standard 2.1. A track of several voices has as many here.

    Args and errors are those of to_musicxml.
    """
    score = score_of(song)
    first = score.bars[0].meter
    letter, accidental = _name_at(score.key.fifths + 3 * score.key.minor)
    tonic = letter + _signs(accidental, "#", "b")
    header = [
        "X:1",
        f"T:{_escaped(title) or 'Untitled'}",
        f"C:{_escaped(composer) or 'musicjax'}",
        f"M:{first.numerator}/{first.denominator}",
        "L:1/4",
        f"Q:1/4={_qpm_at(song, Fraction(0))}",
        f"K:{tonic}{'m' * score.key.minor}",
    ]
    names, body = [], []
    for number, part in enumerate(score.parts, 1):
        name = _escaped(part.track.name).replace('"', "'") or f"Track {number}"
        clef = "bass" if float(np.median(part.track.pitch)) < 57 else "treble"
        for which, voice in enumerate(part.voices):
            label = f"{number}{chr(ord('a') + which) if len(part.voices) > 1 else ''}"
            body.append(f'V:{label} name="{name}" clef={clef}')
            names.append(label if which == 0 else f"{names.pop()} {label}")
            texts = [_abc_bar(score, index, line) for index, line in enumerate(voice)]
            for start in range(0, len(texts), _BARS_A_LINE):
                end = " |]" if start + _BARS_A_LINE >= len(texts) else " |"
                body.append(" | ".join(texts[start : start + _BARS_A_LINE]) + end)
    staves = " ".join(f"({name})" if " " in name else name for name in names)
    return "\n".join([*header, f"%%score {staves}", *body]) + "\n"


def _abc_bar(score: Score, index: int, line: list[Written]) -> str:
    bar, before = score.bars[index], score.bars[index - 1] if index else None
    words = []
    if before and before.meter[1:] != bar.meter[1:]:
        words.append(f"[M:{bar.meter.numerator}/{bar.meter.denominator}]")
    if before and (qpm := _qpm_at(score.song, bar.start)) != _qpm_at(score.song, before.start):
        words.append(f"[Q:1/4={qpm}]")
    signed = {letter: 0 for letter in "CDEFGAB"}
    for i in range(abs(score.key.fifths)):
        signed["FCGDAEB"[i] if score.key.fifths > 0 else "BEADGCF"[i]] = np.sign(score.key.fifths)
    # Readers differ in how far an accidental holds, so that each note says its own.
    altered = set()
    for each in line:
        length, tuplet = each.length, ""
        if length.denominator % 3 == 0:
            length, tuplet = length * Fraction(3, 2), "(3:2:1"
        notes = []
        for number in each.pitches:
            letter, accidental, octave = spelled(number, score.key.fifths)
            sign = ""
            if signed[letter] != accidental or letter in altered:
                altered.add(letter)
                sign = _signs(accidental, "^", "_") or "="
            marks = "'" * (octave - 5) if octave >= 5 else "," * (4 - octave)
            notes.append(sign + (letter.lower() if octave >= 5 else letter) + marks)
        text = notes[0] if len(notes) == 1 else f"[{''.join(notes)}]" if notes else "z"
        shown = "" if length == 1 else str(length)
        words.append(f"{tuplet}{text}{shown}{'-' if each.goes_on else ''}")
    return " ".join(words)


def _escaped(text: str) -> str:
    """A line of ABC; a percent sign would begin a comment."""
    return _line(text).replace("\\", "\\\\").replace("%", "\\%")


def _line(text: str) -> str:
    """A text without what XML and lines of text cannot hold."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())


def _qpm_at(song: Song, quarters: Fraction) -> int:
    tick = quarters * song.ticks_per_quarter
    before = [tempo.qpm for tempo in song.tempos if tempo.tick <= tick]
    return round(before[-1] if before else song.tempos[0].qpm if song.tempos else 120)
