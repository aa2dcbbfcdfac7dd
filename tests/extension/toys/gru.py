"""A model: one GRU over ids."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from musicjax.config import SHARE, at_least, setting, settings_of
from musicjax.models.categorical import Categorical, without_unknown


@dataclasses.dataclass(frozen=True)
class Settings:
    """What `config.model` says of it."""

    window: int = setting(at_least(1))
    pad: bool = setting()
    hidden: int = setting(at_least(1))
    dropout: float = setting(SHARE)


class Network(nnx.Module):
    """Embedding -> GRU -> logits."""

    def __init__(self, size, hidden, *, rngs):
        self.embed = nnx.Embed(size, hidden, rngs=rngs)
        self.gru = nnx.GRUCell(hidden, hidden, rngs=rngs)
        self.logits = nnx.Linear(hidden, size, rngs=rngs)

    def step(self, h, ids):
        """Reads one id of each, [B]; h is [B, H]."""
        return self.gru(h, self.embed(ids))[0]

    def run(self, ids):
        """h after each id, [B, T, H]. ids: [B, T]."""

        def step(h, ids):
            h = self.step(h, ids)
            return h, h

        h = jnp.zeros((ids.shape[0], self.gru.hidden_features))
        return jnp.swapaxes(jax.lax.scan(step, h, ids.T)[1], 0, 1)


@dataclasses.dataclass(frozen=True)
class GRU(Categorical):
    """See musicjax.models.base.Model."""

    encoding: object
    settings: Settings
    window: int
    pad: bool
    dropout: float

    @classmethod
    def from_config(cls, config, encoding):
        """See Model."""
        settings = settings_of(Settings, config.model, "model")
        return cls(encoding, settings, settings.window, settings.pad, settings.dropout)

    def network(self, rngs):
        """See Model."""
        return Network(self.encoding.size, self.settings.hidden, rngs=rngs)

    def apply(self, params, batch, key=None):
        """See Model: every id of a window learns, the last is measured."""
        network = self.bind(params)
        h = network.run(batch["elements"][:, :-1])
        return self.predicted(network.logits(h if key is not None else h[:, -1]), batch)

    def plan(self, prime_length, length):
        """See Model."""
        return self.window if prime_length is None else prime_length, length or 64

    def prefill(self, params, prime, positions):
        """See Model."""
        return self.bind(params).run(prime)[:, -1]

    def sample_step(self, params, carry, keys, position, rules):
        """See Model."""
        network = self.bind(params)
        logits = rules(without_unknown(network.logits(carry)))
        ids = jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)
        return network.step(carry, ids), ids
