"""The work dir of a run: what training writes, and what generate and evaluate need.

    config.json        the config, with the version of this format, and a checksum
    songs/             the corpus, with the encoding: test songs to measure, training songs to
                       compare with
    checkpoints/       the last two, the best (lowest validation loss) and those of
                       train.keep_epochs, by Orbax, with checksums
    metrics.jsonl      one line an epoch; loss.png shows the losses
    step_losses.npy    the training loss of each step, float32 [steps]
    events.out.tfevents.*    the same for TensorBoard: tensorboard --logdir=WORKDIR
    baseline.json      the model beside the strongest simple baseline

Nothing outside it is needed: it can be moved to another machine.
"""

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from musicjax.config import Config
from musicjax.corpus.store import Corpus
from musicjax.encodings import make_encoding
from musicjax.errors import InputError
from musicjax.models import build_model, weights
from musicjax.models.base import Model, Params
from musicjax.system import checksums, files
from musicjax.training.checkpoint import load_params

FORMAT = 9
WEIGHTS = "model.safetensors"  # of a folder that musicjax.export wrote, in place of checkpoints


class Standing(NamedTuple):
    """A model beside the strongest simple baseline, where musicjax.train has measured them.

    Attributes:
        step: of the model's checkpoint, its best.
        split: of the songs that both were measured on.
        metric: what was measured; less is better.
        model: of the model, class weights taken out.
        name: of the baseline.
        baseline: of the baseline.
    """

    step: int
    split: str
    metric: str
    model: float
    name: str
    baseline: float

    def __str__(self) -> str:
        return (
            f"on the {self.split} songs: {self.metric} {self.model:.4g}; "
            f"{self.name} {self.baseline:.4g}"
        )

    @property
    def warning(self) -> str | None:
        """A line about a model that has lost to the baseline."""
        if self.model < self.baseline:
            return None
        return (
            f"warning: this model is no better than what needs no network ({self}); give it more "
            "songs, more epochs, or fewer units"
        )


class Trained(NamedTuple):
    """A model out of a work dir.

    Attributes:
        model: of the config; it holds its encoding.
        params: as trained.
        config: of the run.
        step: of the checkpoint.
    """

    model: Model
    params: Params
    config: Config
    step: int


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Lets one process train in a work dir. The lock is the system's: it ends with the process.

    Raises:
        InputError: another process trains in it.
    """
    import filelock

    workdir.mkdir(parents=True, exist_ok=True)
    holder = workdir / ".trainer"
    lock = filelock.FileLock(workdir / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        other = holder.read_text().strip() if holder.is_file() else "another process"
        raise InputError(
            f"{workdir}: {other} trains in it; wait for its end, stop it, or give another --workdir"
        ) from None
    try:
        files.write_text(holder, f"process {os.getpid()} on {socket.gethostname()}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def save_songs(workdir: Path, corpus: Corpus) -> None:
    """Writes what generate and evaluate need of a corpus."""
    workdir.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(workdir / "songs", ignore_errors=True)
    corpus.save(workdir / "songs")


def load_songs(workdir: str | Path) -> Corpus:
    """The corpus that a run was trained on.

    Raises:
        InputError: not a work dir, or damaged.
    """
    return Corpus.load(Path(workdir) / "songs")


def save_standing(workdir: str | Path, standing: Standing) -> None:
    """Writes baseline.json."""
    text = json.dumps(standing._asdict(), indent=2)
    files.write_text(Path(workdir) / "baseline.json", text + "\n")


def load_standing(workdir: str | Path) -> Standing | None:
    """How a model stands beside its baseline; None where that was not measured."""
    path = Path(workdir) / "baseline.json"
    try:
        return Standing(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({error!r}); delete it") from None


def load_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, one an epoch; [] before the first.

    Raises:
        InputError: damaged.
    """
    path = Path(workdir) / "metrics.jsonl"
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if not all(isinstance(line, dict) and {"epoch", "step"} <= line.keys() for line in lines):
            raise ValueError("a line without epoch and step")
        return lines
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({error}); musicjax.train writes it again") from None


