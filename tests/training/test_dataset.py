import collections
import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import encoded, gather, make_song, make_track, settings
from runs import config_of, examples_of, write_songs_of

from musicjax.config import settings_of
from musicjax.encodings.base import Encoding
from musicjax.encodings.tokens import TokenEncoding
from musicjax.errors import InputError
from musicjax.models.token_lstm import TokenLSTM
from musicjax.music import midi
from musicjax.music.song import Meter
from musicjax.training import dataset
from musicjax.training.dataset import (
    Examples,
    batches_per_epoch,
    ordered_batches,
    training_batches,
)
from musicjax.training.settings import ExampleSettings


@pytest.fixture(scope="module")
def corpus(folder):
    """Of tokens."""
    return encoded(settings(folder))


def token_examples(corpus, split="train", **changes):
    """Windows of 8 tokens."""
    return examples_of(corpus, config_of("", **changes), split, training=split == "train")


def state_examples(tmp_path, *quarters, training=True, **changes):
    """A corpus of note states, of songs of such lengths, all to train on; its examples."""
    write_songs_of(tmp_path, *quarters)
    config = config_of(tmp_path, "nsm", window=16, transpose=False, test_share=0.0)
    config.train.update(changes)
    corpus = encoded(config.data)
    return corpus, examples_of(corpus, config, training=training)


def every_window(examples):
    """int32 [examples, W + 1]."""
    return gather(examples, np.arange(len(examples)))["elements"]


def present(batch):
    return batch["elements"][batch["present"] > 0]


# --- which examples there are, and in what order --------------------------------------------------


def test_each_epoch_has_every_window_once_in_another_order(corpus):
    examples = token_examples(corpus)
    per_epoch = batches_per_epoch(examples, 32)
    batches = training_batches(examples, batch_size=32, seed=1, epochs=2)
    rows = []
    for batch in batches:
        assert batch["elements"].shape == (32, 9)
        assert batch["elements"].dtype == np.int32
        rows.append(present(batch))
    batches.close()
    assert len(rows) == 2 * per_epoch
    first, second = np.concatenate(rows[:per_epoch]), np.concatenate(rows[per_epoch:])
    everything = every_window(examples)
    for epoch in (first, second):
        assert sorted(epoch.tolist()) == sorted(everything.tolist())
    assert first.tolist() != second.tolist()


def test_the_seed_decides_the_order(corpus):
    examples = token_examples(corpus)

    def first(seed):
        batches = training_batches(examples, batch_size=32, seed=seed, epochs=1)
        elements = next(batches)["elements"].tolist()
        batches.close()
        return elements

    assert first(1) == first(1) != first(2)


def test_the_iterator_restores_its_place(corpus):
    examples = token_examples(corpus, pad=True)

    def fresh():
        return training_batches(examples, batch_size=32, seed=1, epochs=3)

    one = fresh()
    for _ in range(batches_per_epoch(examples, 32) + 3):
        next(one)
    state = one.get_state()
    other = fresh()
    other.set_state(state)
    for _ in range(5):
        np.testing.assert_array_equal(next(one)["elements"], next(other)["elements"])
    one.close()
    other.close()


def test_a_stride_takes_all_windows_over_the_epochs(corpus):
    stride = 4
    examples = token_examples(corpus, pad=True, stride=stride)
    batches = training_batches(examples, batch_size=16, seed=1, epochs=stride)
    rows = list(map(present, batches))
    batches.close()
    seen = np.concatenate(rows)
    assert len(rows) == stride * batches_per_epoch(examples, 16)
    assert len(seen) == len(examples) // stride * stride
    everything = {tuple(row) for row in every_window(examples).tolist()}
    assert len({tuple(row) for row in seen.tolist()}) >= 0.99 * len(everything)


def test_without_shuffling_the_windows_come_in_order(corpus):
    examples = token_examples(corpus, shuffle=False)
    np.testing.assert_array_equal(examples.order(0, 5), np.arange(len(examples)))


def test_ordered_batches_have_every_window_once(corpus):
    examples = token_examples(corpus, "test")
    batches = list(ordered_batches(examples, 7))
    rows = np.concatenate(list(map(present, batches)))
    np.testing.assert_array_equal(rows, every_window(examples))
    assert all(batch["elements"].shape == (7, 9) for batch in batches)


