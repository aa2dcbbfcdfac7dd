"""Songs as sequences of tokens (note | chord | rest, duration), and the vocabulary of tokens.

Time is counted in twelfths of a quarter note, so that quarters and thirds of a beat are whole
numbers. Onsets and note ends are moved to the nearest multiple of a quarter or a third of a beat,
as music21 does. Notes that start together make one chord, as long as its longest note. Each token
moves time on by its duration: an element lasts until it ends or the next onset comes, whichever is
first, and what is left until the next onset is a rest.

A token's text is its pitches and its duration in quarter notes: "C4:1", "C4.E4.G4:1/2", "rest:2".

Source: paper section 2.2 and its references [1], [2].
Differs: (1) chords keep their octaves, where [1] kept pitch classes; (2) overlapping elements are
clipped at the next onset, where [1] and [2] let them push later notes back; (3) a duration may be a
difference between a quarter and a third of a beat, such as 1/12, which keeps every onset exact;
(4) ends are quantised, not lengths; (5) a gap of one or two twelfths, which is no rest but the seam
of the two grids, goes to the element before it; (6) durations are written as they were predicted,
where [2] gave every note a quarter's length.
"""

import dataclasses
import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from musicjax.errors import InputError
from musicjax.part import PROGRAM_OF_PART, family
from musicjax.song import Song, Tempo, Track

UNITS_PER_QUARTER = 12
_GRID = np.array([0, 3, 4, 6, 8, 9, 12])  # quarters and thirds of a beat, in twelfths
_SHORTEST = 3  # a quarter of a beat: what a note lasts at least, and a rest
# From each place in a beat to the first point of the grid that is that far away.
_TO_NEXT = np.array([3, 0, 0, 3, 4, 0, 3, 0, 4, 3, 0, 0])
_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_DURATION = re.compile(r"(\d+)(?:/([1-9]\d*))?")


def pitch_name(pitch: int) -> str:
    """The name of a MIDI pitch: 60 is C4."""
    return f"{_NAMES[pitch % 12]}{pitch // 12 - 1}"


_PITCH_NAMES = [pitch_name(pitch) for pitch in range(128)]
_PITCHES = {name: pitch for pitch, name in enumerate(_PITCH_NAMES)}


class Token(NamedTuple):
    """One element of music.

    Attributes:
        pitches: MIDI numbers, ascending, each once; none for a rest.
        duration: in twelfths of a quarter note, > 0.
        instrument: "drums" or a family of musicjax.part.FAMILIES, where tokens say it; else "".
    """

    pitches: tuple[int, ...]
    duration: int
    instrument: str = ""

    def __str__(self) -> str:
        name = ".".join([_PITCH_NAMES[pitch] for pitch in self.pitches]) or "rest"
        instrument = f"{self.instrument}|" if self.instrument else ""
        return f"{instrument}{name}:{_in_quarters(self.duration)}"


@functools.lru_cache(maxsize=4096)
def _in_quarters(units: int) -> str:
    return str(Fraction(units, UNITS_PER_QUARTER))


@functools.lru_cache(maxsize=4096)
def _in_units(quarters: str) -> int:
    match = _DURATION.fullmatch(quarters)
    units, rest = divmod(int(match[1]) * UNITS_PER_QUARTER, int(match[2] or 1)) if match else (0, 0)
    if rest or units < 1:
        raise ValueError(quarters)
    return units


def parse_token(text: str) -> Token:
    """The Token of its text form.

    Raises:
        ValueError: text is not of the form "C4.E4:1/2", "rest:2" or "bass|C2:1".
    """
    instrument, _, element = text.rpartition("|")
    name, _, duration = element.partition(":")
    try:
        pitches = () if name == "rest" else tuple([_PITCHES[part] for part in name.split(".")])
        return Token(pitches, _in_units(duration), instrument)
    except (KeyError, ValueError):
        pass
    raise ValueError(f"{text!r} is not a token; expected such as C4:1, C4.E4:1/2 or rest:2")


class EncodedSong(NamedTuple):
    """A song's tokens, and what the encoding lost.

    Attributes:
        tokens: in order.
        note_units: total length of all notes, in twelfths of a quarter.
        clipped_units: how much of that fell to the next onset.
        rests_cut: rests shortened to the longest allowed.
    """

    tokens: list[Token]
    note_units: int
    clipped_units: int
    rests_cut: int


def quantise(ticks: np.ndarray, ticks_per_quarter: int) -> np.ndarray:
    """Ticks to the nearest quarter or third of a beat.

    Args:
        ticks: int, any shape.
        ticks_per_quarter: > 0.
    Returns:
        int64, same shape: twelfths of a quarter note. Halfway goes to the earlier.
    """
    beats, rest = np.divmod(np.asarray(ticks, np.int64), ticks_per_quarter)
    distance = np.abs(rest[..., None] * UNITS_PER_QUARTER - _GRID * ticks_per_quarter)
    return beats * UNITS_PER_QUARTER + _GRID[distance.argmin(-1)]


