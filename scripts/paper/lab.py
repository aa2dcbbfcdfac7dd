"""The folder of a report: the runs of its experiments, and what was found in them."""

import dataclasses
import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

import musicjax
from musicjax.config import expect
from musicjax.corpus import build
from musicjax.errors import InputError
from musicjax.evaluation import scores
from musicjax.sources import open_source
from musicjax.system import files
from musicjax.training.run import train_and_evaluate
from musicjax.training.workdir import Standing, load_metrics, load_standing
from paper.scale import Scale

LEAST_SONGS = 8  # to train on; of fewer an experiment says nothing
FORMAT = 1


class Table(NamedTuple):
    """Columns and rows; a cell is a text or a number."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class File(NamedTuple):
    """A picture, a sound or a MIDI file beside an experiment's result, with what it shows."""

    name: str
    caption: str


class Finding(NamedTuple):
    """What an experiment found.

    Attributes:
        facts: numbers by name, which claims are judged by.
        tables, pictures, sounds: for the report.
        notes: sentences, such as what was made smaller than in the paper.
    """

    facts: dict[str, Any]
    tables: Sequence[Table] = ()
    pictures: Sequence[File] = ()
    sounds: Sequence[File] = ()
    notes: Sequence[str] = ()


class Experiment(NamedTuple):
    """An experiment of the paper.

    Attributes:
        name: its folder in the report.
        title: for people.
        paper: what the paper did and found.
        run: makes it.
    """

    name: str
    title: str
    paper: str
    run: "Callable[[Lab, Path], Finding]"


class Result(NamedTuple):
    """How an experiment ended.

    Attributes:
        status: "done"; "impossible", of these songs; or "failed".
        reason: why it is not done.
        seconds: that it took, with the training of all runs that it looks at.
        finding: of one that is done.
    """

    status: str
    reason: str
    seconds: float
    finding: Finding


def standing_of(run: musicjax.Run) -> Standing:
    """A run's best checkpoint beside the strongest baseline, on its validation songs."""
    return load_standing(run.workdir) or scores.stand(run.workdir)


class Lab:
    """Where experiments are made.

    Attributes:
        folder: of the report; `runs/` holds work dirs, and each experiment has a folder.
        source: the songs.
        parts: songs with several instruments, and years; may be the same.
        table: of the parts' years, or "".
        scale: how much is run.
    """

    def __init__(self, folder: Path, source: str, parts: str, table: str, scale: Scale):
        """Opens a report's folder, or makes it.

        Raises:
            InputError: it holds a report of other songs or of another scale; or there are no songs.
        """
        for songs in (source, parts):
            open_source(songs).find()
        expect(not table or Path(table).is_file(), "table", table, "a file")
        self.folder, self.scale = folder, scale
        self.source, self.parts, self.table = source, parts, table
        self._seconds = 0.0  # of the experiment's runs, without what training them took just now
        settings = {"format": FORMAT, "source": source, "parts": parts, "table": table}
        settings |= {"scale": dataclasses.asdict(scale)}
        path = folder / "settings.json"
        try:
            saved = dict(json.loads(path.read_text())) if path.is_file() else settings
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: damaged ({error}); delete it") from None
        settings = json.loads(json.dumps(settings))  # tuples are lists
        for name in settings:
            if saved.get(name) != settings[name] and path.is_file():
                raise InputError(
                    f"{folder} holds a report with {name} {saved.get(name)!r}, now it is "
                    f"{settings[name]!r}; give another --output"
                )
        files.writable_folder(folder)
        files.write_text(path, json.dumps(settings, indent=2) + "\n")

    def train(self, name: str, config: str, changes: Mapping[str, Any]) -> musicjax.Run:
        """A run of a config, trained to its end; at once where that was done before.

        Raises:
            InputError: the songs have no such part, or too few of it.
        """
        folder, started = self.folder / "runs" / name, time.monotonic()
        made = musicjax.get_config(config, **changes)
        lines = load_metrics(folder)
        if not lines or lines[-1]["epoch"] < made.train.epochs:
            self._expect_songs(made)
            print(f"--- {name}", flush=True)
            train_and_evaluate(made, folder)
            jax.clear_caches()
        run = musicjax.load(folder)
        self._seconds += sum(line["seconds"] for line in run.metrics)
        self._seconds -= time.monotonic() - started
        return run

    def _expect_songs(self, config: Any) -> None:
        corpus = build.open_corpus(config.data, build.make_plan(config.data))
        songs, part = len(corpus.split("train")), config.data.track
        if songs < LEAST_SONGS:
            raise InputError(
                f"{config.data.source} has {songs} songs of {part} to train on; expected at least "
                f"{LEAST_SONGS}"
            )

    def result(self, experiment: Experiment) -> Result | None:
        """How an experiment ended; None where it was not made yet, or what it left is damaged."""
        path = self.folder / experiment.name / "result.json"
        if not path.is_file():
            return None
        try:
            saved = json.loads(path.read_text())
            found = saved.pop("finding")
            for kind, of in (("tables", Table), ("pictures", File), ("sounds", File)):
                found[kind] = [of(*each) for each in found[kind]]
            return Result(**saved, finding=Finding(**found))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            print(f"{path} is damaged ({error!r}), and not used", file=sys.stderr)
            return None

    def make(self, experiment: Experiment) -> Result:
        """Makes an experiment, unless it is done; what goes wrong is its result."""
        before = self.result(experiment)
        if before and before.status == "done":
            return before
        folder = files.writable_folder(self.folder / experiment.name)
        started, self._seconds = time.monotonic(), 0.0
        status, reason, finding = "done", "", Finding({})
        try:
            finding = experiment.run(self, folder)
        except InputError as error:
            status, reason = "impossible", str(error)
        except Exception:
            status, reason = "failed", traceback.format_exc()
        result = Result(status, reason, time.monotonic() - started + self._seconds, finding)
        saved = result._asdict() | {"finding": finding._asdict()}
        files.write_text(folder / "result.json", json.dumps(saved, indent=1, default=float) + "\n")
        return result
