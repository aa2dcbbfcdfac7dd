r"""Makes music with a trained model: a MIDI file and a piano roll for each piece.

    python -m musicjax.generate --workdir=runs/vocab --output=out --num=8 --seed=0 \
        --temperature=1.0 --prime=song.mid

Each piece continues a prime: the given song's end, or else a window of a held-out test song. Its
file holds the prime and what was generated as two tracks.
"""

import inspect
from pathlib import Path
from typing import NamedTuple

import numpy as np

from musicjax import cli, encode, midi
from musicjax.corpus import Corpus
from musicjax.errors import InputError
from musicjax.piano_roll import plot_piano_roll
from musicjax.song import Song, Tempo
from musicjax.vocabulary import UNITS_PER_QUARTER, Token, Vocabulary, tokens_to_track

MODES = ("sample", "greedy", "best_of_three")
COLOURS = ("#9aa5b1", "#d1495b")  # prime, generated
_LENGTH_STEP = 64  # buffers come in multiples of this, so that few lengths compile anew


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


class Piece(NamedTuple):
    """A generated piece.

    Attributes:
        tokens: generated.
        prime: it goes on from.
        seed: it was drawn by; the same seed and prime give the same piece.
        song: the prime's track (if wanted) and the generated one.
    """

    tokens: list[Token]
    prime: Prime
    seed: int
    song: Song


