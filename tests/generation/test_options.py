import dataclasses
import subprocess
import sys

import pytest
from absl import flags
from conftest import ROOT, VOCABULARY

from musicjax import cli
from musicjax.config import at_least, setting
from musicjax.encodings.events import EventEncoding
from musicjax.encodings.note_states import NoteStateEncoding
from musicjax.encodings.tokens import TokenEncoding
from musicjax.errors import InputError
from musicjax.generation.options import (
    RULES,
    Options,
    SamplingRule,
    options_class,
    parse_bars,
    parse_pitches,
    rules_for,
)

TOKENS = TokenEncoding(longest_rest=4, longest_note=16, instruments=False, vocabulary=VOCABULARY)
EVENTS = EventEncoding(resolution=4, velocities=0, instruments=False, tempos=0, ends=True, meter="")
STATES = NoteStateEncoding(lowest=60, highest=63, articulate=True)


@pytest.mark.parametrize(
    "change",
    [
        {"num": 0},
        {"min_quarters": -1},
        {"length": 0},
        {"seconds": -1.0},
        {"mode": "best"},
        {"temperature": -0.1},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"min_p": -0.1},
        {"min_p": 1.5},
        {"max_rests": -1},
        {"max_repeats": 0},
        {"max_silence": -1},
        {"max_notes": 0},
        {"prime_length": -1},
        {"tempo": 0.0},
        {"checkpoint": "first"},
        {"seed": -1},
        {"unknown_tokens": "ignore"},
        {"infill": "8-5"},
        {"infill": "the bridge"},
        {"keep": "C6-C4"},
        {"voices": 0},
        {"particles": 0},
        {"sweeps": -1},
    ],
)
def test_a_value_that_is_not_allowed(change):
    ((name, value),) = change.items()
    with pytest.raises(InputError, match=rf"{name} is {value!r}; expected \w"):
        Options(**change)


def test_a_length_and_a_playing_time_exclude_one_another():
    with pytest.raises(InputError, match=r"length is 8 and seconds is 2\.0; give one of the two"):
        Options(length=8, seconds=2.0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"infill": "5-8", "length": 8}, "length is 8, which has no effect with infill"),
        ({"keep": "bass", "infill": "5", "mode": "greedy"}, "mode is 'greedy', .* infill and keep"),
        ({"sweeps": 0}, "sweeps is 0, which has no effect without infill or keep"),
        ({"keep": " "}, "keep is empty; expected a track, or pitches"),
        ({"keep": "(low"}, r"keep is '\(low': neither pitches such as 60-84 nor a regular"),
    ],
)
def test_what_does_not_go_with_infill_and_keep(change, expected):
    with pytest.raises(InputError, match=expected):
        Options(**change)


def test_pitches_are_numbers_or_names():
    assert parse_pitches("60-84") == parse_pitches("C4-C6") == (60, 84)
    assert parse_pitches("soprano") is parse_pitches("60-") is None
    assert (parse_bars("5-8"), parse_bars("5")) == ((5, 8), (5, 5))


@pytest.mark.parametrize(
    ("without", "with_effect", "change"),
    [
        (STATES, TOKENS, {"top_k": 3}),
        (STATES, TOKENS, {"top_p": 0.5}),
        (STATES, TOKENS, {"min_p": 0.1}),
        (STATES, TOKENS, {"max_rests": 1}),
        (STATES, TOKENS, {"max_repeats": 1}),
        (STATES, TOKENS, {"mode": "best_of_three"}),
        (TOKENS, STATES, {"max_silence": 1}),
        (TOKENS, EVENTS, {"min_quarters": 8}),
        (STATES, EVENTS, {"min_quarters": 8}),
    ],
)
def test_a_setting_without_effect_on_the_model(without, with_effect, change):
    ((name, value),) = change.items()
    with pytest.raises(InputError, match=f"{name} is {value!r}, which has no effect on a model of"):
        Options(**change).check_effect(without)
    Options(**change).check_effect(with_effect)


