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
    expect("data.songs", data.songs >= 0, "a number of songs, or 0 for all")
    for name in ("least_notes", "versions", "longest_minutes", "least_qpm"):
        expect(f"data.{name}", data[name] >= 0, "0 or more")
    for name in ("most_megabytes", "seconds_per_file"):
        expect(f"data.{name}", data[name] > 0, "more than 0")
    expect("data.most_qpm", data.most_qpm > data.least_qpm, f"more than {data.least_qpm}")
    for name in ("decade", "first_year", "last_year"):
        expect(f"data.{name}", not data[name] or data.table, "0, or data.table to tell the years")
    expect("data.decade", data.decade % 10 == 0, "such as 1970")
    expect("data.split_by", data.split_by in ("content", "index"), "'content' or 'index'")
    encodings = {"vocab": "vocabulary", "biaxial": "note_state"}
    expect("model.name", model.name in encodings, "'vocab' or 'biaxial'")
    encoding = encodings[model.name]
    expect("data.encoding", data.encoding == encoding, f"{encoding!r}, which {model.name} reads")
    expect("model.dropout", 0 <= model.dropout < 1, "0 <= dropout < 1")
    storages = ("float32", "bfloat16")
    expect("model.storage", model.storage in storages, "'float32' or 'bfloat16'")
    expect("model.remat", model.remat >= 0, "steps of a block, or 0 to keep all")
    expect("model.kernel", model.kernel in ("scan", "cudnn"), "'scan' or 'cudnn'")
    if model.kernel == "cudnn":
        with_it = "where model.kernel is 'cudnn'"
        expect("model.storage", model.storage == "float32", f"'float32' {with_it}")
        expect("model.remat", not model.remat, f"0 {with_it}")
    for name in ("epochs", "batch_size", "window", "steps_per_call"):
        expect(f"train.{name}", train[name] > 0, "at least 1")
    expect(
        "train.optimizer",
        train.optimizer in ("rmsprop", "adam", "adadelta"),
        "'rmsprop', 'adam' or 'adadelta'",
    )
    expect("train.schedule", train.schedule in ("constant", "cosine"), "'constant' or 'cosine'")
    expect("train.learning_rate", train.learning_rate > 0, "more than 0")
    for name in ("clip_norm", "checkpoint_minutes", "devices", "resident_megabytes"):
        expect(f"train.{name}", train[name] >= 0, "0 or more")
    {"vocab": _check_vocab, "biaxial": _check_biaxial}[model.name](data, model, train, expect)


def _check_vocab(data, model, train, expect) -> None:
    for name in ("longest_rest", "longest_note"):
        expect(f"data.{name}", data[name] >= 0, "quarters, or 0 to keep all")
    for name in ("embedding_size", "encoder_size", "attention_size", "decoder_size"):
        expect(f"model.{name}", model[name] > 0, "at least 1")
    for name in ("encoder_layers", "decoder_layers", "dense_size"):
        expect(f"model.{name}", model[name] >= 0, "0 or more")
    expect("model.input", model.input in ("embedding", "scalar"), "'embedding' or 'scalar'")
    expect(
        "model.attention_scores",
        model.attention_scores in ("linear", "sigmoid"),
        "'linear' or 'sigmoid'",
    )
    if model.causal:
        expect("model.bidirectional", not model.bidirectional, "False where model.causal is set")
        expect("model.flatten", not model.flatten, "False where model.causal is set")
    expect("train.stride", train.stride > 0, "at least 1")
    expect("train.class_weights", train.class_weights >= 0, "0 or more")


def _check_biaxial(data, model, train, expect) -> None:
    expect("data.lowest", 0 <= data.lowest <= data.highest, "a MIDI pitch up to data.highest")
    expect("data.longest_silence", data.longest_silence >= 0, "bars, or 0 to keep all")
    expect("data.highest", data.highest < 128, "a MIDI pitch, at most 127")
    for name in ("time_sizes", "note_sizes"):
        expect(
            f"model.{name}", len(model[name]) > 0 and min(model[name]) > 0, "sizes, such as (36,)"
        )
    for name, values in {
        "model.output": ("hidden", "dense", "dense_per_note"),
        "model.loss": ("squares", "likelihood"),
        "model.feedback": ("none", "true", "sample"),
        "model.beat": ("none", "signed", "bits"),
        "model.numbers": ("index", "midi"),
        "train.target": ("next", "literal"),
        "train.starts": ("beginning", "bars"),
        "train.short_songs": ("pad", "leave_out"),
    }.items():
        group, _, field = name.partition(".")
        value = (model if group == "model" else train)[field]
        expect(name, value in values, f"one of {', '.join(values)}")
    if model.kernel == "cudnn":
        expect("model.tied", model.tied, "True where model.kernel is 'cudnn'")
    bits = 2 if data.articulate else 1
    if model.output == "hidden":
        expect("model.loss", model.loss == "squares", "'squares' where model.output is 'hidden'")
        expect("model.note_sizes", model.note_sizes[-1] == bits, f"{bits} last, as the output")
        expect("model.feedback", model.feedback == "none", "'none' where model.output is 'hidden'")
    expect("train.per_song", train.per_song > 0, "at least 1")
    expect("train.sounding_weight", train.sounding_weight > 0, "more than 0")
    low, high = train.transpose_range
    expect("train.transpose_range", low <= 0 <= high, "semitones (down, up), such as (-5, 6)")


def flat_fields(config: Config, prefix: str = "") -> dict[str, Any]:
    """All fields by their dotted names, such as "train.learning_rate"."""
    flat = {}
    for name, value in config.items():
        group = hasattr(value, "items")
        flat |= flat_fields(value, f"{prefix}{name}.") if group else {prefix + name: value}
    return flat
