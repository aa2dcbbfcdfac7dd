"""What does a training step keep for its backward pass, and what does keeping less of it cost?

    python -m benchmarks.memory --model=vocab [--size=small]
    python -m benchmarks.memory --model=nsm [--size=best] [--batch=32]

What bounds it. The backward pass wants the gates of all steps, 4H numbers, and c and h, for each
note or window of the batch: of the paper's network 78 x 10 x 128 x (36 + 2) x 6 x 4 bytes, 90 MB,
and as much again for the projections before and the gradients after them. Kept as bfloat16
(`model.residual_dtype`) it is half, h apart. Cut into blocks of time (`model.remat`) only h, the
inputs of all steps and c between blocks are kept, and a block's gates live while it is worked on;
each block is computed twice forward and once backward, 4 parts of work instead of 3, so 1.33 times
the time where products bound it. Neither changes what the weights and the optimizer take.

`model.kernel=native`, on a CPU, keeps no projections and no gradients of gates.

Memory is what XLA sets aside inside a compiled call, besides its arguments; the native kernel's own
buffers, a few MB, are not in it. Times are medians of
calls in turns. The last line is JSON.
"""

import argparse
import copy
import json
import statistics
import time

import jax

from benchmarks import machine
from benchmarks.train_step import STEPS_PER_CALL, compiled_runner, parse_config

ROUNDS = 5
WAYS = (
    {"kernel": "scan"},
    {"kernel": "scan", "residual_dtype": "bfloat16"},
    *({"kernel": "scan", "remat": steps} for steps in (8, 16, 32)),
    {"kernel": "native"},
    {"kernel": "native", "remat": 16},
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments, peers, size, config = parse_config(parser)
    runs, needed = {}, {}
    for way in WAYS:
        changed = copy.deepcopy(config)
        changed.model.update(way)
        name = " ".join(map(str, way.values()))
        runs[name], compiled = compiled_runner(peers, changed)
        needed[name] = compiled.memory_analysis().temp_size_in_bytes
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(1 + ROUNDS):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            taken[name].append(1e3 * (time.perf_counter() - started) / STEPS_PER_CALL)
    rows, (all_kept, *_) = [], runs
    print(f"{'':18}{'a step':>11}{'spread':>16}{'of all kept':>13}{'memory':>11}{'of it':>8}")
    for name, times in taken.items():
        times = times[1:]
        ratio = statistics.median(x / y for x, y in zip(times, taken[all_kept][1:], strict=True))
        less = needed[name] / needed[all_kept]
        print(
            f"{name:18}{statistics.median(times):8.1f} ms{min(times):9.1f}-{max(times):<6.1f}"
            f"{ratio:11.2f} x{needed[name] / 2**20:7.0f} MiB{less:8.2f}"
        )
        rows.append(
            {
                "way": name,
                "ms": [round(each, 2) for each in sorted(times)],
                "of_all_kept": round(ratio, 3),
                "mib": round(needed[name] / 2**20, 1),
            }
        )
    device = jax.devices()[0]
    result = {
        "benchmark": "memory",
        "model": arguments.model,
        "size": size,
        "batch": config.train.batch_size,
        "device": f"{device.platform} {device.device_kind}",
        **machine.facts(("jax",)),
        "ways": rows,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
