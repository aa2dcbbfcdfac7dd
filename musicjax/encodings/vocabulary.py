"""Tokens (note | chord | rest, duration), their text, and the vocabulary of all that a corpus has.

A token's text is its pitches and its duration in quarter notes: "C4:1", "C4.E4.G4:1/2", "rest:2".
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
from musicjax.music.song import pitch_name
from musicjax.system import files

UNITS_PER_QUARTER = 12  # so that quarters and thirds of a beat are whole numbers
_DURATION = re.compile(r"(\d+)(?:/([1-9]\d*))?")
_PITCH_NAMES = [pitch_name(pitch) for pitch in range(128)]
_PITCHES = {name: pitch for pitch, name in enumerate(_PITCH_NAMES)}


class Token(NamedTuple):
    """One element of music.

    Attributes:
        pitches: MIDI numbers, ascending, each once; none for a rest.
        duration: in twelfths of a quarter note, > 0.
        instrument: "drums" or a family of musicjax.music.track_selection.FAMILIES, in an encoding
            whose tokens name it; else "".
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


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """All token types of a corpus, those of its training songs first.

    Ids below `size` are the model's classes: id 0 stands for every token that training never saw,
    ids 1 .. size - 1 are the training songs' tokens, the most frequent first. Ids from `size` on
    are the types that only validation and test songs have: with them those songs can be decoded; a
    model reads them as id 0.

    Attributes:
        tokens: [types]; tokens[0] is UNKNOWN.
        counts: [size]: occurrences in the training songs; counts[0] is 0.
    """

    tokens: tuple[Token, ...]
    counts: tuple[int, ...]

    UNKNOWN = Token((), 0)

    @functools.cached_property
    def _ids(self) -> dict[Token, int]:
        return {token: i for i, token in enumerate(self.tokens)}

    @functools.cached_property
    def _ids_by_text(self) -> dict[str, int]:
        return {str(token): i for i, token in enumerate(self.tokens) if i}

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.tokens, self.counts))

    def __hash__(self) -> int:
        return self._hash  # jax asks for it at each call

    @classmethod
    def build(
        cls, training: Iterable[Token] | Mapping[Token, int] = (), other: Iterable[Token] = ()
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
        ids = self._ids
        return np.array([ids.get(token, 0) for token in tokens], np.int32)

    def encode_texts(self, texts: Iterable[str]) -> np.ndarray:
        """As `encode`, of tokens' texts."""
        ids = self._ids_by_text
        return np.array([ids.get(text, 0) for text in texts], np.int32)

    def decode(self, ids: Iterable[int]) -> list[Token]:
        """The tokens of ids; the unknown is left out."""
        return [self.tokens[i] for i in ids if i]

    @functools.cached_property
    def durations(self) -> np.ndarray:
        """int32 [types]: duration of each in twelfths of a quarter note."""
        return np.array([token.duration for token in self.tokens], np.int32)

    @functools.cached_property
    def chord_sizes(self) -> np.ndarray:
        """int64 [types]: how many pitches each has."""
        return np.array([len(token.pitches) for token in self.tokens])

    @functools.cached_property
    def chord_starts(self) -> np.ndarray:
        """int64 [types]: where its pitches begin in `pitches`."""
        return np.cumsum(self.chord_sizes) - self.chord_sizes

    @functools.cached_property
    def pitches(self) -> np.ndarray:
        """uint8 [sum of chord_sizes]: the pitches of all types, one type's after another's."""
        return np.array([pitch for token in self.tokens for pitch in token.pitches], np.uint8)

    @functools.cached_property
    def is_rest(self) -> np.ndarray:
        """bool [types]: which are rests."""
        return self.chord_sizes == 0

    @functools.cached_property
    def instrument_names(self) -> tuple[str, ...]:
        """The instruments that tokens name."""
        return tuple(dict.fromkeys(token.instrument for token in self.tokens))

    @functools.cached_property
    def instruments(self) -> np.ndarray:
        """int64 [types]: the instrument of each, an index of `instrument_names`."""
        return np.array([self.instrument_names.index(token.instrument) for token in self.tokens])

    @functools.cached_property
    def transposed(self) -> np.ndarray:
        """int32 [25, size]: the class of each one, 12 semitones lower to 12 higher; 0 for what
        training never saw. Drums stay.
        """

        def moved(token: Token, semitones: int) -> Token:
            if token.instrument == "drums":
                return token
            return token._replace(pitches=tuple([pitch + semitones for pitch in token.pitches]))

        known = self.tokens[: self.size]
        ids = np.stack([self.encode([moved(t, s) for t in known]) for s in range(-12, 13)])
        return np.where(ids < self.size, ids, 0)

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
            pitches, known = set(token.pitches), set(other.pitches)
            return (
                -overlap(pitches, known),
                -overlap({p % 12 for p in pitches}, {p % 12 for p in known}),
                abs(max(pitches) - max(known)),
                length,
            )

        alike = list(self.tokens[1 : self.size])
        alike = [t for t in alike if t.instrument == token.instrument] or alike
        alike = [t for t in alike if bool(t.pitches) == bool(token.pitches)] or alike
        return min(alike, key=distance)

    def save(self, path: str | Path) -> None:
        """Writes JSON: the tokens' texts and their counts."""
        saved = {"tokens": [str(token) for token in self.tokens[1:]], "counts": self.counts[1:]}
        files.write_text(Path(path), json.dumps(saved, separators=(",\n", ": ")))

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """Reads what `save` wrote.

        Raises:
            InputError: no such file, or not a vocabulary.
        """
        try:
            saved = json.loads(Path(path).read_text(encoding="utf-8"))
            tokens = [parse_token(text) for text in saved["tokens"]]
            counts: Sequence[int] = saved["counts"]
            if not all(type(count) is int and count > 0 for count in counts):
                raise ValueError("expected counts that are positive numbers")
            if len(set(tokens)) < len(tokens) or len(counts) > len(tokens):
                raise ValueError(f"{len(tokens)} tokens, {len(counts)} counts, or one twice")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{path}: not a vocabulary ({error}); encode the songs again"
            ) from None
        return cls((cls.UNKNOWN, *tokens), (0, *counts))
