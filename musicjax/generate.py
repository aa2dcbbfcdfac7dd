r"""Makes music with a trained model: a MIDI file and a piano roll for each piece.

    python -m musicjax.generate --workdir=runs/vocab --output=out --num=8 --seed=0 \
        --temperature=1.0 --prime=song.mid

Each piece continues a prime: the given song's end, or else a part of a held-out test song. Its
file holds the prime and what was generated as two tracks.
"""

import dataclasses
import itertools
from pathlib import Path

from musicjax import cli, midi
from musicjax.corpus import Corpus
from musicjax.errors import InputError
from musicjax.piano_roll import COLOURS, plot_piano_roll
from musicjax.piece import MODES, UNKNOWN, Options, Piece


def generate(workdir: str | Path, options: Options | None = None) -> list[Piece]:
    """Generates pieces with the model of a work dir.

    Raises:
        InputError: no such work dir, or options or a prime that do not fit its model.
    """
    options = options or Options()
    if not Path(workdir).is_dir():
        raise InputError(f"workdir is {str(workdir)!r}, which is no folder; train one first")
    song = midi.read_song(options.prime) if options.prime else None

    from musicjax import checkpoint, compilation, state_pieces, token_pieces

    compilation.enable_cache()
    trained = checkpoint.load_trained(workdir, options.checkpoint)
    pieces = {"vocab": token_pieces, "biaxial": state_pieces}[trained.config.model.name]
    if options.mode not in pieces.MODES:
        raise InputError(
            f"mode is {options.mode!r}; {workdir} holds a {trained.config.model.name} model, which "
            f"knows {', '.join(pieces.MODES)}"
        )
    held_out = Corpus.load(Path(workdir) / "test_songs")
    return pieces.continue_songs(trained, held_out, song, options)


def describe(piece: Piece) -> str:
    """A line of figures: is it one note over and over, or silence?"""
    return f"seed {piece.seed}: {piece.figures}; after {piece.prime.name}"


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
        if tokens and piece.tokens is not None:
            path.with_suffix(".txt").write_text(" ".join(map(str, piece.tokens)) + "\n")
        paths.append(path)
    return paths


def shared_cells(pieces: list[Piece]) -> list[float]:
    """For each pair of pieces of note states, how many of the cells (step, note) in which either
    plays both play: 1 for the same piece twice, 0 for two that have none in common.
    """
    plays = [piece.states[..., 0] > 0 for piece in pieces if piece.states is not None]
    return [
        float((a & b).sum() / max((a | b).sum(), 1)) for a, b in itertools.combinations(plays, 2)
    ]


def _define_flags() -> None:
    from absl import flags

    flags.DEFINE_string("workdir", None, "Work dir of musicjax.train.", required=True)
    flags.DEFINE_string("output", None, "Folder to write to; default: WORKDIR/samples.")
    default = Options()
    for name, define, text in (
        ("num", flags.DEFINE_integer, "Pieces."),
        ("length", flags.DEFINE_integer, "Tokens or steps of each piece; default 200 or 256."),
        ("seconds", flags.DEFINE_float, "Playing time of each piece, instead of --length."),
        ("seed", flags.DEFINE_integer, "Seed of the first piece; the next has the next seed."),
        ("mode", flags.DEFINE_string, f"One of {', '.join(MODES)}."),
        ("temperature", flags.DEFINE_float, "Lower: safer; higher: wilder; 0: greedy."),
        ("top_k", flags.DEFINE_integer, "Draw among this many most likely tokens; 0: all."),
        ("top_p", flags.DEFINE_float, "Draw among the tokens with this probability together."),
        ("max_rests", flags.DEFINE_integer, "Most rests in a row."),
        ("max_repeats", flags.DEFINE_integer, "Most times that one token comes in a row."),
        ("unweight", flags.DEFINE_bool, "Take the training's class weights out."),
        ("max_silence", flags.DEFINE_integer, "Silent steps before a note gets more likely."),
        ("max_notes", flags.DEFINE_integer, "Most notes at once, of note states."),
        ("prime_steps", flags.DEFINE_integer, "Steps of a prime of note states; 0: none."),
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
    alike = shared_cells(pieces)
    if alike:
        print(
            f"pairs of pieces share {sum(alike) / len(alike):.0%} of their sounding cells "
            f"({min(alike):.0%} to {max(alike):.0%})"
        )


if __name__ == "__main__":
    cli.run(_main, _define_flags)
