import pytest
from conftest import load_config

from musicjax.errors import InputError
from musicjax.training.settings import check_config


@pytest.mark.parametrize("name", ["vocab", "nsm", "polyphonic", "events"])
def test_the_configs_are_allowed(name):
    check_config(load_config("", name))


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("train.batch_size", 0, "at least 1"),
        ("train.optimizer", "sgd", "one of 'rmsprop', 'adam', 'adadelta'"),
        ("train.learning_rate", 0.0, "more than 0"),
        ("train.schedule", "linear", "one of 'constant', 'cosine'"),
        ("train.warmup_steps", -1, r"at least 0 \(0: none\)"),
        ("train.eval_window", -1, r"at least 0 \(0: the model's window\)"),
        ("train.clip_norm", -1.0, r"at least 0 \(0: none\)"),
        ("train.devices", -1, "at least 0"),
        ("train.starts", "middle", "one of 'all', 'tiles', 'beginning', 'bars'"),
        ("train.short_songs", "drop", "one of 'pad', 'leave_out'"),
        ("train.stride", 0, "at least 1"),
        ("train.transpose_range", (1, 2), r"semitones \(down, up\)"),
        ("data.longest_minutes", -1.0, "at least 0"),
    ],
)
def test_a_value_that_is_not_allowed(field, value, expected):
    config = load_config("tiny")
    config.update_from_flattened_dict({field: value})
    found = str(value).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(InputError, match=f"{field} is '?{found}'?; expected {expected}"):
        check_config(config)


def test_a_field_that_is_missing():
    config = load_config("tiny")
    del config.train.stride
    with pytest.raises(InputError, match=r"the config has no train\.stride"):
        check_config(config)
