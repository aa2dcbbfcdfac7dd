"""Configs, which the files of configs/ return as an ml_collections.ConfigDict; typed views of them.

Each field is explained in configs/, beside its default. Whoever uses a field declares it, and what
it may be, as a `setting` of a dataclass; `settings_of` makes the dataclass from a group of the
config. So a model's settings are asked of that model only.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

from musicjax.errors import InputError

Config = Any  # ml_collections.ConfigDict, whose fields a type checker does not know
T = TypeVar("T")
_MISSING = dataclasses.MISSING


class Rule(NamedTuple):
    """What a setting's value must be.

    Attributes:
        holds: whether a value is allowed.
        expected: the same in words.
    """

    holds: Callable[[Any], bool]
    expected: str


ANY = Rule(lambda value: True, "anything")


def at_least(least: float, note: str = "") -> Rule:
    """A number that is not smaller; `note` is added, such as "0: none"."""
    return Rule(lambda value: value >= least, f"at least {least}" + (f" ({note})" if note else ""))


def more_than(bound: float) -> Rule:
    """A number that is larger."""
    return Rule(lambda value: value > bound, f"more than {bound}")


def one_of(*values: Any) -> Rule:
    """One of these."""
    return Rule(lambda value: value in values, f"one of {', '.join(map(repr, values))}")


SHARE = Rule(lambda value: 0 <= value < 1, "0 <= share < 1")
# Which checkpoint of a run.
CHECKPOINT = Rule(
    lambda name: name in ("best", "last") or (name.isdecimal() and int(name) > 0),
    "best, last, or an epoch of train.keep_epochs, such as 10",
)
SIZES = Rule(lambda value: len(value) > 0 and min(value) > 0, "sizes, such as (36,)")


def setting(rule: Rule = ANY, *, default: Any = _MISSING, help: str = "") -> Any:
    """A dataclass field that is read from a config or a flag.

    Args:
        rule: what it may be.
        default: of a flag; a config has a value for each setting.
        help: for --help.
    """
    return dataclasses.field(default=default, metadata={"rule": rule, "help": help}, kw_only=True)


def check_settings(settings: Any, prefix: str = "") -> None:
    """Checks each setting of a dataclass by its rule.

    Raises:
        InputError: names the first that is not allowed, and what it may be.
    """
    for field in dataclasses.fields(settings):
        rule = field.metadata.get("rule")
        value = getattr(settings, field.name)
        if rule is not None:
            expect(rule.holds(value), f"{prefix}{field.name}", value, rule.expected)


def expect(holds: bool, name: str, value: Any, expected: str) -> None:
    """Checks a setting.

    Raises:
        InputError: it does not hold.
    """
    if not holds:
        raise InputError(f"{name} is {value!r}; expected {expected}")


def settings_of(cls: type[T], group: Mapping[str, Any], prefix: str) -> T:
    """The settings of a dataclass from the config's fields of the same names, checked.

    Args:
        cls: a dataclass; fields that are no `setting` keep their defaults.
        group: such as `config.train`.
        prefix: what the group is called in messages, such as "train".
    Raises:
        InputError: a field is missing, or has a value that is not allowed.
    """
    fields = [f for f in dataclasses.fields(cast(Any, cls)) if "rule" in f.metadata]
    missing = [field.name for field in fields if field.name not in group]
    if missing:
        raise InputError(
            f"the config has no {prefix}.{missing[0]}, which {cls.__name__} needs; add it, as the "
            "files of configs/ do"
        )
    values = {field.name: group[field.name] for field in fields}
    made = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    check_settings(made, f"{prefix}.")
    return made


def flat_fields(config: Config, prefix: str = "") -> dict[str, Any]:
    """All fields by their dotted names, such as "train.learning_rate"."""
    flat = {}
    for name, value in config.items():
        group = hasattr(value, "items")
        flat |= flat_fields(value, f"{prefix}{name}.") if group else {prefix + name: value}
    return flat
