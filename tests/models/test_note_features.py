"""Note state expand against values worked out by hand, and its folded form against itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musicjax.models.note_features import Layout, note_features, terms

PAPER = Layout(78)


def one_step(layout, *cells, position=0):
    """Features of a step with these (note, play, articulate), [N, F]."""
    states = np.zeros((1, 1, layout.notes, layout.bits), np.uint8)
    for note, *bits in cells:
        states[0, 0, note] = bits[: layout.bits]
    return np.asarray(note_features(states, np.array([[position]]), layout)[0, 0])


def nonzero(row):
    return {int(slot): float(row[slot]) for slot in np.flatnonzero(row)}


def test_by_hand_middle_c_held_and_the_e_above_struck():
    # Note 36 is MIDI 60, C; note 40 is E. Seen from C: itself at 13 + 2 * 12 = 37 (38 not struck);
    # E four above at 37 + 8 = 45 and 46. Interval classes: 0 at 63, 4 at 67.
    rows = one_step(PAPER, (36, 1, 0), (40, 1, 1))
    assert rows.shape == (78, 80)
    assert nonzero(rows[36]) == {0: 36, 1: 1, 37: 1, 45: 1, 46: 1, 63: 1, 67: 1}
    # Seen from E: C is four below at 37 - 8 = 29; classes 0, and 8 (C is 8 above mod 12) at 71.
    assert nonzero(rows[40]) == {0: 40, 5: 1, 37: 1, 38: 1, 29: 1, 63: 1, 71: 1}
    # Seen from the G two octaves higher (67): out of reach, but counted: C is 5 above, E is 9.
    assert nonzero(rows[67]) == {0: 67, 8: 1, 68: 1, 72: 1}


def test_by_hand_a_chord_over_octaves_counts_each():
    rows = one_step(PAPER, (0, 1, 1), (12, 1, 0), (24, 1, 0), (7, 1, 0))
    # From note 0: neighbours 0, 7, 12 above; 24 is out of reach; three Cs and a G.
    assert nonzero(rows[0]) == {1: 1, 37: 1, 38: 1, 51: 1, 61: 1, 63: 3, 70: 1}
    assert rows[0, 0] == 0  # its index


@pytest.mark.parametrize("note", [0, 77])
def test_neighbours_past_the_edge_are_silent(note):
    # Johnson's wrap around: the lowest note sees the highest as its neighbour.
    rows = one_step(PAPER, (0, 1, 1), (77, 1, 1))
    around = rows[note, 13:63]
    assert around.sum() == 2  # itself alone
    assert around[24:26].tolist() == [1, 1]


def test_the_paper_has_no_beat_and_its_last_slot_is_empty():
    assert not one_step(PAPER, (3, 1, 1), position=13)[:, 75:].any()


def test_johnsons_beat_is_signed_and_kotechas_bits():
    # 13 = 1101 in binary: the least first.
    johnson = one_step(Layout(78, beat="signed"), position=13)
    assert johnson[5, 75:].tolist() == [1, -1, 1, 1, 0]
    kotecha = one_step(Layout(78, beat="bits"), position=13)
    assert kotecha[5, 75:].tolist() == [1, 0, 1, 1, 0]


def test_kotechas_midi_numbers_and_rotated_classes():
    rows = one_step(Layout(78, pitch_feature="midi", rotated=True), (36, 1, 0), (40, 1, 1))
    # Slot k holds interval k + 1: E from C (4) at 63 + 3; C itself (0, that is 12) at 63 + 11.
    assert nonzero(rows[36]) == {0: 60, 1: 1, 37: 1, 45: 1, 46: 1, 66: 1, 74: 1}


def test_by_hand_the_play_bit_alone():
    layout = Layout(88, bits=1, lowest=21)
    rows = one_step(layout, (3, 1), (10, 1))
    assert rows.shape == (88, 55)
    # Note 3 is MIDI 24, C. Neighbours take 13..37, itself at 25; classes from 38.
    assert nonzero(rows[3]) == {0: 3, 1: 1, 25: 1, 32: 1, 38: 1, 45: 1}


@pytest.mark.parametrize(
    "layout",
    [
        Layout(78),
        Layout(78, beat="signed"),
        Layout(30, beat="bits", pitch_feature="midi", rotated=True),
        Layout(26),
        Layout(88, bits=1, lowest=21),
        Layout(5),
    ],
)
def test_own_projection_equals_unfolded_gradients_too(layout):
    b, t, g = 2, 3, 8
    keys = jax.random.split(jax.random.key(0), 5)
    states = jax.random.bernoulli(keys[0], 0.3, (b, t, layout.notes, layout.bits)).astype(np.uint8)
    positions = jax.random.randint(keys[1], (b, t), 0, 16)
    # A MIDI number goes up to 101: scaled, so that no product is large.
    w_x = jax.random.normal(keys[2], (layout.notes, layout.size, g)) / layout.size
    bias = jax.random.normal(keys[3], (layout.notes, g))
    weights = jax.random.normal(keys[4], (layout.notes, t, b, g))

    def own(w_x, bias):
        return terms(states, positions, w_x, bias, layout).product()

    def plain(w_x, bias):
        features = note_features(states, positions, layout)
        return jnp.einsum("btnf,nfg->ntbg", features, w_x) + bias[:, None, None]

    np.testing.assert_allclose(own(w_x, bias), plain(w_x, bias), atol=1e-5)
    ours, theirs = (
        jax.jit(jax.grad(lambda *p, f=f: jnp.sum(weights * jnp.tanh(f(*p))), (0, 1)))(w_x, bias)
        for f in (own, plain)
    )
    for mine, other in zip(ours, theirs, strict=True):
        scale = float(jnp.abs(other).max())
        np.testing.assert_allclose(mine / scale, other / scale, atol=1e-5)