def song_to_tokens(
    song: Song,
    *,
    longest_rest: int | None = None,
    longest_note: int | None = None,
    instruments: bool = False,
) -> EncodedSong:
    """Encodes all of a song's tracks, merged, as one sequence of tokens.

    Args:
        song: any song; choose its part first. A rest before its first note is kept.
        longest_rest: longer rests are cut to this many quarter notes; None keeps them.
        longest_note: longer elements are followed by a rest; in quarter notes, None keeps them.
        instruments: tokens say their instrument, each instrument's tokens moving on a time of its
            own; they come in the order of their onsets, and no rest is cut.
    Returns:
        EncodedSong; no tokens for a song without notes.
    """
    if instruments:
        return _by_instrument(song, longest_note)
    notes = song.notes()
    if not len(notes):
        return EncodedSong([], 0, 0, 0)
    onset = quantise(notes[:, 0], song.ticks_per_quarter)
    end = quantise(notes[:, 0].astype(np.int64) + notes[:, 1], song.ticks_per_quarter)
    end = np.where(end <= onset, onset + _TO_NEXT[onset % UNITS_PER_QUARTER], end)
    starts, first = np.unique(onset, return_index=True)
    chord_end = np.maximum.reduceat(end, first)
    if longest_note is not None:
        chord_end = np.minimum(chord_end, starts + longest_note * UNITS_PER_QUARTER)
    next_start = np.append(starts[1:], chord_end[-1])
    chord_end = np.where(next_start - chord_end < _SHORTEST, next_start, chord_end)
    sounds = np.minimum(chord_end, next_start) - starts
    note_units = int((end - onset).sum())
    kept = np.minimum(end - onset, np.repeat(sounds, np.diff(np.append(first, len(onset)))))

    rests = np.append(starts[0], next_start - starts - sounds)
    limit = rests.max() if longest_rest is None else longest_rest * UNITS_PER_QUARTER
    rests_cut = int((rests > limit).sum())
    first_rest, *gaps = np.minimum(rests, limit).tolist()
    # Each chord's pitches, ascending, each once.
    codes = np.unique(onset * 128 + notes[:, 2])
    pitches = (codes % 128).tolist()
    ends = np.searchsorted(codes, (starts + 1) * 128)
    tokens = [Token((), first_rest)] if first_rest else []
    begin = 0
    for stop, duration, gap in zip(ends.tolist(), sounds.tolist(), gaps, strict=True):
        tokens.append(Token(tuple(pitches[begin:stop]), duration))
        begin = stop
        if gap:
            tokens.append(Token((), gap))
    return EncodedSong(tokens, note_units, note_units - int(kept.sum()), rests_cut)


def _by_instrument(song: Song, longest_note: int | None) -> EncodedSong:
    """Each instrument's tokens alone, merged by their onsets. Cut rests would part them in time."""
    tracks: dict[str, list[Track]] = {}
    for track in song.tracks:
        tracks.setdefault(family(track), []).append(track)
    placed: list[tuple[int, Token]] = []
    totals = np.zeros(3, np.int64)
    for instrument in sorted(tracks):
        alone = dataclasses.replace(song, tracks=tuple(tracks[instrument]))
        encoded = song_to_tokens(alone, longest_note=longest_note)
        totals += encoded[1:]
        start = 0
        for token in encoded.tokens:
            placed.append((start, token._replace(instrument=instrument)))
            start += token.duration
    placed.sort(key=lambda place: place[0])
    return EncodedSong([token for _, token in placed], *totals.tolist())


def total_units(tokens: Iterable[Token]) -> int:
    """How long a sequence lasts, in twelfths of a quarter: as long as its longest instrument."""
    clocks = Counter()
    for token in tokens:
        clocks[token.instrument] += token.duration
    return max(clocks.values(), default=0)


def tokens_to_tracks(tokens: Iterable[Token], *, start: int = 0, name: str = "", **track):
    """The tracks of a sequence of tokens, one for each instrument.

    Args:
        tokens: in order.
        start, name, **track: as in tokens_to_track; a token's own instrument goes before.
    Returns:
        a list of Tracks.
    """
    streams: dict[str, list[Token]] = {}
    for token in tokens:
        streams.setdefault(token.instrument, []).append(token)
    tracks = []
    for instrument, stream in streams.items():
        voice = dict(track)
        if instrument:
            voice |= {"program": PROGRAM_OF_PART[instrument], "is_drum": instrument == "drums"}
        title = f"{name} {instrument}".strip()
        tracks.append(tokens_to_track(stream, start=start, name=title, **voice))
    return tracks


def tokens_to_track(
    tokens: Iterable[Token],
    *,
    start: int = 0,
    velocity: int = 80,
    program: int = 0,
    is_drum: bool = False,
    name: str = "",
) -> Track:
    """The notes of one instrument's tokens, at UNITS_PER_QUARTER ticks to a quarter note.

    Args:
        tokens: in order.
        start: onset of the first token, in ticks.
        velocity, program, is_drum, name: of the track.
    """
    rows = []
    for pitches, duration, _ in tokens:
        rows += [(start, duration, pitch) for pitch in pitches]
        start += duration
    onset, length, pitch = np.array(rows, np.int64).reshape(-1, 3).T
    return Track(name, program, is_drum, onset, length, pitch, np.full(len(rows), velocity))


