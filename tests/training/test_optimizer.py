import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from conftest import load_config

from musicjax.config import settings_of
from musicjax.errors import InputError
from musicjax.training.optimizer import make_optimizer, make_schedule
from musicjax.training.settings import OptimizerSettings

RATE = 1e-2
GRADIENT = np.array([3e-4, -4e-4])  # near the root of epsilon, so that epsilon's place matters


def settings_with(**changes):
    """Of configs/vocab.py, but for some."""
    config = load_config()
    config.train.update(changes)
    return settings_of(OptimizerSettings, config.train, "train")


def steps(number=3, **changes):
    """The parameters after each update, from (1, -2), by gradients that grow."""
    optimizer = make_optimizer(settings_with(**changes), total_steps=10)
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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sgd(momentum=0.5)", lambda: optax.sgd(RATE, momentum=0.5)),
        ("adamw(weight_decay=0.1, b2=0.9)", lambda: optax.adamw(RATE, b2=0.9, weight_decay=0.1)),
        ("nadam", lambda: optax.nadam(RATE)),
        ("madgrad", lambda: optax.contrib.madgrad(RATE)),
        ("rmsprop(decay=0.5)", lambda: optax.rmsprop(RATE, 0.5, 1e-7, eps_in_sqrt=True)),
    ],
)
def test_any_optimizer_of_optax_with_its_arguments(name, expected):
    optimizer, params, result = expected(), jnp.array([1.0, -2.0]), []
    state = optimizer.init(params)
    for step in range(3):
        gradient = jnp.asarray(GRADIENT * (step + 1), jnp.float32)
        update, state = optimizer.update(gradient, state, params)
        params = params + update
        result.append(params)
    found = steps(optimizer=name, learning_rate=RATE)
    np.testing.assert_array_equal(found, result)


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1, 1, 1, 1, 1]),
        ("constant", 4, [0, 1, 1, 1, 1]),
        ("cosine(alpha=0.5)", 0, [1, 0.827254, 0.603054, 0.512236, 0.5]),
        ("exponential_decay(decay_rate=0.01)", 0, [1, 0.158489, 0.0398107, 0.0158489, 0.01]),
        ("linear_schedule(end_value=0.0)", 0, [1, 0.6, 0.3, 0.1, 0]),
        ("linear_schedule(end_value=0.0)", 4, [0, 1, 0.5, 1 / 6, 0]),
        ("piecewise_constant_schedule(boundaries_and_scales={6: 0.1})", 0, [1, 1, 0.1, 0.1, 0.1]),
        ("warmup_cosine_decay_schedule", 4, [0, 1, 0.5, 0.066987, 0]),
        ("warmup_constant_schedule(init_value=0.005)", 8, [0.5, 0.75, 0.9375, 1, 1]),
        ("exponential_decay(decay_rate=0.1, transition_steps=1)", 0, [1, 1e-4, 1e-7, 1e-9, 1e-10]),
    ],
)
def test_any_schedule_of_optax_with_its_arguments(schedule, warmup, expected):
    """In training steps 0, 4, 7, 9 and 10 of 10, in shares of the learning rate."""
    found = make_schedule(
        settings_with(learning_rate=RATE, schedule=schedule, warmup_steps=warmup), 10
    )
    found = [found(step) / RATE if callable(found) else found / RATE for step in (0, 4, 7, 9, 10)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"optimizer": "adm"}, r"train.optimizer is 'adm'; did you mean adam\? optax has .*, sgd,"),
        ({"optimizer": "adam(beta1=0.9)"}, r"which has no 'beta1'; did you mean b1\? optax has b1"),
        ({"optimizer": "dpsgd"}, "'dpsgd'; it needs l2_norm_clip too"),
        ({"optimizer": "adam(b1='x')"}, "which makes no update of gradients alone"),
        ({"optimizer": "lbfgs"}, "which makes no update of gradients alone"),
        (
            {"schedule": "linear"},
            r"train.schedule is 'linear'; did you mean linear_schedule\? optax",
        ),
        ({"schedule": "cosine(steps=3)"}, r"no 'steps'; did you mean decay_steps\? optax has init"),
        ({"schedule": "exponential_decay"}, "'exponential_decay'; it needs decay_rate too"),
        ({"schedule": "cosine(decay_steps=-1)"}, "which optax refuses: "),
    ],
)
def test_what_optax_does_not_have_is_one_line(changes, expected):
    with pytest.raises(InputError, match=expected):
        make_optimizer(settings_with(**changes), 10, {"w": jnp.zeros((2, 3))})


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
