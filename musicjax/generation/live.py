"""A model's live page: its weights, and openings of test songs that a piece may go on from."""

from pathlib import Path

import numpy as np

from musicjax.generation import primes as priming
from musicjax.generation.options import Options
from musicjax.rendering import live
from musicjax.rendering.live import Opening
from musicjax.system import files
from musicjax.training import workdir
from musicjax.training.workdir import Trained

_MOST_OPENINGS = 8
_LONGEST_OPENING = 8  # quarters
_RULES = ("max_rests", "max_repeats", "max_silence", "max_notes", "temperature", "min_p")


def write_page(folder: str | Path, output: str | Path, options: Options) -> Path:
    """Writes the live page of a model, OUTPUT/live.html, and returns its path.

    Args:
        folder: of a run of musicjax.train.
        output: made if it does not exist.
        options: of generate, of which the sampling rules and the checkpoint hold.
    Raises:
        InputError: no such work dir; the page cannot run its model; or the output is not writable.
    """
    files.expect_workdir(folder)
    trained = workdir.load_trained(folder, options.checkpoint)
    model, encoding = trained.model, trained.model.encoding
    network, arrays = model.live(model.unweighted(trained.params))
    corpus = workdir.load_songs(folder)
    songs = [song for song in corpus.split("test") if song.length > 1]
    count = min(len(songs), _MOST_OPENINGS)
    openings = [
        _opening(trained, priming.passage_of(corpus, song, 0, song.length))
        for song in (songs[i * len(songs) // count] for i in range(count))
    ]
    tempos = [song.qpm for song in songs]
    rules = options.sampling_settings(encoding, corpus.most_at_once)
    title = f"{Path(folder).absolute().name}, live"
    size = sum(array.size for array in arrays.values())
    return live.write_page(
        files.writable_folder(output),
        title=title,
        text=f"A model of {size:,} numbers makes music as you listen, one {encoding.element} after "
        "another, without end. All of it runs in this page; nothing is fetched or sent.",
        network=network,
        arrays=arrays,
        reader=encoding.live(),
        openings=openings,
        settings={
            "units_per_quarter": encoding.units_per_quarter,
            "tempo": round(float(np.median(tempos))) if tempos else 120,
            "rules": {name: rules[name] for name in _RULES},
            "reads_places": model.reads_positions,
            "transposed": bool(trained.config.data.transpose),
        },
    )


def _opening(trained: Trained, song: priming.Prime) -> Opening:
    """Of a whole test song, until an element comes that the model does not know."""
    model, encoding = trained.model, trained.model.encoding
    most = _LONGEST_OPENING * encoding.units_per_quarter
    usable = encoding.onsets(song.heard) < most
    if encoding.kind == "ids":
        usable &= song.elements > 0
    count = len(usable) if usable.all() else int(usable.argmin())
    prime = song._replace(elements=song.elements[:count], heard=song.heard[:count])
    places, cycles = priming.positions([prime], count, model)
    return Opening(Path(song.name).stem, prime.elements, places[0], int(cycles[0]))