def save_step_losses(workdir: str | Path, losses: np.ndarray) -> None:
    """Writes step_losses.npy; losses: float32 [steps], of a run's steps so far."""
    with files.new_file(Path(workdir) / "step_losses.npy") as file:
        np.save(file, losses)


def load_step_losses(workdir: str | Path) -> np.ndarray:
    """The training loss of each step, dropout and class weights included, float32 [steps]: at least
    of those before the last checkpoint. NaN where it was not written down; none before the first.

    Raises:
        InputError: damaged.
    """
    path = Path(workdir) / "step_losses.npy"
    try:
        losses = np.load(path, allow_pickle=False)
        if losses.dtype != np.float32 or losses.ndim != 1:
            raise ValueError(f"{losses.dtype} {losses.shape}")
        return losses
    except FileNotFoundError:
        return np.zeros(0, np.float32)
    except files.ARRAY_ERRORS as error:
        raise InputError(f"{path}: damaged ({error}); delete it") from None


def save_config(workdir: Path, config: Config, fingerprint: str) -> None:
    """Writes config.json."""
    saved = {"format": FORMAT, "corpus": fingerprint, "config": config.to_dict()}
    saved["sha256"] = _digest(saved)
    files.write_text(workdir / "config.json", json.dumps(saved, indent=2) + "\n")


def load_config(workdir: str | Path) -> tuple[Config, str]:
    """The config of a work dir, and the fingerprint of the corpus it was trained on.

    Raises:
        InputError: no work dir, or one of another version.
    """
    path = Path(workdir) / "config.json"
    try:
        saved = json.loads(path.read_text())
        version, config, corpus = saved["format"], saved["config"], saved["corpus"]
        if version == FORMAT and saved.pop("sha256") != _digest(saved):
            raise ValueError("not what was written")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{workdir}: not a work dir (no config.json); train one by "
            "python -m musicjax.train --config=configs/vocab.py "
            f"--workdir={shlex.quote(str(workdir))}"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: damaged ({error!r}); train again in a new --workdir") from None
    if version != FORMAT:
        raise InputError(
            f"{workdir}: a work dir of format {version}; this musicjax reads {FORMAT}: train again "
            "or use the musicjax that made it"
        )
    return ConfigDict(_with_tuples(config)), corpus


def _digest(saved: dict[str, Any]) -> str:
    text = json.dumps(saved, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _with_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """The config's tuples, which JSON knows as lists."""

    def restored(value: Any) -> Any:
        if isinstance(value, dict):
            return _with_tuples(value)
        return tuple(value) if isinstance(value, list) else value

    return {name: restored(value) for name, value in fields.items()}


def load_model(workdir: str | Path) -> tuple[Model, Config]:
    """The model of a work dir, without its parameters, and the config.

    Raises:
        InputError: no work dir, or one of another version, or damaged.
    """
    config, _ = load_config(workdir)
    songs = Path(workdir) / "songs"
    # What `load_songs` finds out about the songs' data is not asked here.
    if damage := checksums.find_damage(songs, but="data.npy"):
        raise InputError(f"{songs}: damaged: {damage}; train again in a new --workdir")
    return build_model(config, make_encoding(config.data).load(songs)), config


def load_trained(workdir: str | Path, which: str = "best") -> Trained:
    """The model of a work dir.

    Args:
        workdir: of a run of musicjax.train; or of musicjax.export, which has one checkpoint only.
        which: "best" (lowest validation loss), "last", or an epoch of train.keep_epochs, "10".
    Raises:
        InputError: no work dir, no checkpoint in it, or one of another version.
    """
    model, config = load_model(workdir)
    exported = Path(workdir) / WEIGHTS
    if exported.exists():
        params, step = weights.read(exported, model)
    else:
        params, step = load_params(workdir, model, which)
    return Trained(model, params, config, step)
