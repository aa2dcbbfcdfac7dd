import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from musicjax.encodings.tokens import TokenEncoding
from musicjax.encodings.vocabulary import Token, Vocabulary
from musicjax.generation import sampling
from musicjax.generation.options import Options, rules_for
from musicjax.generation.sampling import History

pytestmark = pytest.mark.usefixtures("_strict")

SHARES = np.array([0.1, 0.4, 0.2, 0.15, 0.1, 0.05])
LOGITS = jnp.log(jnp.array([SHARES]))
VOCABULARY = Vocabulary.build({Token((40, 60 + i)[-1 - i % 2 :], 12): 5 - i for i in range(5)})
TOKENS = TokenEncoding(longest_rest=4, longest_note=16, instruments=False, vocabulary=VOCABULARY)


def history(*, last=9, repeats=1, rests=0, num_notes=0):
    last, repeats, rests, num_notes = (
        jnp.array([x], jnp.int32) for x in (last, repeats, rests, num_notes)
    )
    return History(last, repeats, rests, jnp.zeros(1, jnp.int32), num_notes)


def probabilities(**options):
    """Of ids, by all rules in their order."""
    settings = Options(**{"temperature": 1.0} | options).sampling_settings(TOKENS)
    logits = LOGITS
    for rule in rules_for("ids"):
        logits = rule(logits, history(), settings, TOKENS)
    return np.array(jax.nn.softmax(logits))[0]


def test_at_a_temperature_of_1_the_models_own_probabilities():
    assert_allclose(probabilities(), SHARES, rtol=1e-5)


def test_min_p():
    # The likeliest has 0.4.
    expected = np.array([0, 0.4, 0.2, 0.15, 0, 0]) / 0.75
    assert_allclose(probabilities(min_p=0.35), expected, atol=1e-6)
    assert_allclose(probabilities(min_p=1.0), [0, 1, 0, 0, 0, 0], atol=1e-6)
    assert_allclose(probabilities(min_p=0.0), SHARES, rtol=1e-5)
    # It is applied to what the temperature makes of them: to their squares.
    squares = np.array([0, 0.4, 0.2, 0, 0, 0]) ** 2
    cold = probabilities(min_p=0.2, temperature=0.5)
    assert_allclose(cold, squares / squares.sum(), atol=1e-6)


def test_top_k():
    expected = np.array([0, 0.4, 0.2, 0.15, 0, 0]) / 0.75
    assert_allclose(probabilities(top_k=3), expected, atol=1e-6)
    assert_allclose(probabilities(mode="best_of_three"), expected, atol=1e-6)
    assert_allclose(probabilities(top_k=1), [0, 1, 0, 0, 0, 0], atol=1e-6)
    assert_allclose(probabilities(top_k=99), SHARES, rtol=1e-5)


def test_top_p():
    expected = np.array([0, 0.4, 0.2, 0, 0, 0]) / 0.6
    assert_allclose(probabilities(top_p=0.5), expected, atol=1e-6)
    assert_allclose(probabilities(top_p=1e-6), [0, 1, 0, 0, 0, 0], atol=1e-6)
    # Of the three that top_k leaves, the first two have more than 0.75 of the probability.
    assert_allclose(probabilities(top_k=3, top_p=0.75), expected, atol=1e-6)


def test_temperature():
    squared = SHARES**2
    assert_allclose(probabilities(temperature=0.5), squared / squared.sum(), rtol=1e-4)
    assert_allclose(probabilities(temperature=0.0), [0, 1, 0, 0, 0, 0], atol=1e-6)


def test_greedy_leaves_one_of_two_that_are_as_likely():
    logits = jnp.array([[0.0, 2.0, 2.0]])
    greedy = sampling.greedy(logits, history(), {"temperature": 0.0}, TOKENS)
    assert_array_equal(jax.nn.softmax(greedy), [[0, 1, 0]])
    assert_array_equal(sampling.greedy(logits, history(), {"temperature": 1.0}, TOKENS), logits)


@pytest.mark.parametrize(("repeats", "allowed"), [(2, True), (3, False), (4, False)])
def test_an_id_cannot_come_more_often_in_a_row(repeats, allowed):
    now = history(last=2, repeats=repeats)
    logits = sampling.limit_repeats(LOGITS, now, {"max_repeats": 3}, TOKENS)
    assert (np.array(logits)[0] == np.array(LOGITS)[0]).tolist() == [True] * 2 + [allowed] + [
        True
    ] * 3


@pytest.mark.parametrize(("rests", "allowed"), [(0, True), (1, True), (2, False)])
def test_after_some_rests_a_note_must_come(rests, allowed):
    vocabulary = Vocabulary.build([Token((), 3), Token((60,), 3), Token((), 6), Token((62,), 6)])
    encoding = TokenEncoding(
        longest_rest=4, longest_note=16, instruments=False, vocabulary=vocabulary
    )
    logits = jnp.zeros((1, vocabulary.size))
    limited = sampling.limit_rests(logits, history(rests=rests), {"max_rests": 2}, encoding)
    for token, logit in zip(vocabulary.tokens, np.array(limited)[0], strict=True):
        assert (logit == 0) == (allowed or bool(token.pitches))


def test_after_much_silence_notes_get_likelier_with_each_step():
    bits = jnp.array([[-3.0, 0.5]])
    for rests, more in ((0, 0), (16, 0), (17, 1), (20, 4)):
        logits = sampling.limit_silence(bits, history(rests=rests), {"max_silence": 16}, TOKENS)
        assert_array_equal(logits, [[-3.0 + more, 0.5]])


def test_no_more_notes_at_once_than_allowed():
    bits = jnp.array([[3.0, 0.5]])
    for notes, allowed in ((0, True), (11, True), (12, False), (13, False)):
        now = history(num_notes=notes)
        logits = sampling.limit_notes(bits, now, {"max_notes": 12}, TOKENS)
        assert (logits[0, 0] == 3) == allowed
        assert logits[0, 1] == 0.5
    assert jax.nn.sigmoid(logits[0, 0]) == 0


def test_no_chord_of_more_notes_than_allowed():
    assert [len(token.pitches) for token in VOCABULARY.tokens] == [0, 1, 2, 1, 2, 1]
    kept = SHARES * [1, 1, 0, 1, 0, 1]
    assert_allclose(probabilities(max_notes=1), kept / kept.sum(), atol=1e-6)
