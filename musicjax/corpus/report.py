"""A page about a corpus: what was left out and why, and what the music is like before anyone
trains on it.

The page is one file, its pictures in it; they are beside it as PNGs too. All numbers are those of
manifest.json, or counted in the corpus folder's data.
"""

import base64
import collections
import io
from pathlib import Path
from typing import Any

import numpy as np

from musicjax.corpus.store import Corpus, SongRecord
from musicjax.encodings.base import Plot, Table
from musicjax.music import track_selection
from musicjax.music.song import PITCH_CLASS_NAMES

_MUCH_SILENCE = 0.33  # share of a part's beats

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Corpus of {{ source }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ddd;
  vertical-align: top; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td:first-child, td.number, th { white-space: nowrap; }
figure { display: inline-block; margin: 0 0 1rem 0; width: 49%; }
figure img { width: 100%; }
</style>
</head>
<body>
<h1>Corpus of {{ source }}</h1>
<p>{{ encoding }}; the part is <em>{{ track }}</em>.</p>
{% for table in tables %}
<section id="{{ table.name }}">
<h2>{{ table.title }}</h2>
<p>{{ table.text }}</p>
{% if table.rows %}
<table>
<tr>{% for name in table.columns %}<th{% if table.rows[0][loop.index0] is number %}
 class="number"{% endif %}>{{ name }}</th>{% endfor %}</tr>
{% for row in table.rows %}
<tr>{% for cell in row %}<td{% if cell is number %} class="number" data-value="{{ cell }}"
{% endif %}>{{ cell | shown }}</td>{% endfor %}</tr>
{% endfor %}
</table>
{% endif %}
</section>
{% endfor %}
<h2>Pictures</h2>
{% for picture in pictures %}
<figure><img alt="{{ picture.title }}" src="data:image/png;base64,{{ picture.png }}"></figure>
{% endfor %}
</body>
</html>
"""


def write_report(corpus: Corpus, folder: Path) -> Path:
    """Writes index.html and its pictures; returns the page's path.

    Args:
        corpus: encoded songs.
        folder: made if it does not exist.
    """
    import jinja2

    folder.mkdir(parents=True, exist_ok=True)
    tables, plots = corpus.encoding.report([corpus.rows(song) for song in corpus.songs])
    figures = _figures(corpus) | {plot.name: _draw(plot) for plot in plots}
    pictures = []
    for name, figure in figures.items():
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=100, metadata={"Software": None})
        (folder / f"{name}.png").write_bytes(picture.getvalue())
        png = base64.b64encode(picture.getvalue()).decode()
        pictures.append({"title": name.replace("_", " "), "png": png})
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["shown"] = _shown
    settings = corpus.manifest["settings"]
    page = environment.from_string(_PAGE).render(
        source=_shown(settings["source"]),
        track=_shown(settings["track"]),
        encoding=corpus.encoding.name.replace("_", " ").capitalize(),
        tables=[*_tables(corpus), *tables],
        pictures=pictures,
    )
    path = folder / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def _shown(cell: object) -> str:
    """A table's cell as text; what does not print is replaced, markup is escaped by the page."""
    if isinstance(cell, float):  # a share
        return f"{cell:.1%}"
    if isinstance(cell, int):
        return f"{cell:,}"
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in str(cell))


def _tables(corpus: Corpus) -> list[Table]:
    manifest, songs = corpus.manifest, corpus.songs
    counts = manifest["counts"]
    examples = {row.reason: row for row in reversed(corpus.skipped)}
    tables = [
        Table("counts", "Counts", "", ("what", "number"), _counted(counts)),
        Table(
            "skipped",
            "Files left out",
            f"{counts['skipped']} of {counts['files']} files gave no song; each is named in "
            "skipped.jsonl.",
            ("reason", "files", "the first of them"),
            [
                (reason, n, f"{examples[reason].name}: {examples[reason].detail}")
                for reason, n in manifest["skipped"].items()
            ],
        ),
        Table(
            "parts",
            "Parts of these songs",
            "What one would train on: how many songs have the part, how many notes it has in them, "
            "and the share of the song's beats in which it is silent. A model of a part that is "
            "silent much of the time learns to predict rests.",
            ("part", "songs", "notes (median)", "silent (median)", ""),
            _parts(songs),
        ),
    ]
    if rules := manifest["rules"]:
        text = "By which rule the part was found in a song."
        columns = ("rule", "songs")
        tables.append(Table("rules", "Choice of the part", text, columns, list(rules.items())))
    if repairs := manifest["repairs"]:
        text = "What was wrong in a file and mended by reading."
        tables.append(Table("repairs", "Repairs", text, ("what", "songs"), list(repairs.items())))
    if decades := _decades(songs):
        text = f"The decade of {len(songs) - decades.total()} songs is not known."
        rows = [(f"{decade}s", n) for decade, n in sorted(decades.items())]
        tables.append(Table("decades", "Songs by decade", text, ("decade", "songs"), rows))
    signed = [song for song in songs if song.key and song.key_signature]
    if signed:
        text = (
            "Of the songs whose file has a key signature, those where it is the estimated key. "
            "Songs are transposed by the estimate alone."
        )
        rows = [
            (name, len(some), sum(song.key == song.key_signature for song in some))
            for name, some in (
                ("C:maj", [song for song in signed if song.key_signature == "C:maj"]),
                ("others", [song for song in signed if song.key_signature != "C:maj"]),
            )
        ]
        columns = ("signature", "songs", "agree")
        tables.append(Table("keys", "Key signatures", text, columns, rows))
    return tables


