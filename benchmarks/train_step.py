"""How fast is a training step of the vocabulary model, and beside what?

    python -m benchmarks.train_step [--size=table2|quick] [--rounds=5]

What bounds it. A step of Table 2 reads 50 windows of 50 tokens. The recurrent products cannot be
batched over time: 50 steps each way of [50, 512] x [512, 2048], and 50 of [50, 256] x [256, 1024].
Everything else is a few large products (input projections, dense, logits) or cheap (attention: 32
units). Counting a multiply and an add as two, and the backward pass as twice the forward, a window
costs `flops_per_window` below. No program can be faster than that count over the rate of the
machine's largest matrix product, which is measured in the same run: the roof. On a CPU the rest
goes to page faults (XLA takes its buffers anew at each call) and to the elementwise part of the
gates.

Peers, same model, batch, and optimizer (RMSprop), dropout included, in the same run, in turns:

    musicjax      this project's compiled call of several steps
    naive         the same with autodiff of a plain lax.scan, one step a call, state not donated,
                  input projection inside the loop
    torch         PyTorch's nn.LSTM (its CPU kernel), if PyTorch is installed (extra `bench`)

Prints the median and spread of each, compile time apart; the last line is JSON.
"""

import argparse
import json
import os
import platform
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from configs import vocab as vocab_config
from musicjax.checkpoint import TrainState
from musicjax.config import Config
from musicjax.loop import make_optimizer, make_train_steps
from musicjax.models import lstm, vocab
from musicjax.vocabulary import Token, Vocabulary

VOCABULARY_SIZE = 1000  # as Bach's chorales, two voices
STEPS_PER_CALL = 4


def make_config(size: str) -> Config:
    config = vocab_config.get_config("" if size == "table2" else size)
    config.train.steps_per_call = STEPS_PER_CALL
    # One optimizer for all, so that what is compared is the model.
    config.train.update(optimizer="rmsprop", schedule="constant", clip_norm=0.0)
    return config


def flops_per_window(config: Config) -> float:
    """Multiplications and additions of one window's training step, from the sizes."""
    m, t = config.model, config.train.window
    directions = 2 if m.bidirectional else 1
    encoded = directions * m.encoder_size
    encoder = directions * t * (m.embedding_size + m.encoder_size) * 4 * m.encoder_size
    attention = t * encoded * m.attention_size * 2 + t * t * (m.attention_size + encoded)
    decoder = t * (encoded + m.decoder_size) * 4 * m.decoder_size
    head = m.decoder_size * m.dense_size + m.dense_size * VOCABULARY_SIZE
    forward = 2 * (encoder + attention + decoder + head)
    return 3.0 * forward


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


def random_batches(config: Config) -> dict[str, np.ndarray]:
    shape = (STEPS_PER_CALL, config.train.batch_size, config.train.window + 1)
    tokens = np.random.default_rng(0).integers(1, VOCABULARY_SIZE, shape, dtype=np.int32)
    return {"tokens": tokens, "present": np.ones(shape[:2], np.float32)}


def make_vocabulary() -> Vocabulary:
    pairs = [(low, high) for low in range(40) for high in range(60, 100)]
    return Vocabulary.build({Token(p, 12): 1 for p in pairs[: VOCABULARY_SIZE - 1]})


def musicjax_runner(config: Config, *, naive: bool):
    """A function that trains STEPS_PER_CALL batches and waits; with the state that it owns."""
    weights = jnp.ones(VOCABULARY_SIZE)
    graph, params = nnx.split(vocab.build(config, make_vocabulary()))
    batches = random_batches(config)
    optimizer = make_optimizer(config.train, 100)

    def loss_fn(params, batch, key):
        return vocab.loss(nnx.merge(graph, params), batch, weights, key)

    first = {name: array[0] for name, array in batches.items()}
    sums = jax.eval_shape(loss_fn, params, first, None)[1]
    zeros = jax.tree.map(jnp.zeros_like, sums)
    state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), zeros)

    if not naive:
        train_steps = make_train_steps(loss_fn, optimizer, 0)

        def run():
            nonlocal state
            state, losses = train_steps(state, batches, STEPS_PER_CALL)
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


class NaiveLSTM(nnx.Module):
    """What one writes first: the whole cell inside lax.scan, left to autodiff."""

    def __init__(self, own: lstm.LSTM):
        self.w_x, self.w_h, self.b = own.w_x, own.w_h, own.b

    def __call__(self, x):
        """x: [B, T, F]. Returns [B, T, D * H]."""
        outputs = []
        for direction in range(self.w_x.shape[0]):
            w_x, w_h, b = self.w_x[direction], self.w_h[direction], self.b[direction]

            def step(carry, x_t, w_x=w_x, w_h=w_h, b=b):
                h, c = carry
                i, f, g, o = jnp.split(x_t @ w_x + h @ w_h + b, 4, axis=-1)
                c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                h = jax.nn.sigmoid(o) * jnp.tanh(c)
                return (h, c), h

            zeros = jnp.zeros((x.shape[0], w_h.shape[0]))
            _, h = jax.lax.scan(step, (zeros, zeros), jnp.swapaxes(x, 0, 1), reverse=direction == 1)
            outputs.append(jnp.swapaxes(h, 0, 1))
        return jnp.concatenate(outputs, axis=-1)


