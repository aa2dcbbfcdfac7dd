import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from musicjax.models import pointer
from musicjax.models.pointer import Pointer

SIZE, IDS, UNITS = 6, 7, 12
PITCHES = [-1, 60, 62, -1, 64, 61, -1]  # of each id; 63 is none's


def untrained(moved=False):
    return Pointer(SIZE, UNITS, PITCHES, moved, rngs=nnx.Rngs(params=0))


def build(moved, seed=0):
    """A pointer whose every parameter matters."""
    made = untrained(moved)
    graph, params = nnx.split(made)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    drawn = [jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return nnx.merge(graph, jax.tree.unflatten(tree, drawn))


def music(rows=3, count=20, seed=0):
    """h, ids [B, T + 1], times and logits of random music with few ids, so that much recurs."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, IDS, (rows, count + 1), dtype=np.int32)
    times = np.cumsum(rng.choice([6, 12], (rows, count)), axis=1).astype(np.int32)
    h, logits = rng.normal(size=(rows, count, SIZE)), rng.normal(size=(rows, count, IDS))
    return h.astype(np.float32), ids, times, logits.astype(np.float32)


def plain(made, h, ids, times, logits, reach):
    """p [T, V] of one row, by loops over the equations."""
    rows, matches, moved_matches = [], {}, {}
    lasts, steps = [], []
    for i in ids.tolist():
        before = lasts[-1] if lasts else 60
        steps.append(("step", PITCHES[i] - before) if PITCHES[i] >= 0 else i)
        lasts.append(PITCHES[i] if PITCHES[i] >= 0 else before)
    for t in range(len(h)):
        query = h[t] @ made.w_query[...] / 8
        scores = []
        for s in range(max(t - reach, 0), t):
            n = matches.get((t - 1, s - 1), 0)
            n = matches[t, s] = n + 1 if ids[t] == ids[s] > 0 else n // 2
            like = moved_matches.get((t - 1, s - 1), 0)
            same = steps[t] == steps[s] != 0
            like = moved_matches[t, s] = like + 1 if same else like // 2
            if ids[s + 1] == 0:
                continue
            quarters, rest = divmod(int(times[t] - times[s]), UNITS)
            distance = made.distance[65] if rest else made.distance[min(quarters, 64)]
            score = query @ (h[s] @ made.w_key[...]) + distance
            scores.append((float(score + made.matched[min(n, 16)]), ids[s + 1]))
            by, copied = lasts[t] - lasts[s], ids[s + 1]
            if made.moved is None or by == 0:
                continue
            if PITCHES[copied] >= 0:
                if PITCHES[copied] + by not in PITCHES:
                    continue
                copied = PITCHES.index(PITCHES[copied] + by)
            scores.append((float(score + made.moved[min(like, 16)]), copied))
        scores.append((float(query @ made.sentinel[...] + made.bias[...]), None))
        shares = np.asarray(jax.nn.softmax(jnp.array([score for score, _ in scores])))
        p = shares[-1] * np.asarray(jax.nn.softmax(logits[t]))
        for share, (_, copied) in zip(shares[:-1], scores[:-1], strict=True):
            p[copied] += share
        rows.append(p)
    return np.array(rows)


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("block", [5, 512])
@pytest.mark.parametrize("reach", [3, 50])
def test_equals_plain_loops(reach, block, moved, monkeypatch):
    monkeypatch.setattr(pointer, "_BLOCK", block)
    made = build(moved)
    h, ids, times, logits = music()
    guess, nll = made(*map(jnp.asarray, (logits, h, ids, times)), reach)
    expected = np.stack([plain(made, h[b], ids[b], times[b], logits[b], reach) for b in range(3)])
    wanted = np.take_along_axis(expected, ids[:, 1:, None], axis=-1)[..., 0]
    np.testing.assert_allclose(nll, -np.log(wanted), atol=1e-4)
    np.testing.assert_array_equal(guess, expected.argmax(-1))
    # Here the pointer decides: alone, the network would guess otherwise.
    assert (guess != logits.argmax(-1)).mean() > 0.2


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("primed", [0, 1, 7, 20])
@pytest.mark.parametrize("reach", [1, 3, 6, 50])
def test_the_memory_of_one_id_after_another_equals_plain_loops(reach, primed, moved):
    made = build(moved)
    h, ids, times, logits = music()
    ids[:, 0] = 0  # as before a song
    expected = np.stack([plain(made, h[b], ids[b], times[b], logits[b], reach) for b in range(3)])
    h, ids, times, logits = map(jnp.asarray, (h, ids, times, logits))
    memory = made.remember(h[:, :primed], ids[:, : primed + 1], times[:, :primed], reach)
    for t in range(primed, h.shape[1]):
        memory, shares = made.recall(memory, h[:, t], ids[:, t], times[:, t])
        log_p = pointer.mix(logits[:, t : t + 1], shares)[:, 0]
        np.testing.assert_allclose(jnp.exp(log_p), expected[:, t], atol=2e-6)
        np.testing.assert_allclose(jnp.exp(log_p).sum(-1), 1, atol=1e-5)
        memory = made.write(memory, h[:, t], ids[:, t + 1], times[:, t])


def test_what_was_said_is_found_again():
    """After A B C D E F ... A B C D E, an untrained pointer copies the F."""
    made = untrained()
    ids = jnp.array([[1, 2, 3, 2, 4, 5, 2, 1, 2, 3, 2, 4, 5]])
    h, times = jnp.zeros((1, 12, SIZE)), jnp.arange(12)[None] * UNITS
    guess, _ = made(jnp.zeros((1, 12, IDS)), h, ids, times, 20)
    assert guess[0, 11] == 5


def test_one_other_id_does_not_end_a_match():
    """Eight ids, F, G, H ... the same eight, X, G: the H comes, and not what followed G since."""
    made = untrained()
    eight, f, g, h, x = [1, 3, 1, 4, 1, 3, 1, 5], 4, 2, 6, 5
    ids = jnp.array([[*eight, f, g, h, g, 5, *eight, x, g, h]])
    count = ids.shape[1] - 1
    zeros, times = jnp.zeros((1, count, SIZE)), jnp.arange(count)[None] * UNITS
    guess, _ = made(jnp.zeros((1, count, IDS)), zeros, ids, times, 30)
    assert guess[0, -1] == h


def test_what_was_said_is_found_again_at_another_pitch():
    """60 - - 60 - - ... 61, and 61 - - 61 - - ...: an untrained pointer says 62."""
    made, rests = untrained(moved=True), ([3, 6], [3, 3], [6, 6], [6, 3], [3, 6, 3])
    tune = [[pitch, *rest] for pitch in (1, 5) for rest in rests]
    ids = jnp.array([[0, *itertools.chain(*tune), 2]])
    count = ids.shape[1] - 1
    zeros, times = jnp.zeros((1, count, SIZE)), jnp.arange(count)[None] * UNITS
    guess, _ = made(jnp.zeros((1, count, IDS)), zeros, ids, times, 30)
    assert guess[0, -1] == 2
