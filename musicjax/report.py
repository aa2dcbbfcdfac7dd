"""A page about a corpus: what was left out and why, and what the music is like before anyone
trains on it.

The page is one file, its pictures in it; they lie beside it as PNGs too. All numbers are those of
manifest.json, or counted in the corpus folder's data.
"""

import base64
import collections
import io
from pathlib import Path
from typing import Any

import numpy as np

from musicjax import part
from musicjax.corpus import Corpus
from musicjax.note_state import STEPS_PER_QUARTER, step_shape, unpack
from musicjax.song import TONIC_NAMES
from musicjax.vocabulary import UNITS_PER_QUARTER

_MOST_SONGS = 1000  # note states are unpacked of so many, evenly spread
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
<section id="{{ table.id }}">
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
{% for figure in figures %}
<figure><img alt="{{ figure.title }}" src="data:image/png;base64,{{ figure.png }}"></figure>
{% endfor %}
</body>
</html>
"""


def write_report(corpus: Corpus, folder: Path) -> Path:
    """Writes index.html and its pictures; gives the page's path.

    Args:
        corpus: encoded songs.
        folder: made if it is not there.
    """
    import jinja2

    folder.mkdir(parents=True, exist_ok=True)
    figures = []
    for name, figure in _figures(corpus).items():
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=100, metadata={"Software": None})
        (folder / f"{name}.png").write_bytes(picture.getvalue())
        png = base64.b64encode(picture.getvalue()).decode()
        figures.append({"title": name.replace("_", " "), "png": png})
    environment = jinja2.Environment(autoescape=True, trim_blocks=True)
    environment.filters["shown"] = _shown
    settings = corpus.manifest["settings"]
    page = environment.from_string(_PAGE).render(
        source=_shown(settings["source"]),
        track=_shown(settings["track"]),
        encoding="Tokens" if corpus.vocabulary else "Note state matrices",
        tables=_tables(corpus),
        figures=figures,
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


def _table(name: str, title: str, text: str, columns: str, rows) -> dict[str, Any]:
    names = [column.strip() for column in columns.split(",")]
    return {"id": name, "title": title, "text": text, "columns": names, "rows": list(rows)}


def _tables(corpus: Corpus) -> list[dict[str, Any]]:
    manifest, songs = corpus.manifest, corpus.songs
    counts = manifest["counts"]
    examples = {row["reason"]: row for row in reversed(corpus.skipped)}
    tables = [
        _table("counts", "Counts", "", "what, number", _counted(counts)),
        _table(
            "skipped",
            "Files left out",
            f"{counts['skipped']} of {counts['files']} files gave no song; each is named in "
            "skipped.jsonl.",
            "reason, files, the first of them",
            (
                (reason, n, f"{examples[reason]['name']}: {examples[reason]['detail']}")
                for reason, n in manifest["skipped"].items()
            ),
        ),
        _table(
            "parts",
            "Parts of these songs",
            "What one would train on: in how many songs the part is, how many notes it has there, "
            "and the share of the song's beats in which it is silent. A model of a part that is "
            "silent much of the time learns to predict rests.",
            "part, songs, notes (median), silent (median), ",
            _parts(songs),
        ),
    ]
    rules, repairs = manifest["rules"], manifest["repairs"]
    if rules:
        text = "By which rule the part was found in a song."
        tables.append(_table("rules", "Choice of the part", text, "rule, songs", rules.items()))
    if repairs:
        text = "What was wrong in a file and mended by reading."
        tables.append(_table("repairs", "Repairs", text, "what, songs", repairs.items()))
    decades = _decades(songs)
    if decades:
        unknown = len(songs) - decades.total()
        text = f"Of {unknown} songs no table tells the decade."
        rows = ((f"{decade}s", n) for decade, n in sorted(decades.items()))
        tables.append(_table("decades", "Songs by decade", text, "decade, songs", rows))
    found = [song for song in songs if song.get("key")]
    signed = [song for song in found if song["key_signature"]]
    if signed:
        text = (
            "Of the songs whose file has a key signature, those where it is the estimated key. "
            "Songs are transposed by the estimate alone."
        )
        rows = [
            (name, len(some), sum(song["key"] == song["key_signature"] for song in some))
            for name, some in (
                ("C:maj", [song for song in signed if song["key_signature"] == "C:maj"]),
                ("others", [song for song in signed if song["key_signature"] != "C:maj"]),
            )
        ]
        tables.append(_table("keys", "Key signatures", text, "signature, songs, agree", rows))
    if corpus.vocabulary:
        tables.append(_frequencies(corpus))
    return tables


def _counted(counts: dict[str, int]) -> list[tuple[str, int]]:
    return [(name.replace("_", " "), number) for name, number in counts.items()]


def _decades(songs: list[dict]) -> collections.Counter[int]:
    """How many songs there are of each decade, of those whose decade is known."""
    return collections.Counter(song["decade"] for song in songs if "decade" in song)


def _parts(songs: list[dict]) -> list[tuple]:
    rows = []
    for name in part.COMMON:
        having = [song["parts"][name] for song in songs if name in song.get("parts", ())]
        if having:
            notes = int(np.median([told["notes"] for told in having]))
            silent = float(np.median([told["silent"] for told in having]))
            verdict = "much silence" if silent > _MUCH_SILENCE else ""
            rows.append((name, len(having), notes, silent, verdict))
    return rows


def _frequencies(corpus: Corpus) -> dict[str, Any]:
    vocabulary = corpus.vocabulary
    assert vocabulary is not None
    counts = np.array(vocabulary.counts)
    total = max(int(counts.sum()), 1)
    rests = counts[vocabulary.is_rest].sum() / total
    alone = (counts == 1).sum() / max(vocabulary.size - 1, 1)
    rows = [
        (str(token), int(n), n / total)
        for token, n in zip(vocabulary.tokens[1:21], counts[1:21], strict=False)
    ]
    return _table(
        "tokens",
        "Most frequent tokens",
        f"Of the training songs' tokens {rests:.1%} are rests; {alone:.1%} of the types come once.",
        "token, times, share",
        rows,
    )


def _figures(corpus: Corpus) -> dict[str, Any]:
    """Pictures by name; those for which the corpus has no data are left out."""
    songs = corpus.songs
    figures = {}
    decades = _decades(songs)
    if decades:
        labels = [f"{decade}s" for decade in sorted(decades)]
        heights = [decades[decade] for decade in sorted(decades)]
        figures["decades"] = _bars("Songs by decade", labels, {"songs": heights})
    keys = [song["key"] for song in songs if song.get("key")]
    if keys:
        figures["keys"] = _keys(songs)
    if lengths := [song["seconds"] / 60 for song in songs if "seconds" in song]:
        figures["lengths"] = _histogram("Lengths", "minutes", lengths)
    parts = {
        name: [song["parts"][name]["silent"] for song in songs if name in song.get("parts", ())]
        for name in part.COMMON
    }
    if any(parts.values()):
        figures["silence"] = _silence(parts)
    if corpus.vocabulary:
        figures["growth"] = _growth(corpus)
        figures["frequencies"] = _ranks(corpus)
    durations, polyphony = _music(corpus)
    figures["durations"] = _shares("Durations", "quarters", durations)
    figures["polyphony"] = _shares("Notes at once", "notes; 0: silence", polyphony)
    return figures


def _axes(title: str, **labels):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.5), layout="constrained")
    return figure, figure.add_subplot(title=title, **labels)


def _bars(title: str, labels: list[str], series: dict[str, list[int]]):
    figure, axes = _axes(title, ylabel=" and ".join(series))
    width = 0.8 / len(series)
    for i, (name, heights) in enumerate(series.items()):
        axes.bar(np.arange(len(labels)) + (i + 0.5) * width - 0.4, heights, width, label=name)
    axes.set_xticks(range(len(labels)), labels)
    if len(series) > 1:
        axes.set_ylabel("songs")
        axes.legend()
    return figure


def _histogram(title: str, xlabel: str, values):
    figure, axes = _axes(title, xlabel=xlabel, ylabel="songs")
    axes.hist(values, bins=30)
    return figure


def _keys(songs: list[dict]):
    """Tonics as they were found, and after the transposition."""
    before, after = np.zeros((2, 2, 12), np.int64)
    for song in songs:
        if song.get("key"):
            tonic, _, mode = song["key"].partition(":")
            number = TONIC_NAMES.index(tonic)
            before[int(mode == "min"), number] += 1
            after[int(mode == "min"), (number + song["transposed"]) % 12] += 1
    series = {
        f"{mode}, {when}": counts[i].tolist()
        for when, counts in (("found", before), ("after", after))
        for i, mode in enumerate(("major", "minor"))
    }
    return _bars("Keys before and after", list(TONIC_NAMES), series)


def _silence(parts: dict[str, list[float]]):
    figure, axes = _axes("Silence by part", ylabel="silent share of a song's beats")
    known = {name: values for name, values in parts.items() if values}
    axes.boxplot(list(known.values()), showfliers=False)
    axes.set_xticks(range(1, len(known) + 1), [f"{name}\n{len(v)}" for name, v in known.items()])
    axes.set_ylim(0, 1)
    return figure


def _growth(corpus: Corpus):
    """Types against songs, in a random order of the songs."""
    assert corpus.vocabulary is not None
    seen = np.zeros(len(corpus.vocabulary.tokens), bool)
    types = []
    for number in np.random.default_rng(0).permutation(len(corpus.songs)):
        seen[corpus.encoded(corpus.songs[number])] = True
        types.append(int(seen.sum()))
    figure, axes = _axes("Growth of the vocabulary", xlabel="songs", ylabel="types of tokens")
    axes.plot(np.arange(1, len(types) + 1), types)
    axes.set_ylim(0)
    return figure


def _ranks(corpus: Corpus):
    assert corpus.vocabulary is not None
    counts = np.array(corpus.vocabulary.counts)[1:]
    rests = corpus.vocabulary.is_rest[1:]
    rank = np.arange(1, len(counts) + 1)
    figure, axes = _axes("Frequencies of tokens", xlabel="rank", ylabel="times in training songs")
    axes.loglog(rank, counts, label="notes and chords")
    axes.loglog(rank[rests], counts[rests], "o", label="rests")
    axes.legend()
    return figure


def _music(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """How often each duration comes [in twelfths or sixteenths -> quarters], and each number of
    notes at once; rows of (value, times).
    """
    durations, polyphony = collections.Counter(), collections.Counter()
    if corpus.vocabulary:
        tokens = corpus.vocabulary.tokens
        times = np.zeros(len(tokens), np.int64)
        for song in corpus.songs:
            times += np.bincount(corpus.encoded(song), minlength=len(tokens))
        for token, n in zip(tokens[1:], times[1:].tolist(), strict=True):
            durations[token.duration / UNITS_PER_QUARTER] += n
            polyphony[len(token.pitches)] += n
    else:
        shape = step_shape(corpus.manifest["settings"])
        every = -(-len(corpus.songs) // _MOST_SONGS)
        for song in corpus.songs[::every]:
            states = unpack(np.asarray(corpus.encoded(song)), *shape).astype(bool)
            play = states[..., 0].T.ravel()  # note by note
            struck = play & ~np.pad(states[:-1, :, 0], [(1, 0), (0, 0)]).T.ravel()
            struck |= states[..., 1:].any(-1).T.ravel()
            lengths = np.bincount(np.cumsum(struck)[play])[1:]
            durations.update((lengths / STEPS_PER_QUARTER).tolist())
            polyphony.update(states[..., 0].sum(1).tolist())
    return np.array(sorted(durations.items())), np.array(sorted(polyphony.items()))


def _shares(title: str, xlabel: str, times: np.ndarray):
    figure, axes = _axes(title, xlabel=xlabel, ylabel="share")
    value, number = times.T
    shown = number / number.sum() >= 1e-3
    axes.stem(value[shown], number[shown] / number.sum(), basefmt=" ")
    axes.set_ylim(0)
    return figure
