"""Runs of the smallest configs: each is trained once for all tests of a process."""

import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import cache_of_tests, load_config, make_song, make_track, model_of

from musicjax.config import settings_of
from musicjax.corpus.store import Corpus
from musicjax.music import midi
from musicjax.training import trainer
from musicjax.training.dataset import Examples
from musicjax.training.run import train_and_evaluate
from musicjax.training.settings import ExampleSettings
from musicjax.training.workdir import load_trained

_TRAINED: dict[tuple, Path] = {}


def config_of(source, name: str = "vocab", variant: str = "tiny", /, **changes):
    """A config on a source; each change goes to the first group that has the field."""
    config = load_config(variant, name)
    config.data.source, config.data.least_notes = str(source), 1
    for field, value in changes.items():
        groups = (config.train, config.data, config.model)
        next(group for group in groups if field in group)[field] = value
    return config


def trained(folder, tmp_path_factory, name: str = "vocab", variant: str = "tiny", **changes):
    """A work dir, for reading only."""
    key = (name, variant, *changes.items())
    if key not in _TRAINED:
        path = tmp_path_factory.mktemp("run") / f"{name}_{variant}"
        with pytest.MonkeyPatch.context() as patch:  # a fixture of a module comes before _own_cache
            patch.setenv("XDG_CACHE_HOME", cache_of_tests(tmp_path_factory))
            train_and_evaluate(config_of(folder, name, variant, **changes), path)
        _TRAINED[key] = path
    return _TRAINED[key]


def examples_of(corpus: Corpus, config, split: str = "train", *, training: bool = True) -> Examples:
    settings = settings_of(ExampleSettings, config.train, "train")
    model = model_of(config, corpus.encoding)
    return Examples(corpus, split, model, settings, training=training)


def lines(workdir: Path) -> list[dict]:
    """Of metrics.jsonl."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def parameters(workdir: Path, which: str = "last") -> tuple[int, list[jax.Array]]:
    """The checkpoint's step, and the arrays of its parameters."""
    found = load_trained(workdir, which)
    return found.step, jax.tree.leaves(found.params)


def assert_same_parameters(one: Path, other: Path) -> None:
    """Bit for bit."""
    (step, ours), (same_step, theirs) = parameters(one), parameters(other)
    assert step == same_step
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def stopping_at(call: int):
    """A make_train_steps that sends this process SIGTERM during its `call`-th call."""
    make_train_steps = trainer.make_train_steps
    calls = []

    def make(*args):
        train_steps = make_train_steps(*args)

        def stop_once(*args):
            calls.append(1)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGTERM)
            return train_steps(*args)

        return stop_once

    return make


def write_songs_of(folder: Path, *quarters: int) -> None:
    """MIDI files 0.mid, 1.mid, ... of so many quarter notes each, all of them different."""
    folder.mkdir(exist_ok=True)
    for i, length in enumerate(quarters):
        notes = [(t * 480, 480, 40 + (t * (i + 3)) % 40) for t in range(length)]
        midi.write_song(make_song(make_track(notes)), folder / f"{i}.mid")
