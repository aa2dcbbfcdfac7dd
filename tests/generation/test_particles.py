"""Filling in, beside what can be counted out."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import load_config, model_of

from musicjax.encodings.note_states import NoteStateEncoding
from musicjax.generation import particles
from musicjax.generation.options import Options, rules_for
from musicjax.generation.particles import Gap, fill

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick

N, T, FREE = 2, 4, 1  # notes, steps, the step that is not given
ENCODING = NoteStateEncoding(lowest=60, highest=60 + N - 1, articulate=True)
SETTINGS = Options(temperature=1.0).sampling_settings(ENCODING)
WAYS = np.array([[0, 0], [1, 0], [1, 1]], np.uint8)


@pytest.fixture(scope="module")
def model():
    return model_of(load_config("tiny_best", "nsm"), ENCODING)


@pytest.fixture(scope="module")
def params(model):
    """Large enough for one step to say much about the next."""
    return jax.tree.map(lambda p: 8 * p, model.init(5))


@pytest.fixture(scope="module")
def gap(model):
    elements = WAYS[np.array([[2, 0], [0, 0], [2, 1], [0, 2]])]
    allowed = model.encoding.only(elements)
    allowed[FREE] = True
    return Gap(elements, allowed, np.arange(T + 1, dtype=np.int32), FREE, FREE + 1)


@pytest.fixture(scope="module")
def shares(model, params, gap):
    """[9], the true probability of each way to fill the step, given all else; and from the past
    alone.
    """
    ways = list(itertools.product(range(3), repeat=N))
    songs = np.repeat(gap.elements[None], len(ways), 0)
    songs[:, FREE] = WAYS[np.array(ways)]
    batch = {
        "elements": np.pad(songs, [(0, 0), (1, 0), (0, 0), (0, 0)]),
        "positions": np.tile(gap.positions, (len(ways), 1)),
    }
    nll = jax.jit(lambda params: model.apply(params, batch).nll.sum(-1))(params)
    return [np.asarray(jax.nn.softmax(-of)) for of in (nll.sum(1), nll[:, FREE])]


def drawn(model, params, gap, count=100, **options):
    """[9], how often `fill` fills the step in each way."""
    options = {"particles": 1, "sweeps": 0, "voices": None} | options
    found = np.zeros(9)
    for seed in range(count):
        rules = rules_for("matrix")
        elements = fill(model, params, gap, jax.random.key(seed), SETTINGS, rules=rules, **options)
        np.testing.assert_array_equal(
            np.delete(elements, FREE, 0), np.delete(gap.elements, FREE, 0)
        )
        low, high = elements[FREE].sum(-1)
        found[3 * low + high] += 1 / count
    return found


def apart(one, other):
    return 0.5 * np.abs(one - other).sum()


def test_drafts_know_what_comes_later(model, params, gap, shares):
    given_all, given_past = shares
    assert apart(given_all, given_past) > 0.25  # or this test shows nothing
    assert apart(drawn(model, params, gap), given_past) < 0.17
    assert apart(drawn(model, params, gap, particles=128), given_all) < 0.17


def test_going_over_it_again_leaves_the_distribution_as_it_is(model, params, gap, shares):
    # Two drafts are far too few for the filter alone: it is the sweeps that get there.
    filtered = drawn(model, params, gap, particles=2)
    swept = drawn(model, params, gap, particles=2, sweeps=8)
    assert apart(filtered, shares[0]) > 0.2
    assert apart(swept, shares[0]) < 0.17


def test_a_number_of_voices_is_aimed_at(model, params, gap, monkeypatch):
    monkeypatch.setattr(particles, "_VOICE_COST", 30.0)
    none_or_both = drawn(model, params, gap, 10, particles=128, voices=1)[[0, 4, 5, 7, 8]]
    np.testing.assert_array_equal(none_or_both, 0)


def test_blocks_cover_the_gap_and_get_smaller(gap):
    wide = gap._replace(start=3, stop=150)
    for number in range(5):
        blocks = list(particles._blocks(wide, number))
        assert (blocks[0][0], blocks[-1][1]) == (3, 150)
        assert all(one[1] == other[0] for one, other in itertools.pairwise(blocks))
        assert max(b - a for a, b in blocks) == particles.BLOCKS[min(number, 3)]
    assert list(particles._blocks(gap, 0)) == [(FREE, FREE + 1)]


def test_changed_notes_are_noticed(model, params, gap):
    broken = type("Broken", (type(model),), {"constrained_step": _upside_down})
    broken = broken(model.encoding, model.settings, model.window, model.dropout)
    with pytest.raises(RuntimeError, match="notes that were given came out changed"):
        fill(
            broken, params, gap._replace(stop=T), jax.random.key(0), SETTINGS,
            rules=(), particles=1, sweeps=0, voices=None,
        )  # fmt: skip


def _upside_down(self, params, carry, keys, position, rules, allowed, path, follow):
    element = jnp.zeros_like(carry.last, jnp.uint8)
    return carry, element, jnp.zeros(len(keys)), jnp.zeros(len(keys))
