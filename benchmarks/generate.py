"""How fast does the token model make music, and beside what?

    python -m benchmarks.generate [--size=table2|small] [--tokens=64]

What bounds it. A bidirectional window must be read again for each token. With Table 2's sizes that
is `flops` of benchmarks.vocab_peers over three, 0.4 GF a token, so the roof (the rate of the
largest matrix product in the same run) is some 300 tokens/s for all pieces together. Many pieces at
once come near it. One piece alone is bound by memory: 50 steps each way read 4 MB of recurrent
weights. A causal model carries its state: a token costs one step, 8 MF, and reads each weight once.

    windowed       this project's compiled loop, the window read again for each token
    causal         the same sizes in one direction, attention over the past, state carried
    torch          the windowed model of PyTorch's nn.LSTM, a Python loop
    keras          the windowed model in Keras (on JAX), a Python loop over `predict`, as in the
                   paper's reference [1]; batch 1 alone

PyTorch and Keras take part if they are installed (extra `bench`). Taken in turns; the draw is
greedy, and weights are as they are first drawn. The causal model's time includes the reading of its
first window, step by step; the others, whose tokens cost the same each, make an eighth of the
tokens where there are many pieces. The first call, with compilation, is reported apart. The last
line is JSON.
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

from benchmarks import machine, vocab_peers
from benchmarks.train_step import matmul_rate
from musicjax.generation.loop import continue_primes
from musicjax.generation.options import Options, rules_for

ROUNDS = 5


def first_windows(config, batch: int) -> np.ndarray:
    """int32 [batch, T]: what each piece goes on from, the same for all."""
    return vocab_peers.random_batches(config, 1)["elements"][0][:1, :-1].repeat(batch, axis=0)


def musicjax_runner(config, batch: int, tokens: int):
    """Makes `tokens` tokens of each piece and waits."""
    model = vocab_peers.make_model(config)
    params, windows = model.init(config.seed), first_windows(config, batch)
    options = Options(temperature=0.0, max_repeats=1_000_000, max_rests=1_000_000)

    def run():
        made, _ = continue_primes(
            model,
            params,
            windows,
            np.zeros((batch, 1 + windows.shape[1] + 1), np.int32),
            np.ones(batch, np.int32),
            jax.vmap(jax.random.key)(jnp.arange(batch)),
            options.sampling_settings(model.encoding),
            np.int32(tokens),
            np.full(batch, 2**31 - 1, np.int32),
            rules=rules_for(model.encoding.kind),
            length=tokens,
        )
        made.block_until_ready()

    return run


def torch_runner(config, batch: int, tokens: int):
    """PyTorch's model, its window shifted by one token after another."""
    import torch  # pyright: ignore[reportMissingImports]

    model = vocab_peers.torch_model(config).eval()
    windows = first_windows(config, batch)

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
    window = keras.Input((config.model.window,))
    x = layers.Embedding(vocab_peers.VOCABULARY_SIZE, m.embedding_size)(window)
    x = layers.Bidirectional(layers.LSTM(m.encoder_size, return_sequences=True))(x)
    query = layers.Dense(m.attention_size, use_bias=False)(x)
    x = layers.AdditiveAttention()([query, x, layers.Dense(m.attention_size)(x)])
    x = layers.LSTM(m.decoder_size)(x)
    x = layers.Dense(vocab_peers.VOCABULARY_SIZE)(layers.Dense(m.dense_size, "relu")(x))
    model: Any = keras.Model(window, x)
    first = first_windows(config, 1)

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
