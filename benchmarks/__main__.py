"""Runs every benchmark in a small form, and keeps what came out beside the targets.

    python -m benchmarks [--only=train_step,startup] [--table]

Takes some 30 minutes on two cores; the first time one more, to read Bach's chorales from music21.
Each benchmark is a process of its own, one after another, with nothing beside it. Their lines of
JSON are collected in benchmarks/results/summary.json, each with its machine, versions and date, and
the table of targets in docs/speed.md is made from that. With --only a part is measured again and
the rest stays; with --table nothing is measured.

Peers that are not installed (PyTorch and Keras, extra `bench`) are left out, and so is
benchmarks.polyphonic, whose sets of piano rolls are not here to be had: what depends on them says
"not measured".
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple

from benchmarks import machine
from musicjax.system import workers

ROOT = Path(__file__).parent.parent
SUMMARY = ROOT / "benchmarks" / "results" / "summary.json"
PAGE = ROOT / "docs" / "speed.md"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
# By name in the summary: the module and its flags.
RUNS = {
    "nsm 10": ("train_step", "--model=nsm"),
    "nsm 32": ("train_step", "--model=nsm", "--batch=32", "--rounds=3"),
    "vocab": ("train_step", "--model=vocab"),
    "vocab quick": ("train_step", "--size=small"),
    "nsm profile": ("profile", "--model=nsm"),
    "vocab profile": ("profile", "--model=vocab"),
    "nsm memory": ("memory", "--model=nsm"),
    "vocab memory": ("memory", "--model=vocab"),
    "generate": ("generate", "--tokens=64"),
    "sampling best": ("sampling", "--variant=best", "--cores=2", "--lengths", "512"),
    "sampling johnson": ("sampling", "--variant=johnson", "--cores=2", "--lengths"),
    "input pipeline": ("input_pipeline",),
    "startup": ("startup",),
    "encode": ("encode", "--source=chorales"),
    "time to quality": ("time_to_quality", "--epochs=10"),
    "time to quality events": ("time_to_quality", "--config=events:quick", "--epochs=4"),
    "time to quality nsm": ("time_to_quality", "--config=nsm:best", "--songs=40", "--epochs=2"),
    "novelty": ("novelty", "--elements=2000000"),
    "render": ("render", "--songs=3"),
    "infill": ("infill", "--songs=4"),
    "scaling": ("scaling", "--few"),
}
MODULES = tuple(dict.fromkeys(module for module, *_ in RUNS.values()))
LEFT_OUT = "benchmarks.polyphonic is left out: it takes piano rolls, --source=jsb_chorales.npz"


def rate(result: dict, runner: str) -> float:
    """Median examples/s of one of train_step's runners, with the allocator that suits it better."""
    several = [result, *(result[name] for name in ("as_is", "kept") if name in result)]
    return max(statistics.median(each["examples_per_second"][runner]) for each in several)


def training(peer: str) -> Callable[[dict], float]:
    """Reads how many times as fast as a peer train_step found musicjax."""
    return lambda result: rate(result, "musicjax") / rate(result, peer)


def training_roof(result: dict) -> float:
    return rate(result, "musicjax") / result["roof_examples_per_second"]


def of_run(result: dict, pieces: int, what: str, key: str) -> float:
    """Median of a row of generate or sampling."""
    rows = (run for run in result["runs"] if (run["pieces"], run["what"]) == (pieces, what))
    row = next(rows, None)
    if row is None:
        raise KeyError(what)
    return statistics.median(row[key]) if isinstance(row[key], list) else row[key]


def making(pieces: int, ours: str, theirs: str, key: str) -> Callable[[dict], float]:
    """Reads how many times as fast as another a program makes music."""
    return lambda result: of_run(result, pieces, ours, key) / of_run(result, pieces, theirs, key)


