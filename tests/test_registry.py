import importlib.metadata
from importlib.metadata import EntryPoint

import pytest

from musicjax.encodings import ENCODINGS
from musicjax.encodings.base import Encoding
from musicjax.errors import InputError
from musicjax.evaluation.baselines import BASELINES
from musicjax.evaluation.metrics import MEASURES
from musicjax.generation.options import RULES
from musicjax.models import MODELS
from musicjax.registry import Registry
from musicjax.sources import SOURCES


@pytest.fixture
def toys(monkeypatch):
    """A registry, and two entry points: one of a name that is taken, and one of a broken module."""
    found = [
        EntryPoint("path", "another:Path", "musicjax.toys"),
        EntryPoint("sink", "json:dumps", "musicjax.toys"),
        EntryPoint("broken", "no_such_module:thing", "musicjax.toys"),
    ]
    searched = []

    def entry_points(group):
        searched.append(group)
        return [point for point in found if point.group == group]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    registry = Registry("toys", "data.toy", {"path": "pathlib:Path", "one": 1})
    return registry, searched


def test_names_of_ours_are_imported_when_asked_for(toys):
    registry, searched = toys
    import pathlib

    assert registry["path"] is pathlib.Path
    assert registry["path"] is pathlib.Path
    assert registry["one"] == 1
    assert searched == []  # no look for entry points


def test_entry_points_come_after_our_names(toys):
    registry, searched = toys
    import json

    assert registry["sink"] is json.dumps
    assert list(registry) == ["path", "one", "sink", "broken"]
    assert len(registry) == 4
    assert searched == ["musicjax.toys"]
    # One that cannot be imported does no harm until it is asked for.
    with pytest.raises(ModuleNotFoundError):
        registry["broken"]


def test_a_program_may_register_a_thing_in_place_of_another(toys):
    registry, _ = toys
    assert registry.register("one", 2) == 2
    registry.register("sink", 3)
    assert (registry["one"], registry["sink"]) == (2, 3)
    assert list(registry) == ["path", "one", "sink", "broken"]


def test_an_unknown_name_is_one_clear_line(toys):
    registry, _ = toys
    with pytest.raises(
        InputError, match=r"data\.toy is 'x'; expected one of path, one, sink, broken"
    ):
        registry["x"]
    assert "x" not in registry
    assert "broken" in registry  # and is not imported


@pytest.mark.parametrize("registry", [ENCODINGS, SOURCES, MODELS, BASELINES, MEASURES, RULES])
def test_all_our_names_can_be_imported(registry):
    assert len(registry) > 0
    for name in registry:
        assert registry[name] is not None


def test_encodings_have_the_names_that_they_are_registered_by():
    assert {name: encoding.name for name, encoding in ENCODINGS.items()} == {
        name: name for name in ENCODINGS
    }
    assert all(Encoding in encoding.__mro__ for encoding in ENCODINGS.values())
