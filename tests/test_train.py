"""Training as a user of Python meets it; the command lines are in test_end_to_end.py."""

import json
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import every_window, load_config
from flax import nnx
from orbax.checkpoint import v1 as ocp

from musicjax import checkpoint, encode, loop
from musicjax.errors import InputError
from musicjax.evaluate import evaluate
from musicjax.train import train_and_evaluate


def parameters(workdir, which="last"):
    trained = checkpoint.load_trained(workdir, which)
    return trained.step, jax.tree.leaves(nnx.state(trained.model, nnx.Param))


def assert_bit_equal(a, b):
    assert a[0] == b[0]
    for ours, theirs in zip(a[1], b[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_run_learns_and_leaves_a_whole_work_dir(tiny, tmp_path, capsys):
    tiny.train.epochs = 4
    last = train_and_evaluate(tiny, tmp_path / "run")
    run = lines(tmp_path / "run")
    assert run[-1] == last
    assert [line["epoch"] for line in run] == [1, 2, 3, 4]
    assert run[-1]["train_loss"] < run[0]["train_loss"]
    for part in ("train", "validation"):
        for name in ("loss", "nats", "perplexity", "accuracy", "weighted_accuracy", "unseen"):
            assert np.isfinite(run[-1][f"{part}_{name}"])
    assert run[-1]["examples_per_second"] > 0
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"config.json", "vocabulary.json", "test_songs", "checkpoints", "loss.png"}
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert (tmp_path / "run" / "loss.png").read_bytes()[:4] == b"\x89PNG"
    assert "epoch   4/4" in capsys.readouterr().out


def test_the_best_and_the_last_checkpoint_are_kept(tiny, tmp_path):
    tiny.train.epochs = 6
    tiny.train.learning_rate = 0.3  # too high, so that the best is not the last
    train_and_evaluate(tiny, tmp_path)
    run = lines(tmp_path)
    best = min(run, key=lambda line: line["validation_loss"])
    assert best["epoch"] != 6
    kept = {int(path.name) for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {best["step"], run[-1]["step"]}
    assert checkpoint.load_trained(tmp_path).step == best["step"]
    assert checkpoint.load_trained(tmp_path, "last").step == run[-1]["step"]


def test_the_same_config_gives_the_same_numbers(tiny, tmp_path):
    for name in ("a", "b"):
        train_and_evaluate(tiny, tmp_path / name)
    assert_bit_equal(parameters(tmp_path / "a"), parameters(tmp_path / "b"))
    tiny.seed = 1
    train_and_evaluate(tiny, tmp_path / "c")
    assert not np.array_equal(parameters(tmp_path / "a")[1][0], parameters(tmp_path / "c")[1][0])


def test_stopped_and_resumed_is_bit_equal_to_unbroken(tiny, tmp_path, monkeypatch):
    tiny.train.epochs = 3
    train_and_evaluate(tiny, tmp_path / "whole")

    make_train_steps = loop.make_train_steps

    def stopping_at(call):
        calls = []

        def make(*args):
            train_steps = make_train_steps(*args)

            def stop_once(*args):
                calls.append(1)
                if len(calls) == call:
                    os.kill(os.getpid(), signal.SIGTERM)
                return train_steps(*args)

            return stop_once

        return make

    per_epoch = lines(tmp_path / "whole")[0]["step"]
    an_epoch = -(-per_epoch // tiny.train.steps_per_call)  # calls
    assert an_epoch > 3
    # In the middle of the first epoch, at its very end, and in the middle of the last.
    for call in (2, an_epoch - 2, an_epoch + 3):
        monkeypatch.setattr(loop, "make_train_steps", stopping_at(call))
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(tiny, tmp_path / "broken")
    monkeypatch.setattr(loop, "make_train_steps", make_train_steps)
    tiny.train.steps_per_call = 7  # what steps share a call does not matter
    train_and_evaluate(tiny, tmp_path / "broken")
    assert_bit_equal(parameters(tmp_path / "whole"), parameters(tmp_path / "broken"))
    for whole, broken in zip(lines(tmp_path / "whole"), lines(tmp_path / "broken"), strict=True):
        for name in ("step", "train_loss", "train_tokens", "validation_loss"):
            assert whole[name] == broken[name]


def test_a_corpus_folder_brings_its_own_settings(tiny, tmp_path, capsys):
    tiny.data.update(track="piano", transpose=False)
    encode.encode_corpus(tiny.data, tmp_path / "corpus", number_of_workers=0)
    tiny.data.update(track="all", transpose=True, source=str(tmp_path / "corpus"))
    train_and_evaluate(tiny, tmp_path / "run")
    assert "was encoded with {" in capsys.readouterr().out
    config, _ = checkpoint.load_config(tmp_path / "run")
    assert (config.data.track, config.data.transpose) == ("piano", False)
    train_and_evaluate(tiny, tmp_path / "run")  # and is the same run


def test_more_epochs_go_on_from_where_a_run_ended(tiny, tmp_path):
    tiny.train.epochs = 2
    train_and_evaluate(tiny, tmp_path / "two")
    tiny.train.epochs = 3
    train_and_evaluate(tiny, tmp_path / "two")
    train_and_evaluate(tiny, tmp_path / "three")
    assert_bit_equal(parameters(tmp_path / "two"), parameters(tmp_path / "three"))


def test_a_finished_run_started_again_says_so_and_changes_nothing(tiny, tmp_path):
    last = train_and_evaluate(tiny, tmp_path)
    before = parameters(tmp_path)
    assert train_and_evaluate(tiny, tmp_path) == last
    assert_bit_equal(before, parameters(tmp_path))


def test_another_config_or_other_songs_in_a_work_dir_are_refused(tiny, tmp_path, folder):
    source = tmp_path / "midi"
    shutil.copytree(folder, source)
    tiny.data.source = str(source)
    train_and_evaluate(tiny, tmp_path / "run")
    (source / "00.mid").unlink()
    with pytest.raises(InputError, match="holds a run on other songs: the files of"):
        train_and_evaluate(tiny, tmp_path / "run")
    tiny.train.learning_rate = 0.5
    with pytest.raises(
        InputError, match=r"holds a run with train.learning_rate=0.01, now it is 0.5"
    ):
        train_and_evaluate(tiny, tmp_path / "run")


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(tiny, tmp_path):
    tiny.train.learning_rate = 1e30
    with pytest.raises(
        InputError, match=r"the training loss became (nan|inf) at step \d+; expected"
    ):
        train_and_evaluate(tiny, tmp_path)
    with pytest.raises(InputError, match="no checkpoint yet"):
        checkpoint.load_trained(tmp_path)
    tiny.train.learning_rate = 0.01  # nothing was trained, so the work dir is free
    assert np.isfinite(train_and_evaluate(tiny, tmp_path)["validation_loss"])


def test_what_cannot_be_trained_leaves_no_work_dir(tiny, tmp_path):
    tiny.train.window = 1000
    with pytest.raises(InputError, match="no window in the train split"):
        train_and_evaluate(tiny, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("variant", ["", "quick", "large", "baseline", "anushree"])
def test_every_variant_trains_two_steps(variant, folder, tmp_path, monkeypatch):
    config = load_config(variant)
    config.data.source = str(folder)
    for name in ("embedding_size", "encoder_size", "attention_size", "decoder_size"):
        config.model[name] = 8
    config.model.dense_size = min(config.model.dense_size, 8)
    config.train.update(epochs=1, window=6, batch_size=64, steps_per_call=2)
    config.train.stride = 8
    last = train_and_evaluate(config, tmp_path)
    assert last["step"] >= 2
    assert np.isfinite(last["validation_loss"])


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("train.batch_size", 0, "at least 1"),
        ("train.optimizer", "sgd", "'rmsprop', 'adam' or 'adadelta'"),
        ("train.schedule", "linear", "'constant' or 'cosine'"),
        ("model.dropout", 1.0, "0 <= dropout < 1"),
        ("model.input", "onehot", "'embedding' or 'scalar'"),
        ("data.test_share", 0.95, "less than 1 with data.test_share"),
        ("train.window", -3, "at least 1"),
        ("train.devices", -1, "0 or more"),
        ("data.most_qpm", 10.0, "more than 20"),
        ("data.decade", 1970, "data.table to tell the years"),
        ("data.longest_minutes", -1.0, "0 or more"),
        ("model.causal", True, "False where model.causal is set"),
    ],
)
def test_impossible_configs_are_one_clear_line(tiny, tmp_path, field, value, expected):
    tiny.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=expected):
        train_and_evaluate(tiny, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_work_dir_of_another_version_or_none_is_one_clear_line(tiny, tmp_path):
    with pytest.raises(InputError, match="not a work dir"):
        checkpoint.load_trained(tmp_path)
    train_and_evaluate(tiny, tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(saved | {"format": 77}))
    with pytest.raises(InputError, match="a work dir of format 77; this musicjax reads 5"):
        checkpoint.load_trained(tmp_path)
    with pytest.raises(InputError, match="format 77"):
        train_and_evaluate(tiny, tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        checkpoint.load_trained(tmp_path)


@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_a_work_dir_can_be_moved_and_its_weights_read_by_orbax_alone(tiny, tmp_path):
    train_and_evaluate(tiny, tmp_path / "run")
    (tmp_path / "run").rename(tmp_path / "moved")
    step, ours = parameters(tmp_path / "moved")
    path = str(tmp_path / "moved" / "checkpoints" / str(step))
    tree = ocp.load(path, checkpointable_name="params")
    assert sorted(x.shape for x in jax.tree.leaves(tree)) == sorted(x.shape for x in ours)


def test_evaluate_beside_baselines_that_are_what_they_say(tiny, tmp_path):
    train_and_evaluate(tiny, tmp_path)
    results = evaluate(tmp_path)
    assert set(results) == {"model", "unweighted", "unigram", "repeat last"}
    assert len({metrics["tokens"] for metrics in results.values()}) == 1
    trained = checkpoint.load_trained(tmp_path)
    counts = np.array(trained.vocabulary.counts)
    from musicjax.corpus import Corpus
    from musicjax.dataset import Windows

    held_out = Corpus.load(tmp_path / "test_songs")
    windows = Windows(held_out, "test", tiny.train.window, tiny.train.pad)
    pairs = every_window(windows)[:, -2:]
    target = pairs[pairs[:, 1] > 0][:, 1]
    nats = -np.log(counts[target] / counts.sum()).mean()
    assert results["unigram"]["nats"] == pytest.approx(nats)
    assert results["unigram"]["accuracy"] == pytest.approx((target == counts.argmax()).mean())
    # With weights inverse to frequency, the best constant guess is uniform over the types.
    assert results["unigram"]["loss"] == pytest.approx(
        np.log(trained.vocabulary.size - 1), rel=1e-5
    )
    again = pairs[pairs[:, 1] > 0]
    assert results["repeat last"]["accuracy"] == pytest.approx(
        np.where(again[:, 0] > 0, again[:, 0] == again[:, 1], again[:, 1] == counts.argmax()).mean()
    )


def test_the_optimizer_is_keras_rmsprop():
    config = load_config()
    optimizer = loop.make_optimizer(config.train, 10)
    params = jnp.array([1.0, -2.0])
    state = optimizer.init(params)
    mean_square = np.zeros(2)
    expected = np.array([1.0, -2.0])
    for step in range(3):
        gradient = np.array([0.5, -3.0]) * (step + 1)
        update, state = optimizer.update(jnp.asarray(gradient, jnp.float32), state, params)
        params = params + update
        mean_square = 0.9 * mean_square + 0.1 * gradient**2
        expected -= 1e-4 * gradient / (np.sqrt(mean_square) + 1e-7)
    np.testing.assert_allclose(params, expected, rtol=1e-6)
