"""Gradients -> updates: the optimizers and learning rate schedules of the configs."""

import functools

import optax

from musicjax.training.settings import OptimizerSettings


def make_optimizer(settings: OptimizerSettings, total_steps: int) -> optax.GradientTransformation:
    """RMSprop as in Keras 3 (rho 0.9, epsilon 1e-7 inside the root), Adam, or Adadelta.

    Args:
        settings: which, and its learning rate.
        total_steps: at which a cosine schedule reaches 0.
    """
    rate, warmup = settings.learning_rate, settings.warmup_steps
    schedule = rate
    if settings.schedule == "cosine":
        schedule = optax.cosine_decay_schedule(rate, max(total_steps - warmup, 1))
    if warmup:
        after = schedule if callable(schedule) else optax.constant_schedule(rate)
        schedule = optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), after], [warmup])
    optimizer = {
        "rmsprop": functools.partial(optax.rmsprop, decay=0.9, eps=1e-7, eps_in_sqrt=True),
        "adam": optax.adam,
        "adadelta": functools.partial(optax.adadelta, rho=0.95, eps=1e-6),
    }[settings.optimizer](schedule)
    if settings.clip_norm:
        optimizer = optax.chain(optax.clip_by_global_norm(settings.clip_norm), optimizer)
    return optimizer
