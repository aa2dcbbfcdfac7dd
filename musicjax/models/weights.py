"""Parameters by name, and as a safetensors file, which needs none of this code to be read.

A name is the place in the network, such as `lstms.0.w_x`.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx

from musicjax.errors import InputError
from musicjax.models.base import Model, Params
from musicjax.system import files


def name_arrays(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by their places in it, in the order of jax.tree.leaves."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(at, simple=True, separator="."): leaf for at, leaf in leaves}


def by_name(params: Params) -> dict[str, jax.Array]:
    """The parameters by name."""
    return name_arrays(nnx.to_pure_dict(params))


def from_names(model: Model, arrays: Mapping[str, Any]) -> Params:
    """The parameters of a model; the arrays are those of `by_name`, in any order."""
    tree = nnx.to_pure_dict(model.shapes)
    leaves = [arrays[name] for name in name_arrays(tree)]
    params = jax.tree.map(lambda shape: shape, model.shapes)  # not in place
    nnx.replace_by_pure_dict(params, jax.tree.unflatten(jax.tree.structure(tree), leaves))
    return params


def write(path: Path, params: Params, dtype: str, step: int) -> None:
    """Writes parameters, whole or not at all.

    Args:
        path: of the file.
        params: of a model.
        dtype: such as "float32"; "float16" halves the file.
        step: of the checkpoint that they are, which the file's metadata say.
    Raises:
        InputError: the type does not hold a number.
    """
    with np.errstate(over="ignore"):  # found below
        arrays = {name: np.asarray(array, dtype) for name, array in by_name(params).items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"{name} has a number that {dtype} does not hold; take float32")
    known = {"format": "flax", "step": str(step), "sha256": _digest(arrays, step)}
    content = safetensors.numpy.save(arrays, known)
    with files.new_file(path) as file:
        file.write(content)


def read(path: Path, model: Model) -> tuple[Params, int]:
    """Parameters that `write` wrote, in float32, and the step.

    Raises:
        InputError: no such file, damaged, or of another model.
    """
    again = "export the run again"
    try:
        with safetensors.safe_open(path, "numpy") as file:
            known = file.metadata() or {}
            step = int(known["step"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        are_floats = all(array.dtype.kind == "f" for array in arrays.values())
        if not (are_floats and known["format"] == "flax"):
            raise ValueError("not floats of Flax")
        if _digest(arrays, step) != known["sha256"]:
            raise ValueError("not what was written")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {again}") from None
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: damaged ({error}); {again}") from None
    expected = {name: shape.shape for name, shape in by_name(model.shapes).items()}
    found = {name: array.shape for name, array in arrays.items()}
    if found != expected:
        name = min(dict(found.items() ^ expected.items()))
        here, there = (str(shapes.get(name, "missing")) for shapes in (found, expected))
        raise InputError(
            f"{path}: of another model than config.json describes: {name} is {here}, expected "
            f"{there}; {again}"
        )
    return from_names(model, {name: jnp.float32(array) for name, array in arrays.items()}), step


def _digest(arrays: Mapping[str, np.ndarray], step: int) -> str:
    """Of the numbers: safetensors does not notice one that has changed."""
    digest = hashlib.sha256(str(step).encode())
    for name in sorted(arrays):
        digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
