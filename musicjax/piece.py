"""A generated piece of music, and what may be asked of it."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from musicjax.errors import InputError
from musicjax.song import Song
from musicjax.vocabulary import Token

MODES = ("sample", "greedy", "best_of_three", "predict")
UNKNOWN = ("error", "nearest", "drop")


class Piece(NamedTuple):
    """A generated piece.

    Attributes:
        song: the prime's track (if wanted) and the generated one.
        seed: it was drawn by; the same seed and prime give the same piece.
        prime: what it goes on from, a Prime of the module that made it; `prime.name` is the song's.
        figures: a line about it: is it one note over and over, or silence?
        tokens: generated, by a model of tokens.
        states: generated, uint8 [T, N, C], by a model of note states.
    """

    song: Song
    seed: int
    prime: Any
    figures: str
    tokens: list[Token] | None = None
    states: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Options:
    """What to generate. Each field is a flag of the command line.

    Raises:
        InputError: a value out of range.
    """

    num: int = 4  # pieces
    length: int | None = None  # tokens or steps of each piece; default: 200 tokens, 256 steps
    seconds: float | None = None  # playing time of each piece, instead of its length
    seed: int = 0  # of the first piece; the next has the next seed
    # sample; of tokens also greedy (the paper) and best_of_three; of note states also predict, the
    # paper's: each step of a test song from its steps before
    mode: str = "sample"
    temperature: float = 1.0  # lower: safer; higher: wilder; 0: greedy
    top_k: int = 0  # draw among this many most likely tokens; 0: all
    top_p: float = 1.0  # draw among the fewest tokens that have this probability together
    max_rests: int = 2  # rests in a row
    max_repeats: int = 4  # the same token in a row
    unweight: bool = True  # take the training's class weights out; the paper did not
    max_silence: int = 16  # steps; after these a note becomes more likely with each step
    max_notes: int = 12  # at once
    prime_steps: int = 64  # steps of a prime of note states; 0: begin from silence
    prime: str | None = None  # MIDI file to continue; default: windows of test songs
    prime_track: str | None = None  # its part, as data.track; default: the training songs'
    unknown_tokens: str = "error"  # of the prime; or "nearest" (most similar known), or "drop"
    include_prime: bool = True  # write the prime too, as a track of its own
    qpm: float | None = None  # tempo in quarters a minute; default: the prime's
    checkpoint: str = "best"  # or "last"

    def __post_init__(self):
        for name, holds, expected in (
            ("num", self.num > 0, "at least 1"),
            ("length", self.length is None or self.length > 0, "at least 1"),
            ("seconds", self.seconds is None or self.seconds > 0, "more than 0"),
            ("seed", 0 <= self.seed < 2**31, "0 to 2147483647"),
            ("mode", self.mode in MODES, f"one of {', '.join(MODES)}"),
            ("temperature", self.temperature >= 0, "0 (greedy) or more"),
            ("top_k", self.top_k >= 0, "0 (all) or more"),
            ("top_p", 0 < self.top_p <= 1, "more than 0 and at most 1"),
            ("max_rests", self.max_rests >= 0, "0 or more"),
            ("max_repeats", self.max_repeats > 0, "at least 1"),
            ("max_silence", self.max_silence >= 0, "0 or more"),
            ("max_notes", self.max_notes > 0, "at least 1"),
            ("prime_steps", self.prime_steps >= 0, "0 or more"),
            ("unknown_tokens", self.unknown_tokens in UNKNOWN, f"one of {', '.join(UNKNOWN)}"),
            ("qpm", self.qpm is None or 4 <= self.qpm <= 1000, "4 to 1000 quarters a minute"),
            ("checkpoint", self.checkpoint in ("best", "last"), "best or last"),
        ):
            if not holds:
                raise InputError(f"{name} is {getattr(self, name)!r}; expected {expected}")
