import pytest
from conftest import load_config

from musicjax.errors import InputError
from musicjax.training.settings import check_config, parse_call


@pytest.mark.parametrize("name", ["vocab", "nsm", "polyphonic", "events"])
def test_the_configs_are_allowed(name):
    check_config(load_config("", name))


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("train.batch_size", 0, "at least 1"),
        ("train.optimizer", "adam(0.9)", "a name, with arguments by name if any, such as 'adamw"),
        ("train.optimizer", "adam(b1=b2)", "a name"),
        ("train.optimizer", "two names", "a name"),
        ("train.patience", -1, r"at least 0 \(0: all epochs\)"),
        ("train.ema", 1.0, "0 <= share < 1"),
        ("train.learning_rate", 0.0, "more than 0"),
        ("train.schedule", "cosine(", "a name, with arguments by name if any, such as 'exp"),
        ("train.warmup_steps", -1, r"at least 0 \(0: none\)"),
        ("train.eval_window", -1, r"at least 0 \(0: the model's window\)"),
        ("train.clip_norm", -1.0, r"at least 0 \(0: none\)"),
        ("train.devices", -1, "at least 0"),
        ("train.starts", "middle", "one of 'all', 'tiles', 'beginning', 'bars'"),
        ("train.short_songs", "drop", "one of 'pad', 'leave_out'"),
        ("train.stride", 0, "at least 1"),
        ("train.transpose_range", (1, 2), r"semitones \(down, up\), each within an octave"),
        ("train.transpose_range", (-1, 13), r"semitones \(down, up\), each within an octave"),
        ("data.longest_minutes", -1.0, "at least 0"),
    ],
)
def test_a_value_that_is_not_allowed(field, value, expected):
    config = load_config("tiny")
    config.update_from_flattened_dict({field: value})
    found = str(value).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(InputError, match=f"{field} is '?{found}'?; expected {expected}"):
        check_config(config)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("adam", ("adam", {})),
        (
            "adamw(weight_decay=0.01, nesterov=True)",
            ("adamw", {"weight_decay": 0.01, "nesterov": True}),
        ),
        (" f(x={3: 0.1}, y=-1)", ("f", {"x": {3: 0.1}, "y": -1})),
    ],
)
def test_a_name_with_arguments(text, expected):
    assert parse_call(text) == expected


def test_a_field_that_is_missing():
    config = load_config("tiny")
    del config.train.stride
    with pytest.raises(InputError, match=r"the config has no train\.stride"):
        check_config(config)
