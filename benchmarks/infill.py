"""Does what is given have a say? Bars filled in and voices added, beside Bach's own.

    python -m benchmarks.infill [--workdir=RUN] [--songs=20] [--temperature=0.9] [--split=test]

For each chorale that a note state model was not trained on, in three ways: each step drawn from its
past alone (ancestral), by a particle filter, and by particle Gibbs, which goes over it again.

Harmonised: the soprano is given. Measures of alto, tenor and bass alone, and how many notes sound
at once in all four voices, beside Bach's. The target is to be within 0.05 of his.

Filled in: four bars from the fourth on are taken out. Nats a step of the bars that were made and
of the two bars after them, as the model finds them: less is likelier. Bach's own beside.

Without a workdir it is the ready-made model. The last line is JSON.
"""

import argparse
import dataclasses
import json
import statistics
import time

import numpy as np

from benchmarks import machine

TARGET = 0.05
MEASURES = ("on_beat", "polyphony", "scale_consistency")
WAYS = {
    "ancestral": {"particles": 1, "sweeps": 0},
    "filter": {"sweeps": 0},
    "Gibbs": {},
}
FIRST, BARS, AFTER = 4, 4, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workdir", help="of a note state model of chorales")
    parser.add_argument("--songs", type=int, default=20)
    parser.add_argument("--temperature", type=float, default=0.9)
    parser.add_argument("--split", default="test", help="validation: to choose settings by")
    parser.add_argument("--particles", type=int, default=64)
    parser.add_argument("--sweeps", type=int, default=3)
    arguments = parser.parse_args()

    import jax
    import jax.numpy as jnp

    from musicjax import readymade
    from musicjax.evaluation import metrics
    from musicjax.evaluation.metrics import Passage
    from musicjax.generation import infill, piece
    from musicjax.generation.options import Options
    from musicjax.music import midi
    from musicjax.sources import open_source
    from musicjax.training import compilation_cache, workdir

    compilation_cache.enable()
    folder = arguments.workdir or readymade.find("chorales")
    trained, corpus = workdir.load_trained(folder, "best"), workdir.load_songs(folder)
    model, encoding = trained.model, trained.model.encoding
    paths = {file.name: file.path for file in open_source("chorales").find()}
    songs = [midi.read_song(paths[record.name]) for record in corpus.split(arguments.split)]
    songs = [song for song in songs if len(song.tracks) == 4][: arguments.songs]

    @jax.jit
    def nats(elements, positions):
        """[T], of each step."""
        batch = {
            "elements": jnp.pad(elements, [(1, 0), (0, 0), (0, 0)])[None],
            "positions": positions[None],
        }
        prediction = model.apply(trained.params, batch)
        assert prediction.nll is not None  # of a model that can fill in
        return prediction.nll[0].sum(-1)

    def nats_of(task_piece, elements):
        """Of the song of a piece, with these elements."""
        length = -(-len(elements) // 64) * 64  # few compile anew
        padded = np.pad(elements, [(0, length - len(elements)), (0, 0), (0, 0)])
        positions = encoding.positions(task_piece.prime.layout, -1, length)
        return np.asarray(nats(padded, positions))[: len(elements)]

    def fill(number, song, **options):
        options = {"particles": arguments.particles, "sweeps": arguments.sweeps} | options
        asked = Options(num=1, seed=number, temperature=arguments.temperature, **options)
        started = time.perf_counter()
        [made] = piece.fill_in(trained, corpus, song, asked)
        return made, time.perf_counter() - started

    def measured(song, ticks):
        found = metrics.measure(Passage(song, ticks, np.zeros(0, np.int32)))
        return [found[name] for name in MEASURES]

    rows: dict[str, list[list[float]]] = {name: [] for name in ("Bach", *WAYS)}
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for name, options in WAYS.items():
        for number, song in enumerate(songs):
            soprano = song.tracks[0].name or "soprano"
            made, spent = fill(number, song, keep=f"^{soprano}$", voices=4, **options)
            lower = [track for track in made.song.tracks if track.name == "generated"]
            alone = dataclasses.replace(made.song, tracks=tuple(lower))
            ticks = made.song.end_ticks
            likely = nats_of(made, made.passage.elements).mean()
            rows[name].append([*measured(alone, ticks), measured(made.song, ticks)[1], likely])
            seconds[name].append(spent)
            if name == "ancestral":
                whole = dataclasses.replace(song, keys=())
                lower = dataclasses.replace(whole, tracks=song.tracks[1:])
                ticks, likely = song.end_ticks, nats_of(made, made.prime.elements).mean()
                rows["Bach"].append([*measured(lower, ticks), measured(whole, ticks)[1], likely])
    columns = (*MEASURES, "all four voices", "nats a step")
    means = {name: np.mean(found, axis=0).tolist() for name, found in rows.items()}
    print(f"{len(songs)} chorales, the soprano given; means, and how far they are from Bach's")
    print(f"{'':10}" + "".join(f"{column:>24}" for column in columns) + f"{'seconds':>9}")
    for name, found in means.items():
        cells = [
            f"{value:.3f} ({value - bach:+.3f})" if name != "Bach" else f"{value:.3f}" + " " * 9
            for value, bach in zip(found, means["Bach"], strict=True)
        ]
        spent = f"{statistics.median(seconds[name]):9.1f}" if name in seconds else ""
        print(f"{name:10}" + "".join(f"{cell:>24}" for cell in cells) + spent)

    last = FIRST + BARS - 1
    filled: dict[str, list[tuple[float, float]]] = {name: [] for name in ("Bach", *WAYS)}
    spent_filling: dict[str, list[float]] = {name: [] for name in WAYS}
    for name, options in WAYS.items():
        for number, song in enumerate(songs):
            if song.end_ticks < 4 * (last + AFTER + 1) * song.ticks_per_quarter:
                continue  # too short
            made, spent = fill(number, song, infill=f"{FIRST}-{last}", **options)
            inside = infill.steps_of(made.prime, model, f"{FIRST}-{last}")
            after = infill.steps_of(made.prime, model, f"{last + 1}-{last + AFTER}")
            for key, elements in (
                (name, made.passage.elements),
                *([("Bach", made.prime.elements)] if name == "ancestral" else []),
            ):
                found = nats_of(made, elements)
                filled[key].append((found[inside].mean(), found[after].mean()))
            spent_filling[name].append(spent)
    print(f"\n{len(filled['Bach'])} chorales, {BARS} bars filled in; nats a step")
    print(f"{'':10}{'filled in':>12}{'2 bars after':>14}{'together':>10}{'seconds':>9}")
    together = {}
    for name, found in filled.items():
        inside, after = np.mean(found, axis=0)
        together[name] = (BARS * inside + AFTER * after) / (BARS + AFTER)
        spent = f"{statistics.median(spent_filling[name]):9.1f}" if name in WAYS else ""
        print(f"{name:10}{inside:12.3f}{after:14.3f}{together[name]:10.3f}{spent}")
    result = {
        "benchmark": "infill",
        "songs": len(songs),
        "temperature": arguments.temperature,
        "harmonised": {
            name: dict(zip(columns, np.round(found, 4).tolist(), strict=True))
            for name, found in means.items()
        },
        "filled": {
            name: np.mean(found, axis=0).round(4).tolist() for name, found in filled.items()
        },
        "seconds": {name: statistics.median(spent_filling[name]) for name in WAYS},
        "target": TARGET,
        **machine.facts(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
