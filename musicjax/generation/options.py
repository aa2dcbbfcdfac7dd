"""What may be asked of generate: the one place where a setting, its range, default and help are;
and which sampling rules read it.

Free of jax, so that --help answers at once: a rule's function is imported when it is used.
"""

import dataclasses
import importlib
import itertools
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from musicjax.config import ANY, CHECKPOINT, Rule, at_least, check_settings, one_of, setting
from musicjax.errors import InputError
from musicjax.music.key import parse_key
from musicjax.music.song import pitch_name
from musicjax.music.track_selection import parse_program
from musicjax.registry import Registry

if TYPE_CHECKING:
    from musicjax.encodings.base import Encoding

_METER = re.compile(r"[1-9]\d?/(1|2|4|8|16|32)")
_PITCHES = {name: pitch for pitch in range(128) for name in (pitch_name(pitch), str(pitch))}
# Those that say how to fill in, and those that say what is made otherwise.
_OF_INFILL = ("voices", "particles", "sweeps")
_NOT_OF_INFILL = ("length", "seconds", "min_quarters", "prime_length", "mode", "max_copy")

# What each mode sets of the other options.
MODES: dict[str, dict[str, Any]] = {
    "sample": {},
    "greedy": {"temperature": 0.0},
    "best_of_three": {"top_k": 3},
    "predict": {},
}


@dataclasses.dataclass(frozen=True)
class SamplingRule:
    """A rule: a function of musicjax.generation.sampling, or one like those from outside.

    Attributes:
        apply: the function, or where it is to be imported from: "package.module:function".
        kinds: of elements that it is for.
        settings: that it reads, by name: None for a field of Options; for a rule from outside the
            field itself, made by musicjax.config.setting with a default and a help.
    """

    apply: Callable | str
    kinds: tuple[Literal["ids", "matrix"], ...]
    settings: Mapping[str, Any]

    def load(self) -> Callable:
        """The function."""
        if not isinstance(self.apply, str):
            return self.apply
        module, _, function = self.apply.partition(":")
        return getattr(importlib.import_module(module), function)


def _rule(name: str, kinds: tuple, *settings: str) -> SamplingRule:
    return SamplingRule(f"musicjax.generation.sampling:{name}", kinds, dict.fromkeys(settings))


# Applied in this order; those from outside come last. To add one: register it, or declare it as an
# entry point of the group musicjax.rules.
RULES: Registry[SamplingRule] = Registry(
    "rules",
    "a sampling rule",
    {
        "follow_grammar": _rule("follow_grammar", ("ids",)),
        "limit_chords": _rule("limit_chords", ("ids",), "max_notes"),
        "limit_end": _rule("limit_end", ("ids",), "min_quarters"),
        "limit_rests": _rule("limit_rests", ("ids",), "max_rests"),
        "limit_repeats": _rule("limit_repeats", ("ids",), "max_repeats"),
        "limit_silence": _rule("limit_silence", ("matrix",), "max_silence"),
        "temperature": _rule("temperature", ("ids", "matrix"), "temperature"),
        "drop_unlikely": _rule("drop_unlikely", ("ids",), "min_p"),
        "truncate": _rule("truncate", ("ids",), "top_k", "top_p"),
        "greedy": _rule("greedy", ("ids",), "temperature"),
        "limit_notes": _rule("limit_notes", ("matrix",), "max_notes"),
    },
)


def parse_bars(text: str) -> tuple[int, int]:
    """The first and the last bar of such as "5-8" or "5".

    Raises:
        InputError: it is not that.
    """
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not found or first > last:
        raise InputError(f"infill is {text!r}; expected bars, such as 5-8, counted from 1")
    return first, last


def parse_pitches(text: str) -> tuple[int, int] | None:
    """The lowest and the highest MIDI pitch of such as "60-84" or "C4-C6"; None if it is not that.

    Raises:
        InputError: the first is higher.
    """
    low, _, high = text.strip().partition("-")
    if low not in _PITCHES or high not in _PITCHES:
        return None
    if _PITCHES[low] > _PITCHES[high]:
        raise InputError(f"keep is {text!r}; expected the lower pitch first, such as 60-84")
    return _PITCHES[low], _PITCHES[high]


def rules_for(kind: str) -> tuple[Callable, ...]:
    """The functions of the rules for elements of a kind, in their order."""
    return tuple(rule.load() for rule in RULES.values() if kind in rule.kinds)


def _or_none(rule: Rule) -> Rule:
    return Rule(lambda value: value is None or rule.holds(value), rule.expected)


