"""How fast does the bi-axial model make music, and does a step's cost grow with the piece?

    python -m benchmarks.sampling [--variant=johnson] [--cores=1]

What bounds it. A step reads each weight of the LSTMs along time once and multiplies it by 78 notes'
vectors; along the notes the products are of one vector for each piece, note after note, since each
must know what the one below does: 78 small steps that wait for each other. So one piece is bound by
latency and memory. The recurrent state is carried: the past is never read again.

At 120 quarters a minute music takes 8 steps a second: that is real time. The model is untrained, of
the variant's sizes: what is drawn does not change the work. The last line is JSON.
"""

import argparse
import json
import os
import platform
import statistics
import time

from configs import nsm

REAL_TIME = 120 / 60 * 4  # steps a second
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variant", default="johnson", help="of configs/nsm.py, with tied weights")
    parser.add_argument("--cores", type=int, default=1, help="processors to use")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[: arguments.cores]
    os.sched_setaffinity(0, cores)  # before jax counts them

    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    from musicjax.models import biaxial
    from musicjax.sampler import continue_states

    config = nsm.get_config(arguments.variant)
    if not config.model.tied:
        parser.error(f"--variant={arguments.variant}: its weights end with its window")
    graph, params = nnx.split(biaxial.build(config))
    layout = biaxial.layout_of(config)

    def seconds(pieces: int, length: int) -> tuple[float, list[float]]:
        """Of the first call, and of the next ones."""
        prime = jnp.zeros((pieces, 16, layout.notes, layout.bits))
        beat = jnp.tile(jnp.arange(-1, 16 + length) % 16, (pieces, 1))
        keys = jax.vmap(jax.random.key)(jnp.arange(pieces))
        times = []
        for _ in range(1 + ROUNDS):
            started = time.perf_counter()
            states = continue_states(
                graph,
                params,
                prime,
                beat,
                keys,
                length=length,
                draw=biaxial.Draw(1.0, 12),
                max_silence=np.int32(16),
            )
            states.block_until_ready()
            times.append(time.perf_counter() - started)
        return times[0], times[1:]

    result: dict = {
        "benchmark": "sampling",
        "variant": arguments.variant,
        "cores": len(cores),
        "device": f"{jax.devices()[0].platform} {jax.devices()[0].device_kind}",
        "machine": platform.processor() or platform.machine(),
        "jax": jax.__version__,
        "runs": [],
    }
    print("pieces   steps   ms a step   steps/s of a piece   times real time   first call")
    for pieces, length in ((1, 128), (1, 512), (1, 2048), (4, 128)):
        first, times = seconds(pieces, length)
        rates = sorted(length / s for s in times)
        rate = statistics.median(rates)
        print(
            f"{pieces:6}{length:8}{1000 / rate:12.2f}{rate:21.1f}{rate / REAL_TIME:18.1f}"
            f"{first:11.1f} s"
        )
        result["runs"].append(
            {
                "pieces": pieces,
                "steps": length,
                "steps_per_second": [round(r, 1) for r in rates],
                "times_real_time": round(rate / REAL_TIME, 1),
            }
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
