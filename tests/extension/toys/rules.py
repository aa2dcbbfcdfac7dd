"""A sampling rule with a setting: no id above --highest_id."""

import jax.numpy as jnp

from musicjax.config import at_least, setting
from musicjax.generation.options import SamplingRule


def ceiling(logits, history, settings, encoding):
    """Ids above the ceiling cannot come."""
    return jnp.where(jnp.arange(logits.shape[-1]) > settings["highest_id"], -1e9, logits)


CEILING = SamplingRule(
    ceiling, ("ids",), {"highest_id": setting(at_least(1), default=10_000, help="Highest id.")}
)
