import json
import struct

import jax
import numpy as np
import pytest
import safetensors.numpy
from conftest import spoil
from small_models import biaxial, causal_lstm

from musicjax.errors import InputError
from musicjax.models import weights


def drawn(model):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), model.shapes)


@pytest.fixture
def path(tmp_path):
    model = causal_lstm()
    weights.write(tmp_path / "model.safetensors", drawn(model), "float32", 7)
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("make", [causal_lstm, biaxial])
def test_weights_come_back_bit_for_bit_and_halved_nearly(make, tmp_path):
    model, path = make(), tmp_path / "model.safetensors"
    params = drawn(model)
    for dtype, tolerance in (("float32", 0.0), ("float16", 2e-3)):
        weights.write(path, params, dtype, 7)
        found, step = weights.read(path, model)
        assert step == 7
        assert jax.tree.structure(found) == jax.tree.structure(params)
        for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(params), strict=True):
            assert ours.dtype == np.float32
            np.testing.assert_allclose(ours, theirs, atol=tolerance, rtol=0)
    # Without this code.
    arrays = safetensors.numpy.load_file(path)
    assert set(arrays) == set(weights.by_name(params))
    assert arrays["w_out" if "w_out" in arrays else "note_lstms.0.w_h"].dtype == np.float16


def test_a_number_that_does_not_fit_is_one_line(tmp_path):
    large = jax.tree.map(lambda x: 1e6 * x, drawn(causal_lstm()))
    with pytest.raises(InputError, match="has a number that float16 does not hold"):
        weights.write(tmp_path / "model.safetensors", large, "float16", 7)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", [0.001, 0.01, 0.02, 0.5, 0.999])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_file_is_one_line(path, damage, place):
    spoil(path, damage, place)
    with pytest.raises(InputError, match=r"model.safetensors: (damaged \(|of another model)") as e:
        weights.read(path, causal_lstm())
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("damage", ["missing", "empty"])
def test_a_file_that_is_not_there_is_one_line(path, damage):
    spoil(path, damage)
    with pytest.raises(InputError, match=r"no such file|damaged"):
        weights.read(path, causal_lstm())


def test_a_file_of_others_is_one_line(path):
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"F32"', b'"I32"'))  # the same bytes, as other numbers
    with pytest.raises(InputError, match="damaged"):
        weights.read(path, causal_lstm())
    path.write_bytes(whole)
    with pytest.raises(InputError, match=r"another model than config.json describes: b_out is"):
        weights.read(path, causal_lstm(embedding_size=6))
    safetensors.numpy.save_file({"a": np.zeros(2, np.float32)}, path)
    with pytest.raises(InputError, match="damaged"):
        weights.read(path, causal_lstm())
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}})
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode())
    with pytest.raises(InputError, match="damaged"):
        weights.read(path, causal_lstm())
