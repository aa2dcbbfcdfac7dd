"""Additive self-attention: each step becomes a mean of all steps, weighted by their scores.

    score[t, s] = v . tanh(x_t w_t + x_s w_s + b) + c

Axes: B batch, T step that attends, S step attended to, F feature, U attention unit.
Source: Bahdanau et al. 2015, as self-attention in Anushree et al. [1].
"""

import jax
import jax.numpy as jnp
from flax import nnx

from musicjax.models.lstm import product


class Attention(nnx.Module):
    """The attention of a sequence to itself.

    Attributes:
        w_t, w_s: [F, U].
        b, v: [U].
        c: [].
    """

    def __init__(self, features: int, units: int, scores: str, causal: bool, *, rngs: nnx.Rngs):
        """Draws the parameters.

        Args:
            features: F.
            units: U.
            scores: "linear"; or "sigmoid", which squashes them, as [1] does.
            causal: whether a step attends to the past and itself alone.
            rngs: with a `params` stream.
        """
        glorot = jax.nn.initializers.glorot_uniform()
        self.w_t = nnx.Param(glorot(rngs.params(), (features, units)))
        self.w_s = nnx.Param(glorot(rngs.params(), (features, units)))
        self.b = nnx.Param(jnp.zeros(units))
        self.v = nnx.Param(glorot(rngs.params(), (units, 1))[:, 0])
        self.c = nnx.Param(jnp.zeros(()))
        # Names, not functions: networks of equal settings have equal graphs.
        self.scores, self.causal = scores, causal

    def __call__(self, x: jax.Array) -> jax.Array:
        """x: [B, T, F]. Returns [B, T, F]."""
        steps = x.shape[1]
        mask = jnp.tri(steps, dtype=bool) if self.causal else jnp.ones((steps, steps), bool)
        # One product for both: x is read once, and so is its gradient.
        both = product(x, jnp.concatenate([self.w_t[...], self.w_s[...]], axis=1))
        query, keys = jnp.split(both, 2, axis=-1)
        return self._mean(query, x, keys + self.b[...], mask)

    def keys(self, x: jax.Array) -> jax.Array:
        """What steps are found by. x: [B, S, F]. Returns [B, S, U]."""
        return x @ self.w_s[...] + self.b[...]

    def attend(
        self, x: jax.Array, values: jax.Array, keys: jax.Array, mask: jax.Array
    ) -> jax.Array:
        """Means of `values`.

        Args:
            x: [B, T, F].
            values: [B, S, F].
            keys: [B, S, U].
            mask: bool [T, S], whether t attends to s.
        Returns:
            [B, T, F].
        """
        return self._mean(x @ self.w_t[...], values, keys, mask)

    def _mean(
        self, query: jax.Array, values: jax.Array, keys: jax.Array, mask: jax.Array
    ) -> jax.Array:
        """As `attend`, of x w_t. query: [B, T, U]."""
        score = jnp.tanh(query[:, :, None] + keys[:, None]) @ self.v[...] + self.c[...]
        if self.scores == "sigmoid":
            score = jax.nn.sigmoid(score)
        score = jnp.where(mask, score, -jnp.inf)
        return jnp.einsum("bts,bsf->btf", jax.nn.softmax(score), values)
