"""Exported programs, run without this code, do what the models do."""

import json
import re

import jax
import numpy as np
import pytest
from conftest import ROOT
from small_models import biaxial, causal_lstm, random_batch

from musicjax.models import programs, weights

P = 6


def sharpened(model):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), model.shapes)


@pytest.mark.parametrize(
    "make",
    [
        lambda: causal_lstm(memory=8, kernel="scan"),
        lambda: biaxial("tiny_best", kernel="scan"),
    ],
    ids=["pointer", "biaxial"],
)
def test_a_program_is_the_model(make, tmp_path):
    model, rows = make(), 3
    params = sharpened(model)
    programs.write(tmp_path, programs.export(model, P))
    described = json.loads((tmp_path / "programs.json").read_text())
    prefill, step = (
        jax.export.deserialize((tmp_path / f"{name}.stablehlo").read_bytes())
        for name in ("prefill", "sample_step")
    )
    assert prefill.platforms == step.platforms == ("cpu", "cuda")
    for path in tmp_path.iterdir():  # nor do they tell where they were made
        assert str(ROOT).encode() not in path.read_bytes()
    for program in (prefill, step):  # no kernel but those that jax promises to keep
        targets = set(re.findall(r"custom_call @([\w.]+)", program.mlir_module()))
        assert targets <= {"cu_threefry2x32_ffi", "shape_assertion"}
    assert f"int32[batch,{1 + P}]" in described["prefill"]["inputs"].values()

    named = {name: np.asarray(array) for name, array in weights.by_name(params).items()}
    prime = random_batch(model, rows)["elements"][:, :P]
    positions = np.tile(np.arange(1 + P, dtype=np.int32), (rows, 1))
    keys = jax.random.split(jax.random.key(5), rows)
    seen = []

    @jax.jit
    def two_steps(params):
        def rules(logits, num_notes=None):
            seen.append(logits)
            return logits / 0.5

        carry, made = model.prefill(params, prime, positions), []
        for place in (7, 8):
            carry, element = model.sample_step(
                params, carry, keys, np.full(rows, place, np.int32), rules
            )
            made.append(element)
        logits = seen if model.reads == "ids" else []
        return weights.name_arrays(carry), made, logits

    expected_carry, expected, logits = two_steps(params)
    carry = prefill.call(named, prime, positions)
    assert [f"carry.{name}" for name in carry] == list(described["prefill"]["outputs"])
    for i, place in enumerate((7, 8)):
        carry, element, *found = step.call(
            named,
            carry,
            jax.random.key_data(keys),
            np.full(rows, place, np.int32),
            np.float32(0.5),
        )
        np.testing.assert_array_equal(element, expected[i])
        assert len(found) == (model.reads == "ids")
        for ours in found:
            np.testing.assert_allclose(ours, logits[i], atol=1e-5)
    for name, array in expected_carry.items():
        np.testing.assert_allclose(carry[name], array, atol=1e-5, err_msg=name)
