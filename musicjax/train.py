r"""Trains a model on a source of songs.

    python -m musicjax.train --config=configs/vocab.py --workdir=runs/vocab \
        --config.data.source=/my/midi --config.data.track=piano

Encodes the songs if that was not done yet, trains, and leaves in the work dir all that
musicjax.generate and musicjax.evaluate need. Stopped and started again, it goes on.

Several processes, each with devices of its own, train together where each is started with the same
config and work dir (on a disk that all share), and

    --coordinator=HOST:PORT --processes=N --process=I

or, under Slurm or Open MPI, --coordinator=auto. The first writes and prints. Stopped by a signal to
any of them, all stop at the same step; if one is lost, jax ends the others within two minutes.
"""

import contextlib
import copy
import shutil
from pathlib import Path

from musicjax import allocator, cli
from musicjax.cleaning import with_track
from musicjax.config import Config, check_config, flat_fields
from musicjax.corpus import Corpus
from musicjax.encode import open_corpus
from musicjax.errors import InputError

# What may change when a work dir is used again: nothing that has shaped the steps already done.
_MAY_CHANGE = {
    "model.kernel",
    "model.remat",
    "train.checkpoint_minutes",
    "train.devices",
    "train.epochs",
    "train.large_pages",
    "train.resident_megabytes",
    "train.steps_per_call",
}


def train_and_evaluate(
    config: Config,
    workdir: str | Path,
    coordinator: str = "",
    processes: int | None = None,
    process: int | None = None,
) -> dict[str, float]:
    """Encodes, trains, and validates after each epoch.

    Args:
        config: as a file of configs/ gives it.
        workdir: made if it is not there. If it holds a run of the same config, that goes on.
        coordinator, processes, process: as musicjax.devices.join takes them, to train together
            with other processes; by default alone, or as jax.distributed was initialized.
    Returns:
        the last epoch's metrics, as in metrics.jsonl: train_loss, validation_loss, ...
    Raises:
        InputError: a config, corpus, work dir, number of devices or process that does not fit; or
            the loss became NaN.
    """
    check_config(config)
    workdir = Path(workdir)
    # Songs first, jax after: a mistake in the source is told within a second. The first process to
    # come encodes, the others wait for it.
    corpus = open_corpus(config.data)

    from musicjax import checkpoint, compilation, devices, loop
    from musicjax.dataset import examples

    if coordinator:
        devices.join(coordinator, processes, process)
    mesh = devices.make_mesh(config.train.devices, config.train.batch_size)
    if config.model.kernel == "cudnn":
        devices.check_cudnn(mesh)
    with contextlib.nullcontext() if devices.is_first() else contextlib.redirect_stdout(None):
        config = _with_settings_of(corpus, config)
        compilation.enable_cache()
        # Without validation songs (the paper had none) the test songs are measured, not chosen by.
        validates = config.data.validation_share or corpus.split("validation")
        watched = "validation" if validates else "test"
        source = examples(corpus, "train", config.train, training=True)
        held_out = examples(corpus, watched, config.train)
        fingerprint = corpus.manifest["fingerprint"]
        goes_on = checkpoint.has_checkpoint(workdir)
        if goes_on:
            _check_same_run(workdir, *checkpoint.load_config(workdir), config, fingerprint)
        if devices.is_first():
            if not goes_on:
                _write_songs(workdir, corpus)
            # Last, and whole or not at all: with it the work dir is one.
            checkpoint.save_config(workdir, config, fingerprint)
        return loop.train(config, corpus.vocabulary, source, held_out, workdir, mesh, watched)


def _write_songs(workdir: Path, corpus: Corpus) -> None:
    """Writes what generate and evaluate need of a corpus."""
    workdir.mkdir(parents=True, exist_ok=True)
    if corpus.vocabulary:
        corpus.vocabulary.save(workdir / "vocabulary.json")
    shutil.rmtree(workdir / "test_songs", ignore_errors=True)
    corpus.only("test").save(workdir / "test_songs")


def _with_settings_of(corpus: Corpus, config: Config) -> Config:
    """The config with the settings that the corpus was encoded by, as a prime must be too.

    They differ only if the source is a corpus folder.
    """
    settings = corpus.manifest["settings"] | {"source": config.data.source}
    asked = with_track(config.data)
    changed = {name: value for name, value in settings.items() if asked[name] != value}
    if changed:
        print(f"{config.data.source} was encoded with {changed}; data.* is taken from it")
    config = copy.deepcopy(config)
    config.data.update(settings)
    return config


def _check_same_run(
    workdir: Path, before: Config, corpus_before: str, config: Config, fingerprint: str
) -> None:
    was, now = flat_fields(before), flat_fields(config)
    may_change = _MAY_CHANGE - ({"train.epochs"} if config.train.schedule != "constant" else set())
    for name in sorted((was.keys() | now.keys()) - may_change):
        if was.get(name) != now.get(name):
            raise InputError(
                f"{workdir} holds a run with {name}={was.get(name)!r}, now it is "
                f"{now.get(name)!r}; give another --workdir, or the same config to go on"
            )
    if corpus_before != fingerprint:
        raise InputError(
            f"{workdir} holds a run on other songs: the files of {config.data.source!r} have "
            "changed since; give another --workdir"
        )


def _define_flags() -> None:
    from absl import flags

    cli.define_config()
    flags.DEFINE_string("workdir", None, "Folder of the run.", required=True)
    flags.DEFINE_string(
        "coordinator",
        "",
        "To train with other processes: HOST:PORT of process 0, which listens there; or auto, "
        "where Slurm or Open MPI tells it and the two below.",
    )
    flags.DEFINE_integer("processes", None, "How many processes train together.")
    flags.DEFINE_integer("process", None, "The number of this one, from 0.")


def _main(flags) -> None:
    if not flags.coordinator and (flags.processes, flags.process) != (None, None):
        raise InputError(
            f"processes is {flags.processes} and process {flags.process}, but there is no "
            "--coordinator; expected HOST:PORT of process 0"
        )
    check_config(flags.config)
    if flags.config.train.large_pages:
        allocator.use_large_pages()
    last = train_and_evaluate(
        flags.config, flags.workdir, flags.coordinator, flags.processes, flags.process
    )
    from musicjax import devices

    if not devices.is_first():
        return
    print(
        f"trained {last['epoch']} epochs; the curve is {flags.workdir}/loss.png. Make music with\n"
        f"  python -m musicjax.generate --workdir={flags.workdir} --output={flags.workdir}/samples"
    )


if __name__ == "__main__":
    cli.run(_main, _define_flags)
