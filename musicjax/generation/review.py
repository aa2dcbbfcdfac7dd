"""What a model's music is like beside the music that it learned from: measures, and copies."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from musicjax.encodings.base import Encoding
from musicjax.evaluation import distance, novelty
from musicjax.evaluation.distance import Comparison
from musicjax.evaluation.metrics import Passage
from musicjax.generation.options import Options
from musicjax.generation.piece import Piece, generate
from musicjax.training import workdir

_MOST_SONGS = 300  # of the training songs, evenly spread


class Review(NamedTuple):
    """What was found.

    Attributes:
        comparison: measures of training songs, test songs and generated pieces.
        copied: of each piece, and of each test song as a yardstick, the distinct onsets of the
            longest run that a training song has too.
        longest: a line about the generated piece that shares most.
    """

    comparison: Comparison
    copied: dict[str, list[int]]
    longest: str


def review(folder: str | Path, options: Options) -> Review:
    """Generates pieces, and compares them with the songs of a work dir.

    Real songs are cut to the length of the pieces, since some measures grow with length. Of pieces
    what is whole is measured, see `inner`.

    Args:
        folder: work dir of a run of musicjax.train.
        options: what to generate; without a length the pieces are as long as a test song.
    Raises:
        InputError: as generate; or no training or no test song.
    """
    corpus = workdir.load_songs(folder)
    if options.length is None and options.seconds is None and (test := corpus.split("test")):
        length = int(np.median([song.length for song in test]))
        options = dataclasses.replace(options, length=length)
    pieces = generate(folder, options)
    generated = [inner(piece, corpus.encoding) for piece in pieces]
    units = int(np.median([passage.ticks for passage in generated]))
    sets = {
        "training": distance.passages_of(corpus, "train", units=units, most=_MOST_SONGS),
        "test": distance.passages_of(corpus, "test", units=units),
        "generated": generated,
    }
    comparison = distance.compare(sets)
    index = novelty.index_of(corpus, Path(folder) / "novelty")

    def matches(passages: list[Passage]) -> list[novelty.Match]:
        return [novelty.longest_match(index, passage) for passage in passages]

    found = {name: matches(sets[name]) for name in ("test", "generated")}
    longest = max(found["generated"], key=lambda match: match.distinct)
    copied = {name: [match.distinct for match in found[name]] for name in found}
    return Review(comparison, copied, novelty.describe(longest))


def inner(piece: Piece, encoding: Encoding) -> Passage:
    """What of a piece is whole, and all its own: from the first bar line after its beginning, and
    up to where its last notes begin, unless it ends by itself.

    Before, it may go on inside of a bar, with the rest of a chord whose other notes are the
    prime's: heard alone, it would begin with silence and lack voices. After, what was not drawn any
    more is missing. A piece that is no longer than that, or in a song, stays as it is.

    Args:
        piece: of a model of this encoding.
        encoding: of its elements, and of its ticks.
    """
    passage, bars = piece.passage, piece.passage.bars
    line = int(bars.line[0] + bars.length[0] * (-bars.line[0] // bars.length[0] + 1))
    line = -(-min(line, *bars.begin[1:].tolist(), passage.ticks * bars.parts) // bars.parts)
    until = passage.ticks if piece.ended else int(passage.notes[:, 0].max(initial=0))
    if piece.place == "in" or line >= until:
        return passage
    onsets = encoding.onsets(passage.elements)
    elements = passage.elements[(onsets >= line) & (onsets < until)]
    song = passage.song.stretch(line, until)
    return Passage(song, until - line, elements, passage.element)


def describe(result: Review) -> str:
    """A table and lines for people."""
    lines = [distance.describe(result.comparison)]
    for name, counts in result.copied.items():
        lines.append(
            f"{name}: the longest run shared with a training song has {np.median(counts):g} "
            f"distinct onsets (median), at most {max(counts)}"
        )
    lines.append(f"the piece that shares most: {result.longest}")
    return "\n".join(lines)
