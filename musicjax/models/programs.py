"""What generates music, as programs of StableHLO, which run without this code and hold no weights:

    prefill       params, prime, positions -> carry
    sample_step   params, carry, keys, position, temperature -> carry, elements[, logits]

Each is for a batch of any size, on CPUs and on NVIDIA's GPUs. `params` and `carry` are dicts of
arrays, the parameters by the names of their safetensors file; the other arguments are those of
musicjax.models.base.Model, but for `keys`: uint32 [B, 2], of which each row is a PRNG key. The
logits are of a model of ids, before they are divided by the temperature.

    program = jax.export.deserialize(pathlib.Path("prefill.stablehlo").read_bytes())
    carry = program.call(params, prime, positions)

Axes: B batch, P element of the prime.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.export import Exported

from musicjax.models.base import Model
from musicjax.models.weights import by_name, from_names, name_arrays
from musicjax.system import files

PLATFORMS = ("cpu", "cuda")
_ARGUMENTS = {
    "prefill": ("params", "prime", "positions"),
    "sample_step": ("params", "carry", "keys", "position", "temperature"),
}
_RESULTS = ("carry", "elements", "logits")


def export(model: Model, prime_length: int) -> dict[str, Exported]:
    """The programs of a model, by name.

    Args:
        model: its kernels must be XLA's own: an Exported refuses calls of others.
        prime_length: P. Zeros come first where a prime is shorter.
    """
    (batch,) = jax.export.symbolic_shape("batch")
    element = jnp.int32 if model.reads == "ids" else jnp.uint8
    params = by_name(model.shapes)
    prime = jax.ShapeDtypeStruct((batch, prime_length, *model.encoding.shape), element)
    positions = jax.ShapeDtypeStruct((batch, 1 + prime_length), jnp.int32)
    keys = jax.ShapeDtypeStruct((batch, 2), jnp.uint32)
    position = jax.ShapeDtypeStruct((batch,), jnp.int32)
    structure: Any = None

    def prefill(params: Any, prime: jax.Array, positions: jax.Array) -> dict[str, jax.Array]:
        nonlocal structure
        carry = model.prefill(from_names(model, params), prime, positions)
        structure = jax.tree.structure(carry)
        return name_arrays(carry)

    def sample_step(
        params: Any, carry: Any, keys: jax.Array, position: jax.Array, temperature: jax.Array
    ) -> tuple[Any, ...]:
        seen = []

        def rules(logits: jax.Array, **_: jax.Array) -> jax.Array:
            seen.append(logits)
            return logits / jnp.maximum(temperature, 1e-6)

        before = jax.tree.unflatten(structure, [carry[name] for name in names])
        wrapped = jax.random.wrap_key_data(keys)
        after, elements = model.sample_step(
            from_names(model, params), before, wrapped, position, rules
        )
        # A matrix is drawn note by note, in a loop that its logits do not leave.
        logits = seen if model.reads == "ids" else []
        return name_arrays(after), elements, *logits

    def exported(function: Any, *arguments: Any) -> Exported:
        return jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)

    with _without_paths():
        first = exported(prefill, params, prime, positions)
        carry = jax.tree.unflatten(
            first.out_tree, [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in first.out_avals]
        )
        names = list(name_arrays(jax.tree.unflatten(structure, list(range(len(carry))))))
        temperature = jax.ShapeDtypeStruct((), jnp.float32)
        second = exported(sample_step, params, carry, keys, position, temperature)
    return {"prefill": first, "sample_step": second}


@contextlib.contextmanager
def _without_paths() -> Iterator[None]:
    """A program says of each operation in which file it was written: here without its folder, since
    programs are to be shared.
    """
    name = "jax_hlo_source_file_canonicalization_regex"
    before = getattr(jax.config, name)
    jax.config.update(name, "^.*/")
    try:
        yield
    finally:
        jax.config.update(name, before)


def write(folder: Path, programs: dict[str, Exported]) -> None:
    """Writes NAME.stablehlo of each program, as jax.export serialises it, and programs.json: what
    their arguments and results are, in the order in which the programs take them.
    """
    described = {}
    for name, program in programs.items():
        with files.new_file(folder / f"{name}.stablehlo") as file:
            file.write(program.serialize())
        arguments, _ = jax.tree.unflatten(program.in_tree, program.in_avals)
        results = jax.tree.unflatten(program.out_tree, program.out_avals)
        results = results if isinstance(results, tuple) else (results,)
        described[name] = {
            "inputs": _describe(_ARGUMENTS[name], arguments),
            "outputs": _describe(_RESULTS, results),
        }
    text = json.dumps({"platforms": PLATFORMS} | described, indent=1)
    files.write_text(folder / "programs.json", text + "\n")


def _describe(names: Sequence[str], trees: Sequence[Any]) -> dict[str, str]:
    """Arrays by name, such as "float32[batch,256]", in the order in which a program has them."""
    return {
        f"{name}.{at}".rstrip("."): f"{array.dtype}[{','.join(map(str, array.shape))}]"
        for name, tree in zip(names, trees, strict=False)  # not every program has all results
        for at, array in name_arrays(tree).items()
    }
