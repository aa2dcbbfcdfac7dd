"""How fast is a training step, and beside what?

    python -m benchmarks.train_step --model=vocab [--size=table2|small] [--rounds=5]
    python -m benchmarks.train_step --model=nsm [--size=paper|best] [--batch=32]

What bounds it. Counting a multiply and an add as two, and the backward pass as twice the forward,
an example (a window of tokens, a segment of note states) costs `flops` of the peers' module. No
program can be faster than that over the rate of the machine's largest matrix product, which is
measured in the same run: the roof. The recurrent products cannot be batched over their own axis.

    vocab   A step of Table 2 reads 50 windows of 50 tokens: 50 steps each way of [50, 512] x
            [512, 2048], and 50 of [50, 256] x [256, 1024]. The rest is a few large products (input
            projections, dense, logits) or cheap (attention: 32 units).
    nsm     The paper's: 128 steps of 78 products [10, 36] x [36, 144], then 78 of 128 products
            [10, 2] x [2, 8]: small, so what they read and write counts as much as what they
            compute. A step makes 10 x 128 x 78 x 144 gates, 58 MB, several times over.

On a CPU the rest goes to page faults (XLA allocates its buffers at each call) and to the
elementwise part of the gates.

Peers, same model, batch and optimizer, dropout included, in the same run, in turns:

    musicjax       this project's compiled call of several steps
    one device     the same with --devices=1, where the config shares a batch by several
    scan           the same with model.kernel=scan: XLA alone
    naive          scan with autodiff of a plain lax.scan, one step a call, state not donated
    torch          vocab: PyTorch's nn.LSTM, its CPU kernel (extra `bench`)
    torch loops    nsm: an nn.LSTM for each note and for each step, as the paper's authors wrote it
    torch batched  nsm: batched over notes and steps, a Python loop over the recurrent axis

Each runs in a process of its own: first all whose malloc has huge pages, as musicjax.train starts
itself for train.huge_pages, then all whose malloc is as it is, or as you have set it by
GLIBC_TUNABLES, then all whose malloc has huge pages and gives nothing back, which suits PyTorch
best (--allocator picks one). Ratios are within one kind of process; of each program's best kind in
the table of docs/speed.md.

Prints the median and spread of each, compile time apart; the last line is JSON.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import optax

from benchmarks import machine, nsm_peers, vocab_peers
from musicjax.config import Config, settings_of
from musicjax.models import lstm
from musicjax.system import huge_pages
from musicjax.training import devices
from musicjax.training.optimizer import make_optimizer
from musicjax.training.settings import OptimizerSettings
from musicjax.training.trainer import make_train_steps, new_state

STEPS_PER_CALL = 10  # as configs/training.py has it
_KEEP = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=100000000000"
_KEEP += ":glibc.malloc.top_pad=3000000000"
ALLOCATORS = {
    "huge_pages": huge_pages.environment(),
    "as_is": dict(os.environ),
    "kept": os.environ | {huge_pages.VARIABLE: f"{huge_pages.TUNABLES}:{_KEEP}"},
}
PAPER_SONGS_PER_SECOND = 350 * 10 / 3600  # ten epochs an hour


def matmul_rate(size: int = 2048) -> float:
    """Floating-point operations a second of the largest matrix product."""
    a = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def make_step(peers, config: Config):
    """What a training step is made of: the loss, the optimizer, its state and stacked batches."""
    model = peers.make_model(config)
    batches = peers.random_batches(config, STEPS_PER_CALL)
    optimizer = make_optimizer(settings_of(OptimizerSettings, config.train, "train"), 100)
    first = {name: array[0] for name, array in batches.items()}
    state = new_state(model.loss, model.init(config.seed), optimizer, first)
    return model.loss, optimizer, state, batches


def parse_config(parser: argparse.ArgumentParser):
    """The arguments of a parser, to which those that choose a config are added; its peers, size and
    config.
    """
    parser.add_argument("--model", choices=["vocab", "nsm"], default="vocab")
    parser.add_argument("--size", help=f"vocab: {vocab_peers.SIZES}; nsm: {nsm_peers.SIZES}")
    parser.add_argument("--batch", type=int, help="examples; default: as the config says")
    arguments = parser.parse_args()
    peers = {"vocab": vocab_peers, "nsm": nsm_peers}[arguments.model]
    size = arguments.size or peers.SIZES[0]
    if size not in peers.SIZES:
        parser.error(f"--size={size}; expected one of {', '.join(peers.SIZES)}")
    config = peers.make_config(size)
    config.train.batch_size = arguments.batch or config.train.batch_size
    return arguments, peers, size, config


def compiled_runner(peers, config: Config):
    """A function that trains STEPS_PER_CALL batches on one device and waits; and the compiled
    program.
    """
    loss_fn, optimizer, state, batches = make_step(peers, config)
    train_steps = make_train_steps(loss_fn, optimizer, 0)
    lower = train_steps.lower  # pyright: ignore[reportFunctionMemberAccess]
    compiled = lower(state, batches, STEPS_PER_CALL).compile()

    def run():
        nonlocal state
        state, losses = compiled(state, batches, STEPS_PER_CALL)
        losses.block_until_ready()

    return run, compiled


def musicjax_runner(peers, config: Config):
    """A function that trains STEPS_PER_CALL batches and waits; it owns the state.

    The batches are shared by `config.train.devices`.
    """
    mesh = devices.make_mesh(config.train.devices, config.train.batch_size)
    loss_fn, optimizer, state, batches = make_step(peers, config)
    train_steps = make_train_steps(loss_fn, optimizer, 0, mesh)
    state = devices.put(state, devices.replicated(mesh))

    def run():
        nonlocal state
        sharded = devices.put(batches, devices.sharded(mesh, 1))
        state, losses = train_steps(state, sharded, STEPS_PER_CALL)
        losses.block_until_ready()

    return run


def naive_runner(peers, config: Config):
    """What one writes first: the whole cell inside lax.scan, left to autodiff."""

    def scan(projected, w_h, initial):
        def step(carry, projected_t):
            carry, _ = lstm._cell(projected_t, carry, w_h)
            return carry, carry.h

        last, hidden = jax.lax.scan(step, initial, projected)
        return hidden, last

    config.model.kernel = "scan"
    loss_fn, optimizer, state, batches = make_step(peers, config)
    params, optimizer_state = state.params, state.optimizer

    @jax.jit
    def step(params, optimizer_state, batch, key):
        gradient, _ = jax.grad(loss_fn, has_aux=True)(params, batch, key)
        update, optimizer_state = optimizer.update(gradient, optimizer_state, params)
        return optax.apply_updates(params, update), optimizer_state

    def run():
        nonlocal params, optimizer_state
        for i in range(STEPS_PER_CALL):
            batch = {name: array[i] for name, array in batches.items()}
            params, optimizer_state = step(params, optimizer_state, batch, jax.random.key(i))
        jax.block_until_ready(params)

    own = lstm.scan_lstm
    lstm.scan_lstm = scan
    try:
        run()  # traced while the plain scan is in its place
    finally:
        lstm.scan_lstm = own
    return run


def make_runner(name: str, peers, config: Config):
    """musicjax or one of its peers."""
    match name:
        case "naive":
            return naive_runner(peers, config)
        case "musicjax":
            return musicjax_runner(peers, config)
        case "one device":
            config.train.devices = 1
            return musicjax_runner(peers, config)
        case "scan":
            config.model.kernel = "scan"
            return musicjax_runner(peers, config)
        case _:
            return peers.torch_runners(config, STEPS_PER_CALL)[name]


def names_of(peers, config: Config, alone: bool) -> list[str]:
    """Those that take part."""
    names = ["musicjax"] + ["one device"] * (config.train.devices != 1)
    if alone:
        return names
    names += ["scan"]
    if not machine.versions(("torch",))["torch"]:
        print("no PyTorch: pip install -e .[bench] for that peer")
        return [*names, "naive"]
    return [*names, "naive", *peers.torch_names(config)]


def serve(run, flops: float) -> None:
    """Answers each line of standard input by one of JSON: "run" by the seconds of a call, "end" by
    what is known of the process.
    """
    for line in sys.stdin:
        if line.strip() == "run":
            start = time.perf_counter()
            run()
            answer = time.perf_counter() - start
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            answer = {"peak_memory_gib": round(peak, 2), "roof": matmul_rate() / flops}
        print(json.dumps(answer), flush=True)


class Process:
    """One runner in a process of its own, as a user's program is, with an allocator."""

    def __init__(self, module: str, arguments: list[str], environment: dict[str, str]):
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, question: str):
        """The answer of `serve`."""
        print(question, file=self._process.stdin, flush=True)
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise SystemExit(f"a process of the benchmark ended with {self._process.wait()}")
        return json.loads(line)

    def end(self) -> dict:
        """What is known of the process, which is over then."""
        known = self.ask("end")
        self.close()
        return known

    def close(self) -> None:
        """Ends the process and waits for it."""
        self._process.communicate()


