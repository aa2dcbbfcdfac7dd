"""The live page: one file that any browser opens from disk, in which a model makes music without
end. Its networks, the readers of what they make, and the player are the scripts live*.js of the
templates beside this module; this module puts a model's numbers into them.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musicjax.rendering import template
from musicjax.system import files

NAME = "live.html"


class Opening(NamedTuple):
    """Music that a piece may go on from.

    Attributes:
        name: of its song.
        elements: [P] ids, or [P, N, C] bits.
        places: int [1 + P + U], in the bar: of the element before it, of each, and of the units of
            time that follow.
        cycle: after how many units the last of those come again.
    """

    name: str
    elements: np.ndarray
    places: np.ndarray
    cycle: int


def write_page(
    folder: Path,
    *,
    title: str,
    text: str,
    network: Mapping[str, Any],
    arrays: Mapping[str, Any],
    reader: Mapping[str, Any],
    openings: Sequence[Opening],
    settings: Mapping[str, Any],
) -> Path:
    """Writes the page, live.html, into a folder; returns its path.

    Args:
        folder: is there.
        title, text: of the page.
        network, arrays: of Model.live.
        reader: of Encoding.live.
        openings: of songs.
        settings: units_per_quarter, tempo in quarters a minute, rules (of generation by name),
            reads_places, and transposed (whether the model's songs are in C major or A minor).
    """
    data = {
        **settings,
        "network": network,
        "arrays": {name: _base64(array) for name, array in arrays.items()},
        "reader": reader,
        "primes": [_prime(opening) for opening in openings],
    }
    page = template.render(
        "live.html",
        scripts=("live_networks.js", "live_readers.js", "live.js"),
        data=data,
        title=title,
        text=text,
    )
    path = folder / NAME
    files.write_text(path, page)
    return path


def _base64(array: Any) -> str:
    return base64.b64encode(np.asarray(array, "<f4").tobytes()).decode("ascii")


def _prime(opening: Opening) -> dict[str, Any]:
    """As live.js reads it; of a matrix the bits that are 1: [[cell, 1], ...] of each step."""
    elements, places = opening.elements, opening.places.tolist()
    count = len(elements)
    listed = elements.tolist()
    if elements.ndim > 1:
        steps = elements.reshape(count, -1)
        listed = [[[cell, 1] for cell in np.flatnonzero(step).tolist()] for step in steps]
    return {
        "name": opening.name,
        "elements": listed,
        "before": places[0],
        "places": places[1 : 1 + count],
        "after": places[1 + count :],
        "cycle": opening.cycle,
    }
