r"""Makes music with a trained model: a MIDI file and a piano roll for each piece.

    python -m musicjax.generate --workdir=runs/vocab --output=out --num=8 --seed=0 \
        --temperature=1.0 --prime=song.mid

Each piece continues a prime: the given song's end, or else a window of a held-out test song. Its
file holds the prime and what was generated as two tracks.
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from musicjax import cli, encode, midi
from musicjax.corpus import Corpus
from musicjax.errors import InputError
from musicjax.piano_roll import COLOURS, plot_piano_roll
from musicjax.song import Song, Tempo
from musicjax.vocabulary import UNITS_PER_QUARTER, Token, Vocabulary, tokens_to_track

MODES = ("sample", "greedy", "best_of_three")
UNKNOWN = ("error", "nearest", "drop")


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


@dataclasses.dataclass(frozen=True)
class Options:
    """What to generate. Each field is a flag of the command line.

    Raises:
        InputError: a value out of range.
    """

    num: int = 4  # pieces
    length: int = 200  # tokens of each piece
    seconds: float | None = None  # playing time of each piece, instead of its length
    seed: int = 0  # of the first piece; the next has the next seed
    mode: str = "sample"  # or "greedy", the most likely token (the paper); or "best_of_three"
    temperature: float = 1.0  # lower: safer; higher: wilder; 0: greedy
    top_k: int = 0  # draw among this many most likely tokens; 0: all
    top_p: float = 1.0  # draw among the fewest tokens that have this probability together
    max_rests: int = 2  # rests in a row
    max_repeats: int = 4  # the same token in a row
    unweight: bool = True  # take the training's class weights out; the paper did not
    prime: str | None = None  # MIDI file to continue; default: windows of test songs
    prime_track: str | None = None  # its part, as data.track; default: the training songs'
    unknown_tokens: str = "error"  # of the prime; or "nearest" (most similar known), or "drop"
    include_prime: bool = True  # write the prime too, as a track of its own
    qpm: float | None = None  # tempo in quarters a minute; default: the prime's
    checkpoint: str = "best"  # or "last"

    def __post_init__(self):
        for name, holds, expected in (
            ("num", self.num > 0, "at least 1"),
            ("length", self.length > 0, "at least 1"),
            ("seconds", self.seconds is None or self.seconds > 0, "more than 0"),
            ("seed", 0 <= self.seed < 2**31, "0 to 2147483647"),
            ("mode", self.mode in MODES, f"one of {', '.join(MODES)}"),
            ("temperature", self.temperature >= 0, "0 (greedy) or more"),
            ("top_k", self.top_k >= 0, "0 (all) or more"),
            ("top_p", 0 < self.top_p <= 1, "more than 0 and at most 1"),
            ("max_rests", self.max_rests >= 0, "0 or more"),
            ("max_repeats", self.max_repeats > 0, "at least 1"),
            ("unknown_tokens", self.unknown_tokens in UNKNOWN, f"one of {', '.join(UNKNOWN)}"),
            ("qpm", self.qpm is None or 4 <= self.qpm <= 1000, "4 to 1000 quarters a minute"),
            ("checkpoint", self.checkpoint in ("best", "last"), "best or last"),
        ):
            if not holds:
                raise InputError(f"{name} is {getattr(self, name)!r}; expected {expected}")


def generate(workdir: str | Path, options: Options | None = None) -> list[Piece]:
    """Generates pieces with the model of a work dir.

    Raises:
        InputError: no such work dir, or a prime that does not fit its model.
    """
    options = options or Options()
    if not Path(workdir).is_dir():
        raise InputError(f"workdir is {str(workdir)!r}, which is no folder; train one first")
    song = midi.read_song(options.prime) if options.prime else None

    import jax
    from flax import nnx

    from musicjax import checkpoint, compilation
    from musicjax.models import MODELS
    from musicjax.sampler import Sampling, continue_windows

    compilation.enable_cache()
    trained = checkpoint.load_trained(workdir, options.checkpoint)
    config, vocabulary = trained.config, trained.vocabulary
    if options.unweight:
        weights = vocabulary.class_weights(config.train.class_weights)
        MODELS[config.model.name].unweight(trained.model, weights)
    held_out = Corpus.load(Path(workdir) / "test_songs")
    seeds = range(options.seed, options.seed + options.num)
    if song:
        prime = prime_from_song(song, vocabulary, config, options)
        primes = [prime] * options.num
    else:
        primes = [prime_from_corpus(held_out, config.train, seed) for seed in seeds]
    qpm = [options.qpm or prime.qpm for prime in primes]
    length, units = options.length, np.full(options.num, 2**31 - 1)
    if options.seconds:
        units = np.ceil(options.seconds / 60 * np.array(qpm) * UNITS_PER_QUARTER).astype(np.int64)
        length = int(units.max())  # no token is shorter than a unit
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
        enough_units=units,
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
        pieces.append(Piece(music, primes[i], seeds[i], song))
    return pieces


def prime_from_song(song: Song, vocabulary: Vocabulary, config, options: Options) -> Prime:
    """The end of a song, encoded as the training songs were.

    Raises:
        InputError: the song lacks the part, is too short, or has tokens that the model does not
            know while options.unknown_tokens is "error".
    """
    track = options.prime_track or config.data.track
    prepared = encode.prepare(song, config.data, track)
    if not prepared.song.tracks:
        names = ", ".join(sorted({track.name or "(no name)" for track in song.tracks}))
        raise InputError(
            f"{song.source}: no track for {track!r}; its tracks are {names}; choose by "
            "--prime_track, such as --prime_track=all"
        )
    tokens = encode.tokens_of(prepared.song, config.data).tokens[-config.train.window :]
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
        colours = COLOURS[:2][-len(piece.song.tracks) :]  # the music has one colour, prime or not
        plot_piano_roll(piece.song, path.with_suffix(".png"), title=title, colours=colours)
        if tokens:
            path.with_suffix(".txt").write_text(" ".join(map(str, piece.tokens)) + "\n")
        paths.append(path)
    return paths


def _define_flags() -> None:
    from absl import flags

    flags.DEFINE_string("workdir", None, "Work dir of musicjax.train.", required=True)
    flags.DEFINE_string("output", None, "Folder to write to; default: WORKDIR/samples.")
    default = Options()
    for name, define, text in (
        ("num", flags.DEFINE_integer, "Pieces."),
        ("length", flags.DEFINE_integer, "Tokens of each piece."),
        ("seconds", flags.DEFINE_float, "Playing time of each piece, instead of --length."),
        ("seed", flags.DEFINE_integer, "Seed of the first piece; the next has the next seed."),
        ("mode", flags.DEFINE_string, f"One of {', '.join(MODES)}; greedy is the paper's."),
        ("temperature", flags.DEFINE_float, "Lower: safer; higher: wilder; 0: greedy."),
        ("top_k", flags.DEFINE_integer, "Draw among this many most likely tokens; 0: all."),
        ("top_p", flags.DEFINE_float, "Draw among the tokens with this probability together."),
        ("max_rests", flags.DEFINE_integer, "Most rests in a row."),
        ("max_repeats", flags.DEFINE_integer, "Most times that one token comes in a row."),
        ("unweight", flags.DEFINE_bool, "Take the training's class weights out."),
        ("prime", flags.DEFINE_string, "MIDI file to continue; default: test songs' windows."),
        ("prime_track", flags.DEFINE_string, "Its part, as data.track; default: as trained."),
        ("unknown_tokens", flags.DEFINE_string, f"Of the prime: one of {', '.join(UNKNOWN)}."),
        ("include_prime", flags.DEFINE_bool, "Write the prime too, as a track of its own."),
        ("qpm", flags.DEFINE_float, "Tempo in quarters a minute; default: the prime's."),
        ("checkpoint", flags.DEFINE_string, "best or last."),
    ):
        define(name, getattr(default, name), text)
    flags.DEFINE_bool("tokens", False, "Write the tokens as text too.")


def _main(flags) -> None:
    output = flags.output or Path(flags.workdir) / "samples"
    fields = dataclasses.fields(Options)
    options = Options(**{field.name: flags[field.name].value for field in fields})
    pieces = generate(flags.workdir, options)
    paths = write_pieces(pieces, output, tokens=flags.tokens)
    for piece, path in zip(pieces, paths, strict=True):
        print(f"{path}: {describe(piece)}")


if __name__ == "__main__":
    cli.run(_main, _define_flags)
