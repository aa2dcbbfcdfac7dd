"""Pieces of note states: continues a prime with the bi-axial model, or predicts a song's steps."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from musicjax.checkpoint import Trained
from musicjax.cleaning import prepare_prime
from musicjax.corpus import Corpus
from musicjax.dataset import Segments, bar_lines, bars_of
from musicjax.encoders import states_of
from musicjax.errors import InputError
from musicjax.models.biaxial import Draw, likely, task
from musicjax.note_state import (
    STEPS_PER_QUARTER,
    Bars,
    beat_positions,
    meters_of,
    note_state_to_track,
    phrase_length,
    step_shape,
    unpack,
)
from musicjax.piece import Options, Piece
from musicjax.sampler import continue_states
from musicjax.song import Song, Tempo

MODES = ("sample", "predict")


class Prime(NamedTuple):
    """What a piece goes on from.

    Attributes:
        states: uint8 [P, N, C].
        start: which step of its song is the first.
        bars: of the song.
        qpm: its tempo.
        semitones: that it was transposed by, to be undone in what is written.
        name: of the song.
    """

    states: np.ndarray
    start: int
    bars: list[Bars]
    qpm: float
    semitones: int
    name: str


def continue_songs(
    trained: Trained, held_out: Corpus, song: Song | None, options: Options
) -> list[Piece]:
    """Pieces that go on from a song's end, or else from held-out songs; or predictions of them.

    Args:
        trained: a bi-axial model.
        held_out: the test songs.
        song: prime, or None.
        options: what to generate.
    Raises:
        InputError: a prime that does not fit the model, or more steps than it has weights for.
    """
    if options.mode == "predict":
        return _predict(trained, held_out, song, options)
    config, model = trained.config, trained.model
    if config.train.target == "literal":
        raise InputError(
            "the model was trained with train.target=literal, to copy the step it reads; it cannot "
            "go on from it: use --mode=predict, or train with train.target=next"
        )
    window = config.train.window
    steps = options.prime_steps if model.tied else min(options.prime_steps, window // 2)
    seeds = range(options.seed, options.seed + options.num)
    if song:
        primes = [prime_from_song(song, config, options, steps)] * options.num
    else:
        primes = [_prime_from_corpus(held_out, model.tied, steps, seed) for seed in seeds]
    steps = len(primes[0].states)
    qpm = [options.qpm or prime.qpm for prime in primes]
    length = options.length or (256 if model.tied else window - steps)
    lengths = [length] * options.num
    if options.seconds:
        lengths = [int(np.ceil(options.seconds / 60 * q * STEPS_PER_QUARTER)) for q in qpm]
    if not model.tied and steps + max(lengths) > window:
        raise InputError(
            f"the model has weights for {window} steps; a prime of {steps} and a piece of "
            f"{max(lengths)} are more: lower --length or --prime_steps, or train with "
            "model.tied=True"
        )
    graph, params = nnx.split(model)
    # Rounded up, so that few lengths compile anew.
    longest = -(-max(lengths) // 64) * 64 if model.tied else max(lengths)
    states = continue_states(
        graph,
        params,
        np.stack([prime.states for prime in primes]).astype(np.float32),
        np.stack([beat_positions(p.bars, p.start - 1, p.start + steps + longest) for p in primes]),
        jax.vmap(jax.random.key)(np.array(seeds)),
        length=longest,
        draw=Draw(options.temperature, options.max_notes),
        max_silence=np.int32(options.max_silence),
    )
    pieces = []
    for i, prime in enumerate(primes):
        made = np.asarray(states[i, : lengths[i]]).astype(np.uint8)
        start = steps if options.include_prime else 0
        tracks = [_track(made, trained, held_out, start=start, name="generated")]
        if start:
            tracks.insert(0, _track(prime.states, trained, held_out, name="prime"))
        pieces.append(_piece(tracks, made, prime, seeds[i], qpm[i]))
    return pieces


def _predict(
    trained: Trained, held_out: Corpus, song: Song | None, options: Options
) -> list[Piece]:
    """The paper's output: each step of a song as the model expects it, knowing the steps before."""
    config, model = trained.config, trained.model
    if song:
        prime = prime_from_song(song, config, options, None)
        prime = prime._replace(states=prime.states[: config.train.window], start=0)
        parts = [(prime, _first_segment(prime, config.train.window))]
    else:
        segments = Segments(held_out, "test", config.train, training=False)
        numbers = (options.seed + np.arange(options.num)) % len(segments)
        parts = [
            (
                _part_of(held_out, *segments.place(number)),
                segments.read(segments.data, segments.places(np.array([number]))),
            )
            for number in numbers.tolist()
        ]

    @jax.jit
    def expected(model, inputs, target, beat):
        return likely(model.bits(model(inputs, beat, target)))

    pieces = []
    for i, (prime, batch) in enumerate(parts):
        bits = expected(model, *task(batch, config.train.target))[0]
        made = np.asarray(bits)[: len(prime.states)].astype(np.uint8)
        tracks = [_track(made, trained, held_out, name="predicted")]
        if options.include_prime:
            tracks.insert(0, _track(prime.states, trained, held_out, name="song"))
        qpm = options.qpm or prime.qpm
        pieces.append(_piece(tracks, made, prime, options.seed + i, qpm))
    return pieces


