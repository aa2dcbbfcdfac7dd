"""Gradients -> updates: any optimizer and learning rate schedule of optax, by its name.

    train.optimizer     adam | rmsprop | adamw(weight_decay=0.01) | muon | ...
    train.schedule      constant | cosine | exponential_decay(decay_rate=0.1) | ...

A schedule is counted in training steps. What its arguments do not say comes from `config.train`: it
begins at (or rises to) the learning rate, and its length is that of training.

Differs from optax: rmsprop and adadelta have the defaults of Keras 3 (epsilon inside the root).
"""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import optax
import optax.contrib

from musicjax.errors import InputError
from musicjax.models.base import Params
from musicjax.training.settings import OptimizerSettings, parse_call

_KERAS = {
    "rmsprop": {"decay": 0.9, "eps": 1e-7, "eps_in_sqrt": True},
    "adadelta": {"rho": 0.95, "eps": 1e-6},
}
_SHORT = {"constant": "constant_schedule", "cosine": "cosine_decay_schedule"}
# What schedules call the learning rate, and how long they are.
_RATES = ("peak_value", "init_value", "value")
_LENGTHS = ("decay_steps", "transition_steps")


@functools.cache
def optimizers() -> dict[str, Callable]:
    """Those of optax, by name."""
    # The weights that schedule_free is evaluated by are not its parameters.
    left_out = ("_", "scale_by_", "schedule_free")
    return {
        name: function
        for module in (optax.contrib, optax)
        for name, function in inspect.getmembers(module, _is_function)
        if not name.startswith(left_out)
        and "learning_rate" in inspect.signature(function).parameters
    }


@functools.cache
def schedules() -> dict[str, Callable]:
    """Those of optax that one learning rate makes, by name, those of config files first."""
    found = {
        name: function
        for name, function in inspect.getmembers(optax.schedules, _is_function)
        if inspect.signature(function).parameters.keys() & set(_RATES)
    }
    return {short: found[name] for short, name in _SHORT.items()} | found


def _is_function(found: object) -> bool:
    return inspect.isfunction(found) or isinstance(found, functools.partial)  # nadam is partial


def make_optimizer(
    settings: OptimizerSettings, total_steps: int, params: Params | None = None
) -> optax.GradientTransformation:
    """The optimizer of `config.train`, its schedule and the limit of its gradients.

    Args:
        settings: which, and its learning rate.
        total_steps: at which a cosine schedule, say, reaches 0.
        params: the shapes that it is tried on.
    Raises:
        InputError: a name or an argument that optax does not know; or an optimizer that needs more
            than gradients.
    """
    name, given = parse_call(settings.optimizer)
    function = _named("train.optimizer", name, optimizers())
    rate = make_schedule(settings, total_steps)
    given = {"learning_rate": rate} | _KERAS.get(name, {}) | given
    optimizer = _called("train.optimizer", settings.optimizer, function, given)
    if settings.clip_norm:
        optimizer = optax.chain(optax.clip_by_global_norm(settings.clip_norm), optimizer)
    if params is not None:
        try:
            jax.eval_shape(lambda p: optimizer.update(p, optimizer.init(p), p), params)
        except Exception as error:
            raise InputError(
                f"train.optimizer is {settings.optimizer!r}, which makes no update of gradients "
                f"alone ({type(error).__name__}: {error}); expected other arguments, or another "
                "optimizer, such as adamw"
            ) from None
    return optimizer


def make_schedule(settings: OptimizerSettings, total_steps: int) -> Any:
    """The learning rate at each step, warm-up included; a number where it is always the same.

    Raises:
        InputError: a name or an argument that optax does not know.
    """
    rate, warmup = settings.learning_rate, settings.warmup_steps
    name, given = parse_call(settings.schedule)
    function = _named("train.schedule", name, schedules())
    known = inspect.signature(function).parameters
    rises = "peak_value" in known  # by itself
    if not rises and name in ("constant", "constant_schedule") and not given:
        schedule = rate
    else:
        filled = {next(word for word in _RATES if word in known): rate}
        filled |= {"init_value": 0.0} if rises and "init_value" in known else {}
        own_warmup = "warmup_steps" in known
        left = total_steps if own_warmup else max(total_steps - warmup, 1)
        filled |= {word: left for word in _LENGTHS if word in known}
        filled |= {"warmup_steps": warmup} if own_warmup else {}
        schedule = _called("train.schedule", settings.schedule, function, filled | given)
        warmup = 0 if own_warmup else warmup
    if warmup:
        after: Any = schedule if callable(schedule) else optax.constant_schedule(rate)
        schedule = optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), after], [warmup])
    return schedule


def _named(setting: str, name: str, known: Mapping[str, Callable]) -> Callable:
    if name not in known:
        raise InputError(f"{setting} is {name!r}; {_hint(name, known)}")
    return known[name]


def _hint(name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = sorted((one for one in known if name in one), key=len)
    close = close or difflib.get_close_matches(name, known, 1, cutoff=0.5)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"{meant}optax has {', '.join(known)}"


def _called(setting: str, text: str, function: Callable, given: Mapping[str, Any]) -> Any:
    known = inspect.signature(function).parameters
    for word in given:
        if word not in known:
            takes = [name for name in known if name != "learning_rate"]
            raise InputError(f"{setting} is {text!r}, which has no {word!r}; {_hint(word, takes)}")
    missing = [
        word
        for word, parameter in known.items()
        if parameter.default is parameter.empty and word not in given
    ]
    if missing:
        raise InputError(f"{setting} is {text!r}; it needs {missing[0]} too")
    try:
        return function(**given)
    except Exception as error:
        raise InputError(f"{setting} is {text!r}, which optax refuses: {error}") from None
