"""The two encodings, one song at a time: tokens, and note state matrices.

Both give a song's data, and fields to tell of it: `content`, by which songs are held out; `same`,
which is equal for songs of the same notes in whatever key; and what the encoding lost.
"""

import dataclasses
import hashlib
from typing import Any

import numpy as np

from musicjax import note_state
from musicjax.note_state import Bars, EncodedStates
from musicjax.song import Song
from musicjax.vocabulary import EncodedSong, Token, song_to_tokens


def tokens_of(song: Song, data) -> EncodedSong:
    """A prepared song's tokens, by the limits of `config.data`."""
    return song_to_tokens(
        song,
        longest_rest=data.longest_rest or None,
        longest_note=data.longest_note or None,
        instruments=data.instruments,
    )


def states_of(song: Song, data) -> EncodedStates:
    """A prepared song's note state matrix, by the pitches of `config.data`.

    Raises:
        NoteStateError: there is none.
    """
    encoded = note_state.song_to_note_state(
        song, lowest=data.lowest, highest=data.highest, align=data.align
    )
    return encoded if data.articulate else encoded._replace(states=encoded.states[..., :1])


@dataclasses.dataclass(frozen=True, eq=False)
class NumberedTokens:
    """A song's tokens: `types`, each once, and int32 [length], the number of each token's type."""

    numbers: np.ndarray
    types: list[Token]

    def __len__(self) -> int:
        return len(self.numbers)


def encode_tokens(song: Song, data) -> tuple[NumberedTokens, dict[str, Any]]:
    """A prepared song's tokens, and its fields; note_units and clipped_units are twelfths of a
    quarter, repeats the tokens that are the same as the one before.
    """
    encoded = tokens_of(song, data)
    number: dict[Token, int] = {}
    numbers = [number.setdefault(token, len(number)) for token in encoded.tokens]
    types = list(number)
    lowest = min(token.pitches[0] for token in types if token.pitches)

    def digest(lowest: int) -> str:
        """Of a list of each token's duration and pitches above the lowest."""
        rows = [str([t.duration, *[pitch - lowest for pitch in t.pitches]]) for t in types]
        return _digest(f"[{', '.join(map(rows.__getitem__, numbers))}]".encode())

    song_tokens = NumberedTokens(np.array(numbers, np.int32), types)
    return song_tokens, {
        "content": digest(lowest // 12 * 12),  # transposing may leave copies an octave apart
        "same": digest(lowest),
        "note_units": encoded.note_units,
        "clipped_units": encoded.clipped_units,
        "rests_cut": encoded.rests_cut,
        "repeats": int((np.diff(song_tokens.numbers) == 0).sum()),
    }


def encode_states(song: Song, data) -> tuple[np.ndarray, dict[str, Any]]:
    """A prepared song's note states, packed, and its fields; notes that are outside of the matrix,
    and by what they were moved onto the grid.

    Raises:
        NoteStateError: there is no matrix for it.
    """
    encoded = states_of(song, data)
    packed, fields = pack_states(encoded.states, encoded.bars)
    told = {"notes": encoded.notes, "outside": encoded.outside, "moved": round(encoded.moved, 3)}
    return packed, fields | told


def pack_states(
    states: np.ndarray, bars: tuple[Bars, ...] = (Bars(0, 16),)
) -> tuple[np.ndarray, dict[str, Any]]:
    """As encode_states, of a matrix [T, N, C]."""
    packed = note_state.pack(states)
    heard = note_state.unpack(np.bitwise_or.reduce(packed, axis=0)[None], *states.shape[1:])
    pitches = np.flatnonzero(heard[0].any(-1))
    lowest, highest = (int(pitches[0]), int(pitches[-1])) if len(pitches) else (0, -1)
    same = note_state.pack(states[:, lowest : highest + 1]).tobytes()
    return packed, {
        "content": _digest(note_state.pack(states[:, lowest // 12 * 12 :]).tobytes()),
        "same": _digest(f"{highest - lowest} ".encode() + same),
        "bars": [list(bar) for bar in bars],
        "transitions": _transitions(states).tolist(),
    }


def _transitions(states: np.ndarray) -> np.ndarray:
    """int [8]: how often a cell [play, articulate] follows one that played, or not: index
    4 played before + 2 play + articulate. What a baseline needs that repeats the last step.
    """
    play, articulate = states[..., 0], states[..., 1:].sum(-1, dtype=np.uint8)
    kinds = 2 * play + articulate
    kinds[1:] += 4 * play[:-1]
    return np.bincount(kinds.ravel(), minlength=8)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
