r"""Runs the experiments of the paper again, on songs of yours, and writes a report.

    python scripts/reproduce_paper.py --source=/my/midi --output=report --scale=cpu

The report has what the paper did and found beside what was found here, and a verdict on each of its
claims: report/report.html, one file that any browser opens, and report/summary.md. Beside them are
the results as JSON, the pictures, MIDI files and sounds, and the runs, which all other commands
take. Each experiment is a config, trained as by musicjax.train.

Stopped and started again, it goes on. An experiment that these songs cannot feed, having no vocals,
no drums or no years, says so in its place; one that fails is reported, and tried again next time.

    --scale=full     the paper's sizes: days on a CPU, hours on a GPU
    --scale=cpu      the same experiments, smaller, in an hour or two on two cores
    --scale=smoke    all code paths, in a few minutes
"""

import shlex
import sys
from pathlib import Path
from typing import Any

from musicjax import cli
from musicjax.errors import InputError
from musicjax.system import huge_pages

NAMES = (
    "nsm", "alike", "vocabulary", "snapshots", "samplers", "ablation", "against", "track",
    "styles", "overfit", "instruments", "sound", "references",
)  # fmt: skip


def _define_flags() -> None:
    from absl import flags

    flags.DEFINE_string("source", None, "Folder of MIDI files, the more the better.", required=True)
    flags.DEFINE_string(
        "parts", "", "Songs with drums, bass and years, if others than --source: of Lakh or Slakh."
    )
    flags.DEFINE_string("table", "", "Table of their years, as data.table.")
    flags.DEFINE_string("output", "report", "Folder of the report.")
    flags.DEFINE_enum("scale", "cpu", ["full", "cpu", "smoke"], "How much is run.")
    flags.DEFINE_list("only", [], f"Some of the experiments: {', '.join(NAMES)}.")


def _main(flags: Any) -> None:
    for name in flags.only:
        if name not in NAMES:
            raise InputError(f"only is {name!r}; expected some of {', '.join(NAMES)}")
    huge_pages.restart()
    from paper import note_states, report, songs, together, vocabulary
    from paper.lab import Lab
    from paper.scale import SCALES

    modules = (note_states, vocabulary, songs, together)
    experiments = {each.name: each for module in modules for each in module.EXPERIMENTS}
    lab = Lab(
        Path(flags.output), flags.source, flags.parts or flags.source, flags.table,
        SCALES[flags.scale],
    )  # fmt: skip
    every = [experiments[name] for name in NAMES]
    command = f"python {shlex.join(sys.argv)}"
    for name in flags.only or NAMES:
        experiment = experiments[name]
        print(f"=== {experiment.title}", flush=True)
        result = lab.make(experiment)
        said = f"{result.status}, {result.seconds:.0f} s"
        print(f"=== {name}: {said}\n{result.reason}".rstrip(), flush=True)
        report.write(lab, every, command)
    print(f"the report is {lab.folder}/report.html; in Markdown {lab.folder}/summary.md")


if __name__ == "__main__":
    cli.run(_main, _define_flags)
