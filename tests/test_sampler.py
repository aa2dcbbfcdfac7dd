import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import load_config
from flax import nnx

from musicjax.models import vocab
from musicjax.sampler import Sampling, continue_windows, filter_logits
from musicjax.vocabulary import Token, Vocabulary

V, W = 6, 4
LOGITS = jnp.log(jnp.array([[0.1, 0.4, 0.2, 0.15, 0.1, 0.05]]))


class Counter(nnx.Module):
    """Says that the sum of the window, modulo V, comes next: `sharpness` nats surer of it."""

    def __init__(self, sharpness: float = 50.0):
        self.sharpness = nnx.Param(jnp.asarray(sharpness))

    def project_vocabulary(self):
        return None

    def __call__(self, window, table):
        return self.sharpness[...] * jax.nn.one_hot(window.sum(-1) % (V - 1) + 1, V)


class Always(nnx.Module):
    """Has the same logits whatever comes."""

    def __init__(self, logits):
        self.logits = nnx.Param(jnp.asarray(logits, jnp.float32))

    def project_vocabulary(self):
        return None

    def __call__(self, window, table):
        return jnp.tile(self.logits[...], (len(window), 1))


def run(model, windows, *, length=12, enough=None, units=None, rests=(), seeds=None, **sampling):
    windows = jnp.asarray(windows, jnp.int32)
    graph, params = nnx.split(model)
    seeds = range(len(windows)) if seeds is None else seeds
    tokens, made = continue_windows(
        graph,
        params,
        windows,
        jax.vmap(jax.random.key)(jnp.array(list(seeds))),
        length=length,
        enough_tokens=enough or length,
        enough_units=jnp.full(len(windows), 2**31 - 1 if units is None else units),
        durations=jnp.array([0, 3, 6, 12, 12, 12]),
        is_rest=jnp.isin(jnp.arange(V), jnp.array(list(rests), jnp.int32)),
        sampling=Sampling(**sampling),
    )
    return np.asarray(tokens)[:, : int(made)]


def probabilities(**sampling):
    return np.array(jax.nn.softmax(filter_logits(LOGITS, Sampling(**sampling))))[0]


def test_filters():
    np.testing.assert_allclose(probabilities(), np.exp(LOGITS)[0], rtol=1e-5)
    np.testing.assert_allclose(
        probabilities(top_k=3), np.array([0, 0.4, 0.2, 0.15, 0, 0]) / 0.75, atol=1e-6
    )
    np.testing.assert_allclose(
        probabilities(top_p=0.5), np.array([0, 0.4, 0.2, 0, 0, 0]) / 0.6, atol=1e-6
    )
    np.testing.assert_allclose(probabilities(top_p=1e-6), [0, 1, 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(probabilities(top_k=1), [0, 1, 0, 0, 0, 0], atol=1e-6)
    squared = np.exp(LOGITS)[0] ** 2
    np.testing.assert_allclose(probabilities(temperature=0.5), squared / squared.sum(), rtol=1e-4)


def test_top_k_larger_than_the_vocabulary_is_all():
    np.testing.assert_allclose(probabilities(top_k=99), np.exp(LOGITS)[0], rtol=1e-5)


def test_greedy_follows_the_model_step_by_step():
    windows = [[1, 2, 3, 1], [2, 2, 2, 2]]
    tokens = run(Counter(), windows, temperature=0.0, max_repeats=99)
    for row, window in zip(tokens, windows, strict=True):
        heard = list(window)
        for token in row:
            assert token == sum(heard[-W:]) % (V - 1) + 1
            heard.append(token)


def test_the_same_seed_gives_the_same_piece_alone_or_in_a_batch():
    windows = [[1, 2, 3, 1]] * 3
    together = run(Always(LOGITS[0]), windows, seeds=[7, 8, 9], max_repeats=99)
    alone = run(Always(LOGITS[0]), windows[:1], seeds=[8], max_repeats=99)
    np.testing.assert_array_equal(together[1], alone[0])
    assert len({tuple(row) for row in together.tolist()}) == 3


def test_the_unknown_never_comes():
    tokens = run(Always([99.0, 0, 0, 0, 0, 0]), [[1, 1, 1, 1]] * 8, length=64)
    assert tokens.min() > 0


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_no_token_more_often_in_a_row_than_allowed(limit):
    tokens = run(Always([0, 9.0, 0, 0, 0, 0]), [[1, 1, 1, 2]] * 4, length=40, max_repeats=limit)
    longest = 0
    for row in tokens.tolist():
        run_length = 0
        for before, token in zip([2, *row], row, strict=False):
            run_length = run_length + 1 if token == before else 1
            longest = max(longest, run_length)
    assert longest == limit


def test_rests_in_a_row_are_limited():
    logits = [0, 9.0, 9.0, 0, 0, 0]
    tokens = run(Always(logits), [[3, 3, 3, 3]] * 4, length=40, rests=[1, 2], max_rests=2)
    resting = np.isin(tokens, [1, 2])
    three = resting[:, :-2] & resting[:, 1:-1] & resting[:, 2:]
    assert resting.any()
    assert not three.any()
    assert not np.isin(run(Always(logits), [[3] * W], rests=[1, 2], max_rests=0), [1, 2]).any()


def test_stops_when_every_piece_is_long_enough():
    durations = np.array([0, 3, 6, 12, 12, 12])
    tokens = run(Always(LOGITS[0]), [[1, 2, 3, 1]] * 3, length=64, units=60)
    assert (durations[tokens].sum(1) >= 60).all()
    assert (durations[tokens[:, :-1]].sum(1) < 60).any()
    assert run(Always(LOGITS[0]), [[1, 2, 3, 1]], length=64, enough=10).shape == (1, 10)


def test_one_compilation_for_all_settings():
    before = continue_windows._cache_size()
    for temperature, k, p in ((0.0, 0, 1.0), (1.0, 3, 0.9), (0.7, 1, 0.5)):
        for enough in (5, 17):
            run(
                Always(LOGITS[0]),
                [[1, 2, 3, 1]] * 5,
                length=33,
                enough=enough,
                temperature=temperature,
                top_k=k,
                top_p=p,
            )
    assert continue_windows._cache_size() == before + 1


def test_a_causal_model_makes_the_music_that_its_windows_would():
    config = load_config("tiny")
    config.model.update(causal=True, bidirectional=False)
    vocabulary = Vocabulary.build({Token((40 + i,), 12): 12 - i for i in range(11)})
    model = vocab.build(config, vocabulary)
    graph, params = nnx.split(model)
    window = config.train.window
    start = jax.random.randint(jax.random.key(1), (3, window), 1, vocabulary.size)
    tokens, made = continue_windows(
        graph,
        params,
        start,
        jax.vmap(jax.random.key)(jnp.arange(3)),
        length=20,
        enough_tokens=np.int32(20),
        enough_units=np.full(3, 2**31 - 1),
        durations=vocabulary.durations,
        is_rest=vocabulary.is_rest,
        sampling=Sampling(temperature=0.0, max_repeats=100),
    )
    assert made == 20
    read = jax.jit(lambda model, tokens: model.read(tokens))
    step = jax.jit(lambda model, memory, token: model.step(memory, token))
    memory = read(model, start)
    for i in range(20):
        expected = vocab.without_unknown(memory.logits).argmax(-1)
        np.testing.assert_array_equal(tokens[:, i], expected)
        memory = step(model, memory, expected)