def prime_from_song(song: Song, config, options: Options, steps: int | None) -> Prime:
    """The last steps of a song, encoded as the training songs were.

    Args:
        song: any.
        config: of the run.
        options: for the part.
        steps: at most; None: all.
    Raises:
        InputError: the song lacks the part, or has no matrix.
    """
    prepared = prepare_prime(song, config.data, options.prime_track)
    encoded = states_of(prepared.song, config.data)
    total = len(encoded.states)
    if not config.model.tied:
        start, stop = 0, total if steps is None else min(steps, total)
    else:
        start, stop = (0 if steps is None else max(total - steps, 0)), total
    name = Path(song.source).name
    return Prime(
        encoded.states[start:stop],
        start,
        list(encoded.bars),
        song.main_qpm,
        prepared.semitones,
        name,
    )


def _prime_from_corpus(held_out: Corpus, tied: bool, steps: int, seed: int) -> Prime:
    """Steps of a test song from a bar line, both chosen by the seed; from its beginning if the
    weights are not tied.

    Raises:
        InputError: no test song is as long.
    """
    songs = [song for song in held_out.songs if song["length"] >= steps]
    if not songs:
        raise InputError(
            f"none of the {len(held_out.songs)} test songs has {steps} steps; lower --prime_steps "
            "or give --prime=FILE"
        )
    rng = np.random.default_rng(seed)
    song = songs[rng.integers(len(songs))]
    start = int(rng.choice(bar_lines(song, steps))) if tied else 0
    return _part_of(held_out, song, start, start + steps)


def _first_segment(prime: Prime, window: int) -> dict[str, np.ndarray]:
    """The beginning of a song, as Segments.batch gives a corpus's songs."""
    padding = [(1, window - len(prime.states)), (0, 0), (0, 0)]
    return {
        "states": np.pad(prime.states, padding)[None],
        "beat": beat_positions(prime.bars, -1, window)[None],
    }


def _part_of(held_out: Corpus, song: dict, start: int, stop: int) -> Prime:
    packed = np.asarray(held_out.encoded(song)[start:stop])
    states = unpack(packed, *step_shape(held_out.manifest["settings"]))
    return Prime(states, start, bars_of(song), song.get("qpm", 120.0), 0, song["name"])


def _track(states: np.ndarray, trained: Trained, held_out: Corpus, *, start: int = 0, name: str):
    manifest = held_out.manifest
    voice = {"program": manifest["program"], "is_drum": manifest["is_drum"]}
    lowest = trained.config.data.lowest
    return note_state_to_track(states, lowest=lowest, start=start, name=name, **voice)


def _piece(tracks: list, made: np.ndarray, prime: Prime, seed: int, qpm: float) -> Piece:
    before = [bar for bar in prime.bars if bar.step <= prime.start]
    after = [bar for bar in prime.bars if bar.step > prime.start]
    bars = [
        Bars(max(bar.step - prime.start, 0), phrase_length(bar)) for bar in (*before[-1:], *after)
    ]
    song = Song(
        tuple(track for track in tracks if len(track)),
        STEPS_PER_QUARTER,
        meters=meters_of(bars),
        tempos=(Tempo(0, qpm),),
    ).transposed(-prime.semitones)
    return Piece(song, seed, prime, _figures(made, qpm), states=made)


def _figures(states: np.ndarray, qpm: float) -> str:
    play = states[..., 0].astype(bool)
    at_once = play.sum(1)
    repeats = (states[1:] == states[:-1]).all((1, 2)).mean() if len(states) > 1 else 0.0
    seconds = len(states) * 60 / qpm / STEPS_PER_QUARTER
    return (
        f"{len(states)} steps, {seconds:.0f} s, {play.any(0).sum()} pitches, "
        f"{at_once.mean():.1f} notes at once (at most {at_once.max(initial=0)}), "
        f"{(at_once == 0).mean():.0%} of the steps silent, {repeats:.0%} as the step before"
    )