class Figure(NamedTuple):
    """One measured number: a row of the table.

    Attributes:
        work: what is done.
        unit: what the number counts.
        run: its name in the summary.
        read: the number from that run's result; KeyError if a peer took no part.
        text: how it is shown.
        target: that it should reach.
        at_most: it should stay under the target.
    """

    work: str
    unit: str
    run: str
    read: Callable[[dict], float]
    text: str
    target: float
    at_most: bool = False

    def row(self, summary: dict) -> str:
        """Its row, from a summary's entries by name."""
        unit = " %" * self.text.endswith("%")
        target = f"{'under' if self.at_most else 'at least'} {self.target:g}{unit}"
        measured, reached = "", "not measured"
        if self.run in summary:
            with contextlib.suppress(KeyError):  # a peer of it took no part
                value = self.read(summary[self.run]["result"])
                measured = self.text.format(value)
                missed = value >= self.target if self.at_most else value < self.target
                reached = "no" if missed else "yes"
        return f"| {self.work} | {self.unit} | {target} | {measured} | {reached} |"


def step_figures(work: str, run: str, peer: str, ratio: float, roof: float) -> list[Figure]:
    name = {"torch": "PyTorch", "torch batched": "PyTorch, batched"}[peer]
    return [
        Figure(work, f"times as fast as {name}", run, training(peer), "{:.2f}", ratio),
        Figure(work, "share of the roof", run, training_roof, "{:.2f}", roof),
    ]


TOKENS, STEPS = "tokens_per_second", "steps_per_second"
FIGURES: list[Figure] = [
    *step_figures(
        "train the paper's bi-axial network, 10 songs a batch", "nsm 10", "torch batched", 1.8, 0.5
    ),
    *step_figures("the same, 32 songs a batch", "nsm 32", "torch batched", 1.4, 0.5),
    *step_figures("train the token model of the paper's Table 2", "vocab", "torch", 1.05, 0.8),
    Figure(
        "train the small token model",
        "times as fast as PyTorch",
        "vocab quick",
        training("torch"),
        "{:.2f}",
        1.5,
    ),
    *(
        Figure(
            f"train `{config}`",
            "times as fast as PyTorch",
            run,
            lambda result: result["runs"][0]["epochs_per_peers_epoch"],
            "{:.2f}",
            1.5,
        )
        for config, run in {
            "vocab.py:best": "time to quality",
            "events.py:quick": "time to quality events",
            "nsm.py:best": "time to quality nsm",
        }.items()
    ),
    Figure(
        "make tokens, one piece",
        "times as fast as PyTorch",
        "generate",
        making(1, "windowed", "torch", TOKENS),
        "{:.2f}",
        1.2,
    ),
    Figure(
        "make tokens, one piece",
        "times as fast as Keras `predict`",
        "generate",
        making(1, "windowed", "keras", TOKENS),
        "{:.2f}",
        8,
    ),
    Figure(
        "make tokens, one piece",
        "`model.causal`, times as fast as the window read again",
        "generate",
        making(1, "causal", "windowed", TOKENS),
        "{:.1f}",
        20,
    ),
    Figure(
        "make tokens, 64 pieces",
        "times as fast as PyTorch",
        "generate",
        making(64, "windowed", "torch", TOKENS),
        "{:.2f}",
        1.2,
    ),
    Figure(
        "make tokens, 64 pieces",
        "share of the roof",
        "generate",
        lambda result: of_run(result, 64, "windowed", "of_the_roof"),
        "{:.2f}",
        0.6,
    ),
    *(
        Figure(
            f"make note states by `{variant}`, {'one piece' if pieces == 1 else '64 pieces'}",
            "times as fast as a PyTorch loop over notes",
            f"sampling {variant}",
            making(pieces, "musicjax", "torch", STEPS),
            "{:.1f}",
            least,
        )
        for variant in ("best", "johnson")
        for pieces, least in ((1, 10), (64, 3))
    ),
    *(
        Figure(
            f"make a batch for {label}",
            "share of the training step",
            "input pipeline",
            lambda result, name=name: 100 * result["resident_share_of_step"][name],
            "{:.2f} %",
            1,
            at_most=True,
        )
        for name, label in {
            "vocab table2": "Table 2",
            "vocab quick": "the small token model",
            "biaxial paper": "the paper's bi-axial network",
            "biaxial best": "`nsm.py:best`",
        }.items()
    ),
    Figure(
        "a song as sound, on one core",
        "times real time",
        "render",
        lambda result: result["times_real_time"]["sound"],
        "{:.0f}",
        60,
    ),
    Figure(
        "answer `--help`",
        "seconds",
        "startup",
        lambda result: max(result["train_help_s"], result["generate_help_s"]),
        "{:.2f}",
        1,
        at_most=True,
    ),
    Figure(
        "first training step, nothing compiled yet",
        "seconds from the command",
        "startup",
        lambda result: result["first_step_cold_s"],
        "{:.1f}",
        20,
        at_most=True,
    ),
    Figure(
        "first training step, compiled before",
        "seconds from the command",
        "startup",
        lambda result: max(result["first_step_cached_s"]),
        "{:.1f}",
        5,
        at_most=True,
    ),
]


