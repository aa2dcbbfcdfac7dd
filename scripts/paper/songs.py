"""The experiments about what the vocabulary network is trained on: tracks, instruments, styles."""

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import musicjax
from musicjax.config import settings_of
from musicjax.corpus import build
from musicjax.errors import InputError
from musicjax.generation import review
from musicjax.generation.options import Options
from musicjax.training.dataset import Examples, ordered_batches
from musicjax.training.settings import ExampleSettings
from paper import pictures
from paper.lab import Experiment, File, Finding, Lab, Table, standing_of
from paper.vocabulary import v_config

ALL_OF_LAKH = 176_581  # songs


# --- which track --------------------------------------------------------------------------------


def track(lab: Lab, folder: Path) -> Finding:
    """Piano or vocals, with and without class weights."""
    scale, rows, facts = lab.scale, [], {}
    for part in ("piano", "vocals"):
        for weights in (0.0, 1.0):
            changes = {
                "data.source": lab.source,
                "data.track": part,
                "data.songs": scale.track_songs,
                "data.longest_rest": 0,
                "data.validation_share": 0.1,
                "data.test_share": 0.2,
                "train.epochs": scale.try_epochs,
                "train.stride": scale.v_stride,
                "train.learning_rate": 1e-3,
                "model.window": scale.v_window,
                "model.class_weights": weights,
            }
            name = f"track_{part}_{'weighted' if weights else 'plain'}"
            sizes = {"model.encoder_size": -(-512 // scale.v_divisor)}
            run = lab.train(name, "vocab:baseline", changes | sizes)
            real, predicted, kinds = _rests(run)
            rows.append([part, "yes" if weights else "no", real, predicted, kinds])
            facts[name.removeprefix("track_")] = predicted
            facts[f"{part}_real"] = real
    columns = [
        "track",
        "class weights",
        "rests in the songs",
        "rests predicted",
        "tokens predicted",
    ]
    return Finding(
        facts,
        [Table("Shares of rests among test tokens, and what is predicted for them", columns, rows)],
        notes=[f"{scale.track_songs} songs; a rest is a token, however long."],
    )


def _rests(run: musicjax.Run) -> tuple[float, float, int]:
    """Of test windows' targets: the share of rests, that among the likeliest tokens, and how many
    different ones the likeliest are.
    """
    settings = settings_of(ExampleSettings, run.config.train, "train")
    examples = Examples(run.corpus, "test", run.model, settings, training=False)
    predict = jax.jit(lambda params, batch: run.model.apply(params, batch).guess)
    targets, guesses = [], []
    for batch in ordered_batches(examples, run.config.train.batch_size):
        present = batch.pop("present") > 0
        guesses.append(np.asarray(predict(run.params, batch))[present])
        targets.append(np.asarray(batch["elements"])[present, -1])
    target, guess = np.concatenate(targets), np.concatenate(guesses)
    rests = np.asarray(run.encoding.rests(np.arange(run.encoding.size)))
    return float(rests[target].mean()), float(rests[guess].mean()), len(np.unique(guess))


# --- how large the vocabulary is ----------------------------------------------------------------


def instruments(lab: Lab, folder: Path) -> Finding:
    """Vocabularies with and without the instrument, and the events'."""
    schemes = {
        "one track's tokens": ("vocab", {"data.track": "piano"}),
        "all tracks merged": ("vocab", {"data.track": "all"}),
        "the instrument in each token": ("vocab", {"data.track": "all", "data.instruments": True}),
        "events": ("events", {"data.track": "all"}),
    }
    shares = {"data.validation_share": 0.0, "data.test_share": 0.0}
    sizes: dict[str, list[int]] = {name: [] for name in schemes}
    songs: dict[str, list[int]] = {name: [] for name in schemes}
    for name, (config, changes) in schemes.items():
        for number in lab.scale.growth:
            data = {"data.source": lab.parts, "data.songs": number} | shares | changes
            made = musicjax.get_config(config, **data)
            corpus = build.open_corpus(made.data, build.make_plan(made.data))
            if len(corpus.songs) > (songs[name] or [0])[-1]:
                songs[name].append(len(corpus.songs))
                sizes[name].append(corpus.encoding.size - 1)
    counted = songs["the instrument in each token"]
    if len(counted) < 2:
        raise InputError(f"{lab.parts} has too few songs; expected at least {lab.scale.growth[1]}")
    grown = {name: _extrapolated(songs[name], sizes[name], ALL_OF_LAKH) for name in schemes}
    pictures.curves(
        {name: (songs[name], sizes[name]) for name in schemes},
        "vocabulary",
        folder / "growth.png",
        xlabel="songs",
        log=True,
    )
    columns = ["scheme", *(f"{number} songs" for number in counted), "as a power law: all of Lakh"]
    rows = [[n, *(sizes[n] + [""] * len(counted))[: len(counted)], grown[n]] for n in schemes]
    facts = {
        "songs": counted[-1],
        "with": sizes["the instrument in each token"][-1],
        "without": sizes["all tracks merged"][-1],
        "with_lakh": grown["the instrument in each token"],
    }
    return Finding(
        facts,
        [Table("Different tokens", columns, rows)],
        [File("growth.png", "Vocabulary against number of songs")],
    )


def _extrapolated(songs: Sequence[int], sizes: Sequence[int], number: int) -> int:
    """The size of a vocabulary at a number of songs, by Heaps' law, fitted to the last half."""
    half = max(len(songs) // 2, 2)
    slope, level = np.polyfit(np.log(songs[-half:]), np.log(sizes[-half:]), 1)
    return int(np.exp(level + slope * np.log(number)))


# --- styles -------------------------------------------------------------------------------------


def styles(lab: Lab, folder: Path) -> Finding:
    """One decade's piano, drums and bass, beside piano of all years."""
    scale = lab.scale
    if not lab.table:
        raise InputError("no table of years (--table), so there is no decade to choose")
    decade, of_decade = _decade(lab)
    kinds = {
        f"piano of {decade} to {decade + 9}": {"data.track": "piano", "data.decade": decade},
        "piano of all years": {"data.track": "piano"},
        "drums": {"data.track": "drums"},
        "bass": {"data.track": "bass"},
    }
    songs = {"data.songs": min(scale.style_songs, of_decade)}
    rows, facts, notes = [], dict[str, Any]({"decade": decade}), []
    for number, (name, changes) in enumerate(kinds.items()):
        try:
            found = [
                _style(lab, f"style_{number}_{seed}", songs | changes | {"seed": seed})
                for seed in range(scale.style_seeds)
            ]
        except InputError as error:
            if number < 2:  # the two that are compared
                raise
            notes.append(f"{name}: {error}")
            continue
        means = {key: float(np.mean([each[key] for each in found])) for key in found[0]}
        means["between seeds"] = float(np.ptp([each["nats a token"] for each in found]))
        rows.append([name, *means.values()])
        facts["of the decade" if not number else name] = means
    return Finding(
        facts,
        [
            Table(
                f"Validation songs, and pieces beside training songs; {scale.style_seeds} seeds",
                ["style", *facts["of the decade"]],
                rows,
            )
        ],
        notes=[
            *notes,
            "Vocabularies differ, so perplexities do not compare across rows; how much better than "
            "n-grams of the same songs does. Overlap: of the distributions of all measures, 1 for "
            "the same.",
        ],
    )


def _style(lab: Lab, name: str, changes: dict[str, Any]) -> dict[str, float]:
    """The network of Table 2 on songs of a style, and what its pieces are like."""
    scale = lab.scale
    common = {
        "data.source": lab.parts,
        "data.table": lab.table,
        "data.validation_share": 0.2,
        "train.epochs": scale.try_epochs,
        "train.learning_rate": scale.v_rate,
    }
    run = lab.train(name, "vocab", v_config(lab) | scale.network() | common | changes)
    if not run.metrics[-1]["validation_tokens"]:
        raise InputError("no token of the validation songs is one of the training songs")
    options = Options(num=scale.pieces, length=scale.piece_length)
    figures = review.review(run.workdir, options).comparison.figures
    made = [each["generated"] for each in figures.values() if "generated" in each]
    standing = standing_of(run)
    return {
        "songs": len(run.corpus.split("train")),
        "tokens": run.encoding.size - 1,
        "perplexity": float(np.exp(standing.model)),
        "nats a token": standing.model,
        "n-grams": standing.baseline,
        "overlap with training songs": float(
            np.mean([figure.distance.overlap for figure in made if figure.distance])
        ),
    }


def _decade(lab: Lab) -> tuple[int, int]:
    """The decade of most songs with piano, and how many they are."""
    data = {"data.source": lab.parts, "data.table": lab.table, "data.track": "piano"}
    made = musicjax.get_config("vocab", **data)
    corpus = build.open_corpus(made.data, build.make_plan(made.data))
    decades = collections.Counter(song.decade for song in corpus.songs if song.decade)
    if not decades:
        raise InputError(f"no song of {lab.parts} with piano has its year in {lab.table}")
    return decades.most_common(1)[0]


EXPERIMENTS = (
    Experiment(
        "track",
        "Piano or vocals",
        "Section 3.2.1: of 50 songs, 'our 1 layer LSTM would only predict rest measures for Vocal "
        "and mostly rest measures with some chords for Piano'; class weights 'did help our model "
        "predict something other than rest'. Piano is 'less sparse than voice'.",
        track,
    ),
    Experiment(
        "styles",
        "A cohesive style",
        "Section 3.2.2: 'We trained the model in Table 2 on Piano 1970-1979 and, sure enough, we "
        "got more pleasant sounding music. We also trained the same model on drums and bass "
        "guitar.' The abstract calls a cohesive style 'crucial'.",
        styles,
    ),
    Experiment(
        "instruments",
        "A token for each instrument",
        "Section 2.3: to append the track to each token 'made our vocabulary size unmanageable "
        "(500K+)'.",
        instruments,
    ),
)
