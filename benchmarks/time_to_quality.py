"""How long until a model is good, and how long would PyTorch take?

    python -m benchmarks.time_to_quality [--config=vocab:best] [--target=NATS] [--seeds=1]

trains a config's causal or tied bi-axial LSTM by this project, and by PyTorch's nn.LSTM with the
same sizes, tied tables, dropout, optimizer, schedule, batches and order. After each epoch all are
measured on the validation songs. The target is by default what the worst of them reaches at its
best, plus 0.02 nats: all get there, and none is asked for its last bit of luck.

What bounds it. A step of `vocab:best` reads 8 windows of 32 tokens: 32 steps of [8, 256] x
[256, 1024], whose weights, a megabyte, stay in a core's cache, and products of all steps for the
input, the output table of some thousand ids and the gradients, which are large. PyTorch runs the
recurrence's small products on one core. A step of `nsm:best` is 128 steps of [312, 128] x
[128, 512], which PyTorch shares by the cores, too.

They run in processes of their own, an epoch each in turns, so that what else the machine does
meets all. The seconds are of training: measuring is left out; compiling is in the first epoch's,
and given apart. PyTorch is the extra `bench`; its optimizer is the fused one; it runs once with a
thread for each core and once with one, which is faster where the cores have other work too, and
musicjax is compared with the better.

Prints a table of epochs and the seconds to the target; the last line is JSON.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time

import numpy as np

from benchmarks import machine, torch_models
from benchmarks.train_step import Process
from musicjax.config import Config, settings_of
from musicjax.config_file import get_config
from musicjax.corpus.build import open_corpus
from musicjax.models import build_model
from musicjax.training.dataset import (
    Examples,
    batches_per_epoch,
    ordered_batches,
    training_batches,
)
from musicjax.training.settings import ExampleSettings, OptimizerSettings

SIDES = ("musicjax", "torch", "torch, one thread")
MARGIN = 0.02  # nats above the worse one's best


class Task:
    """What both train on.

    Attributes:
        config, model: of the config.
        steps: of an epoch.
    """

    def __init__(self, config: Config):
        self.config = config
        corpus = open_corpus(config.data)
        self.model = build_model(config, corpus.encoding)
        settings = settings_of(ExampleSettings, config.train, "train")
        self._training = Examples(corpus, "train", self.model, settings, training=True)
        self._validation = Examples(corpus, "validation", self.model, settings, training=False)
        self._size = config.train.batch_size
        self.steps = batches_per_epoch(self._training, self._size)
        self._batches = training_batches(
            self._training, batch_size=self._size, seed=config.seed, epochs=config.train.epochs
        )

    def epoch(self) -> list[dict[str, np.ndarray]]:
        """The next epoch's batches."""
        return [next(self._batches) for _ in range(self.steps)]

    def validation(self) -> list[dict[str, np.ndarray]]:
        """The batches of the validation songs."""
        return list(ordered_batches(self._validation, self._size))


def musicjax_side(task: Task):
    """An epoch of training; and the validation loss."""
    import jax

    from musicjax.training.optimizer import make_optimizer
    from musicjax.training.trainer import make_evaluate, make_train_steps, new_state

    config, model = task.config, task.model
    settings = settings_of(OptimizerSettings, config.train, "train")
    optimizer = make_optimizer(settings, task.steps * config.train.epochs)
    per_call = config.train.steps_per_call
    train_steps = make_train_steps(model.loss, optimizer, config.seed)
    state = new_state(model.loss, model.init(config.seed), optimizer, task.validation()[0])
    evaluate = make_evaluate(model)

    def train(batches):
        nonlocal state
        losses = None
        for start in range(0, len(batches), per_call):
            group = batches[start : start + per_call]
            full = group + group[:1] * (per_call - len(group))  # of one shape; `count` are used
            stacked = {name: np.stack([batch[name] for batch in full]) for name in full[0]}
            state, losses = train_steps(state, stacked, len(group))
        jax.block_until_ready(losses)

    return train, lambda batches: evaluate(state.params, batches)["nll"]


def torch_side(task: Task, threads: int | None = None):
    """The same by PyTorch, with so many threads."""
    import torch  # pyright: ignore[reportMissingImports]

    if threads:
        torch.set_num_threads(threads)
    t = task.config.train
    if t.optimizer != "adam" or t.schedule != "cosine":
        raise SystemExit(f"the peer's optimizer is adam with cosine, not {t.optimizer}")
    torch.manual_seed(task.config.seed)
    network, prepare, sums = torch_models.make(task.model)
    optimizer = torch.optim.Adam(network.parameters(), lr=t.learning_rate, fused=True)
    warm, total = t.warmup_steps, task.steps * t.epochs

    def share(step: int) -> float:
        """Of the learning rate: musicjax's warm-up, then a cosine."""
        done = (step - warm) / (total - warm)
        return step / warm if step < warm else 0.5 + 0.5 * np.cos(np.pi * min(done, 1))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)

    def train(batches):
        network.train()
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            nll, count = sums(batch)
            (nll / count.clamp(min=1)).backward()
            if t.clip_norm:
                torch.nn.utils.clip_grad_norm_(network.parameters(), t.clip_norm)
            optimizer.step()
            schedule.step()

    def measure(batches):
        network.eval()
        with torch.inference_mode():
            pairs = [sums(batch) for batch in batches]
        return float(sum(nll for nll, _ in pairs) / sum(count for _, count in pairs))

    return train, measure, prepare


