"""How fast does the vocabulary model make music, and beside what?

    python -m benchmarks.generate [--size=table2|quick] [--tokens=64]

What bounds it. A bidirectional window must be read anew for each token. With Table 2's sizes that
is `flops` of benchmarks.vocab_peers over three, 0.4 GF a token, so the roof (the rate of the
largest matrix product in the same run) is some 300 tokens/s for all pieces together. Many pieces at
once come near it. One piece alone is bound by memory: 50 steps each way read 4 MB of recurrent
weights. A causal model carries what it has read: a token costs one step, 8 MF, and reads each
weight once.

    windowed       this project's compiled loop, the window read anew for each token
    causal         the same sizes in one direction, attention over the past, state carried
    torch          the windowed model of PyTorch's nn.LSTM, a Python loop
    keras          the windowed model in Keras (on JAX), a Python loop over `predict`, as in the
                   paper's reference [1]; batch 1 alone

PyTorch and Keras take part if they are installed (extra `bench`). Taken in turns; the draw is
greedy, and weights are as they are first drawn. The causal model's time includes the reading of its
first window, step by step; the others, whose tokens cost the same each, make an eighth of the
tokens where there are many pieces. The first call, with compilation, is told apart. The last line
is JSON.
"""

import argparse
import json
import os
import statistics
import time
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import machine, vocab_peers
from benchmarks.train_step import matmul_rate
from musicjax.models import vocab
from musicjax.sampler import Sampling, continue_windows

ROUNDS = 5


def musicjax_runner(config, batch: int, tokens: int):
    """Makes `tokens` tokens of each piece and waits."""
    vocabulary = vocab_peers.make_vocabulary()
    graph, params = nnx.split(vocab.build(config, vocabulary))
    windows = vocab_peers.random_batches(config, 1)["tokens"][0][:1, :-1].repeat(batch, axis=0)

    def run():
        made, _ = continue_windows(
            graph,
            params,
            windows,
            jax.vmap(jax.random.key)(jnp.arange(batch)),
            length=tokens,
            enough_tokens=np.int32(tokens),
            enough_units=np.full(batch, 2**31 - 1),
            durations=vocabulary.durations,
            is_rest=vocabulary.is_rest,
            sampling=Sampling(temperature=0.0, max_repeats=1_000_000, max_rests=1_000_000),
        )
        made.block_until_ready()

    return run


def torch_runner(config, batch: int, tokens: int):
    """PyTorch's model, its window shifted by one token after another."""
    import torch  # pyright: ignore[reportMissingImports]

    model = vocab_peers.torch_model(config).eval()
    windows = vocab_peers.random_batches(config, 1)["tokens"][0][:1, :-1].repeat(batch, axis=0)

    @torch.inference_mode()
    def run():
        window = torch.from_numpy(windows.astype(np.int64))
        for _ in range(tokens):
            token = model(window).argmax(-1)
            window = torch.cat([window[:, 1:], token[:, None]], dim=1)

    return run


def keras_runner(config, tokens: int):
    """Keras, by its `predict`, a batch of one."""
    import keras  # pyright: ignore[reportMissingImports]

    m, layers = config.model, keras.layers
    window = keras.Input((config.train.window,))
    x = layers.Embedding(vocab_peers.VOCABULARY_SIZE, m.embedding_size)(window)
    x = layers.Bidirectional(layers.LSTM(m.encoder_size, return_sequences=True))(x)
    query = layers.Dense(m.attention_size, use_bias=False)(x)
    x = layers.AdditiveAttention()([query, x, layers.Dense(m.attention_size)(x)])
    x = layers.LSTM(m.decoder_size)(x)
    x = layers.Dense(vocab_peers.VOCABULARY_SIZE)(layers.Dense(m.dense_size, "relu")(x))
    model: Any = keras.Model(window, x)
    first = vocab_peers.random_batches(config, 1)["tokens"][0][:1, :-1]

    def run():
        window = first
        for _ in range(tokens):
            token = model.predict(window, verbose=0).argmax(-1)
            window = np.concatenate([window[:, 1:], token[:, None]], axis=1)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=vocab_peers.SIZES, default=vocab_peers.SIZES[0])
    parser.add_argument("--tokens", type=int, default=200, help="tokens of a piece")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64], help="pieces at once")
    arguments = parser.parse_args()
    config = vocab_peers.make_config(arguments.size)
    causal = vocab_peers.make_config(arguments.size)
    causal.model.update(causal=True, bidirectional=False)
    device = jax.devices()[0]
    result: dict = {
        "benchmark": "generate",
        "size": arguments.size,
        "tokens": arguments.tokens,
        "device": f"{device.platform} {device.device_kind}",
        **machine.facts(),
        "runs": [],
    }
    print(
        f"{'pieces':>6}  {'':10}{'tokens/s':>10}{'spread':>18}{'of the roof':>13}{'first call':>13}"
    )
    for batch in arguments.batches:
        some = arguments.tokens if batch == 1 else max(arguments.tokens // 8, 1)
        tokens = {"windowed": some, "causal": arguments.tokens, "torch": some, "keras": some}
        runners = {
            "windowed": musicjax_runner(config, batch, some),
            "causal": musicjax_runner(causal, batch, arguments.tokens),
        }
        try:
            runners["torch"] = torch_runner(config, batch, some)
        except ImportError:
            print("no PyTorch: pip install -e .[bench] for that peer")
        if batch == 1:
            try:
                runners["keras"] = keras_runner(config, some)
            except ImportError:
                print("no Keras: pip install -e .[bench] for that peer")
        measure(runners, batch, tokens, config, result["runs"])
    print(json.dumps(result))


def measure(runners: dict, batch: int, tokens: dict, config, rows: list[dict]) -> None:
    """Runs them in turns, prints a line of each, and adds it to `rows`."""
    first = {name: timed(run) for name, run in runners.items()}
    rates: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(ROUNDS):
        for name, run in runners.items():
            rates[name].append(batch * tokens[name] / timed(run))
    roof = matmul_rate() / (vocab_peers.flops(config) / 3)
    for name, several in rates.items():
        median = statistics.median(several)
        of_roof = round(median / roof, 3) if name != "causal" else None
        rows.append(
            {
                "pieces": batch,
                "what": name,
                "tokens_per_second": [round(rate, 1) for rate in sorted(several)],
                "of_the_roof": of_roof,
            }
        )
        print(
            f"{batch:6}  {name:10}{median:10.1f}{min(several):11.1f}-{max(several):<8.1f}"
            f"{of_roof if of_roof is not None else '':>10}{first[name]:11.1f} s"
        )
    ours = statistics.median(rates["windowed"])
    for name in rates.keys() - {"windowed"}:
        ratio = statistics.median(rates[name]) / ours
        said = f"{ratio:.1f} times as fast" if ratio > 1 else f"{1 / ratio:.2f} times as slow"
        print(f"{'':8}{name} is {said} as windowed")


def timed(run) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
