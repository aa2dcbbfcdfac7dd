"""The encoding "tokens": a song is a sequence of (note | chord | rest, duration).

Time is counted in twelfths of a quarter note, so that quarters and thirds of a beat are whole
numbers. Onsets and note ends are moved to the nearest multiple of a quarter or a third of a beat,
as music21 does. Notes that start together make one chord, as long as its longest note. Each token
moves time on by its duration: an element lasts until it ends or the next onset comes, whichever is
first, and what is left until the next onset is a rest.

Source: paper section 2.2 and its references [1], [2].
Differs: (1) chords keep their octaves, where [1] kept pitch classes; (2) overlapping elements are
clipped at the next onset, where [1] and [2] let them push later notes back; (3) a duration may be a
difference between a quarter and a third of a beat, such as 1/12, which keeps every onset exact;
(4) ends are quantised, not lengths; (5) a gap of one or two twelfths, which is no rest but the seam
of the two grids, goes to the element before it; (6) durations are written as they were predicted,
where [2] gave every note a quarter's length.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np

from musicjax.config import ANY, at_least, setting
from musicjax.encodings.bars import Bars, bars_of, cycle, from_stretches, layout_of, meters, places
from musicjax.encodings.base import (
    Array,
    EncodedPrime,
    EncodedSong,
    Encoding,
    Plot,
    ShardSong,
    Sums,
    Table,
    shares_of_notes,
)
from musicjax.encodings.vocabulary import UNITS_PER_QUARTER, Token, Vocabulary, parse_token
from musicjax.errors import InputError
from musicjax.music.song import Meter, Song, Tempo, Track
from musicjax.music.track_selection import PROGRAM_OF_PART, family

_GRID = np.array([0, 3, 4, 6, 8, 9, 12])  # quarters and thirds of a beat, in twelfths
_SHORTEST = 3  # a quarter of a beat: what a note lasts at least, and a rest
# From each place in a beat to the first point of the grid that is that far away.
_TO_NEXT = np.array([3, 0, 0, 3, 4, 0, 3, 0, 4, 3, 0, 0])


class TokenSequence(NamedTuple):
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
) -> TokenSequence:
    """Encodes all of a song's tracks, merged, as one sequence of tokens.

    Args:
        song: any song; choose its part first. A rest before its first note is kept.
        longest_rest: longer rests are cut to this many quarter notes; None keeps them.
        longest_note: longer elements are followed by a rest; in quarter notes, None keeps them.
        instruments: tokens name their instrument, and each instrument has a time of its own; they
            come in the order of their onsets, and no rest is cut.
    Returns:
        TokenSequence; no tokens for a song without notes.
    """
    if instruments:
        return _by_instrument(song, longest_note)
    notes = song.notes()
    if not len(notes):
        return TokenSequence([], 0, 0, 0)
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
    return TokenSequence(tokens, note_units, note_units - int(kept.sum()), rests_cut)


def _by_instrument(song: Song, longest_note: int | None) -> TokenSequence:
    """Each instrument's tokens alone, merged by their onsets. Cut rests would shift them apart."""
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
    return TokenSequence([token for _, token in placed], *totals.tolist())


def ids_to_tracks(
    ids: np.ndarray,
    vocabulary: Vocabulary,
    *,
    start: int = 0,
    units: int | None = None,
    name: str = "",
    velocity: int = 80,
    program: int = 0,
    is_drum: bool = False,
) -> list[Track]:
    """The tracks of a sequence of tokens, one for each instrument, at UNITS_PER_QUARTER ticks to a
    quarter note.

    Args:
        ids: int [T], of the vocabulary; the unknown is left out.
        vocabulary: of the tokens.
        start: onset of the first token, in ticks.
        units: what comes later than so many ticks after it is cut off.
        name, velocity, program, is_drum: of the tracks; a token's own instrument has priority.
    """
    ids, tracks = ids[ids > 0], []
    instruments = vocabulary.instruments[ids]
    for number in dict.fromkeys(instruments.tolist()):
        own = ids[instruments == number]
        length = vocabulary.durations[own]
        onset = _starts(length)
        if units is not None:
            own, length, onset = (each[onset < units] for each in (own, length, onset))
            length = np.minimum(length, units - onset)
        sizes = vocabulary.chord_sizes[own]
        notes = np.repeat(vocabulary.chord_starts[own] - _starts(sizes), sizes)
        notes += np.arange(len(notes))
        instrument = vocabulary.instrument_names[number]
        track = Track(
            name=f"{name} {instrument}".strip(),
            program=PROGRAM_OF_PART[instrument] if instrument else program,
            is_drum=instrument == "drums" if instrument else is_drum,
            onset_ticks=start + np.repeat(onset, sizes),
            duration_ticks=np.repeat(length, sizes),
            pitch=vocabulary.pitches[notes],
            velocity=np.full(len(notes), velocity),
        )
        tracks.append(track)
    return tracks


