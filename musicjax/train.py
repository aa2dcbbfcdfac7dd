r"""Trains a model on a source of songs.

    python -m musicjax.train --config=configs/vocab.py --workdir=runs/vocab \
        --config.data.source=/my/midi --config.data.track=piano

Encodes the songs if that was not done yet, trains, and leaves in the work dir all that
musicjax.generate and musicjax.evaluate need. Stopped and started again, it goes on.
"""

from pathlib import Path

from ml_collections import ConfigDict

from musicjax import cli
from musicjax.encode import open_corpus
from musicjax.errors import InputError

# What may change when a work dir is used again: nothing that has shaped the steps already done.
_MAY_CHANGE = {"train.epochs", "train.checkpoint_minutes", "train.steps_per_call"}


def train_and_evaluate(
    config: ConfigDict, workdir: str | Path, *, compilation_cache: str | None = "default"
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


def check_config(config: ConfigDict) -> None:
    """Checks the fields' values.

    Raises:
        InputError: names the first that cannot be, and what it may be.
    """

    def expect(name: str, holds: bool, expected: str) -> None:
        if not holds:
            value = config
            for part in name.split("."):
                value = value[part]
            raise InputError(f"{name} is {value!r}; expected {expected}")

    data, model, train = config.data, config.model, config.train
    for name in ("validation_share", "test_share"):
        expect(f"data.{name}", 0 <= data[name] < 1, "0 <= share < 1")
    expect(
        "data.validation_share",
        data.validation_share + data.test_share < 1,
        f"less than 1 with data.test_share ({data.test_share}), so that songs are left to train on",
    )
    for name in ("longest_rest", "longest_note"):
        expect(f"data.{name}", data[name] >= 0, "quarters, or 0 to keep all")
    for name in ("embedding_size", "encoder_size", "attention_size", "decoder_size"):
        expect(f"model.{name}", model[name] > 0, "at least 1")
    for name in ("encoder_layers", "decoder_layers", "dense_size"):
        expect(f"model.{name}", model[name] >= 0, "0 or more")
    expect("model.name", model.name == "vocab", "'vocab'")
    expect("model.input", model.input in ("embedding", "scalar"), "'embedding' or 'scalar'")
    expect(
        "model.attention_scores",
        model.attention_scores in ("linear", "sigmoid"),
        "'linear' or 'sigmoid'",
    )
    expect("model.dropout", 0 <= model.dropout < 1, "0 <= dropout < 1")
    for name in ("epochs", "batch_size", "window", "stride", "steps_per_call"):
        expect(f"train.{name}", train[name] > 0, "at least 1")
    expect("train.optimizer", train.optimizer in ("rmsprop", "adam"), "'rmsprop' or 'adam'")
    expect("train.schedule", train.schedule in ("constant", "cosine"), "'constant' or 'cosine'")
    expect("train.learning_rate", train.learning_rate > 0, "more than 0")
    for name in ("clip_norm", "class_weights", "checkpoint_minutes"):
        expect(f"train.{name}", train[name] >= 0, "0 or more")


def _check_same_run(
    workdir: Path, before: ConfigDict, corpus_before: str, config: ConfigDict, fingerprint: str
) -> None:
    was, now = _flat(before), _flat(config)
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


def _flat(config: ConfigDict, prefix: str = "") -> dict:
    flat = {}
    for name, value in config.items():
        inner = isinstance(value, ConfigDict)
        flat |= _flat(value, f"{prefix}{name}.") if inner else {prefix + name: value}
    return flat


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