def measure(names: list[str], environment: dict[str, str], rounds: int) -> tuple[dict, dict, dict]:
    """Seconds of each one's first call, and of `rounds` more, taken in turns; and what is known of
    its process; by name.
    """
    processes, first = {}, {}
    for name in names:
        command = [*sys.argv[1:], f"--serve={name}"]
        processes[name] = Process("benchmarks.train_step", command, environment)
        first[name] = processes[name].ask("run")
        processes[name].ask("run")
    times = {name: [] for name in names}
    for _ in range(rounds):
        for name, seconds in times.items():
            seconds.append(processes[name].ask("run"))
    return first, times, {name: process.end() for name, process in processes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--devices", type=int, help="that share a batch; default: as in the config")
    parser.add_argument("--rounds", type=int, default=5, help="calls of each peer that count")
    parser.add_argument("--alone", action="store_true", help="no peers: for the peak of memory")
    parser.add_argument("--allocator", choices=["all", *ALLOCATORS], default="all")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments, peers, size, config = parse_config(parser)
    config.train.steps_per_call = STEPS_PER_CALL
    if arguments.devices is not None:
        config.train.devices = arguments.devices
    if arguments.serve:
        serve(make_runner(arguments.serve, peers, config), peers.flops(config))
        return

    allocators = list(ALLOCATORS) if arguments.allocator == "all" else [arguments.allocator]
    names = names_of(peers, config, arguments.alone)
    measured = {name: measure(names, ALLOCATORS[name], arguments.rounds) for name in allocators}
    roof = max(end["roof"] for _, _, ends in measured.values() for end in ends.values())

    examples = STEPS_PER_CALL * config.train.batch_size
    device = jax.devices()[0]
    result: dict = {
        "benchmark": "train_step",
        "model": arguments.model,
        "size": size,
        "batch": config.train.batch_size,
        "window": config.model.window,
        "devices": config.train.devices,
        "device": f"{device.platform} {device.device_kind}",
        **machine.facts(("jax", "torch")),
        "flops_per_example": peers.flops(config),
        "roof_examples_per_second": round(roof, 1),
    }
    for allocator_name, (first, times, ends) in measured.items():
        print(f"malloc: {allocator_name}; the roof is {roof:.1f} examples/s")
        print(f"{'':14}{'examples/s':>11}{'spread':>16}{'first call':>12}{'of the roof':>13}")
        rows: dict = {"examples_per_second": {}}
        ours = times["musicjax"]
        for name, seconds in times.items():
            rates = sorted(examples / s for s in seconds)
            median = statistics.median(rates)
            rows["examples_per_second"][name] = [round(rate, 1) for rate in rates]
            print(
                f"{name:14}{median:11.1f}{rates[0]:9.1f}-{rates[-1]:<6.1f}"
                f"{first[name]:11.1f} s{median / roof:13.2f}"
            )
            if (arguments.model, size) == ("nsm", "paper"):
                hours = 350 * 50 / median / 3600
                print(
                    f"{'':14}{median / PAPER_SONGS_PER_SECOND:.1f} times the paper's "
                    f"{PAPER_SONGS_PER_SECOND:.2f} songs/s; its 50 epochs of 350 songs in "
                    f"{hours:.2f} hours (the paper: 4.5 to 5)"
                )
            if name != "musicjax":
                ratio = statistics.median(t / o for t, o in zip(seconds, ours, strict=True))
                rows[f"ratio_to_{name.replace(' ', '_')}"] = round(ratio, 3)
                print(f"{'':14}musicjax trains {ratio:.2f} times as fast")
        rows["peak_memory_gib"] = ends["musicjax"]["peak_memory_gib"]
        print(f"musicjax's peak of memory: {rows['peak_memory_gib']} GiB\n")
        # The first one's stand at the top, the second's under its name.
        result |= rows if allocator_name == allocators[0] else {allocator_name: rows}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
