r"""Writes a trained model as a folder to share: weights, StableHLO programs, and a model card.

    python -m musicjax.export --workdir=runs/vocab --output=model --license=cc0-1.0

The weights are safetensors, the programs need jax alone, README.md is the model card: a model hub
takes the folder as it is. All commands but train take it as --workdir. Songs stay behind, unless
--songs asks for some.
"""

from typing import Any

from musicjax import cli
from musicjax.config import CHECKPOINT, expect
from musicjax.training.settings import ExportSettings


def _define_flags() -> None:
    from absl import flags

    cli.define_model()
    flags.DEFINE_string("output", None, "Folder to write; must not exist.", required=True)
    flags.DEFINE_string("checkpoint", "best", "best, last, or an epoch of train.keep_epochs.")
    cli.define_options(ExportSettings)


def _main(flags: Any) -> None:
    settings = cli.parsed_options(ExportSettings, flags)
    expect(CHECKPOINT.holds(flags.checkpoint), "checkpoint", flags.checkpoint, CHECKPOINT.expected)
    folder = cli.model_folder(flags)
    from musicjax.training import exported

    written = exported.export(folder, flags.output, settings, checkpoint=flags.checkpoint)
    for path in sorted(path for path in written.rglob("*") if path.is_file()):
        print(f"{path}: {path.stat().st_size:,} bytes")
    if settings.license == ExportSettings.license:
        print("no --license is named in the model card, README.md")


if __name__ == "__main__":
    cli.run(_main, _define_flags)