def generate(
    workdir: str | Path,
    *,
    num: int = 4,
    length: int = 200,
    seconds: float | None = None,
    seed: int = 0,
    mode: str = "sample",
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    max_rests: int = 2,
    max_repeats: int = 4,
    prime: str | Path | None = None,
    unknown_tokens: str = "error",
    include_prime: bool = True,
    qpm: float | None = None,
    checkpoint: str = "best",
) -> list[Piece]:
    """Generates pieces.

    Args:
        workdir: of a run of musicjax.train.
        num: pieces; piece i is drawn by seed + i.
        length: tokens of each piece.
        seconds: playing time of each piece instead of its length.
        seed: of the first piece.
        mode: "sample"; "greedy", the most likely token (the paper); "best_of_three".
        temperature, top_k, top_p, max_rests, max_repeats: as in musicjax.sampler.Sampling.
        prime: a MIDI file to continue; None takes windows of the test songs.
        unknown_tokens: what to do with a prime's tokens that the model does not know: "error",
            "nearest" (the known token most like it) or "drop".
        include_prime: the prime in the song too, as a track of its own.
        qpm: tempo; None takes the prime's.
        checkpoint: "best" or "last".
    Raises:
        InputError: an option out of range, no such work dir, or a prime that does not fit.
    """
    _check(num, length, seconds, mode, temperature, top_k, top_p, max_rests, max_repeats, qpm)
    song = midi.read_song(prime) if prime else None
    if not Path(workdir).is_dir():
        raise InputError(f"workdir is {str(workdir)!r}, which is no folder; train one first")

    import jax
    from flax import nnx

    from musicjax import checkpoint as checkpoints
    from musicjax.sampler import Sampling, continue_windows

    trained = checkpoints.load_trained(workdir, checkpoint)
    config, vocabulary = trained.config, trained.vocabulary
    held_out = Corpus.load(Path(workdir) / "test_songs")
    seeds = range(seed, seed + num)
    if song:
        primes = [prime_from_song(song, vocabulary, config, unknown_tokens)] * num
    else:
        primes = [prime_from_corpus(held_out, config.train, seed) for seed in seeds]

    window = config.train.window
    windows = np.stack([np.pad(p.ids, (window - len(p.ids), 0)) for p in primes])
    pace = np.array([qpm or p.qpm for p in primes]) / 60 * UNITS_PER_QUARTER  # units a second
    # A bound on memory alone: no token is shorter than a unit, few are.
    limit = int(np.ceil(seconds * pace.max())) if seconds else length
    graph, params = nnx.split(trained.model)
    tokens, made = continue_windows(
        graph,
        params,
        windows.astype(np.int32),
        jax.vmap(jax.random.key)(np.array(seeds)),
        length=-(-limit // _LENGTH_STEP) * _LENGTH_STEP,
        enough_tokens=limit,
        enough_units=int(np.ceil(seconds * pace.max())) if seconds else 2**31 - 1,
        durations=vocabulary.durations,
        is_rest=vocabulary.is_rest,
        bias=np.zeros(vocabulary.size, np.float32),
        sampling=Sampling(
            0.0 if mode == "greedy" else temperature,
            3 if mode == "best_of_three" else top_k,
            top_p,
            max_rests,
            max_repeats,
        ),
    )
    pieces = []
    for row, start, number, units in zip(np.asarray(tokens), primes, seeds, pace, strict=True):
        music = vocabulary.decode(row[: int(made)].tolist())
        if seconds:
            music = _cut(music, round(seconds * units))
        song = _song(music, start, held_out.manifest, include_prime, qpm or start.qpm)
        pieces.append(Piece(music, start, number, song))
    return pieces


def _check(num, length, seconds, mode, temperature, top_k, top_p, rests, repeats, qpm) -> None:
    for name, holds, value, expected in (
        ("num", num > 0, num, "at least 1"),
        ("length", length > 0, length, "at least 1"),
        ("seconds", seconds is None or seconds > 0, seconds, "more than 0"),
        ("mode", mode in MODES, mode, f"one of {', '.join(MODES)}"),
        ("temperature", temperature >= 0, temperature, "0 or more; 0 is greedy"),
        ("top_k", top_k >= 0, top_k, "0 (all) or more"),
        ("top_p", 0 < top_p <= 1, top_p, "more than 0 and at most 1"),
        ("max_rests", rests >= 0, rests, "0 or more"),
        ("max_repeats", repeats > 0, repeats, "at least 1"),
        ("qpm", qpm is None or 4 <= qpm <= 1000, qpm, "4 to 1000 quarters a minute"),
    ):
        if not holds:
            raise InputError(f"{name} is {value!r}; expected {expected}")


def prime_from_song(song: Song, vocabulary: Vocabulary, config, unknown_tokens: str) -> Prime:
    """The end of a song, encoded as the training songs were.

    Raises:
        InputError: the song lacks the part, is too short, or has tokens that the model does not
            know while unknown_tokens is "error".
    """
    prepared = encode.prepare(song, config.data)
    if not prepared.song.tracks:
        names = ", ".join(sorted({track.name or "(no name)" for track in song.tracks}))
        raise InputError(
            f"{song.source}: no track for data.track={config.data.track!r}, which the model was "
            f"trained on; its tracks are {names}"
        )
    tokens = encode.tokens_of(prepared.song, config.data).tokens[-config.train.window :]
    unknown = [token for token in tokens if not vocabulary.encode([token])[0]]
    if unknown and unknown_tokens == "error":
        some = ", ".join(map(str, unknown[:3]))
        raise InputError(
            f"{song.source}: {len(unknown)} of the prime's last {len(tokens)} tokens are unknown "
            f"to the model ({some}{', ...' if len(unknown) > 3 else ''}); pass "
            "--unknown_tokens=nearest to replace them by the most similar ones, or =drop to leave "
            "them out"
        )
    if unknown_tokens == "nearest":
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
    known = np.where(ids < vocabulary.size, ids, 0)
    return Prime(known, vocabulary.decode(ids.tolist()), song["qpm"], 0, song["name"])


def _cut(tokens: list[Token], units: int) -> list[Token]:
    """The first `units` of a sequence; the last token is shortened to end there."""
    kept = []
    for token in tokens:
        if units <= 0:
            break
        kept.append(token._replace(duration=min(token.duration, units)))
        units -= token.duration
    return kept


def _song(
    music: list[Token], prime: Prime, manifest: dict, include_prime: bool, qpm: float
) -> Song:
    voice = {"program": manifest["program"], "is_drum": manifest["is_drum"]}
    tracks, start = [], 0
    if include_prime:
        tracks.append(tokens_to_track(prime.tokens, name="prime", **voice))
        start = sum(token.duration for token in prime.tokens)
    tracks.append(tokens_to_track(music, start=start, name="generated", **voice))
    song = Song(tuple(tracks), UNITS_PER_QUARTER, tempos=(Tempo(0, qpm),))
    return song.transposed(-prime.semitones)


def describe(piece: Piece) -> str:
    """A line of figures: is it one note over and over, or silence?"""
    tokens = piece.tokens
    units = sum(token.duration for token in tokens) or 1
    rests = sum(token.duration for token in tokens if not token.pitches) / units
    pitches = {pitch for token in tokens for pitch in token.pitches}
    run = longest = 0
    for before, token in zip([None, *tokens], tokens, strict=False):
        run = run + 1 if token == before else 1
        longest = max(longest, run)
    seconds = units / UNITS_PER_QUARTER * 60 / piece.song.main_qpm
    return (
        f"seed {piece.seed}: {len(tokens)} tokens, {seconds:.0f} s, {len(set(tokens))} distinct "
        f"tokens, {len(pitches)} pitches, {rests:.0%} rest, the same token at most {longest} times "
        f"in a row; after {piece.prime.name}"
    )


def write_pieces(pieces: list[Piece], output: str | Path, *, tokens: bool = False) -> list[Path]:
    """Writes seed_<n>.mid and .png (and .txt with the tokens) for each piece."""
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    paths = []
    for piece in pieces:
        path = output / f"seed_{piece.seed}.mid"
        midi.write_song(piece.song, path)
        title = f"seed {piece.seed}, after {piece.prime.name}"
        colours = COLOURS[-len(piece.song.tracks) :]
        plot_piano_roll(piece.song, path.with_suffix(".png"), title=title, colours=colours)
        if tokens:
            path.with_suffix(".txt").write_text(" ".join(map(str, piece.tokens)) + "\n")
        paths.append(path)
    return paths


def _define_flags() -> None:
    from absl import flags

    flags.DEFINE_string("workdir", None, "Work dir of musicjax.train.", required=True)
    flags.DEFINE_string("output", None, "Folder to write to; default: WORKDIR/samples.")
    flags.DEFINE_integer("num", 4, "Pieces.")
    flags.DEFINE_integer("length", 200, "Tokens of each piece.")
    flags.DEFINE_float("seconds", None, "Playing time of each piece, instead of --length.")
    flags.DEFINE_integer("seed", 0, "Seed of the first piece; the next has the next seed.")
    flags.DEFINE_enum("mode", "sample", MODES, "greedy is the paper's.")
    flags.DEFINE_float("temperature", 1.0, "Lower: safer; higher: wilder.")
    flags.DEFINE_integer("top_k", 0, "Draw among this many most likely tokens; 0: all.")
    flags.DEFINE_float("top_p", 1.0, "Draw among the tokens that have this probability together.")
    flags.DEFINE_integer("max_rests", 2, "Most rests in a row.")
    flags.DEFINE_integer("max_repeats", 4, "Most times that one token comes in a row.")
    flags.DEFINE_string("prime", None, "MIDI file to continue; default: windows of test songs.")
    flags.DEFINE_enum(
        "unknown_tokens",
        "error",
        ["error", "nearest", "drop"],
        "For tokens of the prime that the model does not know.",
    )
    flags.DEFINE_bool("include_prime", True, "Write the prime too, as a track of its own.")
    flags.DEFINE_float("qpm", None, "Tempo in quarters a minute; default: the prime's.")
    flags.DEFINE_bool("tokens", False, "Write the tokens as text too.")
    flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Which checkpoint.")


def _main(flags) -> None:
    output = flags.output or Path(flags.workdir) / "samples"
    options = inspect.signature(generate).parameters
    chosen = {name: flags[name].value for name in options if name != "workdir"}
    pieces = generate(flags.workdir, **chosen)
    paths = write_pieces(pieces, output, tokens=flags.tokens)
    for piece, path in zip(pieces, paths, strict=True):
        print(f"{path}: {describe(piece)}")


if __name__ == "__main__":
    cli.run(_main, _define_flags)
