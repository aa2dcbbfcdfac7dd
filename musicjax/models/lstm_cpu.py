"""The LSTMs of musicjax.models.lstm on a CPU: one call of compiled C++ for all steps.

XLA runs a scan's operations one by one, reads the recurrent weights in each step, in an order that
does not suit the product, and keeps what it computes in arrays of all steps. lstm_cpu.cc packs the
weights once, and uses what it has computed while it is in the cache. It is compiled when it is
first used, by the C++ compiler that is there (CXX, c++, g++, clang++, or the one of the package
`ziglang`), for the processor that is there, and kept in the user's cache. Where that fails the scan
computes the same, and a line says so.

Axes: as in musicjax.models.lstm, and U = F + H + 1: [x_t, h_{t-1}, 1] w, w being [w_x; w_h; b].
Of x [K, T, B, F] the steps come first in memory.
"""

import ctypes
import functools
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from musicjax.errors import InputError
from musicjax.system import cache, checksums, files

SOURCE = Path(__file__).with_name("lstm_cpu.cc")
# No -ffast-math, which would lose NaN.
FLAGS = ("-std=c++20", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros")
FLAGS = (*FLAGS, "-w", "-shared", "-fPIC")
_NAME = "lstm_cpu.so"
_SECONDS = 300  # of a compiler


def is_available() -> bool:
    """Whether jax computes on a CPU for which the C++ is compiled; compiles it if need be."""
    return _library() is not None


@functools.cache
def _library() -> ctypes.CDLL | None:
    if jax.default_backend() != "cpu":
        return None
    try:
        library = ctypes.CDLL(str(_compiled() / _NAME))
    except (OSError, subprocess.SubprocessError, InputError) as error:
        print(f"model.kernel is 'native', but {error}; going on with 'scan'", file=sys.stderr)
        return None
    for name in ("run", "keep", "step", "gradients", "gradients_but_x"):
        capsule = jax.ffi.pycapsule(getattr(library, f"lstm_{name}"))
        jax.ffi.register_ffi_target(f"musicjax_lstm_{name}", capsule, platform="cpu")
    return library


def panels(w: jax.Array) -> jax.Array:
    """Weights as `step` reads them, w [K, U, G] -> [K, panels, U, 4 * lanes]: in a panel those of
    the four gates of as many units as a register has lanes, zeros beyond the last unit.
    """
    library = _library()
    assert library is not None  # `is_available`
    lanes = library.lstm_lanes()
    num_lstms, depth, gates = w.shape
    w = w.reshape(num_lstms, depth, 4, gates // 4)
    w = jnp.pad(w, [(0, 0), (0, 0), (0, 0), (0, -(gates // 4) % lanes)])
    w = w.reshape(num_lstms, depth, 4, -1, lanes)
    return jnp.moveaxis(w, 3, 1).reshape(num_lstms, -1, depth, 4 * lanes)


def _compiled() -> Path:
    """The folder of the library, compiled unless it is there and as it was written.

    Raises:
        OSError, subprocess.SubprocessError: there is no compiler, or it fails, or the cache cannot
            be written to; the text says which.
    """
    # A cache may be shared by machines: what the library was made of and for is in its name.
    made_of = (SOURCE.read_text(), *FLAGS, jax.__version__, _processor())
    digest = hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:16]
    folder = cache.root() / "native" / digest
    if folder.is_dir():
        if checksums.find_damage(folder) is None:
            return folder
        shutil.rmtree(folder)
    try:
        with files.new_folder(folder) as temporary:
            _compile(temporary / _NAME)
            checksums.write(temporary)
    except (OSError, InputError):
        if not folder.is_dir():  # else another process was first
            raise
    return folder


def _compile(library: Path) -> None:
    compiler = _compiler()
    target = "-mcpu=native" if platform.machine() in ("arm64", "aarch64") else "-march=native"
    command = [*compiler, target, *FLAGS, f"-I{jax.ffi.include_dir()}", "-o", str(library)]
    result = subprocess.run(
        [*command, str(SOURCE)], capture_output=True, text=True, timeout=_SECONDS
    )
    if result.returncode:
        reason = (result.stderr.strip() or f"status {result.returncode}").splitlines()[0]
        raise OSError(f"{' '.join(compiler)} cannot compile {SOURCE.name}: {reason}")


def _compiler() -> list[str]:
    """The command of a C++ compiler.

    Raises:
        OSError: there is none.
    """
    if "CXX" in os.environ:
        return os.environ["CXX"].split()
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "c++"]
    raise OSError("no C++ compiler was found: install g++ or clang++, or pip install ziglang")


def _processor() -> str:
    """The processor's model and what it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    told = {line for line in lines if line.startswith(("model name", "flags", "Features", "CPU p"))}
    return "\n".join([platform.machine(), platform.processor(), *sorted(told)])


# --- the calls: of K LSTMs, whose rows B may be divided among devices ---------------------------


_INPUT = ["k", "t", "b", "f"]  # the axes of x, whose steps come first in memory


def _call(target: str, rule: str | None, shapes_of: Callable) -> Callable:
    """A call of the library, whose rows several devices may share, and to which `vmap` adds LSTMs.

    Args:
        target: its name in the library.
        rule: its axes, as custom_partitioning reads them: of arguments -> of results. Only b may be
            divided; a result without it is a sum over the rows. None: devices do not share it.
        shapes_of: the shapes of its results, from those of the arguments.
    """
    read = written = None
    if rule is not None:
        read, written = (
            [(1, 0, 2, 3) if axes == _INPUT else None for axes in side] for side in _axes(rule)
        )

    def plain(*arguments):
        shapes = shapes_of(*(a.shape for a in arguments))
        results = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        name = f"musicjax_lstm_{target}"
        call = jax.ffi.ffi_call(name, results, input_layouts=read, output_layouts=written)
        return tuple(call(*arguments))

    merged = custom_vmap(plain if rule is None else _divided(plain, rule))

    @merged.def_vmap
    def more_lstms(size, is_batched, *arguments):
        whole = (
            a if each else jnp.broadcast_to(a, (size, *a.shape))
            for a, each in zip(arguments, is_batched, strict=True)
        )
        results = merged(*(a.reshape(size * a.shape[1], *a.shape[2:]) for a in whole))
        return tuple(r.reshape(size, -1, *r.shape[1:]) for r in results), (True,) * len(results)

    return merged


def _axes(rule: str) -> list[list[list[str]]]:
    """Of its arguments and of its results, the axes of each."""
    return [[each.split() for each in side.split(",")] for side in rule.split("->")]


def _divided(plain: Callable, rule: str) -> Callable:
    """A call whose rows devices share."""
    divided = custom_partitioning(plain)
    axes = _axes(rule)

    def partition(mesh, arguments, _):
        spec = (*arguments[0].sharding.spec, *[None] * 4)[axes[0][0].index("b")]
        of_arguments, of_results = (
            tuple(
                NamedSharding(mesh, PartitionSpec(*(spec if a == "b" else None for a in each)))
                for each in side
            )
            for side in axes
        )

        def part(*arguments):
            results = plain(*arguments)
            if spec is None:
                return results
            both = zip(results, axes[1], strict=True)
            return tuple(r if "b" in each else jax.lax.psum(r, spec) for r, each in both)

        return mesh, part, of_results, of_arguments

    divided.def_partition(partition=partition, sharding_rule=rule)
    return divided


_STATE = "k b h, k b h"
run = _call(
    "run",  # x, w, h, c -> h of all steps, the last c
    f"k t b f, k u g, {_STATE} -> k t b h, k b h",
    lambda x, w, h, c: [(*x[:3], h[-1]), c],
)
keep = _call(
    "keep",  # as run; and gates and c of all steps
    f"k t b f, k u g, {_STATE} -> k t b h, k b h, k t b g, k t b h",
    lambda x, w, h, c: [(*x[:3], h[-1]), c, (*x[:3], w[-1]), (*x[:3], h[-1])],
)
# Of one step: added to each row or to all, x, panels, h, c -> h, c
step = _call("step", None, lambda added, x, panels, h, c: [h, c])
# gates, cells, hidden, x, w, h, c, d_hidden, d_h_last, d_c_last -> d_w, d_h, d_c, d_x
_KEPT = f"k t b g, k t b h, k t b h, k t b f, k u g, {_STATE}, k t b h, {_STATE}"
gradients = _call(
    "gradients",
    f"{_KEPT} -> k u g, {_STATE}, k t b f",
    lambda gates, cells, hidden, x, w, h, *_: [w, h, h, x],
)
gradients_but_x = _call(
    "gradients_but_x",
    f"{_KEPT} -> k u g, {_STATE}",
    lambda gates, cells, hidden, x, w, h, *_: [w, h, h],
)
