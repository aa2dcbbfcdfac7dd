"""What does a batch cost beside the training step that uses it?

    python -m benchmarks.input_pipeline [--source=chorales]

What bounds it. A batch of windows is one gather from a memory-mapped array: 50 x 51 ids of 4 bytes.
A batch of segments unpacks 10 x 129 steps of 156 bits, and places each in its bar. Both are
microseconds of numpy beside a step's tens of milliseconds; no thread is needed to hide them. The
pages of a corpus larger than memory come from the disk: 200 bytes a window, and so as good as
nothing beside what the step computes.

Batches come through the grain iterator, as in training, in an epoch's order; the steps are those of
benchmarks.train_step on one device, in turns with them. The last line is JSON.
"""

import argparse
import json
import statistics
import time

import jax

from benchmarks import machine, nsm_peers, vocab_peers
from benchmarks.train_step import STEPS_PER_CALL, musicjax_runner
from musicjax.dataset import examples, training_batches
from musicjax.encode import open_corpus

ROUNDS = 20
SIZES = ((vocab_peers, "table2"), (vocab_peers, "quick"), (nsm_peers, "paper"), (nsm_peers, "best"))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", default="chorales", help="as --config.data.source")
    arguments = parser.parse_args()
    device = jax.devices()[0]
    result: dict = {
        "benchmark": "input_pipeline",
        "device": f"{device.platform} {device.device_kind}",
        **machine.facts(("jax", "grain")),
        "share_of_step": {},
    }
    print(f"{'':14}{'a batch':>12}{'a step':>12}{'share':>9}")
    for peers, size in SIZES:
        config = peers.make_config(size)
        config.data.source = arguments.source
        config.train.update(steps_per_call=STEPS_PER_CALL, devices=1)
        corpus = open_corpus(config.data)
        source = examples(corpus, "train", config.train, training=True)
        batches = training_batches(
            source, batch_size=config.train.batch_size, seed=0, epochs=1_000_000
        )
        step = musicjax_runner(peers, config)
        step()
        next(batches)
        taken: dict[str, list[float]] = {"batch": [], "step": []}
        for _ in range(ROUNDS):
            started = time.perf_counter()
            for _ in range(STEPS_PER_CALL):
                next(batches)
            taken["batch"].append((time.perf_counter() - started) / STEPS_PER_CALL)
            started = time.perf_counter()
            step()
            taken["step"].append((time.perf_counter() - started) / STEPS_PER_CALL)
        batches.close()
        batch, whole = (statistics.median(taken[name]) for name in ("batch", "step"))
        name = f"{config.model.name} {size}"
        result["share_of_step"][name] = round(batch / whole, 5)
        print(f"{name:14}{1e3 * batch:9.3f} ms{1e3 * whole:9.1f} ms{batch / whole:9.2%}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
