"""Pieces of tokens: continues a prime with the vocabulary model."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from musicjax.checkpoint import Trained
from musicjax.cleaning import prepare_prime
from musicjax.corpus import Corpus
from musicjax.encoders import tokens_of
from musicjax.errors import InputError
from musicjax.models import vocab
from musicjax.piece import Options, Piece
from musicjax.sampler import Sampling, continue_windows
from musicjax.song import Song, Tempo
from musicjax.vocabulary import (
    UNITS_PER_QUARTER,
    Token,
    Vocabulary,
    tokens_to_tracks,
    total_units,
)

MODES = ("sample", "greedy", "best_of_three")


class Prime(NamedTuple):
    """What a piece goes on from.

    Attributes:
        ids: int32 [<= W]: the window that the model reads first.
        tokens: the same as music, also where the model does not know a token.
        qpm: tempo of the song.
        semitones: that the song was transposed by, to be undone in what is written.
        name: of the song.
    """

    ids: np.ndarray
    tokens: list[Token]
    qpm: float
    semitones: int
    name: str


def continue_songs(
    trained: Trained, held_out: Corpus, song: Song | None, options: Options
) -> list[Piece]:
    """Pieces that go on from a song's end, or else from windows of held-out songs.

    Args:
        trained: a vocabulary model; its class weights are taken out if the options say so.
        held_out: the test songs.
        song: prime, or None.
        options: what to generate.
    Raises:
        InputError: a prime that does not fit the model.
    """
    config, vocabulary = trained.config, trained.vocabulary
    assert vocabulary is not None
    if options.unweight:
        vocab.unweight(trained.model, vocabulary.class_weights(config.train.class_weights))
    seeds = range(options.seed, options.seed + options.num)
    if song:
        prime = prime_from_song(song, vocabulary, config, options)
        primes = [prime] * options.num
    else:
        primes = [prime_from_corpus(held_out, config.train, seed) for seed in seeds]
    qpm = [options.qpm or prime.qpm for prime in primes]
    streams = len({token.instrument for token in vocabulary.tokens[1:]})
    length, units = options.length or 200, np.full(options.num, 2**31 - 1)
    if options.seconds:
        units = np.ceil(options.seconds / 60 * np.array(qpm) * UNITS_PER_QUARTER).astype(np.int64)
        # No token is shorter than a unit, and each instrument takes its own.
        length = int(units.max()) * streams
    window = config.train.window
    graph, params = nnx.split(trained.model)
    tokens, made = continue_windows(
        graph,
        params,
        np.stack([np.pad(prime.ids, (window - len(prime.ids), 0)) for prime in primes]),
        jax.vmap(jax.random.key)(np.array(seeds)),
        # Rounded up, so that few lengths compile anew.
        length=-(-length // 64) * 64,
        enough_tokens=length,
        enough_units=np.minimum(units * streams, 2**31 - 1),
        durations=vocabulary.durations,
        is_rest=vocabulary.is_rest,
        sampling=Sampling(
            0.0 if options.mode == "greedy" else options.temperature,
            3 if options.mode == "best_of_three" else options.top_k,
            options.top_p,
            options.max_rests,
            options.max_repeats,
        ),
    )
    pieces = []
    for i, row in enumerate(np.asarray(tokens)[:, : int(made)]):
        music = _cut(vocabulary.decode(row.tolist()), int(units[i]))
        song = _song(music, primes[i], held_out.manifest, options.include_prime, qpm[i])
        figures = _figures(music, qpm[i])
        pieces.append(Piece(song, seeds[i], primes[i], figures, tokens=music))
    return pieces


def prime_from_song(song: Song, vocabulary: Vocabulary, config, options: Options) -> Prime:
    """The end of a song, encoded as the training songs were.

    Raises:
        InputError: the song lacks the part, is too short, or has tokens that the model does not
            know while options.unknown_tokens is "error".
    """
    prepared = prepare_prime(song, config.data, options.prime_track)
    tokens = tokens_of(prepared.song, config.data).tokens[-config.train.window :]
    unknown = [token for token in tokens if not vocabulary.encode([token])[0]]
    if unknown and options.unknown_tokens == "error":
        some = ", ".join(map(str, unknown[:3]))
        raise InputError(
            f"{song.source}: {len(unknown)} of the prime's last {len(tokens)} tokens are unknown "
            f"to the model ({some}{', ...' if len(unknown) > 3 else ''}); pass "
            "--unknown_tokens=nearest to replace them by the most similar ones, or =drop to leave "
            "them out"
        )
    if options.unknown_tokens == "nearest":
        known = [
            token if vocabulary.encode([token])[0] else vocabulary.nearest(token)
            for token in tokens
        ]
    else:
        known = [token for token in tokens if vocabulary.encode([token])[0]]
    if len(known) < (1 if config.train.pad else config.train.window):
        raise InputError(
            f"{song.source}: the prime has {len(known)} tokens; the model reads "
            f"{config.train.window} (train with train.pad=True for shorter ones)"
        )
    ids = vocabulary.encode(known)
    return Prime(ids, known, song.main_qpm, prepared.semitones, Path(song.source).name)


def prime_from_corpus(held_out: Corpus, train, seed: int) -> Prime:
    """A window of a test song, both chosen by the seed.

    Raises:
        InputError: no test song is as long as a window.
    """
    shortest = 1 if train.pad else train.window
    songs = [song for song in held_out.songs if song["length"] >= shortest]
    if not songs:
        raise InputError(
            f"none of the {len(held_out.songs)} test songs has the {train.window} tokens that the "
            "model reads; give --prime=FILE"
        )
    rng = np.random.default_rng(seed)
    song = songs[rng.integers(len(songs))]
    start = rng.integers(max(song["length"] - train.window, 0) + 1)
    ids = np.asarray(held_out.encoded(song)[start : start + train.window])
    vocabulary = held_out.vocabulary
    assert vocabulary is not None
    known = np.where(ids < vocabulary.size, ids, 0)
    return Prime(known, vocabulary.decode(ids.tolist()), song["qpm"], 0, song["name"])


def _cut(tokens: list[Token], units: int) -> list[Token]:
    """The first `units` of each instrument; its last token is shortened to end there."""
    kept, left = [], {}
    for token in tokens:
        remaining = left.get(token.instrument, units)
        if remaining > 0:
            kept.append(token._replace(duration=min(token.duration, remaining)))
        left[token.instrument] = remaining - token.duration
    return kept


def _song(
    music: list[Token], prime: Prime, manifest: dict, include_prime: bool, qpm: float
) -> Song:
    voice = {"program": manifest["program"], "is_drum": manifest["is_drum"]}
    tracks, start = [], 0
    if include_prime:
        tracks += tokens_to_tracks(prime.tokens, name="prime", **voice)
        start = total_units(prime.tokens)
    tracks += tokens_to_tracks(music, start=start, name="generated", **voice)
    song = Song(tuple(tracks), UNITS_PER_QUARTER, tempos=(Tempo(0, qpm),))
    return song.transposed(-prime.semitones)


def _figures(tokens: list[Token], qpm: float) -> str:
    units = total_units(tokens) or 1
    durations = sum(token.duration for token in tokens) or 1
    rests = sum(token.duration for token in tokens if not token.pitches) / durations
    pitches = {pitch for token in tokens for pitch in token.pitches}
    run = longest = 0
    for before, token in zip([None, *tokens], tokens, strict=False):
        run = run + 1 if token == before else 1
        longest = max(longest, run)
    seconds = units / UNITS_PER_QUARTER * 60 / qpm
    return (
        f"{len(tokens)} tokens, {seconds:.0f} s, {len(set(tokens))} distinct tokens, "
        f"{len(pitches)} pitches, {rests:.0%} rest, the same token at most {longest} times in a row"
    )
