r"""Makes music with a trained model: a MIDI file and a piano roll for each piece.

    python -m musicjax.generate --workdir=runs/vocab --output=out --num=8 --seed=0 \
        --temperature=1.0 --prime=song.mid

Each piece continues a prime: the given song's end, or else a part of a held-out test song. Its
file has the prime and what was generated as two tracks.
"""

from pathlib import Path
from typing import Any

from musicjax import cli
from musicjax.generation.options import options_class


def _define_flags() -> None:
    from absl import flags

    flags.DEFINE_string("workdir", None, "Work dir of musicjax.train.", required=True)
    flags.DEFINE_string("output", None, "Folder to write to; default: WORKDIR/samples.")
    flags.DEFINE_bool("text", False, "Write the generated tokens or steps as text too.")
    cli.define_options(options_class())


def _main(flags: Any) -> None:
    options = cli.parsed_options(options_class(), flags)
    from musicjax.evaluation.metrics import shared_cells
    from musicjax.generation import piece

    pieces = piece.generate(flags.workdir, options)
    output = flags.output or Path(flags.workdir) / "samples"
    paths = piece.write_pieces(pieces, output, text=flags.text)
    for made, path in zip(pieces, paths, strict=True):
        print(f"{path}: {piece.describe(made)}")
    alike = shared_cells([made.passage.song for made in pieces])
    if alike:
        print(
            f"pairs of pieces share {sum(alike) / len(alike):.0%} of their sounding cells "
            f"({min(alike):.0%} to {max(alike):.0%})"
        )


if __name__ == "__main__":
    cli.run(_main, _define_flags)
