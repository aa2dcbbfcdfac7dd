"""How far sets of songs are from one another, by what their music is like: generated pieces from
the songs that a model was trained on, with held-out songs as the yardstick.

Of each measure of `musicjax.evaluation.metrics` the songs of a set have a distribution: a kernel
density estimate, Gaussian, the bandwidth by Scott's rule. Two of them are compared by

    overlap      the area below both: 1 for the same distribution, 0 for two that do not meet
    divergence   Kullback-Leibler, in nats: what it costs to take one for the other; 0 for the same

Two sets of the same kind of songs do not reach 1 either: how near held-out songs come is what can
be reached. Compare songs of like lengths (`passages_of` cuts them), for longer ones repeat more and
reach further.

Source: Yang and Lerch, "On the evaluation of generative models in music", Neural Computing and
Applications 32, 2020; mgeval. Differs: (1) distributions of a measure's values, not of the
distances between songs of one set and between those of two: of two Gaussians that are a standard
deviation apart the values overlap by 0.62, the distances by 0.89; (2) one bandwidth for both sets,
that of the smaller deviation and the smaller number, so that equal values count as common whatever
else there is, and at least a hundredth of what the values span, so that one song has a density; (3)
for the divergence both give a share to all values alike, of one song to the reference's, so that it
is finite; (4) both densities are taken at the same points.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from musicjax.corpus.store import Corpus
from musicjax.errors import InputError
from musicjax.evaluation.metrics import MEASURES, Passage, measure
from musicjax.music.song import Song, Tempo

_POINTS = 2000  # at which densities are compared
_NARROWEST = 0.01  # bandwidth, as a share of what the values span
_REACH = 4  # bandwidths beyond the values, where a density ends
_FEW = 10  # songs, of which a distribution says little


class Distance(NamedTuple):
    """Between the values of two sets of songs.

    Attributes:
        overlap: area below both densities, 0..1.
        divergence: Kullback-Leibler, in nats, of the set from the reference; >= 0.
    """

    overlap: float
    divergence: float


class Figure(NamedTuple):
    """A measure of a set of songs.

    Attributes:
        mean: over the songs.
        songs: of which it can be said.
        distance: to the first set; None for that itself, or if it has no values.
    """

    mean: float
    songs: int
    distance: Distance | None


class Comparison(NamedTuple):
    """Sets of songs side by side; the first is what the others are compared with.

    Attributes:
        songs: how many each set has.
        figures: by measure, then by set; a set of which a measure cannot be said is not there.
    """

    songs: dict[str, int]
    figures: dict[str, dict[str, Figure]]


def passages_of(
    corpus: Corpus, split: str, *, units: int | None = None, most: int | None = None
) -> list[Passage]:
    """Songs of a corpus as its encoding gives them back: real music that lost what generated music
    never had.

    Args:
        corpus: any.
        split: "train", "validation" or "test".
        units: of the encoding's time, to which longer songs are cut; None: all.
        most: songs, evenly spread over the split; None: all.
    """
    encoding, songs = corpus.encoding, corpus.split(split)
    if most is not None and most < len(songs):
        songs = [songs[i * len(songs) // most] for i in range(most)]
    passages = []
    for record in songs:
        elements = np.asarray(encoding.all_elements(np.asarray(corpus.rows(record))))
        length = encoding.length(elements)
        if units is not None and length > units:
            elements, length = elements[encoding.onsets(elements) < units], units
        tracks = encoding.decode(
            elements, units=units, program=record.program, is_drum=record.is_drum
        )
        song = Song(
            tuple(tracks),
            encoding.units_per_quarter,
            meters=encoding.meters(record.layout, 0, elements),
            tempos=(Tempo(0, record.qpm),),
            source=record.name,
        )
        passages.append(Passage(song, length, elements, encoding.element))
    return passages


def compare(sets: Mapping[str, Sequence[Passage]]) -> Comparison:
    """All measures of sets of songs, and how far each set is from the first.

    Args:
        sets: by name, such as {"training": ..., "test": ..., "generated": ...}.
    Raises:
        InputError: a set without songs.
    """
    for name, passages in sets.items():
        if not passages:
            raise InputError(f"no song is in the set {name!r}; expected at least one to compare")
    measured = {name: [measure(passage) for passage in sets[name]] for name in sets}
    figures = {}
    for name in MEASURES:
        values = {
            each: np.array([song[name] for song in songs if name in song], np.float64)
            for each, songs in measured.items()
        }
        reference = next(iter(values))
        figures[name] = {
            each: Figure(
                float(of_set.mean()),
                len(of_set),
                distance(of_set, values[reference])
                if each != reference and len(values[reference])
                else None,
            )
            for each, of_set in values.items()
            if len(of_set)
        }
    return Comparison({name: len(passages) for name, passages in sets.items()}, figures)


def distance(values: np.ndarray, reference: np.ndarray) -> Distance:
    """How far a measure's values are from others.

    Args:
        values: [songs] of one set, at least one.
        reference: [songs] of the other.
    """
    both = np.concatenate([values, reference])
    low, span = both.min(), np.ptp(both)
    if np.allclose(both, low, rtol=1e-9, atol=1e-12):
        return Distance(1.0, 0.0)
    deviation = min(values.std(), reference.std())
    scott = float(deviation) * min(len(values), len(reference)) ** -0.2
    bandwidth = max(scott, _NARROWEST * span)
    margin = _REACH * bandwidth
    edges = np.linspace(low - margin, low + span + margin, _POINTS + 1)
    p, q = _density(values, edges, bandwidth), _density(reference, edges, bandwidth)
    overlap = float(np.minimum(p, q).sum())
    even = 1 / (len(reference) + 1)
    p, q = (even / len(p) + (1 - even) * each for each in (p, q))
    return Distance(overlap, float((p * np.log(p / q)).sum()))


def _density(values: np.ndarray, edges: np.ndarray, bandwidth: float) -> np.ndarray:
    """float64 [cells]: how likely each cell is; the sum is 1.

    Args:
        values: [songs], each at least _REACH bandwidths inside of the edges.
        edges: [cells + 1], evenly spaced.
        bandwidth: of the kernel.
    """
    width = edges[1] - edges[0]
    reach = int(_REACH * bandwidth / width)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * width / bandwidth) ** 2)
    counts, _ = np.histogram(values, edges)
    density = np.convolve(counts, kernel)[reach : reach + len(counts)]
    return density / density.sum()


def describe(comparison: Comparison) -> str:
    """A table: a line for each measure, for each set its mean and how far it is from the first."""
    label = max(map(len, comparison.figures))
    lines = [" " * label, *(f"{name:{label}}" for name in comparison.figures)]
    notes = []
    for i, (name, number) in enumerate(comparison.songs.items()):
        title = f"{name} ({number})"
        width = max(len(title), 9) + 3
        lines[0] += f"{title:>{width}}" + (f"{'overlap':>9}{'KL':>8}" if i else "")
        fewer: dict[int, list[str]] = {}
        for row, (measure_name, figures) in enumerate(comparison.figures.items(), 1):
            figure = figures.get(name)
            cells = ["-", "-", "-"]
            if figure:
                cells[0] = f"{figure.mean:.{3 if abs(figure.mean) < 10 else 1}f}"
                if figure.distance:
                    cells[1:] = (f"{value:.2f}" for value in figure.distance)
            lines[row] += f"{cells[0]:>{width}}" + (f"{cells[1]:>9}{cells[2]:>8}" if i else "")
            songs = figure.songs if figure else 0
            if songs < number:
                fewer.setdefault(songs, []).append(measure_name)
        notes += [
            f"of {songs} of the {number} songs of {name} alone: {', '.join(measures)}"
            for songs, measures in fewer.items()
        ]
        if number < _FEW:
            notes.append(f"{name}: distributions of {number} songs say little")
    return "\n".join(lines + notes)
