import jax.numpy as jnp
import numpy as np
import pytest
from conftest import load_config

from musicjax.config import settings_of
from musicjax.training.optimizer import make_optimizer
from musicjax.training.settings import OptimizerSettings

GRADIENT = np.array([3e-4, -4e-4])  # near the root of epsilon, so that epsilon's place matters


def steps(number=3, **changes):
    """The parameters after each update, from (1, -2), by gradients that grow."""
    config = load_config()
    config.train.update(changes)
    settings = settings_of(OptimizerSettings, config.train, "train")
    optimizer = make_optimizer(settings, total_steps=10)
    params = jnp.array([1.0, -2.0])
    state = optimizer.init(params)
    result = []
    for step in range(number):
        gradient = jnp.asarray(GRADIENT * (step + 1), jnp.float32)
        update, state = optimizer.update(gradient, state, params)
        params = params + update
        result.append(params)
    return np.array(result)


@pytest.mark.parametrize("clip_norm", [0.0, 6e-4])
def test_rmsprop_is_that_of_keras_3(clip_norm):
    """keras/src/optimizers/rmsprop.py: epsilon is inside the root."""
    mean_square, params, expected = np.zeros(2), np.array([1.0, -2.0]), []
    for step in range(3):
        gradient = GRADIENT * (step + 1)
        if clip_norm:
            gradient *= min(1, clip_norm / np.linalg.norm(gradient))
        mean_square = 0.9 * mean_square + 0.1 * gradient**2
        params = params - 1e-2 * gradient / np.sqrt(mean_square + 1e-7)
        expected.append(params)
    found = steps(optimizer="rmsprop", learning_rate=1e-2, clip_norm=clip_norm)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_adadelta_is_that_of_its_paper():
    squares, updates, params, expected = np.zeros(2), np.zeros(2), np.array([1.0, -2.0]), []
    for step in range(3):
        gradient = GRADIENT * (step + 1)
        squares = 0.95 * squares + 0.05 * gradient**2
        update = gradient * np.sqrt(updates + 1e-6) / np.sqrt(squares + 1e-6)
        updates = 0.95 * updates + 0.05 * update**2
        params = params - update
        expected.append(params)
    np.testing.assert_allclose(steps(optimizer="adadelta", learning_rate=1.0), expected, rtol=1e-6)


def test_adam_begins_with_the_learning_rate():
    first = steps(1, optimizer="adam", learning_rate=1e-2)
    np.testing.assert_allclose(first, [[0.99, -1.99]], rtol=1e-5)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_learning_rate_rises_from_nothing(schedule):
    params = steps(
        11, optimizer="adam", learning_rate=1e-2, schedule=schedule, warmup_steps=4, clip_norm=0.0
    )
    sizes = np.abs(np.diff(np.concatenate([[1.0], params[:, 0]])))
    assert sizes[0] == 0
    np.testing.assert_allclose(sizes[1:4] / sizes[1], [1, 2, 3], rtol=0.02)
    np.testing.assert_allclose(sizes[4], 1e-2, rtol=0.05)  # the gradients grow
    if schedule == "cosine":  # what is left is for the descent
        assert (np.diff(sizes[4:]) < 0).all()
        assert sizes[-1] == 0


def test_a_cosine_schedule_ends_at_zero():
    params = steps(11, optimizer="adam", learning_rate=1e-2, schedule="cosine")
    sizes = np.abs(np.diff(params[:, 0]))
    assert (np.diff(sizes) < 0).all()
    assert sizes[-1] == 0