def naive_runner(config: Config):
    build = vocab.build

    def build_naive(config, vocabulary):
        model = build(config, vocabulary)
        model.encoder = nnx.List([NaiveLSTM(own) for own in model.encoder])
        model.decoder = nnx.List([NaiveLSTM(own) for own in model.decoder])
        return model

    vocab.build = build_naive
    try:
        return musicjax_runner(config, naive=True)
    finally:
        vocab.build = build


def torch_runner(config: Config):
    """The same model of nn.LSTM; None if PyTorch is not installed."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
        from torch import nn  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    m = config.model

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY_SIZE, m.embedding_size)
            self.encoder = nn.LSTM(
                m.embedding_size, m.encoder_size, batch_first=True, bidirectional=m.bidirectional
            )
            encoded = m.encoder_size * (2 if m.bidirectional else 1)
            self.w_t = nn.Linear(encoded, m.attention_size, bias=False)
            self.w_s = nn.Linear(encoded, m.attention_size)
            self.v = nn.Linear(m.attention_size, 1)
            self.decoder = nn.LSTM(encoded, m.decoder_size, batch_first=True)
            self.dense = nn.Linear(m.decoder_size, m.dense_size)
            self.logits = nn.Linear(m.dense_size, VOCABULARY_SIZE)
            self.drop = nn.Dropout(m.dropout)

        def forward(self, tokens):
            x = self.drop(self.encoder(self.embedding(tokens))[0])
            score = self.v(torch.tanh(self.w_t(x)[:, :, None] + self.w_s(x)[:, None]))[..., 0]
            x = torch.softmax(score, -1) @ x
            x = self.drop(self.decoder(x)[0])[:, -1]
            return self.logits(torch.relu(self.dense(x)))

    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.RMSprop(
        model.parameters(), lr=config.train.learning_rate, alpha=0.9, eps=1e-7
    )
    tokens = torch.from_numpy(random_batches(config)["tokens"].astype(np.int64))

    def run():
        for batch in tokens:
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(batch[:, :-1]), batch[:, -1]).backward()
            optimizer.step()

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
    parser.add_argument("--size", choices=["table2", "quick"], default="table2")
    parser.add_argument("--rounds", type=int, default=5, help="calls of each peer that count")
    arguments = parser.parse_args()

    config = make_config(arguments.size)
    runners = {
        "musicjax": musicjax_runner(config, naive=False),
        "naive": naive_runner(config),
        "torch": torch_runner(config),
    }
    runners = {name: run for name, run in runners.items() if run is not None}
    roof = matmul_rate() / flops_per_window(config)
    first, times = measure(runners, arguments.rounds)

    windows = STEPS_PER_CALL * config.train.batch_size
    device = jax.devices()[0]
    result: dict = {
        "benchmark": "train_step",
        "size": arguments.size,
        "batch": config.train.batch_size,
        "window": config.train.window,
        "device": f"{device.platform} {device.device_kind}",
        "processors": len(os.sched_getaffinity(0)),
        "machine": platform.processor() or platform.machine(),
        "jax": jax.__version__,
        "flops_per_window": flops_per_window(config),
        "roof_windows_per_second": round(roof, 1),
        "windows_per_second": {},
    }
    if "torch" in runners:
        import torch  # pyright: ignore[reportMissingImports]

        result["torch"] = torch.__version__
    print(f"{'':10}{'windows/s':>11}{'spread':>16}{'first call':>12}{'of the roof':>13}")
    for name, seconds in times.items():
        rates = sorted(windows / s for s in seconds)
        median = statistics.median(rates)
        result["windows_per_second"][name] = [round(rate, 1) for rate in rates]
        print(
            f"{name:10}{median:11.1f}{rates[0]:9.1f}-{rates[-1]:<6.1f}{first[name]:11.1f} s"
            f"{median / roof:13.2f}"
        )
    ours = times["musicjax"]
    for peer in times.keys() - {"musicjax"}:
        ratios = [theirs / mine for theirs, mine in zip(times[peer], ours, strict=True)]
        result[f"ratio_to_{peer}"] = round(statistics.median(ratios), 3)
        print(f"musicjax trains {result[f'ratio_to_{peer}']:.2f} times as fast as {peer}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