def tokens_to_song(tokens: Iterable[Token], *, qpm: float = 120.0, **track) -> Song:
    """The song of a sequence of tokens.

    Args:
        tokens: in order.
        qpm: tempo in quarter notes a minute.
        **track: as in tokens_to_track.
    """
    return Song(
        tuple(tokens_to_tracks(tokens, **track)), UNITS_PER_QUARTER, tempos=(Tempo(0, qpm),)
    )


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """All token types of a corpus, those of its training songs first.

    Ids below `size` are the model's classes: id 0 stands for every token that training never saw,
    ids 1 .. size - 1 are the training songs' tokens, the most frequent first. Ids from `size` on
    are the types that only validation and test songs have: they keep those songs readable, and
    the dataset hands them to a model as id 0.

    Attributes:
        tokens: [types]; tokens[0] is UNKNOWN.
        counts: [size]: occurrences in the training songs; counts[0] is 0.
    """

    tokens: tuple[Token, ...]
    counts: tuple[int, ...]

    UNKNOWN = Token((), 0)

    def __post_init__(self):
        object.__setattr__(self, "_ids", {token: i for i, token in enumerate(self.tokens)})

    @classmethod
    def build(
        cls, training: Iterable[Token] | Mapping[Token, int], other: Iterable[Token] = ()
    ) -> "Vocabulary":
        """From the training songs' tokens, or their counts; `other` are the other songs'."""
        counts = Counter(training)
        known = sorted(sorted(counts), key=counts.__getitem__, reverse=True)
        unseen = sorted(set(other) - counts.keys())
        return cls((cls.UNKNOWN, *known, *unseen), (0, *(counts[token] for token in known)))

    @property
    def size(self) -> int:
        """Classes that a model predicts: the training songs' types, and the unknown."""
        return len(self.counts)

    def encode(self, tokens: Iterable[Token]) -> np.ndarray:
        """int32 [tokens]: their ids; 0 for a token that is not here."""
        ids: dict[Token, int] = self._ids  # type: ignore[attr-defined]
        return np.array([ids.get(token, 0) for token in tokens], np.int32)

    def decode(self, ids: Iterable[int]) -> list[Token]:
        """The tokens of ids; the unknown is left out."""
        return [self.tokens[i] for i in ids if i]

    @property
    def durations(self) -> np.ndarray:
        """int32 [size]: duration of each class in twelfths of a quarter note."""
        return np.array([token.duration for token in self.tokens[: self.size]], np.int32)

    @property
    def is_rest(self) -> np.ndarray:
        """bool [size]: classes that are rests."""
        return np.array([not token.pitches for token in self.tokens[: self.size]])

    def nearest(self, token: Token) -> Token:
        """The trained token most like this one.

        Of the same instrument, if there is one; a rest for a rest; else the largest share of common
        pitches, then of common pitch classes, then the nearest highest pitch; then durations.
        """

        def overlap(a: set, b: set) -> float:
            return len(a & b) / len(a | b)

        def distance(other: Token):
            length = abs(np.log(other.duration / token.duration))
            if not token.pitches:
                return length
            ours, theirs = set(token.pitches), set(other.pitches)
            return (
                -overlap(ours, theirs),
                -overlap({p % 12 for p in ours}, {p % 12 for p in theirs}),
                abs(max(ours) - max(theirs)),
                length,
            )

        alike = list(self.tokens[1 : self.size])
        alike = [t for t in alike if t.instrument == token.instrument] or alike
        alike = [t for t in alike if bool(t.pitches) == bool(token.pitches)] or alike
        return min(alike, key=distance)

    def class_weights(self, power: float) -> np.ndarray:
        """float32 [size]: weights for the loss, falling with frequency.

        weight = count ** -power, scaled so that the mean weight of a training token is 1; the
        unknown's is 0. power 1 is the paper's, inversely proportional to class frequency; 0 weighs
        all classes alike.
        """
        counts = np.array(self.counts, np.float64)
        weights = np.where(counts > 0, np.maximum(counts, 1) ** -power, 0.0)
        return (weights * counts.sum() / (weights @ counts)).astype(np.float32)

    def save(self, path: str | Path) -> None:
        """Writes JSON: the tokens' texts and their counts."""
        saved = {"tokens": [str(token) for token in self.tokens[1:]], "counts": self.counts[1:]}
        Path(path).write_text(json.dumps(saved, separators=(",\n", ": ")))

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """Reads what `save` wrote.

        Raises:
            InputError: no such file, or not a vocabulary.
        """
        try:
            saved = json.loads(Path(path).read_text())
            tokens = [parse_token(text) for text in saved["tokens"]]
            counts: Sequence[int] = saved["counts"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: not a vocabulary ({error}); encode the songs again"
            ) from None
        return cls((cls.UNKNOWN, *tokens), (0, *counts))
