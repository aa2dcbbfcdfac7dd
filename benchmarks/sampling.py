"""How fast does the bi-axial model make music, beside what, and does a step's cost grow with it?

    python -m benchmarks.sampling [--variant=johnson|best] [--cores=1]

What bounds it. A step reads each weight of the LSTMs along time once and multiplies it by 78 notes'
vectors; along the notes the products are of one vector for each piece, note after note, since each
must know what the one below does: 78 small steps that wait for each other. So one piece is bound by
latency: some microseconds for each of the 78, however it is programmed, and a dozen operations for
each where a framework starts them one by one. Many pieces fill the products, and then arithmetic is
the bound, for every program alike: the roof is the rate of the largest matrix product in the same
run over a step's operations (`best` 24 MF, `johnson` 213 MF for each piece). The recurrent state is
carried: the past is never read again.

    musicjax    this project's compiled loop over steps and notes
    torch       the same model and weights in PyTorch: LSTMCells along time for all notes as one
                batch, then a Python loop over the notes (extra `bench`)

Both in turns, from silence, with 12 notes at once at most. At 120 quarters a minute music takes 8
steps a second: that is real time. The model is untrained: what is drawn does not change the work.
The first call, with compilation, is reported apart. The last line is JSON.
"""

import argparse
import json
import os
import statistics

from benchmarks import machine
from configs import nsm

REAL_TIME = 120 / 60 * 4  # steps a second
ROUNDS = 5
MAX_NOTES = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variant", default="johnson", help="of configs/nsm.py, with tied weights")
    parser.add_argument("--cores", type=int, default=1, help="processors to use")
    parser.add_argument("--pieces", type=int, nargs="+", default=[1, 64], help="at once, by each")
    parser.add_argument("--steps", type=int, default=128, help="of one piece; of many an eighth")
    parser.add_argument(
        "--lengths", type=int, nargs="*", default=[512, 2048], help="steps of longer pieces, ours"
    )
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[: arguments.cores]
    os.sched_setaffinity(0, cores)  # before jax and torch count them

    import jax
    import jax.numpy as jnp
    import numpy as np

    from benchmarks import nsm_peers
    from benchmarks.generate import timed
    from benchmarks.train_step import matmul_rate
    from musicjax.generation.loop import continue_primes
    from musicjax.generation.options import Options, rules_for

    config = nsm.get_config(arguments.variant)
    if not config.model.tied:
        parser.error(f"--variant={arguments.variant}: its weights end with its window")
    model = nsm_peers.make_model(config)
    params, (notes, bits) = model.init(config.seed), model.encoding.shape
    has_torch = machine.versions(("torch",))["torch"] is not None
    if not has_torch:
        print("no PyTorch: pip install -e .[bench] for that peer")

    def musicjax_runner(pieces: int, length: int):
        """Makes `length` steps of each piece and waits."""
        prime = jnp.zeros((pieces, 0, notes, bits), jnp.uint8)
        positions = jnp.tile(jnp.arange(-1, length) % 16, (pieces, 1))
        keys = jax.vmap(jax.random.key)(jnp.arange(pieces))

        def run():
            states, _ = continue_primes(
                model,
                params,
                prime,
                positions,
                np.full(pieces, 16, np.int32),
                keys,
                Options(max_notes=MAX_NOTES).sampling_settings(model.encoding),
                np.int32(length),
                np.full(pieces, 2**31 - 1, np.int32),
                rules=rules_for(model.encoding.kind),
                length=length,
            )
            states.block_until_ready()

        return run

    def torch_runner(pieces: int, length: int):
        """The same, step by step and note by note."""
        import torch  # pyright: ignore[reportMissingImports]

        step = nsm_peers.torch_step(model.bind(params))

        def run():
            states, carry = torch.zeros(pieces, notes, bits), None
            for i in range(length):
                positions = torch.full((pieces,), (i - 1) % 16)
                noise = torch.rand(notes, pieces, bits)
                carry, states, _ = step(states, positions, noise, carry, MAX_NOTES)

        return run

    result: dict = {
        "benchmark": "sampling",
        "variant": arguments.variant,
        "cores": len(cores),
        "device": f"{jax.devices()[0].platform} {jax.devices()[0].device_kind}",
        **machine.facts(("jax", "torch")),
        "runs": [],
    }
    flops = nsm_peers.flops(config) / 3 / config.model.window  # of a piece's step
    print(
        f"pieces  steps  {'':10}{'ms a step':>10}{'steps/s in all':>16}{'spread':>18}"
        f"{'times real time':>17}{'of the roof':>13}{'first call':>12}"
    )
    shapes = [(n, arguments.steps if n == 1 else arguments.steps // 8) for n in arguments.pieces]
    shapes += [(1, length) for length in arguments.lengths]
    for row, (pieces, length) in enumerate(shapes):
        runners = {"musicjax": musicjax_runner(pieces, length)}
        if has_torch and row < len(arguments.pieces):
            runners["torch"] = torch_runner(pieces, length)
        first = {name: timed(run) for name, run in runners.items()}
        rates: dict[str, list[float]] = {name: [] for name in runners}
        for _ in range(ROUNDS):
            for name, run in runners.items():
                rates[name].append(pieces * length / timed(run))
        roof = matmul_rate() / flops
        for name, several in rates.items():
            rate = statistics.median(several)
            result["runs"].append(
                {
                    "pieces": pieces,
                    "steps": length,
                    "what": name,
                    "steps_per_second": [round(r, 1) for r in sorted(several)],
                    "times_real_time": round(rate / pieces / REAL_TIME, 1),
                    "of_the_roof": round(rate / roof, 3),
                }
            )
            print(
                f"{pieces:6}{length:7}  {name:10}{1000 * pieces / rate:10.2f}{rate:16.1f}"
                f"{min(several):11.1f}-{max(several):<8.1f}{rate / pieces / REAL_TIME:13.1f}"
                f"{rate / roof:13.2f}{first[name]:10.1f} s"
            )
        if "torch" in rates:
            ratio = statistics.median(rates["musicjax"]) / statistics.median(rates["torch"])
            result.setdefault("ratio_to_torch", {})[str(pieces)] = round(ratio, 2)
            print(f"{'':15}musicjax is {ratio:.1f} times as fast as torch")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
