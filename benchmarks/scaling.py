"""How do time and memory of a training step grow with each size?

    python -m benchmarks.scaling [--models nsm vocab] [--few]

One size at a time, the others as in the base: the paper's bi-axial network (78 notes, 128 steps,
batch 10, 36 units), or the quickstart's token model (24 tokens, batch 64, 64 units). Each
point is a process of its own, so that its peak of memory is its own; a CPU, besides, can be split
into devices only before anything has run on it. Memory is that peak less the peak of a process
with all sizes at their smallest: imports and compilation, 0.8 GiB, do not depend on the size, but
for some 20 MiB by chance; so the memory of the smallest points says little.

What bounds it. A step's operations are known (`flops` of the peers), its memory is mostly the gates
of all steps, kept for the backward pass. As exponents of the size, so that 1 doubles with it:

    batch     1: each example is computed by itself. Less while a product is too small to fill the
              processor: [10, 36] x [36, 144] hardly is more than its weights' reading.
    steps     1: one step of the recurrence after another. Attention, T x T, is small beside it.
    notes     1: an LSTM for each note. Note state expand lets each note see all others, 2 in the
              end, but that is one large product.
    hidden    from 1, the gates' elementwise work, to 2, the recurrent products [H, 4H]; memory 1
              until the weights, 2, outgrow the gates.
    devices   -1 at best: each has a part of the batch. On one machine they share caches and memory
              bandwidth, and the small products do not get faster by being smaller. Memory 0: the
              same gates, spread; twice the weights.

Small sizes cost what any step costs, so the exponents are fitted to the three largest; beside them
that of the operations. A point also tells the rate of a large matrix product in its process; where
that is far below the others' there was other work on the machine, and the point is named. Eight
minutes on two cores for both models. Draws results/scaling_<model>.png; the last line is JSON.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import machine

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
ROUNDS = 3
UNDISTURBED = 0.7  # of the fastest point's matrix product
SIZES = {"nsm": "paper", "vocab": "small"}
# The base, and the values of each axis.
BASE = {
    "nsm": {"notes": 78, "steps": 128, "batch": 10, "hidden": 36, "devices": 1},
    "vocab": {"steps": 24, "batch": 64, "hidden": 64, "devices": 1},
}
AXES = {
    "nsm": {
        "notes": (20, 39, 78, 128),
        "steps": (32, 64, 128, 256),
        "batch": (5, 10, 20, 40),
        "hidden": (18, 36, 72, 144),
        "devices": (1, 2),
    },
    "vocab": {
        "steps": (24, 48, 96),
        "batch": (64, 128, 256),
        "hidden": (64, 128, 256, 512),
        "devices": (1, 2),
    },
}
FLOOR = {
    "nsm": {"notes": 13, "steps": 8, "batch": 1, "hidden": 9, "devices": 1},
    "vocab": {"steps": 4, "batch": 4, "hidden": 16, "devices": 1},
}
# Exponents of time and of memory.
EXPECTED = {
    "notes": ("1 to 2", "1"),
    "steps": ("1", "1"),
    "batch": ("1", "1"),
    "hidden": ("1 to 2", "1 to 2"),
    "devices": ("-1", "0"),
}


def make_config(peers, model: str, sizes: dict):
    """The base's config with these sizes; the token model's LSTMs widen together."""
    config = peers.make_config(SIZES[model])
    times = sizes["hidden"] / BASE[model]["hidden"]
    config.train.update(batch_size=sizes["batch"], devices=sizes["devices"])
    config.model.window = sizes["steps"]
    if model == "nsm":
        lowest = min(config.data.lowest, 128 - sizes["notes"])
        config.data.update(lowest=lowest, highest=lowest + sizes["notes"] - 1)
        # Along the notes two units are the output, play and articulate, whatever the width.
        config.model.time_sizes = tuple(round(h * times) for h in config.model.time_sizes)
    else:
        for name in ("encoder_size", "decoder_size"):
            config.model[name] = round(config.model[name] * times)
    return config


def measure(model: str, sizes: dict) -> dict:
    """One point, in this process."""
    import jax

    from benchmarks import nsm_peers, vocab_peers
    from benchmarks.train_step import STEPS_PER_CALL, matmul_rate, musicjax_runner

    peers = {"vocab": vocab_peers, "nsm": nsm_peers}[model]
    config = make_config(peers, model, sizes)
    config.train.steps_per_call = STEPS_PER_CALL
    started = time.perf_counter()
    run = musicjax_runner(peers, config)
    run()
    first = time.perf_counter() - started
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        seconds.append((time.perf_counter() - started) / STEPS_PER_CALL)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    device = jax.devices()[0]
    return {
        "device": f"{device.platform} {device.device_kind}",
        "ms": [round(1000 * s, 3) for s in sorted(seconds)],
        "first_call_s": round(first, 1),
        "peak_mib": round(peak, 1),
        "gigaflop": round(peers.flops(config) * sizes["batch"] / 1e9, 4),
        "matmul_gigaflops": round(matmul_rate() / 1e9, 1),
    }


def point(model: str, sizes: dict, cache: str) -> dict:
    """One point, in a process of its own; what does not depend on the sizes is compiled once."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--models", model]
    command.append(f"--point={json.dumps(sizes)}")
    kept = {
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | kept, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def exponent(sizes: list[float], values: list[float]) -> float:
    """Slope of the line through the logarithms of the last three points."""
    x, y = ([math.log(v) for v in several[-3:]] for several in (sizes, values))
    return statistics.linear_regression(x, y).slope


def middle(point: dict, key: str) -> float:
    """The median of a point's times, or its memory."""
    return statistics.median(point["ms"]) if key == "ms" else point[key]


def draw(model: str, base: dict, points: dict[str, list[dict]], path: Path) -> None:
    """Time and memory over each size as a multiple of the base's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    panels = figure.subplots(1, 2)
    titles = ("time of a training step (ms)", "memory it takes (MiB)")
    for panel, title, key in zip(panels, titles, ("ms", "memory_mib"), strict=True):
        for (axis, several), mark in zip(points.items(), "osD^v", strict=False):
            x = [each["size"] / base[axis] for each in several]
            y = [middle(each, key) for each in several]
            panel.plot(x, y, marker=mark, markersize=5, label=f"{axis} ({base[axis]})")
            if key == "ms":
                low, high = ([end(each[key]) for each in several] for end in (min, max))
                panel.fill_between(x, low, high, alpha=0.2)
        panel.set(xscale="log", yscale="log", xlabel="size, as a multiple of the base's")
        panel.set_title(title)
        low, high = panel.get_ylim()
        start = middle(next(each for each in points["devices"] if each["is_base"]), key)
        ends = panel.get_xlim()
        for slope in (1, 2):
            panel.plot(
                ends,
                [start * end**slope for end in ends],
                color="0.75",
                linewidth=1,
                linestyle="--" if slope == 1 else ":",
                zorder=0,
                label=f"exponent {slope}",
            )
        panel.set(xlim=ends, ylim=(low, high))
        panel.grid(which="major", color="0.93")
        ticks = [2.0**k for k in range(math.ceil(math.log2(ends[0])), int(math.log2(ends[1])) + 1)]
        panel.set_xticks(ticks, [f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}" for tick in ticks])
        marks = [m * 10.0**k for k in range(7) for m in (1, 2, 5) if low <= m * 10.0**k <= high]
        panel.set_yticks(marks, [f"{tick:,.0f}" for tick in marks])
        panel.minorticks_off()
    panels[1].legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, title="size (base)"
    )
    figure.suptitle(f"{model}: one size at a time")
    figure.savefig(path, dpi=100)


def grow(model: str, few: bool, cache: str) -> dict:
    """All points of a model, printed and drawn."""
    started = time.perf_counter()
    base = BASE[model]
    floor = point(model, FLOOR[model], cache)["peak_mib"]
    print(
        f"{model:8}{'size':>6}{'ms a step':>11}{'spread':>18}{'memory':>11}{'peak':>11}"
        f"{'GF a step':>11}{'first call':>12}{'matmul':>12}"
    )
    points: dict[str, list[dict]] = {}
    known: dict[str, dict] = {}  # the base is a point of each axis
    for axis, values in AXES[model].items():
        if few:
            i = values.index(base[axis])
            values = values[i : i + 2]
        points[axis] = []
        for value in values:
            sizes = base | {axis: value}
            key = json.dumps(sizes)
            known[key] = known.get(key) or point(model, sizes, cache)
            # A small point may lie below the floor, by chance: logarithms want a number above 0.
            memory = max(known[key]["peak_mib"] - floor, 1.0)
            one: dict = known[key] | {"memory_mib": round(memory, 1)}
            points[axis].append({"size": value, "is_base": sizes == base, **one})
            print(
                f"{axis:8}{value:6}{middle(one, 'ms'):11.1f}"
                f"{one['ms'][0]:10.1f}-{one['ms'][-1]:<7.1f}{one['memory_mib']:7.0f} MiB"
                f"{one['peak_mib']:7.0f} MiB{one['gigaflop']:11.2f}{one['first_call_s']:10.1f} s"
                f"{one['matmul_gigaflops']:7.0f} GF/s",
                flush=True,
            )
    print(f"the smallest process: {floor:.0f} MiB")
    rates = {key: one["matmul_gigaflops"] for key, one in known.items()}
    disturbed = [key for key, rate in rates.items() if rate < UNDISTURBED * max(rates.values())]
    for key in disturbed:
        print(f"disturbed, its matrix product ran at {rates[key]:.0f} GF/s, so do not trust: {key}")
    print(
        f"{'exponent':8}{'of time':>13}{'expected':>10}{'of memory':>12}{'expected':>10}"
        f"{'operations':>12}"
    )
    exponents: dict[str, dict] = {}
    for axis, several in points.items():
        sizes = [each["size"] for each in several]
        keys = {"time": "ms", "memory": "memory_mib", "operations": "gigaflop"}
        found = {
            name: round(exponent(sizes, [middle(each, key) for each in several]), 2)
            for name, key in keys.items()
        }
        exponents[axis] = found
        time_, memory = EXPECTED[axis]
        print(
            f"{axis:8}{found['time']:13.2f}{time_:>10}{found['memory']:12.2f}{memory:>10}"
            f"{found['operations']:12.2f}"
        )
    if not few:
        draw(model, base, points, RESULTS / f"scaling_{model}.png")
    seconds = round(time.perf_counter() - started)
    print(f"{model} took {seconds} s\n")
    return {
        "base": base,
        "smallest_mib": floor,
        "seconds": seconds,
        "disturbed": [json.loads(key) for key in disturbed],
        "exponents": exponents,
        "points": points,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", choices=list(BASE), nargs="+", default=list(BASE))
    parser.add_argument("--few", action="store_true", help="two points of each size, no picture")
    parser.add_argument("--point", help=argparse.SUPPRESS)  # one process's share
    arguments = parser.parse_args()
    if arguments.point:
        print(json.dumps(measure(arguments.models[0], json.loads(arguments.point))))
        return
    with tempfile.TemporaryDirectory() as cache:
        models = {model: grow(model, arguments.few, cache) for model in arguments.models}
    result = {
        "benchmark": "scaling",
        "device": next(iter(next(iter(models.values()))["points"].values()))[0]["device"],
        **machine.facts(("jax",)),
        "models": models,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
