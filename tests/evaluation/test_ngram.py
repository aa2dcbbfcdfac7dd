from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from musicjax.evaluation.ngram import DISCOUNT, ORDERS, fit, fit_best_order, windows

SIZE = 6  # ids 1 to 5 can come

songs = st.lists(
    st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=30).map(np.array),
    min_size=1,
    max_size=4,
)


class Plain:
    """Interpolated Kneser-Ney by dictionaries of tuples."""

    def __init__(self, songs, size, order):
        self.size, self.order = size, order
        grams = Counter()
        for song in songs:
            padded = [0] * (order - 1) + [int(i) for i in song]
            for i in range(len(song)):
                if padded[i + order - 1]:
                    grams[tuple(padded[i : i + order])] += 1
        self.levels = {}
        for k in range(order, 0, -1):
            followers = defaultdict(dict)
            for gram, count in grams.items():
                followers[gram[:-1]][gram[-1]] = count
            self.levels[k] = followers
            grams = Counter(gram[1:] for gram in grams)  # each once: how many come before it

    def probability(self, gram, k=None):
        k = self.order if k is None else k
        if k == 0:
            return 1 / (self.size - 1)
        *context, last = gram[len(gram) - k :]
        lower = self.probability(gram, k - 1)
        followers = self.levels[k].get(tuple(context))
        if not followers:
            return lower
        total = sum(followers.values())
        own = max(followers.get(last, 0) - 0.85, 0)
        return own / total + 0.85 * len(followers) / total * lower


def test_an_example_by_hand():
    # Twice "1 2", once "1 3", once "3 1"; 0 stands before the song: "0 1".
    model = fit([np.array([1, 2]), np.array([1, 2]), np.array([1, 3, 1])], size=4, order=2)
    assert DISCOUNT == 0.85
    # Continuation counts: 1 comes after 0 and 3; 2 after 1; 3 after 1. Four in all, three types.
    unigram = {
        1: (2 - 0.85) / 4 + 0.85 * 3 / 4 / 3,
        2: (1 - 0.85) / 4 + 0.85 * 3 / 4 / 3,
        3: (1 - 0.85) / 4 + 0.85 * 3 / 4 / 3,
    }
    assert sum(unigram.values()) == pytest.approx(1)
    # After 1 came 2 twice and 3 once: three in all, two types.
    after_1 = {
        1: 0.85 * 2 / 3 * unigram[1],
        2: (2 - 0.85) / 3 + 0.85 * 2 / 3 * unigram[2],
        3: (1 - 0.85) / 3 + 0.85 * 2 / 3 * unigram[3],
    }
    grams = np.array([[1, 1], [1, 2], [1, 3]])
    assert_allclose(model.probability(grams), list(after_1.values()))
    # Nothing came after 2: all is left to the unigram.
    assert_allclose(model.probability(np.array([[2, 1], [2, 2]])), [unigram[1], unigram[2]])
    # Each song begins with 1.
    assert model.probability(np.array([[0, 1]])) == pytest.approx(
        (3 - 0.85) / 3 + 0.85 / 3 * unigram[1]
    )


@given(songs, st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_probabilities_of_all_ids_sum_to_one_after_any_context(songs, order, seed):
    model = fit(songs, SIZE, order)
    contexts = np.random.default_rng(seed).integers(0, SIZE, (20, order - 1))
    total = sum(
        model.probability(np.column_stack([contexts, np.full(20, i)])) for i in range(1, SIZE)
    )
    assert_allclose(total, 1, rtol=1e-12)


@given(songs, st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_it_equals_a_plain_implementation_by_dictionaries(songs, order, seed):
    model, plain = fit(songs, SIZE, order), Plain(songs, SIZE, order)
    grams = np.random.default_rng(seed).integers(0, SIZE, (30, order))
    grams = np.concatenate([grams, *(windows(song, order) for song in songs)])
    grams = grams[grams[:, -1] > 0]
    expected = [plain.probability(tuple(gram)) for gram in grams.tolist()]
    assert_allclose(model.probability(grams), expected, rtol=1e-12)


def test_large_ids_of_a_long_song_are_not_taken_for_each_other():
    rng = np.random.default_rng(0)
    song = rng.zipf(1.3, 20_000) % 5000 + 1
    model, plain = fit([song], 5001, 3), Plain([song], 5001, 3)
    grams = windows(song, 3)[:2000]
    expected = [plain.probability(tuple(gram)) for gram in grams.tolist()]
    assert_allclose(model.probability(grams), expected, rtol=1e-12)


def test_only_the_last_ids_of_a_longer_gram_count():
    model = fit([np.array([1, 2, 3, 1, 2, 4])], SIZE, 2)
    long = np.array([[5, 5, 1, 2], [3, 4, 1, 2]])
    assert_allclose(model.probability(long), model.probability(long[:, -2:]))


def test_the_order_is_chosen_by_the_validation_songs():
    rng = np.random.default_rng(1)
    noise = [rng.integers(1, SIZE, 400) for _ in range(3)]
    assert fit_best_order(noise[:2], noise[2:], SIZE).order == 1
    # The next id is that before the last: a pair of ids tells, one does not.
    song = np.array([1, 2])
    for _ in range(400):
        pick = rng.integers(1, SIZE)
        song = np.append(song, [pick, song[-2] % (SIZE - 1) + 1])
    pairs = fit_best_order([song], [song[:200]], SIZE)
    held_out = windows(song[:200], ORDERS[-1])
    nll = {k: -np.log(fit([song], SIZE, k).probability(held_out)).mean() for k in ORDERS}
    assert pairs.order == min(nll, key=nll.__getitem__) > 1


def test_without_validation_songs_the_highest_order_is_taken():
    assert fit_best_order([np.array([1, 2, 3])], [], SIZE).order == ORDERS[-1]
    unknown = [np.zeros(5, np.int64)]
    assert fit_best_order([np.array([1, 2, 3])], unknown, SIZE).order == ORDERS[-1]


def test_without_training_songs_it_is_uniform():
    assert_allclose(fit([], SIZE, 3).probability(np.array([[0, 1, 2]])), 1 / (SIZE - 1))


def test_windows_begin_before_the_song():
    assert windows(np.array([4, 5]), 3).tolist() == [[0, 0, 4], [0, 4, 5]]
