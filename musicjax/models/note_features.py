"""Note state expand: 80 features of each note of a step, of what it and its neighbours did.

    0        the note's index, from 0
    1-12     its pitch class, one-hot, C first
    13-62    the 25 notes around it, 12 below to 12 above, [play, articulate] each; 0 past the edge
    63-74    how many notes of each interval class play, the note's own class first
    75-78    the step's place in its bar, bits of value 1, 2, 4, 8; 0 in the paper
    79       0

With the play bit alone the neighbours take 25 slots, and the whole 55.

Where each note has weights of its own, all but the neighbours, the counts and the beat is a
constant of the note, and the counts are those of the pitch classes, rotated. `project` uses that:
its product with the weights is of 63 features, or 67 with the beat, and all but 50 are the same for
all notes.

Axes: B batch, T time step, N note, C bit, F feature, G gate (4H).
Source: paper section 2.1 and figure 2, after Johnson's and Kotecha's networks [3].
Differs: (1) neighbours past the edges are silent, where Johnson's wrap around at the lowest note;
(2) the beat is the place in the bar, so meter changes keep it (a bar that divides 16 steps counts
on to 16); (3) slot 0 is the note's index, as Johnson's, where the paper and Kotecha have its MIDI
number (`pitch_feature="midi"`); (4) `rotated` is Kotecha's variant, `beat` "signed" Johnson's.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from musicjax.models.lstm import Terms

REACH = 12  # notes looked at on each side


class Layout(NamedTuple):
    """Which of the references' layouts.

    Attributes:
        notes: N.
        bits: C: 2, or 1 for play alone.
        lowest: MIDI pitch of note 0.
        beat: "none" (paper), "signed" (-1 and 1, Johnson) or "bits" (0 and 1, Kotecha).
        pitch_feature: slot 0 is the "index" of the note, or its "midi" number (paper, Kotecha).
        rotated: interval classes begin with the one above the note's own (Kotecha).
    """

    notes: int
    bits: int = 2
    lowest: int = 24
    beat: str = "none"
    pitch_feature: str = "index"
    rotated: bool = False

    @property
    def size(self) -> int:
        """F."""
        return 1 + 12 + (2 * REACH + 1) * self.bits + 12 + 4 + 1


def note_features(states: jax.Array, positions: jax.Array, layout: Layout) -> jax.Array:
    """The features themselves.

    Args:
        states: 0 or 1 [B, T, N, C].
        positions: int [B, T], the steps' places in their bars.
        layout: of the features.
    Returns:
        float32 [B, T, N, F].
    """
    b, t, n, _ = states.shape
    states = jnp.asarray(states, jnp.float32)
    padded = jnp.pad(states, ((0, 0), (0, 0), (REACH, REACH), (0, 0)))
    around = padded[:, :, np.arange(n)[:, None] + np.arange(2 * REACH + 1)]
    constant, beats = _constant_features(layout), _beat_features(positions, layout)
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


def terms(
    states: jax.Array, positions: jax.Array, w_x: jax.Array, b: jax.Array, layout: Layout
) -> Terms:
    """note_features(states, beat) w_x + b of weights that each note has of its own, as fewer terms:
    what a note sees of its neighbours, and what all notes share.

    Args:
        states, positions, layout: as in note_features.
        w_x: [N, F, G].
        b: [N, G].
    Returns:
        features [N, T, B, S], and their weights [N, S, G].
    """
    batch, t, n, _ = states.shape
    first, classes, last = 13, 13 + (2 * REACH + 1) * layout.bits, layout.size - 5
    states = jnp.swapaxes(states, 0, 1).astype(b.dtype)
    padded = jnp.pad(states, ((0, 0), (0, 0), (REACH, REACH), (0, 0)))
    around = [padded[:, :, note : note + 2 * REACH + 1] for note in range(n)]
    around = jnp.stack(around).reshape(n, t, batch, -1)
    # Notes of each pitch class: the same for all, so it is the weights that are rotated.
    counts = states[..., 0] @ np.eye(12, dtype=np.float32)[np.arange(n) % 12]
    note = np.arange(n)[:, None]
    counted = w_x[note, classes + _slot(np.arange(12), note, layout)]
    # What never changes is one more feature, 1, so that adding it takes no pass over all steps.
    constant = jnp.einsum("nf,nfg->ng", _constant_features(layout), w_x[:, :first]) + b
    shared = [counts, jnp.ones((t, batch, 1))]
    weights = [w_x[:, first:classes], counted, constant[:, None]]
    if layout.beat != "none":
        shared.append(jnp.swapaxes(_beat_features(positions, layout), 0, 1))
        weights.append(w_x[:, last : last + 4])
    shared = jnp.concatenate(shared, axis=-1)
    features = jnp.concatenate([around, jnp.broadcast_to(shared, (n, *shared.shape))], axis=-1)
    return Terms(features, jnp.concatenate(weights, axis=1))


def _constant_features(layout: Layout) -> np.ndarray:
    """float32 [N, 13]: slot 0 and the pitch class."""
    index = np.arange(layout.notes)
    first = index + (layout.lowest if layout.pitch_feature == "midi" else 0)
    pitch_class = np.eye(12)[(index + layout.lowest) % 12]
    return np.concatenate([first[:, None], pitch_class], axis=1).astype(np.float32)


def _slot(cell: np.ndarray, note: np.ndarray, layout: Layout) -> np.ndarray:
    """The slot among the interval classes in which a cell counts for a note."""
    return (cell - note - (1 if layout.rotated else 0)) % 12


def _interval_classes(layout: Layout) -> np.ndarray:
    """float32 [M, N, 12]: one-hot of the slots of all cells, for all notes."""
    index = np.arange(layout.notes)
    return np.eye(12, dtype=np.float32)[_slot(index[:, None], index, layout)]


def _beat_features(positions: jax.Array, layout: Layout) -> jax.Array:
    """float32 [B, T, 4]."""
    bits = (jnp.asarray(positions)[..., None] >> np.arange(4)) & 1
    if layout.beat == "none":
        return jnp.zeros(bits.shape, jnp.float32)
    return (2 * bits - 1 if layout.beat == "signed" else bits).astype(jnp.float32)
