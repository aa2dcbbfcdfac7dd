r"""Trains a model on a source of songs.

    python -m musicjax.train --config=configs/vocab.py --workdir=runs/vocab \
        --config.data.source=/my/midi --config.data.track=piano

Encodes the songs if that was not done yet, trains, and leaves in the work dir all that
musicjax.generate and musicjax.evaluate need. Stopped and started again, it goes on; so does a run
that has ended, where train.epochs is raised. At the end the model is measured beside the strongest
simple baseline.

The work dir has the losses of each epoch as metrics.jsonl, as loss.png, and for TensorBoard:
tensorboard --logdir=runs/vocab.

Several processes, each with devices of its own, train together where each is started with the same
config and work dir (on a disk that all share), and

    --coordinator=HOST:PORT --processes=N --process=I

or, under Slurm or Open MPI, --coordinator=auto. The first writes and prints. Stopped by a signal to
any of them, all stop at the same step; if one is lost, the others end at once, or when it was
silent for 15 seconds, with status 2, and the same commands go on from the last checkpoint.
"""

import shlex
from typing import Any

from musicjax import api, cli
from musicjax.errors import InputError
from musicjax.system import huge_pages
from musicjax.training.settings import check_config


def _define_flags() -> None:
    from absl import flags

    cli.define_config()
    flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
    flags.DEFINE_string(
        "coordinator",
        "",
        "To train with other processes: HOST:PORT of process 0, which listens on it; or auto, "
        "where jax learns it and the two below from Slurm or Open MPI.",
    )
    flags.DEFINE_integer("processes", None, "How many processes train together.")
    flags.DEFINE_integer("process", None, "The number of this one, from 0.")


def _main(flags: Any) -> None:
    if not flags.coordinator and (flags.processes, flags.process) != (None, None):
        raise InputError(
            f"processes is {flags.processes} and process {flags.process}, but there is no "
            "--coordinator; expected HOST:PORT of process 0"
        )
    check_config(flags.config)
    if flags.config.train.huge_pages:
        huge_pages.restart()
    run = api.train(
        flags.config,
        flags.workdir,
        coordinator=flags.coordinator,
        processes=flags.processes,
        process=flags.process,
    )
    from musicjax.training import devices

    if devices.is_first():
        print(
            f"trained {run.metrics[-1]['epoch']} epochs; the curve is {run.workdir}/loss.png. Make "
            f"music with\n  python -m musicjax.generate --workdir={shlex.quote(flags.workdir)} "
            f"--output={shlex.quote(str(run.workdir / 'samples'))}"
        )


if __name__ == "__main__":
    cli.run(_main, _define_flags)
