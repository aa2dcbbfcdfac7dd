from types import SimpleNamespace

import numpy as np
import pytest
from conftest import encoded, load_config, model_of, settings
from numpy.testing import assert_allclose, assert_array_equal

from musicjax.evaluation import baselines, ngram
from musicjax.evaluation.baselines import BASELINES
from musicjax.evaluation.scores import score


def token_model(**settings):
    """Of conftest.VOCABULARY: ids 1 to 11, which came 12, 11, ... 2 times."""
    config = load_config("tiny")
    config.model.update(window=2, **settings)
    return model_of(config)


COUNTS = np.array([0, *range(12, 1, -1)])
SHARES = COUNTS / COUNTS.sum()
#                        known, again, unknown before, unknown target
IDS = np.array([[1, 2, 3], [1, 2, 2], [4, 0, 5], [3, 7, 0]], np.int32)
TOKENS = {"elements": IDS, "present": np.array([1, 1, 1, 1], np.float32)}


def fitted(name, model, **statistics):
    """A baseline that needs no more of a corpus than its statistics."""
    return BASELINES[name].fit(SimpleNamespace(manifest={"statistics": statistics}), model)


def metrics(name, model, batch, **statistics):
    return score(model, [batch], fitted(name, model, **statistics))


def test_the_unigram_has_the_training_songs_frequencies():
    model = token_model(class_weights=0.0)
    found = metrics("unigram", model, TOKENS)
    assert (found["tokens"], found["unseen"]) == (3, 1)
    assert found["nll"] == pytest.approx(-np.log(SHARES[[3, 2, 5]]).mean())
    assert found["accuracy"] == 0  # it expects id 1
    assert found["loss"] == pytest.approx(found["nll"])


def test_repeating_the_last_id():
    model = token_model(class_weights=0.0)
    prediction = fitted("repeat last", model, repeat_share=0.25)(TOKENS)
    assert_array_equal(prediction.guess, [2, 2, 1, 7])  # none follows an unknown: the unigram's
    expected = [0.75 * SHARES[3], 0.75 * SHARES[2] + 0.25, SHARES[5]]
    assert_allclose(prediction.nll[:3], -np.log(expected))
    found = metrics("repeat last", model, TOKENS, repeat_share=0.25)
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["nll"] == pytest.approx(-np.log(expected).mean())


def test_the_weighted_unigram_is_the_best_for_a_loss_that_weighs_ids():
    model = token_model(class_weights=1.0)
    as_often = np.repeat(np.arange(12), COUNTS)  # as in the training songs
    batch = {"elements": np.stack([as_often] * 3, axis=1), "present": np.ones(len(as_often))}
    weighted, plain = (metrics(name, model, batch) for name in ("weighted unigram", "unigram"))
    # With weights inverse to frequency it is uniform over the types.
    assert weighted["loss"] == pytest.approx(np.log(11))
    assert weighted["loss"] < plain["loss"]
    assert weighted["nll"] > plain["nll"]


def test_the_weighted_unigram_is_left_out_where_no_id_weighs_more():
    model = token_model(class_weights=0.0)
    assert fitted("weighted unigram", model) is None


# --- of models that predict every id of a window --------------------------------------------------


def every_id_model():
    config = load_config("tiny_causal")
    config.model.window = 2
    return model_of(config)


# The first window begins before its song, the third ends after it.
WINDOWS = {
    "elements": np.array([[0, 0, 3], [1, 2, 2], [4, 5, 0]], np.int32),
    "before": np.array([1, 0, 0], np.int32),
    "length": np.array([2, 2, 1], np.int32),
    "positions": np.zeros((3, 3), np.int32),
    "present": np.ones(3, np.float32),
}


def test_baselines_predict_what_the_model_predicts():
    model = every_id_model()
    found = metrics("unigram", model, WINDOWS)
    assert (found["tokens"], found["unseen"]) == (4, 0)
    assert found["nll"] == pytest.approx(-np.log(SHARES[[3, 2, 2, 5]]).mean())
    found = metrics("repeat last", model, WINDOWS, repeat_share=0.25)
    expected = [SHARES[3], 0.75 * SHARES[2], 0.75 * SHARES[2] + 0.25, 0.75 * SHARES[5]]
    assert found["nll"] == pytest.approx(-np.log(expected).mean())
    assert found["accuracy"] == 0.25


@pytest.fixture(scope="module")
def corpus(folder):
    return encoded(settings(folder))


@pytest.mark.parametrize("variant", ["tiny", "tiny_causal"])
def test_kneser_ney_counts_the_training_songs_and_reads_the_whole_window(corpus, variant):
    config = load_config(variant)
    config.model.update(window=7)
    model = model_of(config, corpus.encoding)
    predict = BASELINES["Kneser-Ney"].fit(corpus, model)
    songs, validation = (
        [corpus.encoding.unpack(np.asarray(corpus.rows(song))) for song in corpus.split(split)]
        for split in ("train", "validation")
    )
    counted = ngram.fit_best_order(songs, validation, corpus.encoding.size)
    ids = songs[0][:24].reshape(3, 8)
    nll = predict({"elements": ids}).nll
    window = np.pad(ids[1], (counted.order, 0))
    expected = [
        -np.log(counted.probability(window[None, i + 1 : i + 1 + counted.order])[0])
        for i in range(8)
    ]
    assert_allclose(nll[1], expected[1:] if model.every_element else expected[-1])
    assert nll.shape == ((3, 7) if model.every_element else (3,))


