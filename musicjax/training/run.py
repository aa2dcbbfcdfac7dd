"""A run: a config, trained in a work dir, from its songs to the last epoch."""

import contextlib
import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musicjax.config import Config, flat_fields, settings_of
from musicjax.corpus import build
from musicjax.corpus.store import Corpus
from musicjax.encodings import make_encoding
from musicjax.errors import InputError
from musicjax.system import files, limits
from musicjax.training.settings import (
    ExampleSettings,
    OptimizerSettings,
    TrainSettings,
    check_config,
)

if TYPE_CHECKING:
    from musicjax.training.trainer import Callback

# What may change when a run goes on: nothing that has shaped the steps already done. A model names
# the fields of its own.
_MAY_CHANGE = {
    "train.checkpoint_minutes",
    "train.device_cache_megabytes",
    "train.devices",
    "train.epochs",
    "train.huge_pages",
    "train.keep_epochs",
    "train.patience",
    "train.steps_per_call",
}
_CHECKPOINT_BYTES = 12  # of each parameter, with what Adam keeps of it
_MANY_STEPS = 10**6  # of a schedule that is tried before the songs are counted


def train_and_evaluate(
    config: Config,
    workdir: str | Path,
    coordinator: str = "",
    processes: int | None = None,
    process: int | None = None,
    callbacks: "Sequence[Callback]" = (),
) -> dict[str, Any]:
    """Encodes, trains, and validates after each epoch.

    Args:
        config: as a file of configs/ returns it.
        workdir: made if it does not exist. If it holds a run of the same config, that goes on; one
            that has ended too, if train.epochs is raised.
        coordinator, processes, process: as musicjax.training.peers.joined takes them, to train
            together with other processes; by default alone, or as jax.distributed was initialized.
        callbacks: as musicjax.training.trainer.train takes them.
    Returns:
        the last epoch's metrics, as in metrics.jsonl: train_loss, validation_loss, ...
    Raises:
        InputError: a config, corpus, work dir, number of devices or process that does not fit;
            another process trains in the work dir; or the loss became NaN.
    """
    # A mistake in the config or the source is reported before jax is imported, which takes seconds,
    # and one in the model before songs are encoded.
    check_config(config)
    plan = build.make_plan(config.data)

    import jax

    from musicjax.models import build_model
    from musicjax.training import compilation_cache, devices, peers, pretrained, trainer
    from musicjax.training.checkpoint import has_checkpoint
    from musicjax.training.dataset import Examples, batches_per_epoch
    from musicjax.training.optimizer import make_optimizer
    from musicjax.training.workdir import locked

    blank = build_model(config, make_encoding(config.data))
    optimizer_settings = settings_of(OptimizerSettings, config.train, "train")
    make_optimizer(optimizer_settings, _MANY_STEPS, blank.shapes)
    goes_on = has_checkpoint(workdir)
    if not goes_on:
        pretrained.check(config)
    files.expect_writable(Path(workdir))
    # The first process to come encodes, the others wait for it.
    corpus = build.open_corpus(config.data, plan)
    config = _with_settings_of(corpus, config)
    model = build_model(config, corpus.encoding)
    settings = settings_of(TrainSettings, config.train, "train")
    example_settings = settings_of(ExampleSettings, config.train, "train")
    folder = Path(workdir)
    with contextlib.ExitStack() as stack:
        if coordinator:
            stack.enter_context(peers.joined(coordinator, processes, process))
        mesh = devices.make_mesh(settings.devices, settings.batch_size)
        model.check_devices(mesh.size, mesh.devices.flat[0].platform)
        if not devices.is_first():
            stack.enter_context(contextlib.redirect_stdout(None))
        compilation_cache.enable()
        # Without validation songs (the paper had none) the test songs are measured, not chosen by.
        validates = config.data.validation_share or corpus.split("validation")
        eval_split = "validation" if validates else "test"
        examples = Examples(corpus, "train", model, example_settings, training=True)
        eval_dataset = Examples(corpus, eval_split, model, example_settings, training=False)
        steps = settings.epochs * batches_per_epoch(examples, settings.batch_size)
        optimizer = make_optimizer(optimizer_settings, steps)
        size = sum(shape.size for shape in jax.tree.leaves(model.shapes))
        limits.expect_room(folder, 2 * _CHECKPOINT_BYTES * size, "two checkpoints")
        params = None if goes_on else pretrained.begin(model, config)
        with locked(folder) if devices.is_first() else contextlib.nullcontext():
            _open_workdir(folder, config, corpus, model.free_fields)
            return trainer.train(
                model,
                examples,
                eval_dataset,
                settings,
                optimizer,
                seed=config.seed,
                workdir=folder,
                mesh=mesh,
                eval_split=eval_split,
                params=params,
                callbacks=callbacks,
            )


def _open_workdir(
    folder: Path, config: Config, corpus: Corpus, free_fields: tuple[str, ...]
) -> None:
    """Makes the work dir of a run, or checks that it holds the same run.

    Raises:
        InputError: it holds another run.
    """
    from musicjax.training import devices, workdir
    from musicjax.training.checkpoint import has_checkpoint

    fingerprint = corpus.manifest["fingerprint"]
    goes_on = has_checkpoint(folder)
    if goes_on:
        may_change = _MAY_CHANGE | {f"model.{name}" for name in free_fields}
        _check_same_run(folder, *workdir.load_config(folder), config, fingerprint, may_change)
    if devices.is_first():
        if not goes_on:
            workdir.save_songs(folder, corpus)
        # Last, and whole or not at all: it is what makes the folder a work dir.
        workdir.save_config(folder, config, fingerprint)


def _with_settings_of(corpus: Corpus, config: Config) -> Config:
    """The config with the settings that the corpus was encoded by, as a prime must be too.

    They differ only if the source is a corpus folder.
    """
    settings = corpus.manifest["settings"] | {"source": config.data.source}
    unset = {"track": "default"}
    changed = {
        name: value
        for name, value in settings.items()
        if config.data.get(name) not in (value, unset.get(name, value))
    }
    if changed:
        print(f"{config.data.source} was encoded with {changed}; data.* is taken from it")
    config = copy.deepcopy(config)
    config.data.update(settings)
    return config


def _check_same_run(
    folder: Path,
    before: Config,
    corpus_before: str,
    config: Config,
    fingerprint: str,
    may_change: set[str],
) -> None:
    was, now = flat_fields(before), flat_fields(config)
    for name in sorted((was.keys() | now.keys()) - may_change):
        if was.get(name) != now.get(name):
            raise InputError(
                f"{folder} holds a run with {name}={was.get(name)!r}, now it is "
                f"{now.get(name)!r}; give another --workdir, or the same config to go on"
            )
    if corpus_before != fingerprint:
        raise InputError(
            f"{folder} holds a run on other songs: the files of {config.data.source!r} have "
            "changed since; give another --workdir"
        )
    if was["train.epochs"] != now["train.epochs"] and config.train.schedule != "constant":
        print(
            f"train.epochs was {was['train.epochs']}: from here on the learning rate follows the "
            f"{config.train.schedule} schedule over {now['train.epochs']} epochs"
        )
