import dataclasses

import pytest
from conftest import ROOT, load_config
from ml_collections import ConfigDict

from musicjax import config
from musicjax.config import at_least, check_settings, more_than, one_of, setting, settings_of
from musicjax.corpus.build import parse_data
from musicjax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Toy:
    """Settings, and a field that is none."""

    size: int = setting(at_least(1, "units"))
    kind: str = setting(one_of("a", "b"))
    rate: float = setting(more_than(0), default=0.5, help="A rate.")
    sizes: tuple[int, ...] = setting(config.SIZES, default=(1,))
    made: list = dataclasses.field(default_factory=list)


GROUP = {"size": 3, "kind": "b", "rate": 0.1, "sizes": [4, 5], "made": "ignored", "more": 1}


def test_settings_are_the_fields_of_a_group():
    assert settings_of(Toy, GROUP, "model") == Toy(size=3, kind="b", rate=0.1, sizes=(4, 5))
    assert settings_of(Toy, ConfigDict(GROUP), "model") == Toy(
        size=3, kind="b", rate=0.1, sizes=(4, 5)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, r"model\.size is 0; expected at least 1 \(units\)"),
        ({"kind": "c"}, r"model\.kind is 'c'; expected one of 'a', 'b'"),
        ({"rate": 0}, r"model\.rate is 0; expected more than 0"),
        ({"sizes": []}, r"model\.sizes is \(\); expected sizes, such as \(36,\)"),
        ({"sizes": (4, 0)}, r"model\.sizes is \(4, 0\); expected sizes"),
    ],
)
def test_a_value_that_is_not_allowed_is_one_clear_line(changes, message):
    with pytest.raises(InputError, match=message):
        settings_of(Toy, GROUP | changes, "model")


def test_a_missing_field_is_one_clear_line_although_a_flag_may_have_a_default():
    for name in ("size", "rate"):
        group = {field: value for field, value in GROUP.items() if field != name}
        with pytest.raises(InputError, match=rf"the config has no model\.{name}, which Toy needs"):
            settings_of(Toy, group, "model")


def test_settings_may_be_checked_without_a_config():
    check_settings(Toy(size=1, kind="a"))
    with pytest.raises(InputError, match=r"^size is 0; expected at least 1"):
        check_settings(Toy(size=0, kind="a"))


@pytest.mark.parametrize(
    ("share", "allowed"), [(0, True), (0.99, True), (1.0, False), (-0.1, False)]
)
def test_shares(share, allowed):
    assert config.SHARE.holds(share) == allowed


def test_fields_by_their_dotted_names():
    fields = config.flat_fields(ConfigDict({"seed": 0, "data": {"source": "x", "sizes": (1, 2)}}))
    assert fields == {"seed": 0, "data.source": "x", "data.sizes": (1, 2)}


# --- configs/ --------------------------------------------------------------------------------


def variants():
    for name in ("vocab", "nsm", "polyphonic"):
        namespace: dict = {}
        exec((ROOT / "configs" / f"{name}.py").read_text(), namespace)
        for variant in ("", *namespace["VARIANTS"]):
            yield name, variant


@pytest.mark.parametrize(("name", "variant"), list(variants()))
def test_the_data_of_every_variant_is_allowed(name, variant):
    loaded = load_config(variant, name)
    encoding, preprocessing, splitting, _ = parse_data(loaded.data)
    expected = (
        "events" if variant.endswith("events") else {"vocab": "tokens"}.get(name, "note_states")
    )
    assert encoding.name == expected
    # The papers' own settings cut no silence; what works best here does.
    cuts = {
        "nsm": variant not in ("", "t256", "tiny"),
        "vocab": variant in ("best", "best_large", "keys", "quick", "tiny_causal"),
    }.get(name, False)
    assert preprocessing.longest_silence == (4 if cuts else 0)
    assert splitting.test_share > 0


@pytest.mark.parametrize("name", ["vocab", "nsm", "polyphonic"])
def test_an_unknown_variant_names_the_others(name):
    with pytest.raises(ValueError, match=r"no variant 'none'; there are .*tiny"):
        load_config("none", name)


def test_the_polyphonic_sets_are_taken_as_they_are():
    data = load_config("", "polyphonic").data
    assert not data.dedupe_files
    assert not data.dedupe_notes
    assert not data.transpose
    assert (data.least_notes, data.longest_minutes, data.longest_silence) == (0, 0, 0)
