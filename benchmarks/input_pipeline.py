"""What does a batch cost beside the training step that uses it?

    python -m benchmarks.input_pipeline [--source=chorales]

What bounds it. A batch of windows is one gather of 50 x 51 ids of 4 bytes; a batch of segments
unpacks 10 x 129 steps of 156 bits, and places each in its bar. Both are microseconds of numpy
beside a step's tens of milliseconds; no thread is needed to hide them. The pages of a corpus larger
than memory come from the disk: 200 bytes a window, and so as good as nothing beside what the step
computes. Where the songs are kept on the devices (train.device_cache_megabytes), the compiled step
gathers, and numpy makes its indices only: what is left is Python's and grain's own time for a
batch.

Batches come through the grain iterator, as in training, in an epoch's order, from the file and as
indices alone; the steps are those of benchmarks.train_step, on as many devices as the config trains
on, in turns with them. The last line is JSON.
"""

import argparse
import functools
import json
import statistics
import time

import jax

from benchmarks import machine, nsm_peers, vocab_peers
from benchmarks.train_step import STEPS_PER_CALL, musicjax_runner
from musicjax.config import settings_of
from musicjax.corpus.build import open_corpus
from musicjax.models import build_model
from musicjax.system import workers
from musicjax.training import devices
from musicjax.training.dataset import Examples, training_batches
from musicjax.training.settings import ExampleSettings

ROUNDS = 20
# By name in the JSON: the peers and their size.
SIZES = {
    "vocab table2": (vocab_peers, "table2"),
    "vocab quick": (vocab_peers, "small"),
    "biaxial paper": (nsm_peers, "paper"),
    "biaxial best": (nsm_peers, "best"),
}


def take(batches) -> None:
    """As many as a compiled call trains on."""
    for _ in range(STEPS_PER_CALL):
        next(batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", default="chorales", help="as --config.data.source")
    arguments = parser.parse_args()
    devices.make_mesh(0, workers.cores())  # splits a CPU, before anything has run on it
    device = jax.devices()[0]
    result: dict = {
        "benchmark": "input_pipeline",
        "device": f"{device.platform} {device.device_kind}",
        **machine.facts(("jax", "grain")),
        "share_of_step": {},
        "resident_share_of_step": {},
    }
    print(f"{'':14}{'a step':>12}{'from file':>12}{'share':>9}{'indices':>12}{'share':>9}")
    for name, (peers, size) in SIZES.items():
        config = peers.make_config(size)
        config.data.source = arguments.source
        config.train.steps_per_call = STEPS_PER_CALL
        corpus = open_corpus(config.data)
        model = build_model(config, corpus.encoding)
        settings = settings_of(ExampleSettings, config.train, "train")
        examples = Examples(corpus, "train", model, settings, training=True)
        batches, indices = (
            training_batches(
                examples,
                batch_size=config.train.batch_size,
                seed=0,
                epochs=1_000_000,
                indices_only=indices_only,
            )
            for indices_only in (False, True)
        )
        train = musicjax_runner(peers, config)
        ways = (train, functools.partial(take, batches), functools.partial(take, indices))
        taken: list[list[float]] = [[] for _ in ways]
        for _ in range(1 + ROUNDS):
            for seconds, way in zip(taken, ways, strict=True):
                started = time.perf_counter()
                way()
                seconds.append((time.perf_counter() - started) / STEPS_PER_CALL)
        batches.close()
        indices.close()
        step, from_file, cached = (statistics.median(seconds[1:]) for seconds in taken)
        result["share_of_step"][name] = round(from_file / step, 5)
        result["resident_share_of_step"][name] = round(cached / step, 5)
        print(
            f"{name:14}{1e3 * step:9.1f} ms{1e3 * from_file:9.3f} ms{from_file / step:9.2%}"
            f"{1e3 * cached:9.3f} ms{cached / step:9.2%}"
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
