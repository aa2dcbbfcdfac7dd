"""Data that the tests make themselves."""

import dataclasses
import importlib.metadata
import os
import tempfile
from pathlib import Path

# The log tells of every CPU feature otherwise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Most of the tests' time is compilation: by these it is half, in the processes that they start too.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
if importlib.metadata.version("jaxlib").startswith("0.10."):  # later ones have no such emitters
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "")
        + " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    )

import hypothesis
import jax
import numpy as np
import pytest

from musicjax.corpus import build
from musicjax.encodings import make_encoding
from musicjax.encodings.tokens import TokenEncoding
from musicjax.encodings.vocabulary import Token, Vocabulary
from musicjax.models import build_model
from musicjax.music import midi
from musicjax.music.song import Meter, Song, Tempo, Track
from musicjax.sources import open_source
from musicjax.training import compilation_cache

# The same examples each time, however busy the machine is.
hypothesis.settings.register_profile("musicjax", derandomize=True, deadline=None)
hypothesis.settings.load_profile("musicjax")

# Two devices, so that sharing a batch can be tried.
jax.config.update("jax_num_cpu_devices", 2)
# What is not a number is an error.
jax.config.update("jax_debug_nans", True)

# For a process that is to compile as a user's does.
IN_FULL = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0", "XLA_FLAGS": ""}

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "midi"
VOCABULARY = Vocabulary.build({Token((40 + i,), 12): 12 - i for i in range(11)})


def make_track(notes, *, name="Piano", program=0, is_drum=False) -> Track:
    """A Track of (onset_ticks, duration_ticks, pitch) rows."""
    onset, duration, pitch = np.array(notes).reshape(-1, 3).T
    return Track(name, program, is_drum, onset, duration, pitch, np.full(len(notes), 90))


def make_song(*tracks, ticks_per_quarter=480, **song) -> Song:
    return Song(tuple(tracks), ticks_per_quarter, **song)


def random_song(seed: int, quarters: int = 48) -> Song:
    """A tune in C over a bass, with the odd chord and rest; no two seeds alike."""
    rng = np.random.default_rng(seed)
    scale = np.array([60, 62, 64, 65, 67, 69, 71, 72])
    notes, tick, degree = [], 0, int(rng.integers(8))
    while tick < quarters * 480:
        length = int(rng.choice([240, 480, 480, 960]))
        degree = int(np.clip(degree + rng.integers(-2, 3), 0, 7))
        if rng.random() > 0.08:
            notes.append((tick, length, scale[degree]))
            if rng.random() < 0.3:
                notes.append((tick, length, scale[degree] - 12))
        tick += length
    return make_song(
        make_track(notes),
        tempos=(Tempo(0, 100.0),),
        meters=(Meter(0, 4, 4),),
        source=f"song {seed}",
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """30 MIDI files of random_song."""
    path = tmp_path_factory.mktemp("midi")
    for seed in range(30):
        midi.write_song(random_song(seed), path / f"{seed:02d}.mid")
    return path


def cache_of_tests(tmp_path_factory) -> str:
    """A folder for $XDG_CACHE_HOME. The workers of pytest-xdist share it."""
    base = tmp_path_factory.getbasetemp()
    return str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Corpora and compiled programs are cached for the session, away from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", cache_of_tests(tmp_path_factory))
        compilation_cache.enable()  # before the first compilation, or jax has no cache
        yield patch


@pytest.fixture(scope="session")
def chorales(_own_cache) -> dict[str, Path]:
    """Bach's, by name. In the user's own cache: reading them from music21 takes a minute."""
    own = os.environ["XDG_CACHE_HOME"]
    _own_cache.undo()
    files = open_source("chorales").find()
    _own_cache.setenv("XDG_CACHE_HOME", own)
    return {file.name: file.path for file in files}


@pytest.fixture
def _strict():
    """No type is promoted that is not written. Not for all tests, as optax's optimizers do it."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def tiny(folder):
    """configs/vocab.py:tiny on the made songs."""
    config = load_config("tiny")
    config.data.source = str(folder)
    return config


def settings(source, **changes):
    """`config.data` of configs/vocab.py:tiny for a source."""
    data = load_config("tiny").data
    data.source = str(source)
    data.update(changes)
    return data


def encoded(data):
    """The corpus of a config's data, encoded in this process."""
    with tempfile.TemporaryDirectory() as folder:
        plan = build.make_plan(data)
        corpus = build.encode_corpus(plan, Path(folder, "corpus"), number_of_workers=0)
        return dataclasses.replace(corpus, data=np.array(corpus.data))


def spoil(path: Path, damage: str, place: float = 0.5) -> None:
    """Damages a file: "cut" at a place, 0 to 1, a bit "flipped" there, "missing", "empty"."""
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
        return
    at = int(len(content) * place)
    if damage == "flipped":
        content[at] ^= 1
    path.write_bytes({"cut": content[:at], "flipped": content, "empty": b""}[damage])


def load_config(variant: str = "", name: str = "vocab"):
    namespace: dict = {}
    exec((ROOT / "configs" / f"{name}.py").read_text(), namespace)
    return namespace["get_config"](variant)


def model_of(config, encoding=None):
    """The model of a config; of a token encoding with VOCABULARY, unless another is given."""
    encoding = encoding or make_encoding(config.data)
    if isinstance(encoding, TokenEncoding) and encoding.size == 1:
        encoding = dataclasses.replace(encoding, vocabulary=VOCABULARY)
    return build_model(config, encoding)


def gather(examples, numbers, rng=None):
    """Examples by number, as the training step gathers them."""
    return examples.gather(examples.data, examples.locate(np.asarray(numbers), rng))


def zero_batches(config, count=2):
    """`count` batches of zeros, stacked, as the dataset makes them."""
    rows, window = config.train.batch_size, config.model.window
    shape = make_encoding(config.data).shape
    return {
        "present": np.ones((count, rows), np.float32),
        "elements": np.zeros((count, rows, window + 1, *shape), np.uint8 if shape else np.int32),
        "positions": np.zeros((count, rows, window + 1), np.int32),
        "before": np.zeros((count, rows), np.int32),
        "length": np.full((count, rows), window, np.int32),
    }
