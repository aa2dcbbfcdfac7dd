"""No GPU is at hand: what would run there is at least lowered for it."""

import jax
import numpy as np
import pytest
from conftest import VOCABULARY, load_config, zero_batches
from flax import nnx

from musicjax.loop import make_optimizer, make_train_steps, new_state
from musicjax.models import MODELS


@pytest.mark.parametrize(
    ("config", "variant", "changes"),
    [
        ("vocab", "tiny", {}),
        ("vocab", "tiny", {"causal": True, "bidirectional": False}),
        ("vocab", "", {}),
        ("nsm", "tiny", {}),
        ("nsm", "tiny_best", {}),
        ("nsm", "tiny_best", {"feedback": "sample"}),
        ("vocab", "tiny", {"storage": "bfloat16"}),
        ("nsm", "tiny_best", {"storage": "bfloat16"}),
        ("nsm", "tiny_best", {"feedback": "sample", "storage": "bfloat16"}),
        ("vocab", "tiny", {"remat": 4}),
        ("nsm", "tiny", {"remat": 4}),
        ("nsm", "", {}),
    ],
)
def test_every_training_step_lowers(config, variant, changes):
    config = load_config(variant, config)
    config.model.update(changes)
    module = MODELS[config.model.name]
    graph, params = nnx.split(module.build(config, VOCABULARY))
    loss_of = module.make_loss(config, VOCABULARY)
    batches = zero_batches(config)

    def loss_fn(params, batch, key):
        return loss_of(nnx.merge(graph, params), batch, key)

    optimizer = make_optimizer(config.train, 10)
    one = jax.tree.map(lambda array: array[0], batches)
    state = new_state(loss_fn, params, optimizer, one)
    steps = make_train_steps(loss_fn, optimizer, 0)
    exported = jax.export.export(steps, platforms=["cuda"])(state, batches, np.int32(2))
    assert exported.platforms == ("cuda",)
    assert "while" in exported.mlir_module()