def serve(task: Task, side: str) -> None:
    """Answers each line of standard input by an epoch's seconds and the validation loss."""
    if side == "musicjax":
        train, measure, prepare = (*musicjax_side(task), lambda batch: batch)
    else:
        train, measure, prepare = torch_side(task, 1 if "one" in side else None)
    validation = [prepare(batch) for batch in task.validation()]
    for line in sys.stdin:
        if line.strip() != "run":
            break
        batches = [prepare(batch) for batch in task.epoch()]
        start = time.perf_counter()
        train(batches)
        seconds = time.perf_counter() - start
        print(json.dumps([seconds, measure(validation)]), flush=True)


def seconds_to(target: float, epochs: list[list[float]]) -> float | None:
    """Until the end of the first epoch that is as good as the target; None if none is."""
    total = 0.0
    for seconds, nats in epochs:
        total += seconds
        if nats <= target:
            return round(total, 1)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default="vocab:best", help="of a model in torch_models.py")
    parser.add_argument("--source", help="data.source, if not the config's")
    parser.add_argument("--track", help="data.track, if not the config's")
    parser.add_argument("--songs", type=int, help="data.songs, if not the config's")
    parser.add_argument("--epochs", type=int, help="if not the config's; 2 or more")
    parser.add_argument("--target", type=float, help="nats on the validation songs")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0")
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    config = get_config(arguments.config)
    config.seed = arguments.seed
    config.train.epochs = arguments.epochs or config.train.epochs
    config.data.source = arguments.source or config.data.source
    config.data.track = arguments.track or config.data.track
    config.data.songs = arguments.songs or config.data.songs
    if arguments.serve:
        serve(Task(config), arguments.serve)
        return
    sides = SIDES
    if not machine.versions(("torch",))["torch"]:
        print("no PyTorch: pip install -e .[bench] for that peer")
        sides = SIDES[:1]
    open_corpus(config.data)  # encoded once, not by both

    rows = []
    for seed in range(arguments.seeds):
        # Without what earlier runs compiled: a first run's seconds.
        with tempfile.TemporaryDirectory() as cache:
            environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
            command = [*sys.argv[1:], f"--seed={seed}"]
            processes = {
                side: Process(
                    "benchmarks.time_to_quality", [*command, f"--serve={side}"], environment
                )
                for side in sides
            }
            epochs: dict[str, list] = {side: [] for side in sides}
            for number in range(config.train.epochs):
                for side, process in processes.items():
                    epochs[side].append(process.ask("run"))
                shown = "   ".join(
                    f"{side} {epochs[side][-1][0]:6.2f} s {epochs[side][-1][1]:.4f}"
                    for side in sides
                )
                print(f"seed {seed}, epoch {number + 1:3}: {shown}", flush=True)
            for process in processes.values():
                process.close()
        best = {side: min(nats for _, nats in epochs[side]) for side in sides}
        target = arguments.target or max(best.values()) + MARGIN
        row: dict = {"seed": seed, "target_nats": round(target, 4)}
        for side, measured in epochs.items():
            row[side] = {
                "best_nats": round(best[side], 4),
                "seconds_to_target": seconds_to(target, measured),
                "seconds_an_epoch": round(statistics.median(s for s, _ in measured[1:]), 3),
            }
        ours, *peers = (row[side] for side in sides)
        theirs = min(peers or [ours], key=lambda peer: peer["seconds_an_epoch"])  # its best
        ratio = theirs["seconds_an_epoch"] / ours["seconds_an_epoch"]
        first = max(epochs["musicjax"][0][0] - ours["seconds_an_epoch"], 0.0)
        row |= {"compile_seconds": round(first, 1), "epochs_per_peers_epoch": round(ratio, 3)}
        rows.append(row)
        print(
            f"seed {seed}: to {target:.3f} nats {ours['seconds_to_target']} s, {first:.1f} s of "
            f"them compiling; an epoch takes {ours['seconds_an_epoch']:.2f} s"
        )
        if peers:
            print(
                f"PyTorch: {theirs['seconds_to_target']} s; an epoch takes "
                f"{theirs['seconds_an_epoch']:.2f} s: musicjax trains {ratio:.2f} times as fast"
            )
    print(
        json.dumps(
            {
                "benchmark": "time_to_quality",
                "config": arguments.config,
                "runs": rows,
                **machine.facts(("jax", "torch")),
            }
        )
    )


if __name__ == "__main__":
    main()
