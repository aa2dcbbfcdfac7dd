"""The experiments with the vocabulary network of section 3.2: how it trains, and what it makes."""

import collections
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import musicjax
from musicjax.corpus.store import Corpus
from musicjax.evaluation import distance, metrics
from musicjax.generation.piece import Piece, write_pieces
from musicjax.rendering.piano_roll import plot_piano_rolls
from paper import pictures
from paper.lab import Experiment, File, Finding, Lab, Table

# The paper's way of generating: the likeliest token, with its class weights, whatever it repeats.
ARGMAX = {"mode": "greedy", "unweight": False, "max_repeats": 10**6, "max_rests": 10**6}
TRY_DROPOUT, TRY_RATE = 0.3, 1e-3  # of the short runs, where the other is tried
MEASURES = (
    "distinct", "repetition", "longest_run", "pitches", "silence", "on_beat", "scale_consistency",
    "pitch_class_entropy", "leaps",
)  # fmt: skip


def v_config(lab: Lab) -> dict[str, Any]:
    """Piano of so many songs."""
    scale = lab.scale
    held_out = {"data.validation_share": 1 / 12, "data.test_share": 1 / 12}
    songs = {"data.source": lab.source, "data.track": "piano", "data.songs": scale.v_songs}
    windows = {"model.window": scale.v_window, "train.stride": scale.v_stride}
    return songs | held_out | windows


def v_run(lab: Lab) -> musicjax.Run:
    """The network of Table 2."""
    scale = lab.scale
    changes = {
        "train.epochs": scale.v_epochs,
        "train.learning_rate": scale.v_rate,
        "train.keep_epochs": (1, scale.v_snapshot),
    }
    return lab.train("vocabulary", "vocab", v_config(lab) | scale.network() | changes)


# --- training -----------------------------------------------------------------------------------


def overfit(lab: Lab, folder: Path) -> Finding:
    """The first try: twice the units, learning rate 0.01, no dropout."""
    scale = lab.scale
    changes = {"train.epochs": scale.try_epochs} | scale.network(1024, 512)
    run = lab.train("overfit", "vocab:large", v_config(lab) | changes)
    lines = run.metrics
    _plot_losses(run, folder / "losses.png")
    return Finding(
        _losses(lines) | {"epochs": scale.try_epochs},
        [_table_of_runs({"the first try": run})],
        [File("losses.png", "Loss of training and of validation")],
    )


def vocabulary(lab: Lab, folder: Path) -> Finding:
    """Table 2 and Figure 6: the sweeps, and the long run."""
    scale = lab.scale
    dropouts = {f"{dropout:g}": _try(lab, dropout, TRY_RATE) for dropout in scale.dropouts}
    rates = {f"{rate:g}": _try(lab, TRY_DROPOUT, rate) for rate in scale.rates}
    run = v_run(lab)
    lines, tested = run.metrics, run.evaluate()
    _plot_losses(run, folder / "figure_6.png")
    standing = {"unigram": tested["unigram"]["nll"], "n-grams": tested["Kneser-Ney"]["nll"]}
    rows = [[name, found["nll"], found["accuracy"]] for name, found in tested.items()]
    half = len(lines) // 2
    steps = np.diff([line["validation_loss"] for line in lines])
    facts = _losses(lines) | {
        "epochs": len(lines),
        "snapshot": scale.v_snapshot,
        "wobble_before": float(np.abs(steps[:half]).mean()) if half else 0.0,
        "wobble_after": float(np.abs(steps[half:]).mean()) if half else 0.0,
        "dropout": {
            value: _losses(each.metrics)["best_validation"] for value, each in dropouts.items()
        },
        "rates": {value: _losses(each.metrics) for value, each in rates.items()},
        "nll": tested["unweighted"]["nll"],
        **standing,
    }
    return Finding(
        facts,
        [
            _table_of_runs(
                {f"dropout {value}": each for value, each in dropouts.items()}
                | {f"learning rate {value}": each for value, each in rates.items()}
                | {"Table 2": run}
            ),
            Table(
                "Test songs: the best epoch of Table 2, beside counting",
                ["", "nats a token", "accuracy"],
                rows,
            ),
        ],
        [File("figure_6.png", "Figure 6: loss of training and of validation, weighted")],
        notes=[
            f"{len(run.corpus.split('train'))} songs to train on, {run.encoding.size - 1} tokens, "
            f"{run.metrics[0]['step']} steps an epoch. The losses are weighted by class, as the "
            f"paper's: {np.log(run.encoding.size - 1):.2f} is knowing nothing."
        ],
    )


