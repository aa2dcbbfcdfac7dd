"""What `config.train` says, as the parts of training see it; and how a run is exported. Free of
jax, so that a mistake in a config is reported at once.
"""

import ast
import dataclasses
from typing import Any

from musicjax.config import (
    ANY,
    SHARE,
    Config,
    Rule,
    at_least,
    check_settings,
    expect,
    more_than,
    one_of,
    setting,
    settings_of,
)
from musicjax.corpus.build import parse_data

OCTAVE = 12  # semitones


def parse_call(text: str) -> tuple[str, dict[str, Any]]:
    """A name and its arguments, of "adamw(weight_decay=0.01)" or "adam".

    Raises:
        ValueError: text is no such thing; arguments are numbers, texts and the like, by name.
    """
    try:
        called = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise ValueError(text) from None
    given = []
    if isinstance(called, ast.Call) and not called.args:
        called, given = called.func, called.keywords
    if not isinstance(called, ast.Name):
        raise ValueError(text)
    return called.id, {str(word.arg): ast.literal_eval(word.value) for word in given}


def _is_call(text: str) -> bool:
    try:
        return parse_call(text) is not None
    except ValueError:
        return False


def _call_such_as(example: str) -> Rule:
    return Rule(_is_call, f"a name, with arguments by name if any, such as {example!r}")


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """The settings of `config.train` for the loop, explained in the configs."""

    epochs: int = setting(at_least(1))
    patience: int = setting(at_least(0, "0: all epochs"))
    ema: float = setting(SHARE)
    init_from: str = setting(ANY)
    batch_size: int = setting(at_least(1))
    steps_per_call: int = setting(at_least(1))
    checkpoint_minutes: float = setting(at_least(0))
    keep_epochs: tuple[int, ...] = setting(
        Rule(lambda epochs: min(epochs, default=1) > 0, "epochs, such as (1, 10, 50)")
    )
    devices: int = setting(at_least(0))
    huge_pages: bool = setting(ANY)
    device_cache_megabytes: float = setting(at_least(0))


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """The settings of `config.train` for the optimizer, explained in the configs."""

    optimizer: str = setting(_call_such_as("adamw(weight_decay=0.01)"))
    learning_rate: float = setting(more_than(0))
    schedule: str = setting(_call_such_as("exponential_decay(decay_rate=0.1)"))
    warmup_steps: int = setting(at_least(0, "0: none"))
    clip_norm: float = setting(at_least(0, "0: none"))


@dataclasses.dataclass(frozen=True)
class ExampleSettings:
    """The settings of `config.train` that say which windows of a song are examples, explained in
    the configs.
    """

    starts: str = setting(one_of("all", "tiles", "beginning", "bars"))
    stride: int = setting(at_least(1))
    eval_window: int = setting(at_least(0, "0: the model's window"))
    per_song: int = setting(at_least(1))
    shuffle: bool = setting(ANY)
    short_songs: str = setting(one_of("pad", "leave_out"))
    transpose_range: tuple[int, int] = setting(
        Rule(
            lambda range: -OCTAVE <= range[0] <= 0 <= range[1] <= OCTAVE,
            "semitones (down, up), each within an octave, such as (-5, 6)",
        )
    )


def check_config(config: Config) -> None:
    """Checks `config.seed`, `config.data` and `config.train`; a model checks `config.model`.

    Raises:
        InputError: names the first value that is not allowed, and what it may be.
    """
    seed = config.seed
    expect(isinstance(seed, int) and 0 <= seed < 2**31, "seed", seed, "0 to 2147483647")
    parse_data(config.data)
    for cls in (TrainSettings, OptimizerSettings, ExampleSettings):
        settings_of(cls, config.train, "train")


@dataclasses.dataclass(frozen=True)
class ExportSettings:
    """What is exported of a run, and how. Each field is a flag of musicjax.export, with its help.

    Raises:
        InputError: a value that is not allowed.
    """

    dtype: str = setting(
        one_of("float32", "float16"),
        default="float32",
        help="Of the weights: float32; or float16, half the size.",
    )
    songs: int = setting(
        at_least(0),
        default=0,
        help="Test songs that go along, for pieces to continue; mind their licence. Where there "
        "are none, a piece needs a --prime.",
    )
    license: str = setting(
        default="unknown", help="Of the weights, for the model card: such as cc0-1.0."
    )
    programs: bool = setting(default=True, help="Write StableHLO programs, too.")

    def __post_init__(self):
        check_settings(self)
