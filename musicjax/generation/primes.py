"""What a piece goes on from: a song's end, or part of a held-out test song."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musicjax.corpus import preprocess
from musicjax.corpus.preprocess import Preprocessing
from musicjax.corpus.store import Corpus, SongRecord
from musicjax.encodings.base import Encoding
from musicjax.errors import InputError
from musicjax.generation.options import Options
from musicjax.models.base import Model
from musicjax.music import track_selection
from musicjax.music.song import Song
from musicjax.training.dataset import Examples
from musicjax.training.settings import ExampleSettings

_UNITS_MULTIPLE = 256  # units of time are rounded up to a multiple, so that few compile anew


class Prime(NamedTuple):
    """A passage to go on from.

    Attributes:
        elements: as the model reads them, [P, ...].
        heard: elements of the same music to be decoded; of a test song also those that training
            never saw.
        layout: of its song.
        start: unit of the song's time at which it begins.
        qpm: tempo of the song.
        semitones: that the song was transposed by, to be undone in what is written.
        name: of the song.
    """

    elements: np.ndarray
    heard: np.ndarray
    layout: dict[str, Any]
    start: int
    qpm: float
    semitones: int
    name: str


def prime_from_song(
    song: Song, model: Model, data: Any, options: Options, length: int | None, is_drum: bool
) -> Prime:
    """The end of a song, prepared and encoded as the training songs were.

    Args:
        song: any.
        model: to read it.
        data: `config.data` of the run.
        options: for the part, and elements that the model does not know.
        length: elements at most; None: all.
        is_drum: whether the training songs are percussion.
    Raises:
        InputError: the song lacks the part, cannot be encoded, or is too short.
    """
    settings = Preprocessing.from_config(data)
    if options.prime_track:
        settings = dataclasses.replace(settings, track=options.prime_track)
    prepared = preprocess.prepare(song, settings)
    if not prepared.song.tracks:
        raise InputError(
            f"{song.source}: no track for {settings.track!r}; its tracks are "
            f"{preprocess.track_names(song)}; choose by --prime_track, such as --prime_track=all"
        )
    if track_selection.voice_of(prepared.song, settings.track).is_drum != is_drum:
        raise InputError(
            f"{song.source}: its part {settings.track!r} is {_kind(not is_drum)}, the model was "
            f"trained on {_kind(is_drum)}; choose another by --prime_track"
        )
    elements, start, layout = model.encoding.prime(prepared.song, length, options.unknown_tokens)
    if len(elements) < model.min_prime:
        raise InputError(
            f"{song.source}: the prime has {len(elements)} {model.encoding.element}s; the model "
            f"reads {model.min_prime} (train with model.pad=True for shorter ones)"
        )
    name = Path(song.source).name
    return Prime(elements, elements, layout, start, song.main_qpm, prepared.semitones, name)


def _kind(is_drum: bool) -> str:
    return "percussion" if is_drum else "pitched"


def prime_from_corpus(
    corpus: Corpus, model: Model, settings: ExampleSettings, length: int, seed: int
) -> Prime:
    """A passage of a test song that begins where examples do, both chosen by the seed.

    Raises:
        InputError: no test song is long enough.
    """
    test_songs = corpus.split("test")
    songs = [song for song in test_songs if song.length >= (1 if model.pad else length)]
    if not songs:
        raise InputError(
            f"none of the {len(test_songs)} test songs has {length} {model.encoding.element}s, "
            "which the model would read; lower --prime_length or give --prime=FILE"
        )
    rng = np.random.default_rng(seed)
    song = songs[rng.integers(len(songs))]
    start = int(rng.choice(Examples.starts(corpus, song, length, settings, training=True)))
    return passage_of(corpus, song, start, start + length)


def passage_of(corpus: Corpus, song: SongRecord, start: int, stop: int) -> Prime:
    """The elements `start` to `stop` of a corpus's song."""
    encoding = corpus.encoding
    rows = np.asarray(corpus.rows(song)[:stop])
    before, elements = rows[:start], rows[start:]
    return Prime(
        encoding.unpack(elements),
        encoding.all_elements(elements),
        song.layout,
        encoding.length(encoding.all_elements(before)),
        song.qpm,
        0,
        song.name,
    )


def stack(primes: Sequence[Prime], encoding: Encoding) -> np.ndarray:
    """Elements [B, P, ...] of primes; zeros come first where one is shorter than the longest."""
    longest = max(len(prime.elements) for prime in primes)
    padding = [(0, 0)] * len(encoding.shape)
    return np.stack(
        [np.pad(prime.elements, [(longest - len(prime.elements), 0), *padding]) for prime in primes]
    )


def positions(primes: Sequence[Prime], longest: int, model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Places in the bar, for `continue_primes`; all 0 for a model that does not read them.

    Args:
        primes: to go on from.
        longest: elements of the longest.
        model: to read them.
    Returns:
        int32 [B, 1 + longest + U]: of the element before each prime, of its elements and of each
        unit of time that follows; and int32 [B], after how many units the last of them come again.
    """
    encoding, count = model.encoding, len(primes)
    if not model.reads_positions:
        return np.zeros((count, 1 + longest + 1), np.int32), np.ones(count, np.int32)
    cycles = np.array([encoding.cycle(prime.layout) for prime in primes], np.int32)
    lengths = [encoding.length(prime.heard) for prime in primes]
    # Until the meter changes no more, and once around.
    until = [
        max(encoding.last_change(prime.layout) - prime.start - length, 0) + cycle
        for prime, length, cycle in zip(primes, lengths, cycles.tolist(), strict=True)
    ]
    units, rows = -(-max(until) // _UNITS_MULTIPLE) * _UNITS_MULTIPLE, []
    for prime, length in zip(primes, lengths, strict=True):
        # Units before the prime: one for each element that pads it, and one more.
        before = longest - len(prime.elements) + 1
        places = encoding.positions(
            prime.layout, prime.start - before, prime.start + length + units
        )
        onsets = before + encoding.onsets(prime.heard)
        at = np.concatenate([np.arange(before), onsets, before + length + np.arange(units)])
        rows.append(places[at.astype(np.int64)])
    return np.stack(rows), cycles
