"""The devices that share each batch: every one has all weights and a part of the rows.

The compiled step is the same for one device and for many: arrays say where they lie, and XLA adds
up what the devices' gradients need. So the losses are the same, but for the order of sums.
"""

import contextlib

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from musicjax.errors import InputError


def make_mesh(number: int, batch_size: int) -> Mesh:
    """The first `number` devices, or all if it is 0. A CPU is split into as many as are asked for,
    if nothing has run on it yet.

    Raises:
        InputError: fewer devices, or a batch that cannot be shared evenly.
    """
    if number > 1 and jax.config.jax_num_cpu_devices < number:  # pyright: ignore[reportAttributeAccessIssue]
        with contextlib.suppress(RuntimeError):  # devices are made already; enough, perhaps
            jax.config.update("jax_num_cpu_devices", number)
    devices = jax.devices()[: number or None]
    if len(devices) < number:
        raise InputError(
            f"train.devices is {number}, but jax has {len(devices)}; lower it, or start anew (a "
            "CPU can only be split before anything has run on it)"
        )
    if batch_size % len(devices):
        raise InputError(
            f"train.batch_size is {batch_size}, which {len(devices)} devices cannot share evenly; "
            "change it or train.devices"
        )
    return Mesh(np.array(devices), ("data",))


def replicated(mesh: Mesh) -> NamedSharding:
    """All of an array on each device."""
    return NamedSharding(mesh, PartitionSpec())


def shared(mesh: Mesh, axis: int) -> NamedSharding:
    """An array whose rows, along an axis, are shared by the devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))
