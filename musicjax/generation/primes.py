"""What a piece goes on from: a song's end, or part of a held-out test song."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musicjax.corpus import preprocess
from musicjax.corpus.preprocess import Prepared, Preprocessing
from musicjax.corpus.store import Corpus, SongRecord
from musicjax.encodings.base import Encoding
from musicjax.errors import InputError, one_line
from musicjax.generation.options import Options
from musicjax.models.base import Model
from musicjax.music.key import Mode, parse_key
from musicjax.music.song import Song
from musicjax.training.dataset import Examples
from musicjax.training.settings import ExampleSettings

_VELOCITY = 80  # of what is written, where nothing says another
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
        key: of the elements; None of drums.
        velocity: of the song's notes, the median.
        name: of the song.
        remarks: what was done to make it fit.
        song: as it was prepared; of test songs None.
    """

    elements: np.ndarray
    heard: np.ndarray
    layout: dict[str, Any]
    start: int
    qpm: float
    semitones: int
    key: Mode | None
    velocity: int
    name: str
    remarks: tuple[str, ...] = ()
    song: Song | None = None


def prime_from_song(
    song: Song, model: Model, data: Any, options: Options, length: int | None, is_drum: bool
) -> Prime:
    """The end of a song, prepared and encoded as the training songs were. Where it has no such
    part, all of its tracks of that kind are read.

    Args:
        song: any.
        model: to read it.
        data: `config.data` of the run.
        options: for the part, and elements that the model does not know.
        length: elements at most; None: all.
        is_drum: whether the training songs are percussion.
    Raises:
        InputError: the song has nothing to be read, or is too short, or is in another key or meter
            than the options ask for.
    """
    settings = Preprocessing.from_config(data)
    name, element = one_line(Path(song.source).name) or "the prime", model.encoding.element
    prepared, remarks = _prepared(song, settings, options.prime_track, is_drum)
    encoded = model.encoding.prime(prepared.song, length, options.unknown_tokens)
    elements = encoded.elements
    if encoded.unknown:
        done = "left out" if options.unknown_tokens == "drop" else "replaced by the most similar"
        count = len(elements) + encoded.unknown * (options.unknown_tokens == "drop")
        remarks.append(
            f"{name}: {encoded.unknown} of its last {count} {element}s are unknown to the model, "
            f"and {done}"
        )
    if len(elements) < model.min_prime:
        raise InputError(
            f"{song.source}: the prime has {len(elements)} {element}s; the model reads "
            f"{model.min_prime} (train with model.pad=True for shorter ones)"
        )
    key = prepared.key and prepared.key.mode.moved(prepared.semitones)
    velocity = int(np.median(prepared.song.notes()[:, 3]))
    prime = Prime(
        elements,
        elements,
        encoded.layout,
        encoded.start,
        song.main_qpm,
        prepared.semitones,
        key,
        velocity,
        name,
        tuple(remarks),
        prepared.song,
    )
    if options.key and (key is None or parse_key(options.key).minor != key.minor):
        found = "is percussion" if key is None else f"is in {key.moved(-prime.semitones).name}"
        raise InputError(
            f"key is {options.key!r}, but {name} {found}; expected one of its mode, since a piece "
            "goes on as its prime does"
        )
    if options.meter and (meter := _meter(prime, model)) != options.meter:
        raise InputError(
            f"meter is {options.meter}, but {name} ends in {meter}, and a piece goes on as its "
            "prime does; leave --meter out, or give another --prime"
        )
    return prime


def _prepared(
    song: Song, settings: Preprocessing, part: str | None, is_drum: bool
) -> tuple[Prepared, list[str]]:
    """The part of a song that a model reads, and remarks if another was taken."""
    wanted = part or settings.track
    everything = "drums" if is_drum else "all"
    found = preprocess.prepare(song, dataclasses.replace(settings, track=wanted))
    if found.song.tracks and _is_drum(found.song) == is_drum:
        return found, []
    if part is None:
        whole = preprocess.prepare(song, dataclasses.replace(settings, track=everything))
        if whole.song.tracks:
            name = one_line(Path(song.source).name) or "the prime"
            remark = f"{name}: no part {wanted!r}; all of its {_kind(is_drum)} tracks are read"
            return whole, [f"{remark} (--prime_track)"]
    if part and found.song.tracks:
        raise InputError(
            f"{song.source}: its part {wanted!r} is {_kind(not is_drum)}, the model was trained on "
            f"{_kind(is_drum)} tracks; give another prime, or another --prime_track"
        )
    names = preprocess.track_names(song)
    raise InputError(
        f"{song.source}: no {_kind(is_drum)} track"
        + (f" for {part!r}" if part else "")
        + f", which the model was trained on; its tracks are {names}; give another prime"
        + (", or another --prime_track" if part else "")
    )


def _is_drum(song: Song) -> bool:
    return all(track.is_drum for track in song.tracks)


def _meter(prime: Prime, model: Model) -> str | None:
    """That a prime ends in, such as "3/4"; None if not known."""
    meters = model.encoding.meters(prime.layout, prime.start, prime.heard)
    return f"{meters[-1].numerator}/{meters[-1].denominator}" if meters else None


def _kind(is_drum: bool) -> str:
    return "percussion" if is_drum else "pitched"


def prime_from_corpus(
    corpus: Corpus,
    model: Model,
    settings: ExampleSettings,
    length: int,
    seed: int,
    options: Options,
) -> Prime:
    """A passage of a test song that begins where examples do, both chosen by the seed; of the songs
    of the key's mode and the meter that the options ask for.

    Raises:
        InputError: no such test song, or none that is long enough.
    """
    test_songs = corpus.split("test")
    songs = [song for song in test_songs if song.length >= (1 if model.pad else length)]
    if options.key:
        wanted = _mode(parse_key(options.key))
        modes = [_mode(parse_key(song.key)) if song.key else None for song in songs]
        songs = _only(songs, modes, wanted, f"key is {options.key!r}")
    if options.meter:
        ends = [_meter(passage_of(corpus, song, 0, song.length), model) for song in songs]
        songs = _only(songs, ends, options.meter, f"meter is {options.meter}")
    if not songs:
        raise InputError(
            f"none of the {len(test_songs)} test songs has {length} {model.encoding.element}s, "
            "which the model would read; lower --prime_length or give --prime=FILE"
        )
    rng = np.random.default_rng(seed)
    song = songs[rng.integers(len(songs))]
    start = int(rng.choice(Examples.starts(corpus, song, length, settings, training=True)))
    prime = passage_of(corpus, song, start, start + length)
    goes_on = ~model.encoding.is_end(prime.elements)
    return prime._replace(elements=prime.elements[goes_on], heard=prime.heard[goes_on])


def _mode(key: Mode) -> str:
    return "minor" if key.minor else "major"


def _only(
    songs: list[SongRecord], kinds: list[str | None], wanted: str, asked: str
) -> list[SongRecord]:
    """The songs of one kind, each of the kind in its place in `kinds`.

    Raises:
        InputError: of some songs none is.
    """
    if songs and wanted not in kinds:
        there = ", ".join(f"{kind} in {count}" for kind, count in Counter(kinds).most_common())
        raise InputError(
            f"{asked}, but no test song is in {wanted} ({there}), and a piece goes on as its prime "
            "does; ask for one of those, or give a --prime"
        )
    return [song for song, kind in zip(songs, kinds, strict=True) if kind == wanted]


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
        parse_key(song.key).moved(song.semitones) if song.key else None,
        _VELOCITY,
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
