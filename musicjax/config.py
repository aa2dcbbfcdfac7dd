"""Configs: what the files of configs/ give, as an ml_collections.ConfigDict.

Each field is explained there, beside its default.
"""

from typing import Any

from musicjax.errors import InputError

Config = Any  # ml_collections.ConfigDict, whose fields no type checker knows


def check_config(config: Config) -> None:
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


def flat_fields(config: Config, prefix: str = "") -> dict[str, Any]:
    """All fields by their dotted names, such as "train.learning_rate"."""
    flat = {}
    for name, value in config.items():
        group = hasattr(value, "items")
        flat |= flat_fields(value, f"{prefix}{name}.") if group else {prefix + name: value}
    return flat
