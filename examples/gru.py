"""The LSTM swapped for a GRU, without a change in musicjax.

    python examples/gru.py /my/midi runs/gru

A model is a dataclass of its settings; an nnx module owns the parameters; docs/extending.md
explains each method. Registered here, it is known to this program. A package of one's own names it
as an entry point, and then the command lines know it too.
"""

import dataclasses
import sys
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

import musicjax
from musicjax.config import SHARE, at_least, setting, settings_of
from musicjax.models import MODELS
from musicjax.models.categorical import Categorical, without_unknown


@dataclasses.dataclass(frozen=True)
class Settings:
    """The fields of config.model."""

    window: int = setting(at_least(1))  # ids of an example
    hidden: int = setting(at_least(1))
    dropout: float = setting(SHARE)


class Network(nnx.Module):
    """Embedding -> GRU -> logits. Axes: B batch, T element, H hidden, V vocabulary."""

    def __init__(self, size: int, settings: Settings, *, rngs: nnx.Rngs):
        self.embed = nnx.Embed(size, settings.hidden, rngs=rngs)
        self.gru = nnx.GRUCell(settings.hidden, settings.hidden, rngs=rngs)
        self.logits = nnx.Linear(settings.hidden, size, rngs=rngs)

    def step(self, h: jax.Array, ids: jax.Array) -> jax.Array:
        """The state [B, H] after reading ids [B]."""
        return self.gru(h, self.embed(ids))[0]

    def run(self, ids: jax.Array) -> jax.Array:
        """The state after each of ids [B, T]: [B, T, H]."""

        def step(h, ids):
            h = self.step(h, ids)
            return h, h

        h = jnp.zeros((ids.shape[0], self.gru.hidden_features))
        return jnp.swapaxes(jax.lax.scan(step, h, ids.T)[1], 0, 1)


@dataclasses.dataclass(frozen=True)
class GRU(Categorical):
    """See musicjax.models.base.Model."""

    encoding: Any
    settings: Settings
    window: int
    dropout: float
    pad: bool = True  # windows may begin before the song

    @classmethod
    def from_config(cls, config, encoding):
        settings = settings_of(Settings, config.model, "model")
        return cls(encoding, settings, settings.window, settings.dropout)

    def network(self, rngs):
        return Network(self.encoding.size, self.settings, rngs=rngs)

    def apply(self, params, batch, key=None):
        network = self.bind(params)
        h = network.run(batch["elements"][:, :-1])
        if key is None:  # measured: the last alone, which has read the whole window
            return self.predicted(network.logits(h[:, -1]), batch)
        kept = jax.random.bernoulli(key, 1 - self.dropout, h.shape)
        return self.predicted(network.logits(h * kept / (1 - self.dropout)), batch)

    def plan(self, prime_length, length):
        return self.window if prime_length is None else prime_length, length or 200

    def prefill(self, params, prime, positions):
        return self.bind(params).run(prime)[:, -1]

    def sample_step(self, params, carry, keys, position, rules):
        network = self.bind(params)
        logits = rules(without_unknown(network.logits(carry)))
        ids = jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)
        return network.step(carry, ids), ids


def main(folder: str, workdir: str, name: str = "vocab:quick") -> None:
    MODELS.register("gru", GRU)
    config = musicjax.get_config(name, **{"data.source": folder})
    window = config.model.window
    config.model = ConfigDict({"name": "gru", "window": window, "hidden": 256, "dropout": 0.5})
    config.train.eval_window = 0  # as long as in training
    run = musicjax.train(config, workdir)
    for row, metrics in run.evaluate().items():
        print(f"{row:16}{metrics['nll']:.3f} nats a {run.encoding.element}")
    print(musicjax.write_pieces(run.generate(num=1), f"{workdir}/samples")[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
