"""How fast is a training step, and beside what?

    python -m benchmarks.train_step --model=vocab [--size=table2|quick] [--rounds=5]
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

On a CPU the rest goes to page faults (XLA takes its buffers anew at each call) and to the
elementwise part of the gates.

Peers, same model, batch and optimizer, dropout included, in the same run, in turns:

    musicjax       this project's compiled call of several steps
    one device     the same with --devices=1, where it is another number
    naive          the same with autodiff of a plain lax.scan, one step a call, state not donated
    torch          vocab: PyTorch's nn.LSTM, its CPU kernel (extra `bench`)
    torch loops    nsm: an nn.LSTM for each note and for each step, as the paper's authors wrote it
    torch batched  nsm: batched over notes and steps, a Python loop over the recurrent axis

Prints the median and spread of each, compile time apart; the last line is JSON.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import time

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks import nsm_peers, vocab_peers
from musicjax import devices
from musicjax.config import Config
from musicjax.loop import make_optimizer, make_train_steps, new_state
from musicjax.models import MODELS, lstm

STEPS_PER_CALL = 4
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


def musicjax_runner(peers, config: Config, *, naive: bool):
    """A function that trains STEPS_PER_CALL batches and waits; with the state that it owns.

    The batches are shared by `config.train.devices`.
    """
    mesh = devices.make_mesh(config.train.devices, config.train.batch_size)
    module, vocabulary = MODELS[config.model.name], peers.make_vocabulary()
    loss_of = module.make_loss(config, vocabulary)
    graph, params = nnx.split(module.build(config, vocabulary))
    batches = peers.random_batches(config, STEPS_PER_CALL)
    optimizer = make_optimizer(config.train, 100)

    def loss_fn(params, batch, key):
        return loss_of(nnx.merge(graph, params), batch, key)

    first = {name: array[0] for name, array in batches.items()}
    state = new_state(loss_fn, params, optimizer, first)

    if not naive:
        train_steps = make_train_steps(loss_fn, optimizer, 0, mesh)
        state = jax.device_put(state, devices.replicated(mesh))

        def run():
            nonlocal state
            shared = jax.device_put(batches, devices.shared(mesh, 1))
            state, losses = train_steps(state, shared, STEPS_PER_CALL)
            losses.block_until_ready()

        return run

    @jax.jit
    def step(params, optimizer_state, batch, key):
        gradient, _ = jax.grad(loss_fn, has_aux=True)(params, batch, key)
        update, optimizer_state = optimizer.update(gradient, optimizer_state, params)
        return optax.apply_updates(params, update), optimizer_state

    optimizer_state = state.optimizer

    def run_naive():
        nonlocal params, optimizer_state
        for i in range(STEPS_PER_CALL):
            batch = {name: array[i] for name, array in batches.items()}
            params, optimizer_state = step(params, optimizer_state, batch, jax.random.key(i))
        jax.block_until_ready(params)

    return run_naive


def naive_runner(peers, config: Config):
    """What one writes first: the whole cell inside lax.scan, left to autodiff."""

    def scan(projected, w_h, initial):
        def step(state, projected_t):
            state, _ = lstm._cell(projected_t, state, w_h)
            return state, state.h

        last, hidden = jax.lax.scan(step, initial, projected)
        return hidden, last

    own = lstm.scan_lstm
    lstm.scan_lstm = scan
    try:
        run = musicjax_runner(peers, config, naive=True)
        run()  # traced while the plain scan is in its place
    finally:
        lstm.scan_lstm = own
    return run


def measure(runners: dict, rounds: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Seconds of each runner's first call, and of `rounds` more, taken in turns."""
    first, times = {}, {name: [] for name in runners}
    for name, run in runners.items():
        start = time.perf_counter()
        run()
        first[name] = time.perf_counter() - start
        run()
    for _ in range(rounds):
        for name, run in runners.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return first, times


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=["vocab", "nsm"], default="vocab")
    parser.add_argument("--size", help=f"vocab: {vocab_peers.SIZES}; nsm: {nsm_peers.SIZES}")
    parser.add_argument("--batch", type=int, help="examples; default: as the config says")
    parser.add_argument("--devices", type=int, default=1, help="that share musicjax's batches")
    parser.add_argument("--rounds", type=int, default=5, help="calls of each peer that count")
    parser.add_argument("--alone", action="store_true", help="no peers: for the peak of memory")
    arguments = parser.parse_args()

    peers = {"vocab": vocab_peers, "nsm": nsm_peers}[arguments.model]
    size = arguments.size or peers.SIZES[0]
    if size not in peers.SIZES:
        parser.error(f"--size={size}; expected one of {', '.join(peers.SIZES)}")
    config = peers.make_config(size)
    config.train.batch_size = arguments.batch or config.train.batch_size
    config.train.steps_per_call = STEPS_PER_CALL
    config.train.devices = arguments.devices
    runners = {"musicjax": musicjax_runner(peers, config, naive=False)}
    config.train.devices = 1
    if arguments.devices != 1:
        runners["one device"] = musicjax_runner(peers, config, naive=False)
    torch_version = None
    if not arguments.alone:
        runners["naive"] = naive_runner(peers, config)
        try:
            import torch  # pyright: ignore[reportMissingImports]
        except ImportError:
            print("no PyTorch: pip install -e .[bench] for that peer")
        else:
            torch_version = torch.__version__
            runners |= peers.torch_runners(config, STEPS_PER_CALL)
    first, times = measure(runners, arguments.rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    roof = matmul_rate() / peers.flops(config)

    examples = STEPS_PER_CALL * config.train.batch_size
    device = jax.devices()[0]
    result: dict = {
        "benchmark": "train_step",
        "model": arguments.model,
        "size": size,
        "batch": config.train.batch_size,
        "window": config.train.window,
        "devices": arguments.devices,
        "device": f"{device.platform} {device.device_kind}",
        "processors": len(os.sched_getaffinity(0)),
        "machine": platform.processor() or platform.machine(),
        "jax": jax.__version__,
        "torch": torch_version,
        "flops_per_example": peers.flops(config),
        "roof_examples_per_second": round(roof, 1),
        "peak_memory_gib": round(peak, 2),
        "examples_per_second": {},
    }
    print(f"{'':14}{'examples/s':>11}{'spread':>16}{'first call':>12}{'of the roof':>13}")
    for name, seconds in times.items():
        rates = sorted(examples / s for s in seconds)
        median = statistics.median(rates)
        result["examples_per_second"][name] = [round(rate, 1) for rate in rates]
        print(
            f"{name:14}{median:11.1f}{rates[0]:9.1f}-{rates[-1]:<6.1f}{first[name]:11.1f} s"
            f"{median / roof:13.2f}"
        )
        if (arguments.model, size) == ("nsm", "paper"):
            hours = 350 * 50 / median / 3600
            print(
                f"{'':14}{median / PAPER_SONGS_PER_SECOND:.1f} times the paper's "
                f"{PAPER_SONGS_PER_SECOND:.2f} songs/s; its 50 epochs of 350 songs in {hours:.2f} "
                "hours (the paper: 4.5 to 5)"
            )
    ours = times["musicjax"]
    for peer in times.keys() - {"musicjax"}:
        ratios = [theirs / mine for theirs, mine in zip(times[peer], ours, strict=True)]
        result[f"ratio_to_{peer.replace(' ', '_')}"] = round(statistics.median(ratios), 3)
        print(f"musicjax trains {statistics.median(ratios):.2f} times as fast as {peer}")
    print(f"peak memory, all peers together: {result['peak_memory_gib']} GiB")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
