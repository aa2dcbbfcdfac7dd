"""How well does the bi-axial LSTM predict polyphonic music, beside published models?

    python -m benchmarks.polyphonic --source=jsb_chorales.npz --workdir=runs/jsb

The four piano-roll sets of Boulanger-Lewandowski et al. 2012 (JSB chorales, Nottingham, MuseData,
Piano-midi.de) have fixed splits and a fixed measure: the mean over the test pieces' steps of minus
the log-likelihood of the step's 88 bits given all earlier steps, in nats. The model is
configs/polyphonic.py's, its variant named after the set; the checkpoint is the best on the
validation pieces; each test piece is read whole.

--variant=nottingham_events, and so on, models the same pieces as sequences of events. A piece is
one sequence, so the events' log-likelihoods add up to the piece's, and divided by its steps they
are in the same measure; what the model spends on other ways to write the same steps counts against
it. Where a config moves pieces to C (data.transpose), by one of twelve intervals that is found from
the whole piece, the interval counts too: ln 12 nats a piece, as of a draw of one in twelve.

What bounds the figure. Knowing the notes of the last step, and that each goes on or not by itself,
gives "repeat last step", printed beside it; what remains are the rules of the style, of which a few
hundred pieces show only so much, and what a piece repeats of itself. The first bounds the bi-axial
network, whose training and validation figures drift apart long before it is out of capacity; the
second is the pointer's, which reads a piece of 14,000 events whole.

Prints a table and, last, a line of JSON. Published: Boulanger-Lewandowski et al. 2012 (RNN-RBM,
RNN-NADE), Bai et al. 2018 (LSTM, TCN), Johnson 2017 (bi-axial, Piano-midi.de only).
"""

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks import machine
from configs import polyphonic

PUBLISHED = {
    "jsb_chorales": {"LSTM": 8.45, "TCN": 8.10, "RNN-RBM": 6.27, "RNN-NADE": 5.56},
    "nottingham": {"LSTM": 3.29, "TCN": 3.07, "RNN-RBM": 2.39, "RNN-NADE": 2.31},
    "musedata": {"RNN-RBM": 6.01, "RNN-NADE": 5.60},
    "piano_midi": {"RNN-RBM": 7.09, "RNN-NADE": 7.05, "bi-axial (Johnson)": 4.90},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", required=True, help=f"one of {', '.join(PUBLISHED)}, as .npz")
    parser.add_argument(
        "--workdir", required=True, help="folder of the run; goes on if it is there"
    )
    parser.add_argument("--variant", help="of configs/polyphonic.py; default: the set's")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the order")
    parser.add_argument("--epochs", type=int, help="default: as the variant says")
    arguments = parser.parse_args()

    import jax

    from musicjax.evaluation.scores import evaluate
    from musicjax.training.run import train_and_evaluate
    from musicjax.training.workdir import load_songs

    name = Path(arguments.source).stem
    variant = name if name in PUBLISHED else ""
    config = polyphonic.get_config(variant if arguments.variant is None else arguments.variant)
    config.data.source = arguments.source
    config.seed = arguments.seed
    if arguments.epochs:
        config.train.epochs = arguments.epochs

    last = train_and_evaluate(config, arguments.workdir)
    longest = max(song.length for song in load_songs(arguments.workdir).songs)
    results = evaluate(arguments.workdir, window=longest)
    lines = Path(arguments.workdir, "metrics.jsonl").read_text().splitlines()
    best = min(map(json.loads, lines), key=lambda line: line["validation_loss"])
    with np.load(arguments.source) as rolls:
        lengths = rolls["test_lengths"]
    steps = int(lengths.sum())
    interval = np.log(12) * len(lengths) / steps if config.data.transpose else 0.0
    elements = f"{load_songs(arguments.workdir).encoding.element}s"
    nats = {
        row: metrics["nll"] * metrics[elements] / steps + interval
        for row, metrics in results.items()
    }
    minutes = sum(json.loads(line)["seconds"] for line in lines) / 60  # of all calls

    print(f"{name}: nats a step on the {steps} steps of the test pieces")
    ours = nats.pop("model")
    rows = {f"musicjax, {minutes:.1f} minutes": ours, **nats, **PUBLISHED.get(name, {})}
    for row, value in sorted(rows.items(), key=lambda item: -item[1]):
        print(f"  {row:28}{value:8.2f}")
    device = jax.devices()[0]
    print(
        json.dumps(
            {
                "benchmark": "polyphonic",
                "set": name,
                "variant": variant if arguments.variant is None else arguments.variant,
                "seed": config.seed,
                "test_nats": round(ours, 4),
                "validation_nats_an_element": round(best["validation_loss"], 4),
                "best_epoch": best["epoch"],
                "epochs": last["epoch"],
                "training_minutes": round(minutes, 1),
                "segments_per_second": last["examples_per_second"],
                "baselines_nats": {row: round(value, 4) for row, value in nats.items()},
                "device": f"{device.platform} {device.device_kind}",
                **machine.facts(("jax",)),
            }
        )
    )


if __name__ == "__main__":
    main()
