import numpy as np
import pytest
from conftest import encoded, load_config

from musicjax.dataset import Windows, batches_per_epoch, ordered_batches, training_batches
from musicjax.errors import InputError


@pytest.fixture
def corpus(folder):
    data = load_config("tiny").data
    data.source = str(folder)
    return encoded(data)


def test_each_epoch_holds_every_window_once_in_another_order(corpus):
    windows = Windows(corpus, "train", 8, pad=False)
    per_epoch = batches_per_epoch(windows, 32)
    batches = training_batches(windows, batch_size=32, seed=1, epochs=2)
    rows = []
    for batch in batches:
        assert batch["tokens"].shape == (32, 9)
        assert batch["tokens"].dtype == np.int32
        rows.append(batch["tokens"][batch["present"] > 0])
    batches.close()
    assert len(rows) == 2 * per_epoch
    first, second = np.concatenate(rows[:per_epoch]), np.concatenate(rows[per_epoch:])
    everything = windows[np.arange(len(windows))]
    for epoch in (first, second):
        assert sorted(epoch.tolist()) == sorted(everything.tolist())
    assert first.tolist() != second.tolist()


def test_the_seed_decides_the_order(corpus):
    windows = Windows(corpus, "train", 8, pad=False)

    def first(seed):
        batches = training_batches(windows, batch_size=32, seed=seed, epochs=1)
        tokens = next(batches)["tokens"].tolist()
        batches.close()
        return tokens

    assert first(1) == first(1) != first(2)


def test_the_iterator_restores_its_place(corpus):
    windows = Windows(corpus, "train", 8, pad=True)

    def fresh():
        return training_batches(windows, batch_size=32, seed=1, epochs=3)

    one = fresh()
    for _ in range(batches_per_epoch(windows, 32) + 3):
        next(one)
    state = one.get_state()
    other = fresh()
    other.set_state(state)
    for _ in range(5):
        np.testing.assert_array_equal(next(one)["tokens"], next(other)["tokens"])
    one.close()
    other.close()


def test_a_stride_visits_all_windows_over_the_epochs(corpus):
    stride = 4
    windows = Windows(corpus, "train", 8, pad=True, stride=stride)
    batches = training_batches(windows, batch_size=16, seed=1, epochs=stride)
    rows = [batch["tokens"][batch["present"] > 0] for batch in batches]
    batches.close()
    seen = np.concatenate(rows)
    assert len(rows) == stride * batches_per_epoch(windows, 16)
    assert len(seen) == len(windows) // stride * stride
    everything = {tuple(row) for row in windows[np.arange(len(windows))].tolist()}
    assert len({tuple(row) for row in seen.tolist()}) >= 0.99 * len(everything)


def test_tokens_unseen_in_training_become_the_unknown(folder):
    data = load_config("tiny").data
    data.source, data.validation_share, data.test_share = str(folder), 0.7, 0.0
    corpus = encoded(data)
    windows = Windows(corpus, "validation", 4, pad=False)
    ids = windows[np.arange(len(windows))]
    assert ids.max() < corpus.vocabulary.size
    raw = np.concatenate([corpus.encoded(song)[4:] for song in corpus.split("validation")])
    assert ((raw >= corpus.vocabulary.size) == (ids[:, -1] == 0)).all()
    assert (ids[:, -1] == 0).any()  # or this test shows nothing


def test_ordered_batches_hold_every_window_once(corpus):
    windows = Windows(corpus, "test", 8, pad=False)
    batches = list(ordered_batches(windows, 7))
    rows = np.concatenate([batch["tokens"][batch["present"] > 0] for batch in batches])
    np.testing.assert_array_equal(rows, windows[np.arange(len(windows))])
    assert all(batch["tokens"].shape == (7, 9) for batch in batches)


def test_a_window_longer_than_every_song_is_one_clear_line(corpus):
    with pytest.raises(InputError, match=r"no window in the train split: its longest song has \d+"):
        Windows(corpus, "train", 500, pad=False)


def test_an_empty_split_is_one_clear_line(folder):
    data = load_config("tiny").data
    data.source, data.test_share = str(folder), 0.0
    corpus = encoded(data)
    with pytest.raises(InputError, match="the test split is empty: the corpus has 30 songs"):
        Windows(corpus, "test", 8, pad=False)