def table(summary: dict) -> str:
    """The targets and what was measured, in Markdown, from a summary's entries by name."""
    head = "| work | figure | target | measured | reached |\n|---|---|---|---|---|"
    return "\n".join([head, *(figure.row(summary) for figure in FIGURES)])


def origin(summary: dict) -> str:
    """Where and when the entries come from, one line."""
    entries = summary.values()
    days = sorted({entry["date"] for entry in entries})
    machines = ", ".join(sorted({entry["machine"] for entry in entries}))
    versions = {
        f"{package} {entry['versions'][package]}"
        for entry in entries
        for package in machine.PACKAGES
        if entry["versions"][package]
    }
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"`python -m benchmarks`, {when}: {machines}; {', '.join(sorted(versions))}."


def with_table(page: str, summary: dict) -> str:
    """The page with the table between its two marks."""
    before, found, rest = page.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not (found and found_end):
        raise SystemExit(f"{PAGE} has no {BEGIN} and {END}; put them where the table belongs")
    says = f"{table(summary)}\n\n{origin(summary)}" if summary else table(summary)
    return f"{before}{BEGIN}\n{says}\n{END}{after}"


def run(module: str, *flags: str) -> dict:
    """Runs a benchmark, shows what it prints, and gives its last line.

    Raises:
        RuntimeError: it failed, or its last line is not JSON.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    line = ""
    for line in process.stdout:
        print(line, end="", flush=True)
    if status := process.wait():
        raise RuntimeError(f"ended with status {status}")
    try:
        return json.loads(line)
    except ValueError as error:
        raise RuntimeError(f"its last line is not JSON: {line[:80]!r}") from error


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", help=f"modules, with commas between: {','.join(MODULES)}")
    parser.add_argument(
        "--table",
        action="store_true",
        help="only write the table of docs/speed.md again, from the summary",
    )
    arguments = parser.parse_args()
    only = MODULES if arguments.only is None else arguments.only.split(",")
    if unknown := set(only) - set(MODULES):
        parser.error(f"--only={','.join(sorted(unknown))}; expected some of {','.join(MODULES)}")

    summary = json.loads(SUMMARY.read_text()) if SUMMARY.exists() else {}
    versions = machine.versions()
    failed = []
    for name, command in RUNS.items():
        if arguments.table or command[0] not in only:
            continue
        print(f"\n$ python -m benchmarks.{' '.join(command)}", flush=True)
        started = time.perf_counter()
        try:
            result = run(*command)
        except RuntimeError as error:
            failed.append(f"{name}: {error}")
            print(failed[-1])
            continue
        summary[name] = {
            "command": f"python -m benchmarks.{' '.join(command)}",
            "date": date.today().isoformat(),
            "machine": f"{machine.name()}, {workers.cores()} processors",
            "versions": versions,
            "seconds": round(time.perf_counter() - started, 1),
            "result": result,
        }
        # After each, so that one that is stopped keeps what was measured.
        summary = {key: summary[key] for key in RUNS if key in summary}
        SUMMARY.write_text(json.dumps(summary, indent=1) + "\n")
    PAGE.write_text(with_table(PAGE.read_text(), summary))
    print(f"\n{table(summary)}\n")
    if not arguments.table:
        if missing := [package for package in ("torch", "keras") if not versions[package]]:
            print(f"no {' and no '.join(missing)}: pip install -e .[bench] for those peers")
        if arguments.only is None:
            print(LEFT_OUT)
        minutes = sum(entry["seconds"] for entry in summary.values()) / 60
        print(f"all that is in {SUMMARY.relative_to(ROOT)} took {minutes:.1f} minutes")
    if failed:
        raise SystemExit("failed: " + "; ".join(failed))


if __name__ == "__main__":
    main()
