"""What a person gives, and the model is to fill in: bars of a song, or the voices beside one."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from musicjax.corpus import preprocess
from musicjax.errors import InputError
from musicjax.generation import primes as priming
from musicjax.generation.options import Options, parse_bars, parse_pitches
from musicjax.generation.particles import Gap
from musicjax.generation.primes import Prime
from musicjax.models.base import Model
from musicjax.music.song import Song
from musicjax.music.track_selection import choose_part

_MOSTLY = 0.9  # of the steps in which a kept voice is the highest, or the lowest, of its song


class Task(NamedTuple):
    """A song to be filled in.

    Attributes:
        prime: all of the song.
        gap: what is given of it.
    """

    prime: Prime
    gap: Gap


def task_of(song: Song, model: Model, data: Any, options: Options, is_drum: bool) -> Task:
    """What the options ask for.

    Args:
        song: any.
        model: that is to fill in.
        data: `config.data` of the run.
        options: with `infill`, `keep` or both.
        is_drum: whether the training songs are percussion.
    Raises:
        InputError: the model cannot, there are no such bars or notes, or nothing is left to be
            made, or given.
    """
    if not model.takes_given:
        raise InputError(
            f"{options.asks} needs a model whose notes can be given, as those of --config=nsm:best "
            f"and nsm:quick; this {type(model).__name__} of {model.encoding.element}s cannot"
        )
    # Empty bars are what is to be filled, and not a silence to be cut.
    data = {**data, "longest_silence": 0}
    prime = priming.prime_from_song(song, model, data, options, None, is_drum)
    encoding, elements = model.encoding, prime.elements
    if options.keep:
        kept, allowed = _kept(prime, model, options.keep)
    else:
        kept = np.zeros_like(elements)
        allowed = np.ones((*elements.shape[:2], 1 + elements.shape[2]), bool)
    if options.infill:
        inside = np.zeros(len(elements), bool)
        steps = steps_of(prime, model, options.infill)
        if not options.keep and steps == slice(0, len(elements)):
            raise InputError(
                f"infill is {options.infill}, which is all of {prime.name}, so that nothing is "
                "given; leave bars as they are, or --keep a voice"
            )
        inside[steps] = True
        kept = np.where(inside[:, None, None], kept, elements)
        allowed = np.where(inside[:, None, None], allowed, encoding.only(elements))
    made = np.flatnonzero((allowed.sum(-1) > 1).any(-1))
    positions = encoding.positions(prime.layout, -1, len(elements))
    gap = Gap(kept, allowed, positions, int(made[0]), int(made[-1]) + 1)
    return Task(prime, gap)


def steps_of(prime: Prime, model: Model, bars: str) -> slice:
    """The elements of bars such as "5-8", counted from 1, or from a pick-up that is bar 0.

    Raises:
        InputError: a song has no such bars.
    """
    first, last = parse_bars(bars)
    lines = model.encoding.bar_starts(prime.layout, len(prime.elements)).tolist()
    lowest = 0 if lines[0] < 0 else 1
    if first < lowest or last >= lowest + len(lines):
        raise InputError(
            f"infill is {bars}, but {prime.name} has bars {lowest} to {lowest + len(lines) - 1}; "
            "give bars of it; what comes after its end is written without --infill"
        )
    ends = [*lines[1:], len(prime.elements)]
    return slice(max(lines[first - lowest], 0), ends[last - lowest])


def _kept(prime: Prime, model: Model, keep: str) -> tuple[np.ndarray, np.ndarray]:
    """The elements [T, N, C] of a kept voice, and what notes may do beside it.

    A voice that is the highest of its song stays so, or else the lowest; a tune alone is the
    highest.
    """
    song, pitches = prime.song, parse_pitches(keep)
    assert song is not None  # of a prime that is a song
    if pitches:
        low, high = (pitch + prime.semitones for pitch in pitches)
        tracks = tuple(_between(track, low, high) for track in song.tracks)
    else:
        tracks = choose_part(song, keep)[0].tracks
    tracks = tuple(track for track in tracks if len(track))
    names = preprocess.track_names(song)
    if not tracks:
        raise InputError(
            f"keep is {keep!r}, but {prime.name} has no such notes; expected one of its tracks, "
            f"{names}, or pitches such as 60-84"
        )
    count = sum(map(len, tracks))
    if count == song.num_notes and len([track for track in song.tracks if len(track)]) > 1:
        raise InputError(
            f"keep is {keep!r}, which is all of {prime.name}; keep less: its tracks are {names}"
        )
    kept = model.encoding.encode(dataclasses.replace(song, tracks=tracks))
    elements = np.zeros_like(prime.elements)
    elements[: len(kept.elements)] = model.encoding.unpack(kept.elements)
    play, others = elements[..., 0] > 0, prime.elements[..., 0] > 0
    sounds, pitch = play.any(1), np.arange(play.shape[1])
    top, song_top = (np.where(voice, pitch, -1).max(1)[sounds] for voice in (play, others))
    low, song_low = (np.where(voice, pitch, 999).min(1)[sounds] for voice in (play, others))
    highest = bool((top >= song_top).mean() >= _MOSTLY)
    lowest = not highest and bool((low <= song_low).mean() >= _MOSTLY)
    return elements, model.encoding.beside(elements, highest=highest, lowest=lowest)


def _between(track: Any, low: int, high: int) -> Any:
    inside = (track.pitch >= low) & (track.pitch <= high)
    fields = ("onset_ticks", "duration_ticks", "pitch", "velocity")
    notes = {field: getattr(track, field)[inside] for field in fields}
    return dataclasses.replace(track, **notes)
