"""The training loop, as train_and_evaluate runs it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from runs import (
    assert_same_parameters,
    config_of,
    examples_of,
    lines,
    parameters,
    stopping_at,
    trained,
)

from musicjax.errors import InputError
from musicjax.training import trainer
from musicjax.training.dataset import ordered_batches
from musicjax.training.run import train_and_evaluate
from musicjax.training.workdir import load_songs, load_step_losses, load_trained

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick


@pytest.fixture(scope="module")
def three_epochs(folder, tmp_path_factory):
    """An unbroken run of the tiny token model."""
    return trained(folder, tmp_path_factory, epochs=3)


def test_a_run_learns_and_shows_it(folder, tmp_path, capsys):
    last = train_and_evaluate(config_of(folder, epochs=4), tmp_path)
    run = lines(tmp_path)
    assert run[-1] == last
    assert [line["epoch"] for line in run] == [1, 2, 3, 4]
    assert run[-1]["train_loss"] < run[0]["train_loss"]
    for part in ("train", "validation"):
        for name in ("loss", "nll", "perplexity", "accuracy", "weighted_accuracy", "unseen"):
            assert np.isfinite(run[-1][f"{part}_{name}"])
    assert run[-1]["examples_per_second"] > 0
    assert (tmp_path / "loss.png").read_bytes()[:4] == b"\x89PNG"
    assert any(path.name.startswith("events.out.tfevents") for path in tmp_path.iterdir())
    said = capsys.readouterr().out
    assert re.search(r"training: \d{3} examples of 8 tokens", said)
    assert f"{run[0]['step']} steps an epoch, 4 epochs" in said
    assert "epoch   4/4: train loss" in said
    best = min(run, key=lambda line: line["validation_loss"])
    assert f"the best epoch: {best['epoch']}, validation loss {best['validation_loss']:.4g}" in said


def test_the_papers_run_measures_the_test_songs_and_chooses_nothing_by_them(
    folder, tmp_path_factory
):
    paper = trained(folder, tmp_path_factory, "nsm")
    run = lines(paper)
    assert [line["epoch"] for line in run] == [1, 2]
    for name in ("loss", "sse", "mse", "play_f1", "articulate_recall"):
        assert np.isfinite(run[-1][f"train_{name}"])
        assert np.isfinite(run[-1][f"test_{name}"])
    assert not any(name.startswith("validation") for name in run[-1])
    kept = {int(path.name) for path in (paper / "checkpoints").iterdir()}
    assert kept == {line["step"] for line in run}
    assert load_trained(paper, "best").step == run[-1]["step"]
    assert (paper / "loss.png").read_bytes()[:4] == b"\x89PNG"


def test_the_tied_run_learns_and_keeps_its_best(folder, tmp_path_factory):
    best = trained(folder, tmp_path_factory, "nsm", "tiny_best", epochs=6)
    run = lines(best)
    assert run[-1]["train_loss"] < run[0]["train_loss"]
    step = min(run, key=lambda line: line["validation_loss"])["step"]
    assert load_trained(best).step == step


def test_the_same_config_gives_the_same_numbers(folder, tmp_path, three_epochs):
    config = config_of(folder, epochs=3)
    train_and_evaluate(config, tmp_path / "again")
    assert_same_parameters(three_epochs, tmp_path / "again")
    config.seed, config.train.epochs = 1, 1
    train_and_evaluate(config, tmp_path / "other")
    ours, theirs = (parameters(path)[1][0] for path in (three_epochs, tmp_path / "other"))
    assert not np.array_equal(ours, theirs)


def test_stopped_and_resumed_is_bit_equal_to_unbroken(folder, tmp_path, monkeypatch, three_epochs):
    config = config_of(folder, epochs=3)
    make_train_steps = trainer.make_train_steps
    per_epoch = lines(three_epochs)[0]["step"]
    an_epoch = -(-per_epoch // config.train.steps_per_call)  # calls
    assert an_epoch > 3
    # In the middle of the first epoch, at its very end, and in the middle of the last.
    for call in (2, an_epoch - 2, an_epoch + 3):
        monkeypatch.setattr(trainer, "make_train_steps", stopping_at(call))
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(config, tmp_path)
        monkeypatch.setattr(trainer, "make_train_steps", make_train_steps)
    config.train.steps_per_call = 7  # what steps share a call does not matter
    train_and_evaluate(config, tmp_path)
    assert_same_parameters(three_epochs, tmp_path)
    for whole, broken in zip(lines(three_epochs), lines(tmp_path), strict=True):
        for name in ("step", "train_loss", "train_tokens", "validation_loss"):
            assert whole[name] == broken[name]
    of_steps = load_step_losses(three_epochs)
    np.testing.assert_array_equal(of_steps, load_step_losses(tmp_path))
    assert len(of_steps) == lines(three_epochs)[-1]["step"]
    assert of_steps[:per_epoch].mean() == pytest.approx(lines(three_epochs)[0]["train_loss"], 0.1)


def test_note_states_stopped_and_resumed_are_bit_equal_to_unbroken(folder, tmp_path, monkeypatch):
    config = config_of(folder, "nsm", "tiny_best", dropout=0.3, transpose_range=(-2, 2))
    train_and_evaluate(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "make_train_steps", stopping_at(1))
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(config, tmp_path / "broken")
    train_and_evaluate(config, tmp_path / "broken")
    assert_same_parameters(tmp_path / "whole", tmp_path / "broken")


def test_all_that_a_run_can_carry_is_bit_equal_when_it_was_stopped(
    folder, tmp_path, monkeypatch, capsys
):
    """A moving average, patience, an optimizer and a schedule by name, and transposed tokens."""
    config = config_of(
        folder, "vocab", "tiny_causal", epochs=9, ema=0.9, patience=1, transpose_range=(-2, 2),
        optimizer="adamw(weight_decay=0.01)", learning_rate=0.2,
        schedule="exponential_decay(decay_rate=0.5)",
    )  # fmt: skip
    last = train_and_evaluate(config, tmp_path / "whole")
    said = capsys.readouterr().out
    assert "training examples are moved by -2 to 2 semitones, and what the tokens do not" in said
    best = min(lines(tmp_path / "whole"), key=lambda line: line["validation_loss"])
    assert "ends here: 1 epochs without a better validation loss" in said
    assert f"the best epoch: {best['epoch']}, validation loss" in said
    assert last["epoch"] == best["epoch"] + 1 < 9
    # The average is what was measured, and what is loaded.
    found = load_trained(tmp_path / "whole", "last")
    examples = examples_of(load_songs(tmp_path / "whole"), config, "validation", training=False)
    batches = ordered_batches(examples, config.train.batch_size)
    measured = trainer.make_evaluate(found.model)(found.params, batches)
    assert measured["loss"] == pytest.approx(last["validation_loss"], rel=1e-5)

    with monkeypatch.context() as patch:
        # An epoch is three calls: in the midst of the last.
        patch.setattr(trainer, "make_train_steps", stopping_at(3 * best["epoch"] + 2))
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(config, tmp_path / "broken")
    train_and_evaluate(config, tmp_path / "broken")
    assert_same_parameters(tmp_path / "whole", tmp_path / "broken")
    # Ended, it changes nothing; with more patience it goes on.
    assert train_and_evaluate(config, tmp_path / "broken") == lines(tmp_path / "broken")[-1]
    assert_same_parameters(tmp_path / "whole", tmp_path / "broken")
    config.train.update(patience=9, epochs=last["epoch"] + 1)
    assert train_and_evaluate(config, tmp_path / "broken")["epoch"] == last["epoch"] + 1


def test_a_moving_average_follows_what_is_trained():
    """By hand: of x, which steps of 0.1 move down."""

    def loss_fn(params, batch, key):
        return params["x"].sum() + 0 * batch["y"].sum(), {"n": jnp.float32(1)}

    batch = {"y": np.zeros(2, np.float32)}
    optimizer, found = optax.sgd(0.1), {}
    for ema in (0.0, 0.3):
        params = {"x": jnp.ones(1)}
        state = trainer.new_state(loss_fn, params, optimizer, batch, ema)
        train_steps = trainer.make_train_steps(loss_fn, optimizer, 0, ema=ema)
        stacked = {"y": np.zeros((4, 2), np.float32)}
        found[ema], _ = train_steps(state, stacked, 4)
        np.testing.assert_allclose(found[ema].params["x"], [0.6], rtol=1e-6)
    assert found[0.0].ema is None
    average = 1.0
    for step, x in enumerate((0.9, 0.8, 0.7, 0.6)):
        kept = min(0.3, (1 + step) / (10 + step))
        average = kept * average + (1 - kept) * x
    np.testing.assert_allclose(found[0.3].averaged["x"], [average], rtol=1e-6)


def test_a_run_that_crashed_goes_on_from_its_last_checkpoint_in_the_epoch(
    folder, tmp_path, monkeypatch, capsys, three_epochs
):
    config = config_of(folder, epochs=3, checkpoint_minutes=0.0)  # after each call
    make_train_steps = trainer.make_train_steps

    def crashing(*args):
        train_steps, calls = make_train_steps(*args), []

        def crash(*args):
            calls.append(1)
            if len(calls) == 4:
                raise MemoryError
            return train_steps(*args)

        return crash

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "make_train_steps", crashing)
        with pytest.raises(MemoryError):
            train_and_evaluate(config, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()
    config.train.checkpoint_minutes = 10.0
    train_and_evaluate(config, tmp_path)
    assert f"going on from step {3 * config.train.steps_per_call}" in capsys.readouterr().out
    np.testing.assert_array_equal(load_step_losses(tmp_path), load_step_losses(three_epochs))
    assert_same_parameters(three_epochs, tmp_path)


def test_more_epochs_go_on_from_where_a_run_ended(folder, tmp_path, three_epochs):
    for epochs in (2, 3):
        train_and_evaluate(config_of(folder, epochs=epochs), tmp_path)
    assert_same_parameters(three_epochs, tmp_path)


def test_a_finished_run_started_again_changes_nothing(folder, three_epochs):
    step, before = parameters(three_epochs)
    last = lines(three_epochs)[-1]
    assert train_and_evaluate(config_of(folder, epochs=3), three_epochs) == last
    assert parameters(three_epochs)[0] == step
    for ours, theirs in zip(before, parameters(three_epochs)[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_step(folder, tmp_path):
    config = config_of(folder, learning_rate=1e30)
    expected = r"the training loss became (nan|inf) at step \d+; expected"
    with jax.debug_nans(False), pytest.raises(InputError, match=expected):
        train_and_evaluate(config, tmp_path)
    with pytest.raises(InputError, match="no checkpoint yet"):
        load_trained(tmp_path)
    config.train.learning_rate = 0.01  # nothing was trained, so the work dir is free
    assert np.isfinite(train_and_evaluate(config, tmp_path)["validation_loss"])


@pytest.mark.parametrize(("name", "variant"), [("vocab", "tiny"), ("nsm", "tiny_best")])
def test_songs_on_the_devices_train_the_same(name, variant, folder, tmp_path):
    config = config_of(folder, name, variant)
    runs = {}
    for megabytes in (0.0, 256.0):
        config.train.device_cache_megabytes = megabytes
        runs[megabytes] = train_and_evaluate(config, tmp_path / str(megabytes))
    for field, value in runs[0.0].items():
        if "second" not in field:
            assert runs[256.0][field] == pytest.approx(value, rel=1e-6), field
    # What began in one way goes on in the other.
    config.train.update(epochs=config.train.epochs + 1, device_cache_megabytes=0.0)
    assert train_and_evaluate(config, tmp_path / "256.0")["epoch"] == config.train.epochs
