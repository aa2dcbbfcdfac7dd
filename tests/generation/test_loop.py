"""The one sampling loop, with toy models and with ours."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import load_config, model_of
from flax import nnx

from musicjax.encodings.tokens import TokenEncoding
from musicjax.encodings.vocabulary import Token, Vocabulary
from musicjax.generation.loop import continue_primes
from musicjax.generation.options import Options, rules_for
from musicjax.models.base import Model
from musicjax.models.token_lstm import without_unknown

# Left out by scripts/test.sh --quick.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("_strict")]

V, W = 6, 4
DURATIONS = np.array([0, 3, 6, 12, 12, 12])
SHARES = np.array([0.0, 0.45, 0.25, 0.15, 0.1, 0.05])


def encoding(rests=()) -> TokenEncoding:
    tokens = [Token(() if i in rests else (60 + i,), int(DURATIONS[i])) for i in range(1, V)]
    vocabulary = Vocabulary((Vocabulary.UNKNOWN, *tokens), (0, *[1] * (V - 1)))
    return TokenEncoding(longest_rest=4, longest_note=16, instruments=False, vocabulary=vocabulary)


@dataclasses.dataclass(frozen=True)
class Toy(Model):
    """What all toys have in common: they carry the last W ids."""

    reads = "ids"

    encoding: Any = dataclasses.field(default_factory=encoding)
    window: int = W
    pad: bool = True
    dropout: float = 0.0

    def prefill(self, params, prime, positions):
        return prime[:, -W:]

    def sample_step(self, params, carry, keys, position, rules):
        logits = rules(self.logits(params, carry, position))
        ids = jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)
        return jnp.concatenate([carry[:, 1:], ids[:, None]], axis=1), ids

    def logits(self, params, carry, position):
        raise NotImplementedError


class Counter(Toy):
    """Says that the sum of the window, modulo V, comes next."""

    def logits(self, params, carry, position):
        return 50 * jax.nn.one_hot(carry.sum(-1) % (V - 1) + 1, V)


class Always(Toy):
    """Has the same logits whatever comes: its parameters."""

    def logits(self, params, carry, position):
        return jnp.tile(params, (len(carry), 1))


class Clock(Toy):
    """Draws by the place in the bar: in the first quarter id 1, then 2, then 3."""

    def logits(self, params, carry, position):
        return 50 * jax.nn.one_hot(1 + position // 12 % 3, V)


def run(
    model,
    primes,
    params=(),
    *,
    length=12,
    enough=None,
    units=None,
    seeds=None,
    to_come=64,
    cycles=1,
    **given,
):
    primes = jnp.asarray(primes)
    settings = Options().sampling_settings(model.encoding) | given
    seeds = range(len(primes)) if seeds is None else seeds
    positions = np.tile(np.arange(-1 - primes.shape[1], to_come), (len(primes), 1))
    elements, count = continue_primes(
        model,
        params,
        primes,
        positions.astype(np.int32),
        np.broadcast_to(np.int32(cycles), len(primes)),
        jax.vmap(jax.random.key)(jnp.array(list(seeds))),
        settings,
        np.int32(enough or length),
        np.full(len(primes), 2**31 - 1 if units is None else units, np.int32),
        rules=rules_for(model.reads),
        length=length,
    )
    return np.asarray(elements)[:, : int(count)]


LIKELY = jnp.log(jnp.array([1e-9, *SHARES[1:]]))
PRIME = np.array([[1, 2, 3, 1]], np.int32)


def test_greedy_follows_the_model_element_by_element():
    primes = np.array([[1, 2, 3, 1], [2, 2, 2, 2]], np.int32)
    made = run(Counter(), primes, temperature=0.0, max_repeats=99)
    for row, prime in zip(made, primes, strict=True):
        heard = list(prime)
        for element in row:
            assert element == sum(heard[-W:]) % (V - 1) + 1
            heard.append(element)


def test_the_same_seed_gives_the_same_piece_alone_or_in_a_batch():
    primes = np.repeat(PRIME, 3, axis=0)
    together = run(Always(), primes, LIKELY, seeds=[7, 8, 9], max_repeats=99)
    alone = run(Always(), PRIME, LIKELY, seeds=[8], max_repeats=99)
    np.testing.assert_array_equal(together[1], alone[0])
    assert len({tuple(row) for row in together.tolist()}) == 3


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_no_id_more_often_in_a_row_than_allowed(limit):
    primes = np.full((4, W), 2, np.int32)
    params = jnp.array([-99.0, 9.0, 0, 0, 0, 0])
    made = run(Always(), primes, params, length=40, max_repeats=limit)
    longest = 0
    for row in made.tolist():
        run_length = 1  # the prime's last counts
        for before, element in zip([2, *row], row, strict=False):
            run_length = run_length + 1 if element == before else 1
            longest = max(longest, run_length)
    assert longest == limit


def test_rests_in_a_row_are_limited():
    model, params = Always(encoding(rests=[1, 2])), jnp.array([-99.0, 9.0, 9.0, 0, 0, 0])
    primes = np.full((4, W), 3, np.int32)
    resting = np.isin(run(model, primes, params, length=40, max_rests=2), [1, 2])
    three = resting[:, :-2] & resting[:, 1:-1] & resting[:, 2:]
    assert resting.any()
    assert not three.any()
    assert not np.isin(run(model, primes, params, max_rests=0), [1, 2]).any()


def test_stops_when_every_piece_is_long_enough():
    primes = np.repeat(PRIME, 3, axis=0)
    made = run(Always(), primes, LIKELY, length=64, units=60)
    assert (DURATIONS[made].sum(1) >= 60).all()
    assert (DURATIONS[made[:, :-1]].sum(1) < 60).any()
    assert run(Always(), PRIME, LIKELY, length=64, enough=10).shape == (1, 10)


class Ending(TokenEncoding):
    """Tokens of which the last ends a song."""

    def is_end(self, elements):
        return elements == V - 1


def ending():
    plain = encoding()
    fields = dataclasses.fields(plain)
    return Ending(**{field.name: getattr(plain, field.name) for field in fields})


def test_a_piece_ends_and_the_others_go_on():
    params = jnp.log(jnp.array([1e-9, 0.3, 0.3, 0.2, 0.1, 0.1]))
    primes = np.repeat(PRIME, 20, axis=0)
    given = {"max_repeats": 99, "min_quarters": 0}
    endless = run(Always(encoding()), primes, params, length=60, **given)
    made = run(Always(ending()), primes, params, length=60, **given)
    lengths = []
    for row, without in zip(made, endless[:, : made.shape[1]], strict=True):
        ends = np.flatnonzero(row == V - 1)
        lengths.append(ends[0] + 1 if len(ends) else len(row))
        # Until its end it is as it would be without; nothing comes after it.
        np.testing.assert_array_equal(row[: lengths[-1]], without[: lengths[-1]])
        assert not row[lengths[-1] :].any()
    assert min(lengths) < 5 < 15 < max(lengths)
    assert made.shape[1] == max(lengths)  # when all have ended, no more is made


@pytest.mark.parametrize("quarters", [0, 1, 4])
def test_a_piece_lasts_so_many_quarters_at_least(quarters):
    params = jnp.log(jnp.array([1e-9, 0.05, 0.05, 0.05, 0.05, 0.8]))
    given = {"max_repeats": 99, "min_quarters": quarters}
    made = run(Always(ending()), np.repeat(PRIME, 20, axis=0), params, length=60, **given)
    before = np.where(made == V - 1, 0, DURATIONS[made]).sum(1)
    assert (before >= 12 * quarters).all()
    assert before.min() < 12 * quarters + 12


@pytest.mark.parametrize("cycle", [1, 24, 36])
def test_each_element_is_drawn_at_its_place_in_the_bar(cycle):
    """Where the places that are given end, the last `cycle` of them come again and again."""
    now, expected = 0, []
    for _ in range(60):
        place = now if now < 64 else 64 - cycle + (now - 64) % cycle
        expected.append(1 + place // 12 % 3)
        now += int(DURATIONS[expected[-1]])
    assert now > 64 + 2 * 36
    made = run(Clock(), PRIME, length=60, max_repeats=99, cycles=cycle)
    assert made[0].tolist() == expected


def test_pieces_of_one_batch_have_cycles_of_their_own():
    primes = np.repeat(PRIME, 2, axis=0)
    together = run(Clock(), primes, length=60, max_repeats=99, cycles=[24, 36])
    for cycle, row in zip((24, 36), together, strict=True):
        alone = run(Clock(), PRIME, length=60, max_repeats=99, cycles=cycle)
        np.testing.assert_array_equal(alone[0], row)


def test_one_compilation_for_all_settings_and_equal_models():
    before = continue_primes._cache_size()
    for temperature, k, p in ((0.0, 0, 1.0), (1.0, 3, 0.9), (0.7, 1, 0.5)):
        for enough in (5, 17):
            primes = np.repeat(PRIME, 5, axis=0)
            given = {"temperature": temperature, "top_k": k, "top_p": p}
            run(Always(encoding()), primes, LIKELY, length=33, enough=enough, **given)
    assert continue_primes._cache_size() == before + 1


def test_a_rule_from_outside_knows_what_came_before():
    seen = []

    def spy(logits, history, settings, encoding):
        jax.debug.callback(lambda *now: seen.append([x.tolist() for x in now]), *history[:3])
        return logits

    elements, _ = continue_primes(
        Clock(encoding(rests=[1])),
        (),
        np.array([[2, 2, 3]], np.int32),
        np.arange(-4, 64, dtype=np.int32)[None],
        np.ones(1, np.int32),
        jax.vmap(jax.random.key)(np.arange(1)),
        {},
        np.int32(6),
        np.array([99], np.int32),
        rules=(spy,),
        length=6,
    )
    jax.effects_barrier()
    assert elements[0].tolist() == [1, 1, 1, 1, 2, 2]
    # The last element, how often it came in a row, and rests in a row since the prime.
    assert sorted(seen) == [
        [[1], [1], [1]],
        [[1], [2], [2]],
        [[1], [3], [3]],
        [[1], [4], [4]],
        [[2], [1], [0]],
        [[3], [1], [0]],
    ]


# --- with our models ------------------------------------------------------------------------------


def token_model(**settings):
    config = load_config("tiny")
    config.model.update(settings)
    model = model_of(config)
    return model, model.init(0)


def test_the_unknown_never_comes():
    model, params = token_model()
    network = model.bind(params)
    network.logits.bias[...] = network.logits.bias[...].at[0].set(99.0)
    made = run(model, np.ones((8, model.window), np.int32), nnx.split(network)[1], length=64)
    assert made.min() > 0


def test_sampled_ids_follow_the_models_probabilities():
    """Many first elements after one prime: their frequencies are the softmax."""
    model, params = token_model()
    network = model.bind(params)
    bias = jax.random.normal(jax.random.key(2), network.logits.bias.shape)
    network.logits.bias[...] = bias
    prime, draws = np.arange(1, 9, dtype=np.int32)[None], 4000
    made = run(model, np.repeat(prime, draws, axis=0), nnx.split(network)[1], length=1)
    expected = np.asarray(jax.nn.softmax(without_unknown(network(prime))))[0]
    found = np.bincount(made[:, 0], minlength=len(expected)) / draws
    assert np.abs(found - expected).max() < 0.025


def test_greedy_windows_equal_the_batch_forward_pass():
    model, params = token_model()
    prime = np.asarray(jax.random.randint(jax.random.key(1), (3, 8), 1, 12), np.int32)
    made = run(model, prime, params, length=20, temperature=0.0, max_repeats=99)
    for ids in np.concatenate([prime, made], axis=1):
        windows = np.stack([ids[i : i + 8] for i in range(20)])
        logits = without_unknown(model.bind(params)(windows))
        np.testing.assert_array_equal(logits.argmax(-1), ids[8:])


def test_a_causal_model_makes_the_music_that_its_steps_would():
    model, params = token_model(causal=True, bidirectional=False)
    prime = jax.random.randint(jax.random.key(1), (3, model.window), 1, 12)
    made = run(model, prime, params, length=20, temperature=0.0, max_repeats=99)
    read = jax.jit(lambda params, ids: model.bind(params).prefill(ids))
    step = jax.jit(lambda params, carry, ids: model.bind(params).step(carry, ids))
    carry = read(params, prime)
    for i in range(20):
        expected = without_unknown(carry.logits).argmax(-1)
        np.testing.assert_array_equal(made[:, i], expected)
        carry = step(params, carry, expected)


@pytest.mark.parametrize("primed", [0, 5])
def test_steps_of_notes_equal_the_teacher_forced_output(primed):
    config = load_config("tiny_best", "nsm")
    config.data.update(lowest=60, highest=66)
    model = model_of(config)
    params = model.init(0)
    prime = (np.random.default_rng(0).random((3, primed, 7, 2)) < 0.5).astype(np.uint8)
    prime[..., 1] &= prime[..., 0]
    made = run(
        model, prime, params, length=12, temperature=0.0, max_notes=99, max_silence=99, to_come=12
    )
    assert made.dtype == np.uint8
    heard = np.concatenate([np.zeros_like(made[:, :1]), prime, made], axis=1)
    positions = np.tile(np.arange(-1 - primed, 11), (3, 1))
    network = model.bind(params)
    logits = network.logits(network(heard[:, :-1], positions, heard[:, 1:]))[:, primed:]
    play = logits[..., 0] > 0
    assert 0.05 < play.mean() < 0.95  # or this test shows little
    np.testing.assert_array_equal(made[..., 0], play)
    np.testing.assert_array_equal(made[..., 1], play & (logits[..., 1] > 0))


def test_notes_at_once_and_silence_are_limited():
    config = load_config("tiny_best", "nsm")
    model = model_of(config)
    network = model.bind(model.init(0))
    silent = network.b_out[...].at[:, 0].set(-5.0)
    loud = network.b_out[...].at[:, 0].set(2.0)
    prime = np.zeros((2, 0, *model.encoding.shape), np.uint8)
    network.b_out[...] = loud
    made = run(model, prime, nnx.split(network)[1], length=20, max_notes=3)
    assert (made[..., 0].sum(-1) == 3).all()
    network.b_out[...] = silent
    made = run(model, prime, nnx.split(network)[1], length=100, max_silence=2, to_come=100)
    for piece in made:
        steps = "".join("note" if step.any() else "." for step in piece[..., 0])
        # Each of 78 notes has odds of about e^-5, and e times that with each step more.
        assert 0 < max(map(len, steps.split("note"))) <= 2 + 6
