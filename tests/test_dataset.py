import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import encoded, every_window, load_config, make_song, make_track

from musicjax import midi
from musicjax.dataset import (
    Segments,
    Windows,
    batches_per_epoch,
    ordered_batches,
    training_batches,
)
from musicjax.errors import InputError
from musicjax.train import train_and_evaluate


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
    everything = every_window(windows)
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
    everything = {tuple(row) for row in every_window(windows).tolist()}
    assert len({tuple(row) for row in seen.tolist()}) >= 0.99 * len(everything)


def test_tokens_unseen_in_training_become_the_unknown(folder):
    data = load_config("tiny").data
    data.source, data.validation_share, data.test_share = str(folder), 0.7, 0.0
    corpus = encoded(data)
    windows = Windows(corpus, "validation", 4, pad=False)
    ids = every_window(windows)
    assert ids.max() < corpus.vocabulary.size
    raw = np.concatenate([corpus.encoded(song)[4:] for song in corpus.split("validation")])
    assert ((raw >= corpus.vocabulary.size) == (ids[:, -1] == 0)).all()
    assert (ids[:, -1] == 0).any()  # or this test shows nothing


def test_ordered_batches_hold_every_window_once(corpus):
    windows = Windows(corpus, "test", 8, pad=False)
    batches = list(ordered_batches(windows, 7))
    rows = np.concatenate([batch["tokens"][batch["present"] > 0] for batch in batches])
    np.testing.assert_array_equal(rows, every_window(windows))
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


@pytest.mark.parametrize("pad", [False, True])
def test_windows_read_on_a_device_are_those_from_the_file(corpus, pad):
    windows = Windows(corpus, "train", 8, pad=pad)
    same_batches(windows)


@pytest.mark.parametrize("transpose_range", [(0, 0), (-5, 6)])
@pytest.mark.parametrize("quarters", [(4, 9, 20), (2, 3)])
def test_segments_read_on_a_device_are_those_from_the_file(tmp_path, transpose_range, quarters):
    """Of songs longer and shorter than a segment, from their first step and later ones."""
    for i, length in enumerate(quarters):
        notes = [(t * 480, 480, 40 + (t * (i + 3)) % 40) for t in range(length)]
        midi.write_song(make_song(make_track(notes)), tmp_path / f"{i}.mid")
    config = load_config("tiny", "nsm")
    config.data.update(source=str(tmp_path), transpose=False, test_share=0.0, least_notes=1)
    config.train.update(window=16, starts="bars", transpose_range=transpose_range)
    corpus = encoded(config.data)
    same_batches(Segments(corpus, "train", config.train, training=True))


def same_batches(source):
    """Padded ones too, read from the file by numpy, and inside a compiled function by jax."""
    data, compiled = jnp.asarray(source.data), jax.jit(source.read)
    streamed, unread = (
        training_batches(source, batch_size=7, seed=3, epochs=2, unread=unread)
        for unread in (False, True)
    )
    for batch, places in zip(streamed, unread, strict=True):
        assert batch.keys() != places.keys()
        there = compiled(data, places)
        assert there.keys() == batch.keys()
        for name, array in batch.items():
            assert there[name].dtype == array.dtype
            np.testing.assert_array_equal(there[name], array)
    streamed.close()
    unread.close()
    for batch, places in zip(
        ordered_batches(source, 7), ordered_batches(source, 7, unread=True), strict=True
    ):
        jax.tree.map(np.testing.assert_array_equal, compiled(data, places), batch)


@pytest.mark.parametrize(("config", "variant"), [("vocab", "tiny"), ("nsm", "tiny_best")])
def test_songs_on_the_devices_train_the_same(config, variant, folder, tmp_path):
    config = load_config(variant, config)
    config.data.source = str(folder)
    lines = {}
    for megabytes in (0.0, 256.0):
        config.train.resident_megabytes = megabytes
        lines[megabytes] = train_and_evaluate(config, tmp_path / str(megabytes))
    for name, value in lines[0.0].items():
        if "second" not in name:
            assert lines[256.0][name] == pytest.approx(value, rel=1e-6), name
    # What began in one way goes on in the other.
    config.train.update(epochs=config.train.epochs + 1, resident_megabytes=0.0)
    assert train_and_evaluate(config, tmp_path / "256.0")["epoch"] == config.train.epochs
