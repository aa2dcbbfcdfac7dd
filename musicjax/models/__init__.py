"""The models: what predicts the next element of music from those before.

To add one: a module that meets musicjax.models.base.Model, and its line here or an entry point.
"""

from typing import TYPE_CHECKING, Any

from musicjax.encodings import ENCODINGS
from musicjax.encodings.base import Encoding
from musicjax.errors import InputError
from musicjax.registry import Registry

if TYPE_CHECKING:  # it imports jax
    from musicjax.models.base import Model

MODELS: "Registry[type[Model]]" = Registry(
    "models",
    "model.name",
    {
        "token_lstm": "musicjax.models.token_lstm:TokenLSTM",
        "causal_lstm": "musicjax.models.causal_lstm:CausalLSTM",
        "biaxial": "musicjax.models.biaxial:Biaxial",
    },
)


def build_model(config: Any, encoding: Encoding) -> "Model":
    """The model that `config.model` describes, for the elements of an encoding.

    Raises:
        InputError: no such model; one that does not read this encoding; or a setting that cannot
            be.
    """
    name = config.model.name
    model = MODELS[name]
    if model.reads != encoding.kind:
        models = [other for other in MODELS if MODELS[other].reads == encoding.kind]
        encodings = [other for other in ENCODINGS if ENCODINGS[other].kind == model.reads]
        raise InputError(
            f"data.encoding is {encoding.name!r} and model.name is {name!r}, which do not fit: one "
            f"makes {encoding.kind!r}, the other reads {model.reads!r}; expected data.encoding "
            f"{_any_of(encodings)}, or model.name {_any_of(models)}"
        )
    return model.from_config(config, encoding)


def _any_of(names: list[str]) -> str:
    return " or ".join(map(repr, names)) or "(there is none)"
