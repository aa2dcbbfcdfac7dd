"""The devices that share each batch: each has all weights and a part of the rows.

The compiled step is the same for one device and for many, of one process or of several: arrays say
where they are, and XLA adds the devices' gradients up. So the losses are the same but for the order
of sums. Each process makes all batches, and puts their rows on its own devices.
"""

import contextlib
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from musicjax.errors import InputError
from musicjax.system import workers


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def gather(*values: int) -> np.ndarray:
    """The values of each process, int32 [processes, values]; waits until all have called it."""
    return np.asarray(multihost_utils.process_allgather(np.array(values, np.int32)))


def make_mesh(number: int, batch_size: int) -> Mesh:
    """The first `number` devices of each process; 0 takes as many as can share a batch evenly.

    A CPU is split into as many as are asked for, for 0 into its cores, if nothing has run on it
    yet.

    Raises:
        InputError: fewer devices, or a batch that cannot be shared evenly.
    """
    parts = number or min(workers.cores(), batch_size)
    if parts > 1 and jax.config.jax_num_cpu_devices < parts:  # pyright: ignore[reportAttributeAccessIssue]
        with contextlib.suppress(RuntimeError):  # devices are made already; enough, perhaps
            jax.config.update("jax_num_cpu_devices", parts)
    available = [jax.local_devices(process) for process in range(jax.process_count())]
    fewest = min(map(len, available))
    if fewest < number:
        raise InputError(
            f"train.devices is {number}, but jax has {fewest}; lower it, or start anew (a "
            "CPU can only be split before anything has run on it)"
        )
    if not number:
        fitting = (n for n in range(fewest, 1, -1) if batch_size % (n * len(available)) == 0)
        number = next(fitting, 1)
    devices = [device for own in available for device in own[:number]]
    if batch_size % len(devices):
        raise InputError(
            f"train.batch_size is {batch_size}, which {len(devices)} devices cannot share evenly; "
            "change it or train.devices"
        )
    return Mesh(np.array(devices), ("data",))


def replicated(mesh: Mesh | None) -> Sharding:
    """All of an array on each device; without a mesh on this process's first."""
    return _sharding(mesh)


def sharded(mesh: Mesh | None, axis: int) -> Sharding:
    """An array whose rows, along an axis, are divided among the devices; or as above."""
    return _sharding(mesh, *[None] * axis, "data")


def _sharding(mesh: Mesh | None, *axes: str | None) -> Sharding:
    # A mesh of one device is none, so that a program is compiled once with it and without.
    if mesh is None or mesh.size == 1:
        return SingleDeviceSharding(mesh.devices.item() if mesh else jax.local_devices()[0])
    return NamedSharding(mesh, PartitionSpec(*axes))


def put(tree: Any, sharding: Sharding) -> Any:
    """The arrays of a tree, which each process has whole, on the devices of a sharding."""

    def placed(array) -> jax.Array:
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)

    return jax.tree.map(placed, tree)