@pytest.mark.parametrize("encoding", [TOKENS, EVENTS, STATES])
def test_what_has_an_effect_on_any_model(encoding):
    for options in (
        Options(),
        Options(temperature=0.5),
        Options(mode="greedy"),
        Options(num=2, length=3, prime_length=0, tempo=90.0),
        Options(max_notes=4),
    ):
        options.check_effect(encoding)


def test_a_mode_sets_what_the_rules_read():
    assert Options(temperature=0.7, top_k=5).sampling_settings(TOKENS, most_at_once=12) == {
        "min_quarters": 16,
        "max_rests": 2,
        "max_repeats": 4,
        "max_silence": 16,
        "temperature": 0.7,
        "min_p": 0.0,
        "top_k": 5,
        "top_p": 1.0,
        "max_notes": 12,
    }
    assert Options(mode="greedy", temperature=0.7).sampling_settings(TOKENS)["temperature"] == 0
    assert Options(mode="best_of_three").sampling_settings(TOKENS)["top_k"] == 3
    assert Options(max_notes=3).sampling_settings(TOKENS, most_at_once=12)["max_notes"] == 3


@pytest.mark.parametrize(("encoding", "usual"), [(TOKENS, 0.95), (EVENTS, 1.0), (STATES, 0.9)])
def test_what_is_usual_is_the_encodings(encoding, usual):
    assert Options().sampling_settings(encoding)["temperature"] == usual
    assert Options().sampling_settings(encoding)["min_p"] == encoding.usual_min_p
    assert Options(temperature=0.5).sampling_settings(encoding)["temperature"] == 0.5
    assert Options(min_p=0.0).sampling_settings(encoding)["min_p"] == 0


def test_each_kind_of_elements_has_its_rules_in_order():
    def names(kind):
        return [rule.__name__ for rule in rules_for(kind)]

    assert names("ids") == [
        "follow_grammar",
        "limit_chords",
        "limit_end",
        "limit_rests",
        "limit_repeats",
        "temperature",
        "drop_unlikely",
        "truncate",
        "greedy",
    ]
    assert names("matrix") == ["limit_silence", "temperature", "limit_notes"]


def test_each_option_is_a_flag_with_a_help(monkeypatch):
    values = flags.FlagValues()
    monkeypatch.setattr(cli.flags, "FLAGS", values)
    for kind in ("string", "bool", "integer", "float"):
        define = getattr(flags, f"DEFINE_{kind}")
        monkeypatch.setattr(
            cli.flags,
            f"DEFINE_{kind}",
            lambda *args, define=define: define(*args, flag_values=values),
        )
    cli.define_options(Options)
    assert set(values) >= {field.name for field in dataclasses.fields(Options)}
    assert all(values[field.name].help for field in dataclasses.fields(Options))
    values(["generate", "--num=2", "--seconds=7.5", "--nounweight", "--prime=a.mid"])
    found = cli.parsed_options(Options, values)
    assert found == Options(num=2, seconds=7.5, unweight=False, prime="a.mid")


def test_a_rule_from_outside_brings_its_own_setting(monkeypatch):
    def favour(logits, history, settings, encoding):
        return logits.at[:, 1].add(settings["favour"])

    field = setting(at_least(0), default=0.0, help="How much likelier id 1 is.")
    monkeypatch.setattr(RULES, "_things", dict(RULES._things))
    RULES.register("favour", SamplingRule(favour, ("ids",), {"favour": field}))
    cls = options_class()
    assert issubclass(cls, Options)
    assert cls().sampling_settings(TOKENS)["favour"] == 0
    assert cls(favour=2.5).sampling_settings(TOKENS)["favour"] == 2.5
    assert rules_for("ids")[-1] is favour
    with pytest.raises(InputError, match=r"favour is -1\.0; expected at least 0"):
        cls(favour=-1.0)
    with pytest.raises(InputError, match=r"favour is 2\.5, which has no effect"):
        cls(favour=2.5).check_effect(STATES)


def test_options_are_free_of_jax():
    code = "import sys, musicjax.generation.options; print('jax' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.strip() == "False"
