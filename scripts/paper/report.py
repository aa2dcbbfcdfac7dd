"""report.html, one file with pictures and sounds in it, and summary.md."""

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

import musicjax
from benchmarks import machine
from musicjax.system import files
from musicjax.training.workdir import load_metrics
from paper.claims import CLAIMS, judged
from paper.lab import Experiment, File, Lab, Table
from paper.scale import FULL

TEMPLATES = Path(__file__).parent
TYPES = {".png": "image/png", ".mp3": "audio/mpeg", ".wav": "audio/wav", ".mid": "audio/midi"}


def write(lab: Lab, experiments: Sequence[Experiment], command: str) -> None:
    """Writes the report of what was found so far.

    Args:
        lab: whose results are shown.
        experiments: in their order.
        command: by which they were made.
    """
    results = {each.name: result for each in experiments if (result := lab.result(each))}
    claims = [(claim, *judged(claim, results)) for claim in CLAIMS]
    shown = {
        "title": "Making Music with LSTMs, run again",
        "command": command,
        "scale": _sizes(lab),
        "machine": _machine(),
        "training": _training(lab.folder),
        "claims": claims,
        "counts": _counts(verdict for _, verdict, _ in claims),
        "sections": [(each, results.get(each.name)) for each in experiments],
        "folder": lab.folder,
    }
    for name in ("report.html", "summary.md"):
        template = _environment(name.endswith(".html")).get_template(f"{name}.jinja")
        files.write_text(lab.folder / name, template.render(shown))


def _sizes(lab: Lab) -> Table:
    """What is smaller here than in the paper, and all other sizes."""
    fields = dataclasses.fields(lab.scale)
    rows = [
        [field.metadata["help"], getattr(FULL, field.name), getattr(lab.scale, field.name)]
        for field in fields
    ]
    rows.sort(key=lambda row: row[1] == row[2])
    return Table("Sizes", ["", "--scale=full", "here"], rows)


def _machine() -> str:
    facts = machine.facts(("jax", "flax", "numpy"))
    versions = ", ".join(f"{name} {facts[name]}" for name in ("python", "jax", "flax", "numpy"))
    return (
        f"{facts['processors']} processors, {facts['machine']}; {versions}; "
        f"musicjax {musicjax.__version__}"
    )


def _training(folder: Path) -> str:
    """How many runs there are, and how long they were trained."""
    runs = [load_metrics(path.parent) for path in sorted(folder.glob("runs/*/metrics.jsonl"))]
    seconds = sum(line["seconds"] for lines in runs for line in lines)
    return f"{len(runs)} runs, trained for {_minutes(seconds)}"


def _counts(verdicts: Any) -> Mapping[str, int]:
    found = list(verdicts)
    return {verdict: found.count(verdict) for verdict in dict.fromkeys(sorted(found))}


def _environment(html: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"shown": _shown, "data": _data, "minutes": _minutes, "cell": _cell}
    return environment


def _shown(value: Any) -> str:
    """A number of a table, as short as it can be said."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _cell(value: Any) -> str:
    """A cell of a Markdown table."""
    return _shown(value).replace("|", "\\|").replace("\n", " ")


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _data(file: File, folder: Path, experiment: str) -> markupsafe.Markup:
    """A file as a data URI."""
    path = folder / experiment / file.name
    content = base64.b64encode(path.read_bytes()).decode()
    return markupsafe.Markup(f"data:{TYPES[path.suffix]};base64,{content}")
