r"""Trains a model on a source of songs.

    python -m musicjax.train --config=configs/vocab.py --workdir=runs/vocab \
        --config.data.source=/my/midi --config.data.track=piano

Encodes the songs if that was not done yet, trains, and leaves in the work dir all that
musicjax.generate and musicjax.evaluate need. Stopped and started again, it goes on.
"""

import copy
import shutil
from pathlib import Path

from musicjax import cli
from musicjax.cleaning import with_track
from musicjax.config import Config, check_config, flat_fields
from musicjax.corpus import Corpus
from musicjax.encode import open_corpus
from musicjax.errors import InputError

# What may change when a work dir is used again: nothing that has shaped the steps already done.
_MAY_CHANGE = {f"train.{n}" for n in ("epochs", "checkpoint_minutes", "steps_per_call", "devices")}


def train_and_evaluate(config: Config, workdir: str | Path) -> dict[str, float]:
    """Encodes, trains, and validates after each epoch.

    Args:
        config: as a file of configs/ gives it.
        workdir: made if it is not there. If it holds a run of the same config, that goes on.
    Returns:
        the last epoch's metrics, as in metrics.jsonl: train_loss, validation_loss, ...
    Raises:
        InputError: a config, corpus or work dir that does not fit; or the loss became NaN.
    """
    check_config(config)
    workdir = Path(workdir)
    # Songs first, jax after: a mistake in the source is told within a second.
    corpus = open_corpus(config.data)
    config = _with_settings_of(corpus, config)

    from musicjax import checkpoint, compilation, loop
    from musicjax.dataset import examples

    compilation.enable_cache()
    # Without validation songs (the paper had none) the test songs are measured, not chosen by.
    watched = "validation" if config.data.validation_share or corpus.split("validation") else "test"
    source = examples(corpus, "train", config.train, training=True)
    held_out = examples(corpus, watched, config.train)
    fingerprint = corpus.manifest["fingerprint"]
    if checkpoint.has_checkpoint(workdir):
        _check_same_run(workdir, *checkpoint.load_config(workdir), config, fingerprint)
    else:
        workdir.mkdir(parents=True, exist_ok=True)
        if corpus.vocabulary:
            corpus.vocabulary.save(workdir / "vocabulary.json")
        shutil.rmtree(workdir / "test_songs", ignore_errors=True)
        corpus.only("test").save(workdir / "test_songs")
    # Last, and whole or not at all: with it the work dir is one.
    checkpoint.save_config(workdir, config, fingerprint)
    return loop.train(config, corpus.vocabulary, source, held_out, workdir, watched)


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


def _main(flags) -> None:
    last = train_and_evaluate(flags.config, flags.workdir)
    print(
        f"trained {last['epoch']} epochs; the curve is {flags.workdir}/loss.png. Make music with\n"
        f"  python -m musicjax.generate --workdir={flags.workdir} --output={flags.workdir}/samples"
    )


if __name__ == "__main__":
    cli.run(_main, _define_flags)
