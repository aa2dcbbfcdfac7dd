"""Note state expand: 80 numbers that tell each note of a step what it needs to go on.

    0        the note's number, from 0
    1-12     its pitch class, one-hot, C first
    13-62    the 25 notes around it, 12 below to 12 above, [play, articulate] each; 0 past the edge
    63-74    how many notes of each interval class play, the note's own class first
    75-78    the step's place in its bar, bits of value 1, 2, 4, 8; 0 in the paper
    79       0

With the play bit alone the neighbours take 25 places, and the whole 55.

All of it is affine in the note states. So its product with an LSTM's weights, which is all that the
model needs of it, can be had from the note states directly: `fold` and `project` never make the 80
numbers. That pays where each note has weights of its own; where they share them, one product with
the features takes fewer operations.

Axes: B batch, T time step, N note, C bit, F feature, G gate (4H).
Source: paper section 2.1 and figure 2, after Johnson's and Kotecha's networks [3].
Differs: (1) neighbours past the edges are silent, where Johnson's wrap around at the lowest note;
(2) the beat is the place in the bar, so meter changes keep it (a bar that divides 16 steps counts
on to 16); (3) `numbers="midi"` and `rotated` are Kotecha's variants, `beat` "signed" Johnson's.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

REACH = 12  # notes looked at on each side


class Layout(NamedTuple):
    """Which of the references' layouts.

    Attributes:
        notes: N.
        bits: C: 2, or 1 for play alone.
        lowest: MIDI pitch of note 0.
        beat: "none" (paper), "signed" (-1 and 1, Johnson) or "bits" (0 and 1, Kotecha).
        numbers: slot 0 is the "index" of the note, or its "midi" number (Kotecha).
        rotated: interval classes begin with the one above the note's own (Kotecha).
    """

    notes: int
    bits: int = 2
    lowest: int = 24
    beat: str = "none"
    numbers: str = "index"
    rotated: bool = False

    @property
    def size(self) -> int:
        """F."""
        return 1 + 12 + (2 * REACH + 1) * self.bits + 12 + 4 + 1


def note_features(states: jax.Array, beat: jax.Array, layout: Layout) -> jax.Array:
    """The features themselves.

    Args:
        states: 0 or 1 [B, T, N, C].
        beat: int [B, T], the step's place in its bar.
        layout: of the 80 numbers.
    Returns:
        float32 [B, T, N, F].
    """
    b, t, n, _ = states.shape
    states = jnp.asarray(states, jnp.float32)
    padded = jnp.pad(states, ((0, 0), (0, 0), (REACH, REACH), (0, 0)))
    around = padded[:, :, np.arange(n)[:, None] + np.arange(2 * REACH + 1)]
    constant, beats = _constant_features(layout), _beat_features(beat, layout)
    classes = jnp.einsum("btm,mnk->btnk", states[..., 0], _interval_classes(layout))
    return jnp.concatenate(
        [
            jnp.broadcast_to(constant, (b, t, *constant.shape)),
            around.reshape(b, t, n, -1),
            classes,
            jnp.broadcast_to(beats[:, :, None], (b, t, n, 4)),
            jnp.zeros((b, t, n, 1)),
        ],
        axis=-1,
    )


class Folded(NamedTuple):
    """The affine map from note states to what an LSTM makes of their features.

    Attributes:
        states: [N C, N, G], of each cell for each note.
        beat: [1 or N, 4, G].
        bias: [N, G].
    """

    states: jax.Array
    beat: jax.Array
    bias: jax.Array


def fold(w_x: jax.Array, b: jax.Array, layout: Layout) -> Folded:
    """The map of an LSTM's weights.

    Args:
        w_x: [1, F, G], the same for all notes, or [N, F, G].
        b: [1, G] or [N, G].
        layout: of the features.
    """
    n, c = layout.notes, layout.bits
    gates = w_x.shape[-1]
    first, classes, last = 13, 13 + (2 * REACH + 1) * c, layout.size - 5
    around = w_x[:, first:classes].reshape(-1, 2 * REACH + 1, c, gates)
    # Cell m seen from note n stands at place m - n + REACH, if it is there.
    place = np.arange(n)[:, None] - np.arange(n) + REACH
    near = (place >= 0) & (place <= 2 * REACH)
    copy = np.zeros(n, int) if len(w_x) == 1 else np.arange(n)
    dense = around[copy, np.clip(place, 0, 2 * REACH)] * near[..., None, None]  # [M, N, C, G]
    counted = w_x[:, classes:last][copy, _class_of(layout)]  # [M, N, G]
    dense = dense.at[:, :, 0].add(counted)
    dense = jnp.moveaxis(dense, 2, 1).reshape(n * c, n, gates)
    constant = jnp.broadcast_to(w_x[:, :first], (n, first, gates))
    bias = jnp.einsum("nf,nfg->ng", _constant_features(layout), constant) + b
    return Folded(dense, w_x[:, last : last + 4], bias)


def project(states: jax.Array, beat: jax.Array, folded: Folded, layout: Layout) -> jax.Array:
    """note_features(states, beat) w_x + b, without making the features.

    Args:
        states, beat, layout: as in note_features.
        folded: of w_x and b.
    Returns:
        [T, B, N, G].
    """
    batch, t, n, c = states.shape
    flat = jnp.swapaxes(states.reshape(batch, t, n * c), 0, 1).astype(folded.bias.dtype)
    projected = jnp.einsum("tbi,ing->tbng", flat, folded.states) + folded.bias
    if layout.beat != "none":
        beats = jnp.swapaxes(_beat_features(beat, layout), 0, 1)
        projected += jnp.einsum("tbk,nkg->tbng", beats, folded.beat)
    return projected


def _constant_features(layout: Layout) -> np.ndarray:
    """float32 [N, 13]: number and pitch class."""
    index = np.arange(layout.notes)
    number = index + (layout.lowest if layout.numbers == "midi" else 0)
    return np.concatenate([number[:, None], np.eye(12)[(index + layout.lowest) % 12]], 1).astype(
        np.float32
    )


def _class_of(layout: Layout) -> np.ndarray:
    """int [M, N]: the slot in which cell m counts for note n."""
    index = np.arange(layout.notes)
    return (index[:, None] - index - (1 if layout.rotated else 0)) % 12


def _interval_classes(layout: Layout) -> np.ndarray:
    """float32 [M, N, 12]: one-hot of _class_of."""
    return np.eye(12, dtype=np.float32)[_class_of(layout)]


def _beat_features(beat: jax.Array, layout: Layout) -> jax.Array:
    """float32 [B, T, 4]."""
    bits = (jnp.asarray(beat)[..., None] >> np.arange(4)) & 1
    if layout.beat == "none":
        return jnp.zeros(bits.shape, jnp.float32)
    return (2 * bits - 1 if layout.beat == "signed" else bits).astype(jnp.float32)
