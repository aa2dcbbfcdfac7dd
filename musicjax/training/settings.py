"""What `config.train` says, as the parts of training see it. Free of jax, so that a mistake in a
config is reported at once.
"""

import dataclasses

from musicjax.config import (
    ANY,
    Config,
    Rule,
    at_least,
    more_than,
    one_of,
    setting,
    settings_of,
)
from musicjax.corpus.build import parse_data


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """The settings of `config.train` for the loop, explained in the configs."""

    epochs: int = setting(at_least(1))
    batch_size: int = setting(at_least(1))
    steps_per_call: int = setting(at_least(1))
    checkpoint_minutes: float = setting(at_least(0))
    devices: int = setting(at_least(0))
    huge_pages: bool = setting(ANY)
    device_cache_megabytes: float = setting(at_least(0))


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """The settings of `config.train` for the optimizer, explained in the configs."""

    optimizer: str = setting(one_of("rmsprop", "adam", "adadelta"))
    learning_rate: float = setting(more_than(0))
    schedule: str = setting(one_of("constant", "cosine"))
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
        Rule(lambda range: range[0] <= 0 <= range[1], "semitones (down, up), such as (-5, 6)")
    )


def check_config(config: Config) -> None:
    """Checks `config.data` and `config.train`; a model checks `config.model`.

    Raises:
        InputError: names the first value that is not allowed, and what it may be.
    """
    parse_data(config.data)
    for cls in (TrainSettings, OptimizerSettings, ExampleSettings):
        settings_of(cls, config.train, "train")