def tokens_to_song(tokens: Sequence[Token], *, qpm: float = 120.0, **track: Any) -> Song:
    """The song of a sequence of tokens.

    Args:
        tokens: in order.
        qpm: tempo in quarter notes a minute.
        **track: as in ids_to_tracks.
    """
    vocabulary = Vocabulary.build(tokens)
    tracks = ids_to_tracks(vocabulary.encode(tokens), vocabulary, **track)
    return Song(tuple(tracks), UNITS_PER_QUARTER, tempos=(Tempo(0, qpm),))


@dataclasses.dataclass(frozen=True, eq=False)
class _ShardTokens:
    """A song's tokens as a worker holds them: `types`, each once, and int32 [length], the index of
    each token's type.
    """

    indices: np.ndarray
    types: list[Token]

    def __len__(self) -> int:
        return len(self.indices)


@dataclasses.dataclass(frozen=True)
class TokenEncoding(Encoding):
    """Ids of tokens.

    Attributes:
        longest_rest: in quarters; longer rests are cut to it; 0 keeps them.
        longest_note: in quarters; longer notes are followed by a rest; 0 keeps them.
        instruments: tokens name their instrument.
        vocabulary: of a corpus, whose ids these are.
    """

    name: ClassVar[str] = "tokens"
    kind: ClassVar[Literal["ids", "matrix"]] = "ids"
    element: ClassVar[str] = "token"
    units_per_quarter: ClassVar[int] = UNITS_PER_QUARTER
    usual_temperature: ClassVar[float] = 0.95  # thousands of ids hardly fit, and some would come

    longest_rest: int = setting(at_least(0, "quarters; 0: keep all"))
    longest_note: int = setting(at_least(0, "quarters; 0: keep all"))
    instruments: bool = setting(ANY)
    vocabulary: Vocabulary = dataclasses.field(default_factory=Vocabulary.build)

    # --- song -> elements -----------------------------------------------------------------------

    def sequence(self, song: Song) -> TokenSequence:
        """A prepared song's tokens."""
        return song_to_tokens(
            song,
            longest_rest=self.longest_rest or None,
            longest_note=self.longest_note or None,
            instruments=self.instruments,
        )

    def encode(self, song: Song) -> EncodedSong:
        """See Encoding. The sums note_units and clipped_units are twelfths of a quarter; repeats
        are tokens that equal the one before.
        """
        encoded = self.sequence(song)
        index: dict[Token, int] = {}
        indices = [index.setdefault(token, len(index)) for token in encoded.tokens]
        elements = _ShardTokens(np.array(indices, np.int32), list(index))
        return EncodedSong(
            elements,
            layout=layout_of(_bars(song)),
            sums={
                "note_units": encoded.note_units,
                "clipped_units": encoded.clipped_units,
                "rests_cut": encoded.rests_cut,
                "repeats": int((np.diff(elements.indices) == 0).sum()),
            },
        )

    def shard(self, songs: list[_ShardTokens]) -> tuple[np.ndarray, list[str]]:
        """See Encoding. The symbols are the tokens' texts."""
        index: dict[Token, int] = {}
        data = [self.rows(0)]
        for song in songs:
            of_types = [index.setdefault(token, len(index)) for token in song.types]
            data.append(np.array(of_types, np.int32)[song.indices])
        return np.concatenate(data), list(map(str, index))

    def fit(self, songs: Iterable[ShardSong]) -> Self:
        """This encoding with the vocabulary of all songs, counted in the training songs."""
        counts: Counter[str] = Counter()  # 0: in other songs alone
        for _, of_shard in itertools.groupby(songs, key=lambda song: id(song.symbols)):
            symbols, total, training = [], np.zeros(0, np.int64), np.zeros(0, np.int64)
            for song in of_shard:
                if not len(total):
                    symbols, total = song.symbols, np.zeros(len(song.symbols), np.int64)
                    training = np.zeros_like(total)
                occurrences = np.bincount(song.elements, minlength=len(total))
                total += occurrences
                training += occurrences * song.training
            counts.update({symbols[i]: int(training[i]) for i in np.flatnonzero(total).tolist()})
        tokens = list(map(parse_token, counts))
        known = {token: n for token, n in zip(tokens, counts.values(), strict=True) if n}
        return dataclasses.replace(self, vocabulary=Vocabulary.build(known, tokens))

    def renumber(self, elements: np.ndarray, symbols: Sequence[str]) -> np.ndarray:
        """See Encoding; a token of songs that were left out has no id, nor a place to go."""
        return self.vocabulary.encode_texts(symbols)[elements]

    def save(self, folder: Path) -> None:
        """Writes vocabulary.json."""
        self.vocabulary.save(folder / "vocabulary.json")

    def load(self, folder: Path) -> Self:
        """See Encoding."""
        vocabulary = Vocabulary.load(folder / "vocabulary.json")
        return dataclasses.replace(self, vocabulary=vocabulary)

    # --- rows -> elements -> music --------------------------------------------------------------

    @property
    def size(self) -> int:
        """See Encoding."""
        return self.vocabulary.size

    @property
    def num_ids(self) -> int:
        """See Encoding: the types of validation and test songs too."""
        return len(self.vocabulary.tokens)

    @property
    def counts(self) -> tuple[int, ...]:
        """See Encoding."""
        return self.vocabulary.counts

    def unpack(self, rows: Array) -> Array:
        """See Encoding; 0 for tokens that training never saw."""
        xp = rows.__array_namespace__()
        return xp.where(rows < self.size, rows, 0).astype(xp.int32)

    def all_elements(self, rows: Array) -> Array:
        """See Encoding."""
        return rows

    def transposed(self, elements: Array, semitones: Array) -> Array:
        """See Encoding; a token that training never saw becomes 0. Drums stay."""
        table = elements.__array_namespace__().asarray(self.vocabulary.transposed)
        return table[semitones[:, None] + len(table) // 2, elements]

    def decode(
        self, elements: np.ndarray, *, start: int = 0, units: int | None = None, **track: Any
    ) -> list[Track]:
        """See Encoding; a token's own instrument has priority over the track's."""
        return ids_to_tracks(elements, self.vocabulary, start=start, units=units, **track)

    def text(self, elements: np.ndarray) -> str:
        """See Encoding."""
        return " ".join(map(str, self.vocabulary.decode(elements.tolist())))

    def units(self, elements: Array) -> Array:
        """See Encoding."""
        return elements.__array_namespace__().asarray(self.vocabulary.durations)[elements]

    def onsets(self, elements: np.ndarray) -> np.ndarray:
        """See Encoding; each instrument has a time of its own."""
        return _onsets([self.vocabulary.tokens[i] for i in elements.tolist()])

    def rests(self, elements: Array) -> Array:
        """See Encoding."""
        return elements.__array_namespace__().asarray(self.vocabulary.is_rest)[elements]

    @property
    def keeps_instruments(self) -> bool:
        """See Encoding."""
        return self.instruments

    @property
    def streams(self) -> int:
        """See Encoding."""
        return len({token.instrument for token in self.vocabulary.tokens[1:]}) or 1

    def prime(self, song: Song, length: int | None, unknown: str) -> EncodedPrime:
        """See Encoding."""
        sequence = self.sequence(song).tokens
        first = 0 if length is None else max(len(sequence) - length, 0)
        tokens = sequence[first:]
        ids = self.unpack(self.vocabulary.encode(tokens))
        missing = [tokens[i] for i in np.flatnonzero(ids == 0)]
        if missing and unknown == "error":
            some = ", ".join(map(str, missing[:3])) + (", ..." if len(missing) > 3 else "")
            raise InputError(
                f"{song.source}: {len(missing)} of the prime's last {len(tokens)} tokens are "
                f"unknown to the model ({some}); leave out --unknown_tokens=error to replace them "
                "by the most similar ones, or pass =drop to leave them out"
            )
        if unknown == "nearest":
            ids[ids == 0] = self.vocabulary.encode(map(self.vocabulary.nearest, missing))
        start = int(_onsets(sequence)[first]) if first < len(sequence) else 0
        return EncodedPrime(ids[ids > 0], start, layout_of(_bars(song)), len(missing))

    # --- places in time -------------------------------------------------------------------------

    def positions(self, layout: Mapping[str, Any], start: int, stop: int) -> np.ndarray:
        """See Encoding; rests that were cut before are not known of."""
        return places(bars_of(layout), start, stop, UNITS_PER_QUARTER)

    def last_change(self, layout: Mapping[str, Any]) -> int:
        """See Encoding."""
        return bars_of(layout)[-1].start

    def cycle(self, layout: Mapping[str, Any]) -> int:
        """See Encoding."""
        return cycle(bars_of(layout)[-1], UNITS_PER_QUARTER)

    def meters(
        self, layout: Mapping[str, Any], start: int, elements: np.ndarray
    ) -> tuple[Meter, ...]:
        """See Encoding."""
        return meters(bars_of(layout), start, UNITS_PER_QUARTER)

    def crowds(self, state: Array, most: Any) -> Array:
        """See Encoding: chords of more notes."""
        sizes = [len(token.pitches) for token in self.vocabulary.tokens[: self.size]]
        return (np.array(sizes, np.int32) > most)[None]

    def features(self) -> list[np.ndarray]:
        """See Encoding: pitches and whether it is a rest, pitch classes, durations."""
        tokens = self.vocabulary.tokens[: self.size]
        pitches, classes = np.zeros((len(tokens), 129)), np.zeros((len(tokens), 12))
        for i, token in enumerate(tokens):
            pitches[i, list(token.pitches) or 128] = 1
            classes[i, [pitch % 12 for pitch in token.pitches]] = 1
        durations = [token.duration for token in tokens]
        each = np.unique(durations)[None] == np.array(durations)[:, None]
        return [array.astype(np.float32) for array in (pitches, classes, each)]

    def live(self) -> dict[str, Any]:
        """See Encoding."""
        if self.instruments:
            raise InputError("the live page plays one instrument, and these tokens name several")
        tokens = self.vocabulary.tokens[: self.size]
        return {
            "name": self.name,
            "pitches": [list(token.pitches) for token in tokens],
            "durations": [token.duration for token in tokens],
            "units_per_quarter": self.units_per_quarter,
        }

    # --- what a corpus is like ------------------------------------------------------------------

    def statistics(self, total: Sums, training: Sums) -> dict[str, Any]:
        """See Encoding. repeat_share: of training tokens, those that equal the one before."""
        following = int(training["length"] - training["songs"])
        return {
            "counts": {
                "tokens": int(total["length"]),
                "types": len(self.vocabulary.tokens) - 1,
                "types_in_training": self.size - 1,
                "rests_cut": int(total["rests_cut"]),
            },
            "clipped_share": float(total["clipped_units"] / max(int(total["note_units"]), 1)),
            "repeat_share": float(training["repeats"] / max(following, 1)),
        }

    def describe(self, statistics: Mapping[str, Any]) -> list[str]:
        """See Encoding."""
        counts = statistics["counts"]
        return [
            f"{counts['tokens']} tokens of {counts['types']} types "
            f"({counts['types_in_training']} in the training songs)",
            f"clipped by the next onset: {statistics['clipped_share']:.1%} of the notes' time; "
            f"rests cut: {counts['rests_cut']}",
        ]

    def report(self, songs: Sequence[np.ndarray]) -> tuple[list[Table], list[Plot]]:
        """See Encoding."""
        tokens, counts = self.vocabulary.tokens, np.array(self.counts)
        is_rest = self.vocabulary.is_rest[: self.size]
        total = max(int(counts.sum()), 1)
        alone = (counts == 1).sum() / max(self.size - 1, 1)
        table = Table(
            "tokens",
            "Most frequent tokens",
            f"Of the training songs' tokens {counts[is_rest].sum() / total:.1%} are rests; "
            f"{alone:.1%} of the types occur once.",
            ("token", "times", "share"),
            [
                (str(token), int(n), float(n / total))
                for token, n in zip(tokens[1:21], counts[1:21], strict=False)
            ],
        )
        times, types = np.zeros(len(tokens), np.int64), []
        for i in np.random.default_rng(0).permutation(len(songs)):
            times += np.bincount(songs[i], minlength=len(tokens))
            types.append(int((times > 0).sum()))
        rank = np.arange(1, self.size)
        rests = is_rest[1:]
        durations, polyphony = Counter(), Counter()
        for token, n in zip(tokens[1:], times[1:].tolist(), strict=True):
            durations[token.duration / UNITS_PER_QUARTER] += n
            polyphony[len(token.pitches)] += n
        return [table], [
            Plot(
                "growth",
                "Growth of the vocabulary",
                "songs, in a random order",
                "types of tokens",
                {"": ("line", np.arange(1, len(types) + 1), np.array(types))},
            ),
            Plot(
                "frequencies",
                "Frequencies of tokens",
                "rank",
                "times in training songs",
                {
                    "notes and chords": ("line", rank, counts[1:]),
                    "rests": ("points", rank[rests], counts[1:][rests]),
                },
                log=True,
            ),
            *shares_of_notes(durations, polyphony),
        ]


def _starts(lengths: np.ndarray) -> np.ndarray:
    """Where each begins, if one comes after the other."""
    return np.cumsum(lengths) - lengths


def _onsets(tokens: Iterable[Token]) -> np.ndarray:
    """int [tokens]: where each begins, in twelfths of a quarter."""
    clocks, onsets = Counter(), []
    for token in tokens:
        onsets.append(clocks[token.instrument])
        clocks[token.instrument] += token.duration
    return np.array(onsets, np.int64)


def _bars(song: Song) -> tuple[Bars, ...]:
    """Where a song's bars are, in twelfths of a quarter."""
    meters = [meter for meter in song.meters_from_start if meter.tick <= song.end_ticks]
    starts = quantise(np.array([meter.tick for meter in meters]), song.ticks_per_quarter)
    lengths = [max(round(UNITS_PER_QUARTER * meter.quarters), 1) for meter in meters]
    return from_stretches(
        [
            Bars(start, length, meter.denominator)
            for start, length, meter in zip(starts.tolist(), lengths, meters, strict=True)
        ]
    )