@dataclasses.dataclass(frozen=True)
class Options:
    """What to generate. Each field is a flag of the command line, with its help.

    Raises:
        InputError: a value out of range, or two that exclude one another.
    """

    num: int = setting(at_least(1), default=4, help="Pieces.")
    length: int | None = setting(
        _or_none(at_least(1)), default=None, help="Elements (tokens or steps) of each piece."
    )
    seconds: float | None = setting(
        _or_none(Rule(lambda value: value > 0, "more than 0")),
        default=None,
        help="Playing time of each piece, instead of --length.",
    )
    min_quarters: int = setting(
        at_least(0),
        default=16,
        help="Quarter notes, to the end of a bar, before which no piece ends. Models of events end "
        "their songs; what does not end is as long as --length or --seconds says.",
    )
    seed: int = setting(
        Rule(lambda value: 0 <= value < 2**31, "0 to 2147483647"),
        default=0,
        help="Seed of the first piece; the next has the next seed.",
    )
    mode: str = setting(
        one_of(*MODES),
        default="sample",
        help="sample; greedy (the paper's: a temperature of 0); best_of_three (a top_k of 3); or "
        "predict, each step of a test song from its steps before (the paper's, of note states).",
    )
    temperature: float | None = setting(
        _or_none(at_least(0, "0: greedy")),
        default=None,
        help="1: the model's own probabilities; lower: safer; higher: wilder; 0: greedy; default: "
        "1 of events, 0.95 of tokens, 0.9 of note states.",
    )
    min_p: float | None = setting(
        _or_none(Rule(lambda value: 0 <= value <= 1, "0 to 1 (0: all)")),
        default=None,
        help="Draw among the ids at least so many times as likely as the likeliest; 0: all; "
        "default: 0, of events 0.03.",
    )
    top_k: int = setting(
        at_least(0, "0: all"), default=0, help="Draw among this many likeliest ids; 0: all."
    )
    top_p: float = setting(
        Rule(lambda value: 0 < value <= 1, "more than 0 and at most 1"),
        default=1.0,
        help="Draw among the fewest ids that have this probability together; 1: all.",
    )
    max_rests: int = setting(at_least(0), default=2, help="Most rests in a row, of tokens.")
    max_repeats: int = setting(
        at_least(1), default=4, help="Most times that one token comes in a row."
    )
    max_silence: int = setting(
        at_least(0),
        default=16,
        help="Silent steps after which a note gets likelier with each step, of note states.",
    )
    max_notes: int | None = setting(
        _or_none(at_least(1)),
        default=None,
        help="Most notes at once; default: as many as in the training songs, but for a hundredth "
        "of their time.",
    )
    unweight: bool = setting(
        ANY, default=True, help="Take the training's class weights out; the paper did not."
    )
    prime: str | None = setting(
        ANY, default=None, help="MIDI file whose end is continued; default: parts of test songs."
    )
    prime_length: int | None = setting(
        _or_none(at_least(0)),
        default=None,
        help="Elements of the prime that the model reads; 0 begins from nothing.",
    )
    prime_track: str | None = setting(
        ANY, default=None, help="The prime's part, as data.track; default: as trained."
    )
    unknown_tokens: str = setting(
        one_of("nearest", "drop", "error"),
        default="nearest",
        help="What becomes of the prime's elements that training never saw: nearest (the most "
        "similar known), drop, or error.",
    )
    infill: str | None = setting(
        ANY,
        default=None,
        help="Bars of the --prime that are written anew, such as 5-8, from what stands before and "
        "after them; of note states.",
    )
    keep: str | None = setting(
        ANY,
        default=None,
        help="Voice of the --prime that stays, while the others are written anew: a track, as "
        "data.track, or pitches such as 60-84 or C4-C6; of note states.",
    )
    voices: int | None = setting(
        _or_none(at_least(1)),
        default=None,
        help="Notes at once that infill and keep aim at, such as 4; default: the model's own.",
    )
    particles: int = setting(
        Rule(lambda value: 1 <= value <= 4096, "1 to 4096"),
        default=64,
        help="Drafts that infill and keep choose among by what is given later; 1: from the past "
        "alone.",
    )
    sweeps: int = setting(
        at_least(0),
        default=3,
        help="Times that infill and keep go over what they wrote, in smaller and smaller blocks.",
    )
    include_prime: bool = setting(
        ANY, default=True, help="Write the prime too, as a track of its own."
    )
    tempo: float | None = setting(
        _or_none(Rule(lambda value: 4 <= value <= 1000, "4 to 1000 quarters a minute")),
        default=None,
        help="In quarters a minute; default: the prime's.",
    )
    key: str | None = setting(
        ANY,
        default=None,
        help="Such as D, F#m or Bb:maj. Test songs of its mode are continued, and all is written "
        "in it; default: the prime's.",
    )
    meter: str | None = setting(
        _or_none(Rule(lambda text: bool(_METER.fullmatch(text)), "such as 3/4")),
        default=None,
        help="Such as 3/4: test songs that end in it are continued; default: the prime's.",
    )
    program: str | None = setting(
        ANY,
        default=None,
        help="General MIDI's, to write the music with: a number from 0, a name such as 'church "
        "organ', or a part such as strings; default: the part's that was trained on.",
    )
    velocity: int | None = setting(
        _or_none(Rule(lambda value: 1 <= value <= 127, "1 to 127")),
        default=None,
        help="Loudness, where the model does not say it; default: the prime file's median, or 80.",
    )
    max_copy: int | None = setting(
        _or_none(at_least(3)),
        default=None,
        help="Distinct onsets in a row that a piece may share with a training song, in whatever "
        "key; a piece that shares more is drawn again. Different chorales seldom share over 12.",
    )
    checkpoint: str = setting(
        CHECKPOINT, default="best", help="best, last, or an epoch of train.keep_epochs, such as 10."
    )

    def __post_init__(self):
        check_settings(self)
        if self.length is not None and self.seconds is not None:
            raise InputError(
                f"length is {self.length} and seconds is {self.seconds}; give one of the two"
            )
        self._check_infill()
        # What cannot be is found now, not when all is made.
        if self.key is not None:
            parse_key(self.key)
        if self.program is not None:
            parse_program(self.program)

    @property
    def asks(self) -> str:
        """Which of infill and keep are asked for; "" if none."""
        return " and ".join(name for name in ("infill", "keep") if getattr(self, name) is not None)

    def _check_infill(self) -> None:
        if self.infill is not None:
            parse_bars(self.infill)
        if self.keep is not None:
            if not self.keep.strip():
                raise InputError("keep is empty; expected a track, or pitches such as 60-84")
            parse_pitches(self.keep)
            try:
                re.compile(self.keep)
            except re.error as error:
                raise InputError(
                    f"keep is {self.keep!r}: neither pitches such as 60-84 nor a regular "
                    f"expression for track names ({error})"
                ) from None
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value == field.default:
                continue
            if self.asks and field.name in _NOT_OF_INFILL:
                raise InputError(
                    f"{field.name} is {value!r}, which has no effect with {self.asks}; leave it out"
                )
            if not self.asks and field.name in _OF_INFILL:
                raise InputError(
                    f"{field.name} is {value!r}, which has no effect without infill or keep; leave "
                    "it out"
                )

    def check_effect(self, encoding: "Encoding") -> None:
        """Checks that no setting is given whose rules do nothing with elements of an encoding.

        Raises:
            InputError: one is.
        """
        used, idle = set(), set()
        for rule in RULES.values():
            (used if encoding.kind in rule.kinds else idle).update(rule.settings)
        idle -= used
        if encoding.kind == "ids" and encoding.crowds(encoding.grammar(1), 1) is None:
            idle.add("max_notes")
        if encoding.kind == "ids" and not encoding.is_end(np.arange(encoding.size)).any():
            idle.add("min_quarters")
        given = {
            field.name
            for field in dataclasses.fields(self)
            if field.name in idle and getattr(self, field.name) != field.default
        }
        if idle & MODES[self.mode].keys():
            given.add("mode")
        for name in sorted(given):
            raise InputError(
                f"{name} is {getattr(self, name)!r}, which has no effect on a model of "
                f"{encoding.element}s; "
                "leave it out"
            )

    def sampling_settings(self, encoding: "Encoding", most_at_once: int = 128) -> dict[str, Any]:
        """The numbers that sampling rules read, by name; the mode's among them.

        Args:
            encoding: of what is made; it says what is usual where nothing was given.
            most_at_once: of the corpus that the model was trained on; max_notes if that is None.
        """
        names = itertools.chain.from_iterable(rule.settings for rule in RULES.values())
        usual = {
            "temperature": encoding.usual_temperature,
            "min_p": encoding.usual_min_p,
            "max_notes": most_at_once,
        }
        settings = {name: getattr(self, name) for name in names} | MODES[self.mode]
        return {name: usual.get(name) if v is None else v for name, v in settings.items()}


def options_class() -> type[Options]:
    """Options, with a field more for each setting of a sampling rule from outside."""
    added = [
        (name, type(field.default), field)
        for rule in RULES.values()
        for name, field in rule.settings.items()
        if field is not None
    ]
    if not added:
        return Options
    return dataclasses.make_dataclass("Options", added, bases=(Options,), frozen=True)