def test_kneser_ney_gives_no_probability_to_what_training_never_saw(corpus):
    model = model_of(load_config("tiny_causal"), corpus.encoding)
    prediction = BASELINES["Kneser-Ney"].fit(corpus, model)({"elements": np.array([[1, 0, 2]])})
    assert prediction.nll[0, 0] == 0
    assert prediction.nll[0, 1] > 0  # after an unknown id it is predicted all the same


def plain_matches(ids):
    """How many ids up to each stand somewhere before, and what came next there, the last time."""
    found = []
    for t in range(len(ids)):
        best, copy = 0, 0
        for s in range(t):
            same = 0
            while same <= s and ids[s - same] == ids[t - same] > 0:
                same += 1
            if min(same, 32) >= max(best, 1):
                best, copy = min(same, 32), ids[s + 1]
        found.append((best, copy))
    return np.array(found).T


def test_matches_equal_plain_loops():
    ids = np.random.default_rng(0).integers(0, 4, (3, 60), dtype=np.int32)
    ids[0, 20:60] = np.tile(ids[0, :20], 2)  # longer than 32
    lengths, copies = baselines._matches(ids)
    for row, length, copy in zip(ids, lengths, copies, strict=True):
        assert_array_equal([length, copy], plain_matches(row))


def test_the_longest_match_knows_what_the_song_has_said(corpus):
    model = model_of(load_config("tiny_causal"), corpus.encoding)
    n_grams, match = (
        BASELINES[name].fit(corpus, model) for name in ("Kneser-Ney", "longest match")
    )
    rng = np.random.default_rng(1)
    ids = rng.integers(1, corpus.encoding.size, (1, 30), dtype=np.int32)
    batch = {"elements": np.concatenate([ids, ids], axis=1)}
    gain = (n_grams(batch).nll - match(batch).nll)[0]
    assert gain[32:].mean() > 1  # what comes again
    assert gain[:29].mean() > -0.5  # what does not
    # All that may come next shares one.
    every = np.arange(1, corpus.encoding.size, dtype=np.int32)[:, None]
    p = np.exp(-match({"elements": np.hstack([np.repeat(ids[:, :5], len(every), 0), every])}).nll)
    assert p[:, -1].sum() == pytest.approx(1, abs=1e-6)


# --- of matrices ----------------------------------------------------------------------------------


def state_model(**settings):
    config = load_config("tiny_best", "nsm")
    config.model.update(window=2, **settings)
    config.data.update(lowest=60, highest=61)
    return model_of(config)


def states_batch():
    states = np.zeros((1, 3, 2, 2), np.uint8)
    states[0, 1:, 0] = [[1, 1], [1, 0]]  # struck, then held; the other note is silent
    return {
        "elements": states,
        "positions": np.zeros((1, 3), np.int32),
        "before": np.zeros(1, np.int32),
        "length": np.array([2], np.int32),
        "present": np.ones(1, np.float32),
    }


# After silence 90 are silent, 2 held, 8 struck; after a note 20, 20 and 10.
TRANSITIONS = [90, 0, 2, 8, 20, 0, 20, 10]


def test_silence_has_the_training_songs_probabilities():
    found = metrics("all silent", state_model(), states_batch(), transitions=TRANSITIONS)
    play, struck = 42 / 154, 19 / 42  # half a cell added to each count
    expected = -np.log([play * struck, 1 - play, play * (1 - struck), 1 - play]).sum()
    assert found["nll"] * 2 == pytest.approx(expected)
    assert found["loss"] == pytest.approx(found["nll"])
    assert found["sse"] == 3  # the bits that are set
    assert found["play_f1"] == 0


def test_repeating_the_last_step_has_the_training_songs_probabilities():
    found = metrics("repeat last step", state_model(), states_batch(), transitions=TRANSITIONS)
    # Play, and struck given play: after silence, after a note.
    (silent, first), (held, again) = [[11 / 102, 8.5 / 11], [31 / 52, 10.5 / 31]]
    expected = [silent * first, 1 - silent, held * (1 - again), 1 - silent]
    assert found["nll"] * 2 == pytest.approx(-np.log(expected).sum())
    assert found["sse"] == 3  # struck out of silence: two bits; held, not struck again: one
    assert found["play_precision"] == 1
    assert found["play_recall"] == 0.5


def test_a_model_of_squares_gets_no_likelihood():
    model = state_model(loss="sse")
    found = metrics("repeat last step", model, states_batch(), transitions=TRANSITIONS)
    assert "nll" not in found
    assert found["loss"] == found["sse"] == 3


def test_padded_steps_and_absent_rows_do_not_count():
    batch = states_batch()
    batch = {name: np.concatenate([array, array]) for name, array in batch.items()}
    batch["present"][1], batch["length"][0] = 0, 1
    found = metrics("all silent", state_model(), batch, transitions=TRANSITIONS)
    assert (found["steps"], found["sse"]) == (1, 2)
    batch["length"][0], batch["before"][0] = 2, 1
    found = metrics("all silent", state_model(), batch, transitions=TRANSITIONS)
    assert (found["steps"], found["sse"]) == (1, 1)
