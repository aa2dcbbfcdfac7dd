"""Shards: what a worker makes of a few files, kept until the whole corpus is assembled.

A shard is one .npz file, written under a temporary name and renamed when whole: `rows`, JSON, one
for each file in order, either {"name", "reason", "detail"} or a song's fields; `data`, the songs'
data end to end; `tokens`, the texts of the tokens that `data` numbers, if it does.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musicjax import cleaning, encoders, part
from musicjax.corpora import SongFile, piano_rolls
from musicjax.errors import InputError, SongError
from musicjax.note_state import pack, step_shape
from musicjax.vocabulary import Token


class Shard(NamedTuple):
    """Songs encoded, and files left out.

    Attributes:
        rows: a dict for each file; of a song it has its `length` in `data`.
        data: int32 [tokens], numbers in `tokens`; or uint8 [steps, bytes], packed note states.
        tokens: texts.
    """

    rows: list[dict[str, Any]]
    data: np.ndarray
    tokens: list[str]

    def save(self, path: Path) -> None:
        """Writes it whole or not at all."""
        temporary = path.with_suffix(f".{os.getpid()}")
        with temporary.open("wb") as file:
            np.savez(file, rows=_as_bytes(self.rows), data=self.data, tokens=_as_bytes(self.tokens))
        temporary.rename(path)

    @classmethod
    def load(cls, path: Path) -> "Shard":
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            rows, tokens = (json.loads(arrays[name].tobytes()) for name in ("rows", "tokens"))
            return cls(rows, arrays["data"], tokens)


def load_rows(path: Path) -> list[dict[str, Any]]:
    """A saved shard's rows alone."""
    with np.load(path) as arrays:
        return json.loads(arrays["rows"].tobytes())


def _as_bytes(value: list) -> np.ndarray:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def write_shard(path: Path, files: list[SongFile], data, given_up: dict[str, list[str]]) -> int:
    """Encodes files as a shard; gives how many were left out.

    Args:
        path: of the shard.
        files: in order.
        data: `config.data`.
        given_up: reason and detail, by name, of files that are not to be tried.
    """
    rows, songs = [], []
    for file in files:
        if file.name in given_up:
            reason, detail = given_up[file.name]
            rows.append({"name": file.name, "reason": reason, "detail": detail})
            continue
        row, song = encode_file(file, data)
        rows.append(row)
        if song is not None:
            songs.append(song)
    _shard(rows, songs, data).save(path)
    return len(rows) - len(songs)


def write_rolls(path: Path, data) -> None:
    """Encodes a set of piano rolls as a shard, in the splits that it comes with.

    Raises:
        InputError: not such a set, or its rolls do not fit.
    """
    rows, songs = [], []
    for name, split, roll in piano_rolls.read_rolls(data.source):
        width, _ = step_shape(data)
        if roll.shape[1] != width:
            raise InputError(
                f"{data.source}: its rolls have {roll.shape[1]} notes; data.lowest={data.lowest} "
                f"to data.highest={data.highest} are {width}"
            )
        packed, fields = encoders.pack_states(roll[..., None])
        rows.append({"name": name, "split": split, "length": len(packed), **fields})
        songs.append(packed)
    _shard(rows, songs, data).save(path)


def _shard(rows: list[dict], songs: list, data) -> Shard:
    if data.encoding == "note_state":
        none = pack(np.zeros((1, *step_shape(data)), np.uint8))[:0]
        return Shard(rows, np.concatenate([none, *songs]), [])
    number: dict[Token, int] = {}
    data = [np.zeros(0, np.int32)]
    for song in songs:
        of_types = [number.setdefault(token, len(number)) for token in song.types]
        data.append(np.array(of_types, np.int32)[song.numbers])
    return Shard(rows, np.concatenate(data), list(map(str, number)))


def encode_file(file: SongFile, data) -> tuple[dict[str, Any], Any]:
    """One file's row, and its data; None if it is left out.

    What no one thought of costs the file alone: its reason is then "failed".
    """
    try:
        return _encode_file(file, data)
    except SongError as error:
        row = {"reason": error.reason, "detail": error.detail}
    except InputError:  # about the settings: of no file
        raise
    except MemoryError:
        row = {"reason": "too_big", "detail": "more than the memory holds"}
    except Exception as error:
        row = {"reason": "failed", "detail": f"{type(error).__name__}: {error}"}
    return {"name": file.name, **row, "detail": " ".join(row["detail"].split())[:500]}, None


def _encode_file(file: SongFile, data) -> tuple[dict[str, Any], Any]:
    song, md5, told = cleaning.read_song(file, data)
    prepared = cleaning.prepare(song, data)
    chosen = prepared.song
    if not chosen.tracks:
        raise SongError(file.path, "no_track", f"has {cleaning.track_names(song)}")
    if chosen.num_notes < data.least_notes:
        found = f"{chosen.num_notes} notes, at least {data.least_notes}"
        raise SongError(file.path, "few_notes", found)
    encode = encoders.encode_tokens if data.encoding == "vocabulary" else encoders.encode_states
    encoded, fields = encode(chosen, data)
    tag = song.keys[0] if song.keys else None
    return {
        "name": file.name,
        "md5": md5,
        **told,
        "track": prepared.rule,
        "key": prepared.key.name if prepared.key else None,
        "key_margin": round(prepared.key.margin, 4) if prepared.key else None,
        "key_signature": tag.name if tag else None,
        "transposed": prepared.semitones,
        "qpm": round(song.main_qpm, 3),
        "seconds": round(song.seconds, 1),
        "bars_cut": prepared.bars_cut,
        "repairs": list(song.repairs),
        "parts": part.silent_shares(song),
        "split": file.metadata.get("split"),
        "length": len(encoded),
        **fields,
    }, encoded
