"""What people thought of pieces of which they did not know whether they were real or made: the CSV
that the blind page of musicjax.listen exports, read and counted.

A row is one rating:

    listener    whatever they call themselves
    piece       its number on the page, a few hexadecimal digits
    code        what it was, as `encode_origin` hides it
    rating      1 to 5
    guess       "real" or "made"

Of each origin (real songs, and each model) the mean rating has a 95 % confidence interval by
Student's t, and the share that was taken for real one by Wilson's score. Both take ratings as
independent of one another, which those of one listener are not quite: ask several.

Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
"""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from musicjax.errors import InputError

REAL = "real"
COLUMNS = ("listener", "piece", "code", "rating", "guess")
_CONFIDENCE = 0.95
_MOST_BYTES = 50_000_000


class Rating(NamedTuple):
    """One row. origin: REAL, or the model that made the piece."""

    listener: str
    piece: str
    origin: str
    rating: int
    taken_for_real: bool


class Share(NamedTuple):
    """A number with its confidence interval; nan, from -inf to inf where nothing can be said."""

    value: float
    low: float
    high: float


class Row(NamedTuple):
    """What was thought of pieces of one origin.

    Attributes:
        origin: REAL or a model.
        ratings: how many.
        pieces: how many different ones.
        mean: of the ratings.
        taken_for_real: share of the ratings.
    """

    origin: str
    ratings: int
    pieces: int
    mean: Share
    taken_for_real: Share


def encode_origin(origin: str, piece: str) -> str:
    """An origin so that a page's source does not show it at a glance: no secret, but no spoiler.

    Args:
        origin: REAL or a model.
        piece: its number, by which equal origins look different.
    """
    # As long for all that are short, or the length would tell.
    content = origin.encode("utf-8", "replace").ljust(24)
    return bytes(b ^ k for b, k in zip(content, _stream(piece), strict=False)).hex()


def decode_origin(code: str, piece: str) -> str:
    """What `encode_origin` hid.

    Raises:
        ValueError: it is no such code.
    """
    content = bytes(b ^ k for b, k in zip(bytes.fromhex(code), _stream(piece), strict=False))
    return content.decode("utf-8").rstrip()


def _stream(piece: str) -> Iterable[int]:
    """Numbers that depend on a piece; the page's script has the same lines."""
    state = 7
    for letter in piece.encode():
        state = (state * 31 + letter) % 2**31
    while True:
        state = (state * 1103515245 + 12345) % 2**31
        yield state >> 16 & 255


def read_ratings(paths: Sequence[str | Path]) -> tuple[list[Rating], list[str]]:
    """Ratings of CSV files, and a line about each row that is none. Of one piece by one listener
    the last rating counts.

    Raises:
        InputError: a file cannot be read, lacks a column, or none has a rating.
    """
    found: dict[tuple[str, str], Rating] = {}
    problems = []
    for path in map(Path, paths):
        for number, row in enumerate(_rows(path), 2):
            try:
                rating = _rating(row)
            except ValueError as error:
                problems.append(f"{path}, row {number}: {error}")
                continue
            found[rating.listener, rating.piece] = rating
    if not found:
        first = f" ({problems[0]})" if problems else ""
        raise InputError(f"{', '.join(map(str, paths))}: no rating in it{first}")
    return list(found.values()), problems


def _rows(path: Path) -> Iterable[dict[str, str]]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: {path.stat().st_size} bytes; expected a page's ratings")
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path}: no column {missing[0]!r}; expected the CSV that the blind page of "
                    "musicjax.listen exports"
                )
            return list(rows)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: not read as CSV ({reason})") from None


def _rating(row: dict[str, str]) -> Rating:
    cells = {name: (row[name] or "").strip() for name in COLUMNS}
    if cells["rating"] not in ("1", "2", "3", "4", "5"):
        raise ValueError(f"rating is {cells['rating']!r}; expected 1 to 5")
    if cells["guess"] not in ("real", "made"):
        raise ValueError(f"guess is {cells['guess']!r}; expected real or made")
    try:
        origin = decode_origin(cells["code"], cells["piece"])
    except ValueError:
        origin = ""
    if not origin or not origin.isprintable():
        raise ValueError(f"code is {cells['code']!r}, which is none of a page's")
    taken_for_real = cells["guess"] == "real"
    return Rating(cells["listener"], cells["piece"], origin, int(cells["rating"]), taken_for_real)


def tally(ratings: Sequence[Rating]) -> list[Row]:
    """A row for each origin, real songs first."""
    origins = sorted({each.origin for each in ratings}, key=lambda name: (name != REAL, name))
    rows = []
    for origin in origins:
        some = [each for each in ratings if each.origin == origin]
        rows.append(
            Row(
                origin,
                len(some),
                len({each.piece for each in some}),
                mean_of([each.rating for each in some]),
                share_of(sum(each.taken_for_real for each in some), len(some)),
            )
        )
    return rows


def mean_of(values: Sequence[float]) -> Share:
    """The mean with Student's interval: one value says nothing about its spread."""
    from scipy import stats

    mean = float(np.mean(values))
    if len(values) < 2:
        return Share(mean, -math.inf, math.inf)
    reach = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1))
    reach *= float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Share(mean, mean - reach, mean + reach)


def share_of(count: int, of: int) -> Share:
    """A share with Wilson's interval."""
    from scipy import stats

    z = float(stats.norm.ppf((1 + _CONFIDENCE) / 2))
    share, middle = count / of, (count + z * z / 2) / (of + z * z)
    reach = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return Share(share, max(middle - reach, 0.0), min(middle + reach, 1.0))


def describe(ratings: Sequence[Rating]) -> str:
    """A table, and how often listeners were fooled."""
    rows = tally(ratings)
    width = max(len("origin"), *(len(row.origin) for row in rows))
    lines = [
        f"{'origin':{width}}  ratings  pieces   rating (95 %)          taken for real (95 %)",
        *(
            f"{row.origin:{width}}{row.ratings:9}{row.pieces:8}   {_mean(row.mean):20}   "
            f"{row.taken_for_real.value:.0%} ({row.taken_for_real.low:.0%} to "
            f"{row.taken_for_real.high:.0%})"
            for row in rows
        ),
    ]
    listeners = len({each.listener for each in ratings})
    made = [each for each in ratings if each.origin != REAL]
    fooled = sum(each.taken_for_real for each in made)
    right = sum(each.taken_for_real == (each.origin == REAL) for each in ratings)
    share = share_of(right, len(ratings))
    if made:
        lines.append(f"fooled: {fooled} of {len(made)} times a made piece was taken for real")
    lines.append(
        f"{listeners} listener{'s' * (listeners != 1)}: right {right} of {len(ratings)} times, "
        f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%}); guessing gives 50%"
    )
    return "\n".join(lines)


def _mean(mean: Share) -> str:
    if not math.isfinite(mean.low):
        return f"{mean.value:.2f} (one rating)"
    return f"{mean.value:.2f} ({mean.low:.2f} to {mean.high:.2f})"