@pytest.mark.parametrize("pad", [False, True])
def test_windows_of_tokens_are_those_of_their_songs(corpus, pad):
    examples = token_examples(corpus, "test", pad=pad)
    expected = []
    for song in corpus.split("test"):
        ids = corpus.encoding.unpack(np.asarray(corpus.rows(song)))
        ids = np.pad(ids, (8 if pad else 0, 0))
        expected += [ids[i : i + 9] for i in range(len(ids) - 8)]
    np.testing.assert_array_equal(every_window(examples), expected)


def test_tokens_that_training_never_saw_become_the_unknown(folder):
    corpus = encoded(settings(folder, validation_share=0.7, test_share=0.0))
    ids = every_window(token_examples(corpus, "validation", window=4))
    assert ids.max() < corpus.encoding.size
    rows = np.concatenate([corpus.rows(song)[4:] for song in corpus.split("validation")])
    assert ((rows >= corpus.encoding.size) == (ids[:, -1] == 0)).all()
    assert (ids[:, -1] == 0).any()  # or this test shows nothing


def test_examples_of_steps_begin_with_the_step_before_and_never_cross_songs(tmp_path):
    corpus, examples = state_examples(tmp_path, 4, 9, 20, starts="bars", training=False)
    # 4 quarters are exactly an example, 9 are two and a bit, 20 are five.
    assert len(examples) == 1 + 3 + 5
    assert examples.short_songs == 0
    batch = gather(examples, np.arange(9))
    assert batch["length"].tolist() == [16, 16, 16, 4, 16, 16, 16, 16, 16]
    for number in range(9):
        song, start, stop = examples.place(number)
        states = corpus.encoding.unpack(np.asarray(corpus.rows(song)))
        before = states[start - 1] if start else np.zeros_like(states[0])
        np.testing.assert_array_equal(batch["elements"][number, 0], before)
        inside = batch["elements"][number, 1 : 1 + stop - start]
        np.testing.assert_array_equal(inside, states[start:stop])
        assert not batch["elements"][number, 1 + stop - start :].any()
        positions = [step % 16 for step in range(start - 1, start + 16)]
        assert batch["positions"][number].tolist() == positions


def test_short_songs_are_padded_or_left_out_and_counted(tmp_path):
    _, padded = state_examples(tmp_path, 3, 9)
    assert (len(padded), padded.short_songs) == (2, 1)
    assert gather(padded, [0])["length"].tolist() == [12]
    _, long_enough = state_examples(tmp_path, 3, 9, short_songs="leave_out")
    assert (len(long_enough), long_enough.short_songs) == (1, 1)
    with pytest.raises(InputError, match="its longest song has 12 steps, an example takes 16"):
        state_examples(tmp_path / "3", 3, short_songs="leave_out")


def test_starts_are_drawn_at_bar_lines_or_are_the_beginning(tmp_path):
    _, examples = state_examples(tmp_path, 20, 40, starts="bars")
    drawn = np.concatenate([examples.order(0, epoch) for epoch in range(60)])
    places = {(song.name, start) for song, start, _ in map(examples.place, drawn.tolist())}
    expected = {("0.mid", 16 * i) for i in range(5)} | {("1.mid", 16 * i) for i in range(10)}
    assert places == expected
    assert examples.per_epoch == 2
    _, in_order = state_examples(tmp_path, 20, 40, starts="beginning", shuffle=False)
    for epoch in range(3):
        order = in_order.order(0, epoch).tolist()
        assert order == [0, 1]
        assert [in_order.place(number)[1] for number in order] == [0, 0]


# --- tiles ----------------------------------------------------------------------------------------


def tiles_of(corpus, split="train", **changes):
    return examples_of(
        corpus, config_of("", "vocab", "tiny_causal", **changes), split, training=split == "train"
    )


def predicted_of(corpus, examples, numbers):
    """The elements that examples predict, of each song, by its name."""
    seen = {}
    for number in np.asarray(numbers).tolist():
        batch = gather(examples, [number])
        song, start, _ = examples.place(number)
        ids = corpus.encoding.unpack(np.asarray(corpus.rows(song)))
        window, before, length = examples.window, int(batch["before"][0]), int(batch["length"][0])
        inside = np.arange(start + before, start + length)
        # What is predicted is the song's, and so is the element before the first of it.
        np.testing.assert_array_equal(batch["elements"][0, 1 + before : 1 + length], ids[inside])
        around = np.pad(ids, [(window + 1, window + 1)] + [(0, 0)] * (ids.ndim - 1))
        whole = around[start + window : start + 2 * window + 1]
        np.testing.assert_array_equal(batch["elements"][0], whole)
        seen.setdefault(song.name, []).extend(inside.tolist())
    return seen


