"""Where does the time of a training step go?

    python -m benchmarks.profile --model=vocab [--size=table2|small]
    python -m benchmarks.profile --model=nsm [--size=paper|best] [--batch=32]

Traces STEPS_PER_CALL steps by jax.profiler, and looks each operation of the trace up in the
compiled program: whether it belongs to the forward pass or the backward, whether it is inside a
recurrence (one of T steps that wait for each other) or outside (all steps at once), and what it is.

    product      of matrices
    elementwise  gates, sums, the loss, the optimizer
    kept         written into an array of all steps, for the next layer or the backward pass
    moved        copied, transposed, joined or filled with zeros
    small loop   a recurrence that XLA has made one kernel of
    native       an LSTM by musicjax's C++ (model.kernel=native), products and all

All on one device, with malloc as it is, or as you have set it by GLIBC_TUNABLES. What is left is
between the operations: waiting for threads, and the trace itself; or it is negative, since what
does not wait for each other, such as the gradients of several weights, runs at once. The last line
is JSON.
"""

import argparse
import collections
import gzip
import json
import re
import statistics
import tempfile
import time
from pathlib import Path

import jax

from benchmarks import machine
from benchmarks.train_step import STEPS_PER_CALL, compiled_runner, parse_config

_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.-]+) = .*? ([a-z][a-z0-9-]*)\(")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_MOVES = {"copy", "broadcast", "concatenate", "transpose"}
_SUMS = {"add", "multiply", "subtract", "divide", "tanh"}


class Instruction:
    """A line of a compiled program, and the computation that it stands in."""

    def __init__(self, line: str, name: str, opcode: str, computation: str):
        self.name, self.opcode, self.computation = name, opcode, computation
        self.source = _first(r'op_name="([^"]*)"', line)
        self.body = _first(r"body=%?([\w.-]+)", line)
        self.calls = _first(r"calls=%?([\w.-]+)", line)


def _first(pattern: str, line: str) -> str:
    found = re.search(pattern, line)
    return found[1] if found else ""


def instructions(text: str) -> dict[str, list[Instruction]]:
    """Those of each computation of a compiled program, by the computation's name."""
    computations: dict[str, list[Instruction]] = {}
    at = ""
    for line in text.splitlines():
        if begin := _COMPUTATION.match(line):
            at = begin[2]
            computations[at] = []
        elif found := _INSTRUCTION.match(line):
            computations[at].append(Instruction(line, found[2], found[3], at))
    return computations


def kind(instruction: Instruction, inside: dict[str, list[Instruction]]) -> str:
    """Which of the docstring's kinds an instruction is."""
    opcodes = {x.opcode for x in inside.get(instruction.calls, [])} | {instruction.opcode}
    words = set(re.split(r"[_.-]", instruction.name))
    if instruction.opcode == "while":
        return "small loop"
    if "ffi_call" in instruction.source:
        return "native"
    if "dot" in opcodes:
        return "product"
    if "dynamic-update-slice" in opcodes:
        return "kept"
    if words & _MOVES and not words & _SUMS:
        return "moved"
    return "elementwise"


def places(computations: dict[str, list[Instruction]]) -> dict[str, str]:
    """Of each computation that is the body of a loop over time, "forward" or "backward"."""
    found = {}
    for several in computations.values():
        for loop in several:
            if loop.opcode == "while" and loop.source.count("while") > 1:
                backward = "transpose(" in loop.source
                found[loop.body] = "backward" if backward else "forward"
    return found


def trace(run) -> tuple[float, collections.Counter]:
    """Seconds of a call, and of each operation in it, by name."""
    seconds: collections.Counter = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            start = time.perf_counter()
            run()
            whole = time.perf_counter() - start
        (path,) = Path(folder).rglob("*perfetto_trace.json.gz")
        with gzip.open(path) as file:
            for event in json.load(file)["traceEvents"]:
                if event.get("ph") == "X":
                    seconds[event["name"]] += event["dur"] / 1e6
    return whole, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments, peers, size, config = parse_config(parser)
    run, compiled = compiled_runner(peers, config)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) / STEPS_PER_CALL)
    whole, seconds = trace(run)

    computations = instructions(compiled.as_text())
    bodies = places(computations)
    table: dict[tuple[str, str, str], float] = collections.defaultdict(float)
    for several in computations.values():
        for x in several:
            # A loop's time is that of its body, unless the whole loop is one kernel.
            inner = {y.name for y in computations.get(x.body, [])} if x.opcode == "while" else set()
            if x.name not in seconds or inner & seconds.keys() or x.opcode == "call":
                continue
            if x.opcode == "while" and x.body not in bodies:
                continue  # the loop over training steps
            where = "recurrence" if x.computation in bodies or x.opcode == "while" else "all steps"
            way = "backward" if "transpose(" in x.source else "forward" if "jvp" in x.source else ""
            way = bodies.get(x.body or x.computation, way) or "other"
            table[way, where, kind(x, computations)] += seconds[x.name] / STEPS_PER_CALL
    step = whole / STEPS_PER_CALL
    left = step - sum(table.values())
    print(f"a step takes {1e3 * statistics.median(times[1:]):.1f} ms, traced {1e3 * step:.1f} ms")
    rows = []
    for (way, where, what), cost in sorted(table.items(), key=lambda part: -part[1]):
        if cost / step >= 0.005:
            print(f"{way:9} {where:11} {what:12}{1e3 * cost:9.1f} ms{100 * cost / step:6.0f} %")
            rows.append([way, where, what, round(1e3 * cost, 2)])
    print(f"{'between the operations':34}{1e3 * left:9.1f} ms{100 * left / step:6.0f} %")
    result = {
        "benchmark": "profile",
        "model": arguments.model,
        "size": size,
        "batch": config.train.batch_size,
        "device": f"{jax.devices()[0].platform} {jax.devices()[0].device_kind}",
        **machine.facts(("jax",)),
        "step_ms": round(1e3 * statistics.median(times[1:]), 2),
        "traced_step_ms": round(1e3 * step, 2),
        "parts_ms": rows,
        "between_ms": round(1e3 * left, 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
