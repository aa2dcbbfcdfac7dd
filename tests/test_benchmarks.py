"""The benchmarks' peers compute what they are beside; the tables say what was measured."""

import jax
import numpy as np
import pytest
from conftest import load_config

from benchmarks import nsm_peers
from musicjax.models import biaxial
from musicjax.models.note_features import note_features


@pytest.mark.parametrize("variant", ["tiny_best", "kotecha"])
def test_pytorchs_loop_over_notes_is_our_sampling(variant):
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra `bench`)")
    config = load_config(variant, "nsm")
    config.model.time_sizes, config.model.note_sizes = (8, 6), (6, 5)
    model = biaxial.build(config)
    layout, pieces, most_notes = model.layout, 3, 4
    step = nsm_peers.torch_step(model)
    rng = np.random.default_rng(0)
    states = np.zeros((pieces, layout.notes, layout.bits), np.float32)
    theirs_carried, ours_carried = None, model.carry(pieces)
    for t in range(3):
        beat = np.full(pieces, (t - 1) % 16)
        noise = rng.random((layout.notes, pieces, layout.bits), np.float32)
        ours_carried, x = model.step_over_time(ours_carried, states, beat)
        drawn, logits = model.draw_notes(
            x, noise[:, None], biaxial.Draw(1.0, most_notes), model.note_lstms_at(t)
        )
        theirs_carried, theirs, their_logits = step(
            *(torch.tensor(array) for array in (states, beat, noise)),
            theirs_carried,
            most_notes,
        )
        np.testing.assert_allclose(np.stack(their_logits), logits[:, 0], atol=1e-4)
        states = np.swapaxes(np.asarray(drawn[:, 0]), 0, 1)
        np.testing.assert_array_equal(theirs, states)
        assert states.any()


def test_pytorchs_features_are_ours():
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra `bench`)")
    rng = np.random.default_rng(1)
    for variant in ("", "best", "kotecha"):
        layout = biaxial.layout_of(load_config(variant, "nsm"))
        states = rng.integers(2, size=(2, 3, layout.notes, layout.bits)).astype(np.float32)
        beat = rng.integers(16, size=(2, 3))
        theirs = nsm_peers.torch_expand(layout)(torch.tensor(states), torch.tensor(beat))
        np.testing.assert_array_equal(theirs, note_features(jax.numpy.array(states), beat, layout))
