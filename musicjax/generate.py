r"""Makes music with a trained model: a MIDI file and a piano roll for each piece.

    python -m musicjax.generate --workdir=runs/vocab --output=out --num=8 --seed=0 \
        --temperature=1.0 --prime=song.mid

    python -m musicjax.generate --model=chorales

Each piece continues a prime: the given song's end, or else a part of a held-out test song. Its
file has the prime and what was generated as two tracks.
"""

import sys
from typing import Any

from musicjax import cli
from musicjax.generation.options import options_class
from musicjax.music import notation
from musicjax.rendering import audio
from musicjax.system import files


def _define_flags() -> None:
    from absl import flags

    cli.define_model()
    flags.DEFINE_string("output", None, "Folder to write to; default: WORKDIR/samples.")
    flags.DEFINE_bool("text", False, "Write the generated tokens or steps as text too.")
    flags.DEFINE_enum("audio", None, audio.FORMATS, "Write sound too, in this format.")
    flags.DEFINE_enum("score", None, notation.FORMATS, "Write a score too, in this format.")
    cli.define_options(options_class())
    cli.define_options(audio.AudioSettings)


def _main(flags: Any) -> None:
    options = cli.parsed_options(options_class(), flags)
    sound = cli.parsed_options(audio.AudioSettings, flags)
    if flags.audio:
        audio.check_format(flags.audio)
    folder = cli.model_folder(flags)
    files.expect_workdir(folder)  # or else its folder of samples would be made
    output = files.writable_folder(cli.output_folder(flags, "samples"))
    from musicjax.evaluation.metrics import shared_cells
    from musicjax.generation import piece
    from musicjax.training.workdir import load_standing

    pieces = piece.generate(folder, options)
    standing = load_standing(folder)
    if standing and standing.warning:
        print(standing.warning, file=sys.stderr)
    for remark in dict.fromkeys(remark for made in pieces for remark in made.prime.remarks):
        print(remark)
    paths = piece.write_pieces(
        pieces, output, text=flags.text, audio=flags.audio, score=flags.score, sound=sound
    )
    for made, path in zip(pieces, paths, strict=True):
        print(f"{path}: {piece.describe(made)}")
    if flags.audio:
        print(f"sound: .{flags.audio} beside each, {audio.synthesiser()}")
    alike = shared_cells([made.passage.song for made in pieces])
    if alike:
        print(
            f"pairs of pieces share {sum(alike) / len(alike):.0%} of their sounding cells "
            f"({min(alike):.0%} to {max(alike):.0%})"
        )


if __name__ == "__main__":
    cli.run(_main, _define_flags)