def _try(lab: Lab, dropout: float, rate: float) -> musicjax.Run:
    """A short run of Table 2's network."""
    changes = {
        "train.epochs": lab.scale.try_epochs,
        "train.learning_rate": rate,
        "model.dropout": dropout,
    }
    return lab.train(
        f"try_{dropout:g}_{rate:g}", "vocab", v_config(lab) | lab.scale.network() | changes
    )


def _losses(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Where curves begin, turn and end."""
    validation = [line["validation_loss"] for line in lines]
    return {
        "first_train": lines[0]["train_loss"],
        "last_train": lines[-1]["train_loss"],
        "first_validation": validation[0],
        "best_validation": min(validation),
        "last_validation": validation[-1],
        "turns_at": 1 + int(np.argmin(validation)),
        "rises": int((np.diff(validation) > 0).sum()),
    }


def _table_of_runs(runs: dict[str, musicjax.Run]) -> Table:
    rows = []
    for name, run in runs.items():
        found, lines = _losses(run.metrics), run.metrics
        minutes = sum(line["seconds"] for line in lines) / 60
        rows.append(
            [
                name, len(lines), found["first_validation"], found["best_validation"],
                found["turns_at"], found["last_validation"], found["last_train"], minutes,
            ]
        )  # fmt: skip
    columns = [
        "run", "epochs", "validation loss at first", "at best", "in epoch", "at last",
        "training loss at last", "minutes",
    ]  # fmt: skip
    return Table("Weighted losses", columns, rows)


def _plot_losses(run: musicjax.Run, path: Path) -> None:
    lines = run.metrics
    epochs = [line["epoch"] for line in lines]
    pictures.curves(
        {
            "training (with dropout)": (epochs, [line["train_loss"] for line in lines]),
            "validation": (epochs, [line["validation_loss"] for line in lines]),
        },
        "weighted loss, nats a token",
        path,
        levels={"knowing nothing": float(np.log(run.encoding.size - 1))},
    )


# --- what it makes ------------------------------------------------------------------------------


def snapshots(lab: Lab, folder: Path) -> Finding:
    """Figures 7 and 8: one test sequence at the first epoch and at a later one."""
    run, scale, rows, facts, rolls = v_run(lab), lab.scale, [], {}, []
    options = ARGMAX | {"length": scale.piece_length, "num": scale.pieces, "include_prime": False}
    for epoch in (1, scale.v_snapshot):
        snapshot = musicjax.load(run.workdir, str(epoch))
        pieces = snapshot.generate(**options)
        measured = _means(pieces)
        rows.append([f"epoch {epoch}", *measured.values()])
        facts["first" if epoch == 1 else "later"] = measured
        third = pieces[min(2, len(pieces) - 1)]  # the paper's is test sequence 3
        rolls.append((f"epoch {epoch}", third.song))
    plot_piano_rolls(rolls, folder / "figures_7_and_8.png")
    real = _means_of(distance.passages_of(run.corpus, "test"))
    rows.append(["the test songs, whole", *real.values()])
    return Finding(
        facts | {"epoch": scale.v_snapshot, "real": real},
        [Table(f"Means of {scale.pieces} outputs", ["", *map(_words, MEASURES)], rows)],
        [File("figures_7_and_8.png", "Figures 7 and 8: what follows one test sequence")],
    )


def _means(pieces: Sequence[Piece]) -> dict[str, float]:
    return _means_of([piece.passage for piece in pieces])


def _means_of(passages: Sequence[metrics.Passage]) -> dict[str, float]:
    found = [metrics.measure(passage) for passage in passages]
    values = {name: [each[name] for each in found if name in each] for name in MEASURES}
    return {name: float(np.mean(of)) if of else 0.0 for name, of in values.items()}


def _words(name: str) -> str:
    return name.replace("_", " ")


def samplers(lab: Lab, folder: Path) -> Finding:
    """Argmax, best of three, and sampling."""
    run, scale = v_run(lab), lab.scale
    ways = {
        "argmax, the paper's": ARGMAX,
        "argmax, weights taken out": ARGMAX | {"unweight": True},
        "best of three": ARGMAX | {"mode": "best_of_three", "temperature": 1.0},
        "sampled": {"temperature": 1.0},
    }
    rows, facts, sounds = [], {}, []
    snapshot = musicjax.load(run.workdir, str(scale.v_snapshot))
    for name, options in ways.items():
        pieces = snapshot.generate(
            length=scale.piece_length, num=scale.pieces, include_prime=False, **options
        )
        token, share = _favourite(pieces, run.corpus)
        facts[name] = _means(pieces) | {"favourite": token, "favourite_share": share}
        rows.append([name, *(facts[name][each] for each in MEASURES), token, share])
        heard = folder / re.sub(r"\W+", "_", name)
        shutil.rmtree(heard, ignore_errors=True)  # of an earlier try
        path = write_pieces(pieces[:1], heard)[0]
        sounds.append(File(f"{heard.name}/{path.name}", name))
    columns = ["", *map(_words, MEASURES), "most frequent token of most pieces", "share of pieces"]
    return Finding(
        facts,
        [Table(f"{scale.pieces} pieces of {scale.piece_length} tokens", columns, rows)],
        sounds=sounds,
    )


def _favourite(pieces: Sequence[Piece], corpus: Corpus) -> tuple[str, float]:
    """The token that is the most frequent of most pieces, and of which share of them it is."""
    favourites = collections.Counter(
        int(np.bincount(np.asarray(piece.passage.elements).ravel()).argmax()) for piece in pieces
    )
    ((token, count),) = favourites.most_common(1)
    return corpus.encoding.text(np.array([token])), count / len(pieces)


EXPERIMENTS = (
    Experiment(
        "vocabulary",
        "The vocabulary network",
        "Section 3.2.1, Table 2 and Figure 6: 35 songs of piano, a BiLSTM of 512 units, attention, "
        "an LSTM of 256, dropout near 30 %, RMSprop, class weights. A learning rate of 0.01 "
        "'spiked'; at 0.0001 validation fell steadily. 'After epoch 50 our model begins to "
        "over-fit pretty severely', and validation gets 'a lot more variable'.",
        vocabulary,
    ),
    Experiment(
        "snapshots",
        "One test sequence, early and late",
        "Figures 7 and 8: 'In the first few epochs, the model's predictions are very sparse and it "
        "predicts one chord over and over again. By epoch 50, we have a much fuller prediction.' "
        "Some outputs are 'really long rest sequences'.",
        snapshots,
    ),
    Experiment(
        "samplers",
        "How tokens are chosen",
        "Section 3.2.2: the likeliest token is taken. 'All the outputs have a similar strange "
        "style. The model really likes predicting a staccato F#2.' Reference [1] at times drew "
        "from the best three.",
        samplers,
    ),
    Experiment(
        "overfit",
        "The first try",
        "Section 3.2.1: 1024 and 512 units at a learning rate of 0.01. 'By the 10th epoch, our "
        "model was massively over-fitting on training data while validation loss was very variable "
        "and trending slightly upwards.'",
        overfit,
    ),
)