def assert_lie_inside(corpus, examples, numbers):
    """Tiles: none is spent on what is around its song, and all but its ends is predicted."""
    window, songs = examples.window, {song.name: song.length for song in corpus.split("train")}
    assert len(numbers) == -(-sum(max(length, window) for length in songs.values()) // window)
    assert len(numbers) == examples.per_epoch
    for number in np.asarray(numbers).tolist():
        song, start, _ = examples.place(number)
        assert 0 <= start <= max(song.length - window, 0)
    seen = predicted_of(corpus, examples, numbers)
    for name, length in songs.items():
        assert set(range(window // 2 + 1, length - window // 2)) <= set(seen[name])
        assert length > window or set(seen[name]) == set(range(length))


@pytest.mark.parametrize("window", [1, 7, 16, 50, 1000])
def test_tiles_lie_inside_their_songs_and_leave_out_only_ends(corpus, window):
    examples = tiles_of(corpus, window=window)
    orders = [examples.order(5, epoch) for epoch in range(2 if window == 1 else 4)]
    for order in orders:
        assert_lie_inside(corpus, examples, order)
    alike = window == 1 or window >= max(song.length for song in corpus.split("train"))
    assert alike == (sorted(orders[0].tolist()) == sorted(orders[1].tolist()))


def test_tiles_begin_everywhere_over_the_epochs_and_at_the_ends_most_often(corpus):
    examples = tiles_of(corpus, window=5)
    first, epochs = corpus.split("train")[0], 60
    starts = collections.Counter()
    for epoch in range(epochs):
        places = [examples.place(number) for number in examples.order(0, epoch).tolist()]
        starts.update(start for song, start, _ in places if song == first)
    last = first.length - 5
    assert set(starts) == set(range(last + 1))
    assert epochs / 3 < starts[0] < epochs
    assert epochs / 3 < starts[last] < epochs


def test_tiles_without_shuffling_follow_one_another(corpus):
    examples = tiles_of(corpus, shuffle=False)
    places = [examples.place(number) for number in examples.order(0, 3).tolist()]
    names = [song.name for song in corpus.split("train")]
    assert list(dict.fromkeys(song.name for song, _, _ in places)) == names
    for (song, start, _), (after, then, _) in itertools.pairwise(places):
        if after == song:
            assert 0 < then - start <= 16
        else:
            assert then <= 8
            assert start >= song.length - 16 - 8


@pytest.mark.parametrize("quarters", [(4, 9, 20, 3), (1,), (4,), (8,)])
def test_tiles_of_songs_as_long_as_a_window_shorter_and_longer(tmp_path, quarters):
    corpus, examples = state_examples(tmp_path, *quarters, starts="tiles")
    assert examples.short_songs == 0
    for epoch in range(8):
        numbers = examples.order(1, epoch)
        assert_lie_inside(corpus, examples, numbers)
        positions = gather(examples, numbers)["positions"]
        for number, places in zip(numbers.tolist(), positions, strict=True):
            _, start, _ = examples.place(number)
            np.testing.assert_array_equal(places, np.arange(start - 1, start + 16) % 16)


@pytest.mark.parametrize("eval_window", [0, 5, 1000])
def test_tiles_that_are_measured_predict_each_element_once(corpus, eval_window):
    examples = tiles_of(corpus, "test", eval_window=eval_window)
    assert examples.window == (eval_window or 16)
    found = predicted_of(corpus, examples, np.arange(len(examples)))
    assert found == {song.name: [*range(song.length)] for song in corpus.split("test")}
    batches = list(ordered_batches(examples, 8))
    assert batches[0]["elements"].shape == (8, examples.window + 1)
    assert sum(batch["present"].sum() for batch in batches) == len(examples)


def test_a_window_for_measuring_does_not_change_training(corpus):
    assert tiles_of(corpus, eval_window=32).window == 16


def test_a_model_of_one_window_cannot_be_measured_on_another(tmp_path):
    expected = "examples of 32 are asked for, but the model has weights for 16 .*; expected 16"
    write_songs_of(tmp_path, 20)
    config = config_of(tmp_path, "nsm", window=16, test_share=0.0, eval_window=32)
    with pytest.raises(InputError, match=expected):
        examples_of(encoded(config.data), config, training=False)


def test_tokens_of_tiles_have_the_places_of_their_onsets(tmp_path):
    """Of songs with a pick-up, and with meters that change."""
    rng = np.random.default_rng(0)
    for i, meters in enumerate(
        [
            (Meter(0, 1, 4), Meter(480, 3, 4)),
            (Meter(0, 4, 4), Meter(1920 * 3, 3, 4), Meter(1920 * 3 + 1440 * 4, 2, 4)),
        ]
    ):
        ticks = np.cumsum(rng.choice([240, 480, 720], 60)) - 240
        notes = [(int(t), 200, 50 + int(rng.integers(20))) for t in ticks]
        midi.write_song(make_song(make_track(notes), meters=meters), tmp_path / f"{i}.mid")
    config = config_of(
        tmp_path, "vocab", "tiny_causal", window=8, eval_window=0, test_share=0.0,
        validation_share=0.0,
    )  # fmt: skip
    corpus = encoded(config.data)
    for training in (True, False):
        examples = examples_of(corpus, config, training=training)
        for number in examples.order(0, 0).tolist() if training else range(len(examples)):
            batch, (song, start, _) = gather(examples, [number]), examples.place(number)
            onsets = corpus.encoding.onsets(np.asarray(corpus.rows(song)))
            whole = corpus.encoding.positions(song.layout, 0, int(onsets[-1]) + 1)
            for at in range(int(batch["before"][0]), int(batch["length"][0])):
                assert batch["positions"][0, 1 + at] == whole[onsets[start + at]]
    layouts = {song.name: song.layout for song in corpus.songs}
    assert layouts["0.mid"] == {"bars": [[-24, 36, 4]]}
    assert layouts["1.mid"] == {"bars": [[0, 48, 4], [144, 36, 4], [288, 24, 4]]}


def test_an_epoch_takes_several_examples_of_each_song(tmp_path):
    _, examples = state_examples(tmp_path, 20, 40, starts="bars", per_song=3)
    names = [examples.place(number)[0].name for number in examples.order(0, 0).tolist()]
    assert sorted(names) == ["0.mid"] * 3 + ["1.mid"] * 3


# --- what they hold -------------------------------------------------------------------------------


def test_transposed_examples_lose_only_what_leaves_the_matrix(tmp_path):
    _, examples = state_examples(tmp_path, 20, transpose_range=(-5, 6))
    plain = gather(examples, [0])["elements"][0]
    seen = set()
    for seed in range(60):
        moved = gather(examples, [0], np.random.default_rng(seed))["elements"][0]
        steps, notes = np.nonzero(moved[..., 0])
        old_steps, old_notes = np.nonzero(plain[..., 0])
        np.testing.assert_array_equal(steps, old_steps)
        assert len(set((notes - old_notes).tolist())) == 1
        seen.add(int(notes[0] - old_notes[0]))
    assert seen == set(range(-5, 7))


def test_transposed_tokens_are_known_ones_or_do_not_count(corpus):
    examples, encoding = tiles_of(corpus, transpose_range=(-3, 4)), corpus.encoding
    tokens, size = encoding.vocabulary.tokens, encoding.size
    numbers = np.arange(0, len(examples), 7)
    plain = gather(examples, numbers)["elements"]
    located = examples.locate(numbers, np.random.default_rng(0))
    assert set(located["semitones"].tolist()) == set(range(-3, 5))
    moved, lost = examples.gather(examples.data, located)["elements"], 0
    for row, other, semitones in zip(plain, moved, located["semitones"].tolist(), strict=True):
        for old, new in zip(row.tolist(), other.tolist(), strict=True):
            token = tokens[old]
            there = token._replace(pitches=tuple(pitch + semitones for pitch in token.pitches))
            assert new < size
            assert (tokens[new] == there) if new else (there not in tokens[1:size])
            lost += old > 0 and not new
    assert 0 < lost < np.count_nonzero(plain)
    # Over all semitones and examples, rather than those that were drawn.
    assert examples.lost_by_transposing() == pytest.approx(lost / np.count_nonzero(plain), abs=0.1)


def test_nothing_is_transposed_to_be_measured(tmp_path):
    _, examples = state_examples(tmp_path, 20, transpose_range=(-5, 6), training=False)
    assert "semitones" not in examples.locate(np.arange(1), np.random.default_rng(0))


def test_training_batches_are_the_same_for_the_same_seed(tmp_path):
    _, examples = state_examples(tmp_path, 20, 40, 30, starts="bars", transpose_range=(-2, 2))

    def states(seed):
        batches = training_batches(examples, batch_size=2, seed=seed, epochs=2)
        result = np.stack([batch["elements"] for batch in batches])
        batches.close()
        return result

    assert states(1).shape == (4, 2, 17, 78, 2)
    np.testing.assert_array_equal(states(1), states(1))
    assert (states(1) != states(2)).any()
    *full, last = ordered_batches(examples, 2)
    assert last["present"].sum() == len(examples) - 2 * len(full)


class ReadsPositions(TokenLSTM):
    reads_positions = True


def test_elements_longer_than_a_unit_have_the_position_of_their_onset(corpus):
    encoding, config = corpus.encoding, config_of("")
    examples = Examples(
        corpus,
        "test",
        ReadsPositions.from_config(config, encoding),
        settings_of(ExampleSettings, config.train, "train"),
        training=False,
    )
    batch = gather(examples, np.arange(len(examples)))
    for number in (0, 3, len(examples) - 1):
        song, start, _ = examples.place(number)
        onsets = encoding.onsets(np.asarray(corpus.rows(song)))
        expected = onsets[max(start - 1, 0) : start + 8] % 48
        np.testing.assert_array_equal(batch["positions"][number], expected)


# --- gathered on a device -------------------------------------------------------------------------


@pytest.mark.parametrize("pad", [False, True])
def test_tokens_gathered_on_a_device_are_those_from_the_file(corpus, pad):
    assert_same_batches(token_examples(corpus, pad=pad))


def test_tiles_gathered_on_a_device_are_those_from_the_file(corpus):
    assert_same_batches(tiles_of(corpus))


def test_transposed_tokens_gathered_on_a_device_are_those_from_the_file(corpus):
    assert_same_batches(tiles_of(corpus, transpose_range=(-5, 6)))


@pytest.mark.parametrize("transpose_range", [(0, 0), (-5, 6)])
@pytest.mark.parametrize("quarters", [(4, 9, 20), (2, 3)])
def test_steps_gathered_on_a_device_are_those_from_the_file(tmp_path, transpose_range, quarters):
    """Of songs longer and shorter than an example, from their first step and later ones."""
    _, examples = state_examples(
        tmp_path, *quarters, starts="bars", transpose_range=transpose_range
    )
    assert_same_batches(examples)


def assert_same_batches(examples):
    """Padded ones too, gathered from the file by numpy, and inside a compiled function by jax."""
    data, compiled = jnp.asarray(examples.data), jax.jit(examples.gather)
    streamed, indices = (
        training_batches(examples, batch_size=7, seed=3, epochs=2, indices_only=indices_only)
        for indices_only in (False, True)
    )
    for batch, located in zip(streamed, indices, strict=True):
        assert batch.keys() != located.keys()
        on_device = compiled(data, located)
        assert on_device.keys() == batch.keys()
        for name, array in batch.items():
            assert on_device[name].dtype == array.dtype
            np.testing.assert_array_equal(on_device[name], array)
    streamed.close()
    indices.close()
    ordered = list(ordered_batches(examples, 7))
    assert len(ordered) == -(-len(examples) // 7)
    for number, batch in enumerate(ordered):
        numbers = np.arange(len(examples))[7 * number :][:7]
        located = dataset._batch(examples, numbers, 7, indices_only=True)
        jax.tree.map(np.testing.assert_array_equal, compiled(data, located), batch)


# --- errors ---------------------------------------------------------------------------------------


def test_a_window_longer_than_every_song(corpus):
    expected = (
        r"no example in the train split: its longest song has \d+ tokens, an example takes 501"
    )
    with pytest.raises(InputError, match=expected):
        token_examples(corpus, window=500)


def test_an_empty_split(folder):
    corpus = encoded(settings(folder, test_share=0.0))
    with pytest.raises(InputError, match="the test split is empty: the corpus has 30 songs"):
        token_examples(corpus, "test")


class Fixed(TokenEncoding):
    transposed = Encoding.transposed


def test_what_cannot_be_transposed(corpus, tmp_path):
    fixed = dataclasses.replace(corpus, encoding=Fixed(**vars(corpus.encoding)))
    with pytest.raises(InputError, match="transpose_range is set, but tokens cannot be transposed"):
        token_examples(fixed, transpose_range=(-1, 1))
    drums, _ = state_examples(tmp_path, 20)
    drums.manifest["is_drum"] = True
    config = config_of(tmp_path, "nsm", window=16, transpose_range=(-1, 1))
    with pytest.raises(InputError, match=r"expected \(0, 0\) for drums"):
        examples_of(drums, config)
