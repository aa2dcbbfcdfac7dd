r"""Trains a model on a source of songs.

    python -m musicjax.train --config=configs/vocab.py --workdir=runs/vocab \
        --config.data.source=/my/midi --config.data.track=piano

Encodes the songs if that was not done yet, trains, and leaves in the work dir all that
musicjax.generate and musicjax.evaluate need. Stopped and started again, it goes on.
"""

from pathlib import Path

from musicjax import cli
from musicjax.config import Config, check_config, flat_fields
from musicjax.encode import open_corpus
from musicjax.errors import InputError

# What may change when a work dir is used again: nothing that has shaped the steps already done.
_MAY_CHANGE = {"train.epochs", "train.checkpoint_minutes", "train.steps_per_call"}


def train_and_evaluate(
    config: Config, workdir: str | Path, *, compilation_cache: str | None = "default"
) -> dict[str, float]:
    """Encodes, trains, and validates after each epoch.

    Args:
        config: as a file of configs/ gives it.
        workdir: made if it is not there. If it holds a run of the same config, that goes on.
        compilation_cache: folder of compiled programs; "default" is in the user's cache folder,
            None keeps none.
    Returns:
        the last epoch's metrics, as in metrics.jsonl: train_loss, validation_loss, ...
    Raises:
        InputError: a config, corpus or work dir that does not fit; or the loss became NaN.
    """
    check_config(config)
    workdir = Path(workdir)
    # Songs first, jax after: a mistake in the source is told within a second.
    corpus = open_corpus(config.data)

    from musicjax import checkpoint, loop

    set_compilation_cache(compilation_cache)
    fingerprint = corpus.manifest["fingerprint"]
    if (workdir / "config.json").exists():
        _check_same_run(workdir, *checkpoint.load_config(workdir), config, fingerprint)
    workdir.mkdir(parents=True, exist_ok=True)
    checkpoint.save_config(workdir, config, fingerprint)
    corpus.vocabulary.save(workdir / "vocabulary.json")
    if not (workdir / "test_songs").exists():
        corpus.only("test").save(workdir / "test_songs")
    return loop.train(config, corpus, workdir)


def set_compilation_cache(folder: str | None) -> None:
    """Keeps compiled programs in a folder, so that the next start need not compile them."""
    import jax
    import platformdirs

    if folder == "default":
        folder = str(platformdirs.user_cache_path("musicjax") / "compiled")
    if folder is not None:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


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
        "compilation_cache",
        "default",
        "Folder of compiled programs; 'default' is in your cache folder, '' keeps none.",
    )


def _main(flags) -> None:
    cache = flags.compilation_cache or None
    last = train_and_evaluate(flags.config, flags.workdir, compilation_cache=cache)
    print(
        f"trained {last['epoch']} epochs; the curve is {flags.workdir}/loss.png. Make music with\n"
        f"  python -m musicjax.generate --workdir={flags.workdir} --output={flags.workdir}/samples"
    )


if __name__ == "__main__":
    cli.run(_main, _define_flags)