def _counted(counts: dict[str, int]) -> list[tuple[str, int]]:
    return [(name.replace("_", " "), number) for name, number in counts.items()]


def _decades(songs: list[SongRecord]) -> collections.Counter[int]:
    """How many songs there are of each decade, of those whose decade is known."""
    return collections.Counter(song.decade for song in songs if song.decade is not None)


def _parts(songs: list[SongRecord]) -> list[tuple]:
    rows = []
    for name in track_selection.COMMON:
        having = [song.parts[name] for song in songs if name in song.parts]
        if having:
            notes = int(np.median([part["notes"] for part in having]))
            silent = float(np.median([part["silent"] for part in having]))
            verdict = "much silence" if silent > _MUCH_SILENCE else ""
            rows.append((name, len(having), notes, silent, verdict))
    return rows


def _figures(corpus: Corpus) -> dict[str, Any]:
    """Pictures by name; those for which the corpus has no data are left out."""
    songs = corpus.songs
    figures = {}
    decades = _decades(songs)
    if decades:
        labels = [f"{decade}s" for decade in sorted(decades)]
        heights = [decades[decade] for decade in sorted(decades)]
        figures["decades"] = _bars("Songs by decade", labels, {"songs": heights})
    if any(song.key for song in songs):
        figures["keys"] = _keys(songs)
    minutes = [song.seconds / 60 for song in songs]
    figures["lengths"] = _histogram("Lengths", "minutes", minutes)
    parts = {
        name: [song.parts[name]["silent"] for song in songs if name in song.parts]
        for name in track_selection.COMMON
    }
    if any(parts.values()):
        figures["silence"] = _silence(parts)
    return figures


def _draw(plot: Plot):
    figure, axes = _axes(plot.title, xlabel=plot.xlabel, ylabel=plot.ylabel)
    for label, (kind, x, y) in plot.series.items():
        match kind:
            case "line":
                axes.plot(x, y, label=label)
            case "points":
                axes.plot(x, y, "o", label=label)
            case "stems":
                axes.stem(x, y, label=label, basefmt=" ")
    if plot.log:
        axes.set_xscale("log")
        axes.set_yscale("log")
    else:
        axes.set_ylim(0)
    if len(plot.series) > 1:
        axes.legend()
    return figure


def _axes(title: str, **labels):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.5), layout="constrained")
    return figure, figure.add_subplot(title=title, **labels)


def _bars(title: str, labels: list[str], series: dict[str, list[int]]):
    figure, axes = _axes(title, ylabel="songs")
    width = 0.8 / len(series)
    for i, (name, heights) in enumerate(series.items()):
        axes.bar(np.arange(len(labels)) + (i + 0.5) * width - 0.4, heights, width, label=name)
    axes.set_xticks(range(len(labels)), labels)
    if len(series) > 1:
        axes.legend()
    return figure


def _histogram(title: str, xlabel: str, values):
    figure, axes = _axes(title, xlabel=xlabel, ylabel="songs")
    axes.hist(values, bins=30)
    return figure


def _keys(songs: list[SongRecord]):
    """Tonics as found, and after the transposition."""
    before, after = np.zeros((2, 2, 12), np.int64)
    for song in songs:
        if song.key:
            tonic, _, mode = song.key.partition(":")
            number = PITCH_CLASS_NAMES.index(tonic)
            before[int(mode == "min"), number] += 1
            after[int(mode == "min"), (number + song.semitones) % 12] += 1
    series = {
        f"{mode}, {when}": counts[i].tolist()
        for when, counts in (("found", before), ("after", after))
        for i, mode in enumerate(("major", "minor"))
    }
    return _bars("Keys before and after", list(PITCH_CLASS_NAMES), series)


def _silence(parts: dict[str, list[float]]):
    figure, axes = _axes("Silence by part", ylabel="silent share of a song's beats")
    known = {name: values for name, values in parts.items() if values}
    axes.boxplot(list(known.values()), showfliers=False)
    axes.set_xticks(range(1, len(known) + 1), [f"{name}\n{len(v)}" for name, v in known.items()])
    axes.set_ylim(0, 1)
    return figure
