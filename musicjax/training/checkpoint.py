"""Checkpoints of a run, by Orbax: the last two, the best (lowest validation loss), and those of
epochs that the config names.

Orbax notices that a file is missing, but not that weights have changed; so each checkpoint has
checksums of its files, which are written last. One that is damaged, or was not finished, is named
in a line and not used: the one before it is.
"""

import concurrent.futures
import contextlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import grain
import jax
import optax
from flax import nnx
from orbax.checkpoint import v1 as ocp

from musicjax.config import CHECKPOINT, expect
from musicjax.errors import InputError
from musicjax.models.base import Model, Params
from musicjax.system import checksums
from musicjax.training import devices, peers


class TrainState(NamedTuple):
    """All that a training step changes.

    Attributes:
        step: int32 []: steps done.
        params: the model's parameters.
        optimizer: optax's state.
        sums: the model's sums over this epoch so far, each float32 [].
        ema: the moving average of the parameters, if one is kept.
    """

    step: jax.Array
    params: Params
    optimizer: optax.OptState
    sums: dict[str, jax.Array]
    ema: Params | None = None

    @property
    def averaged(self) -> Params:
        """The average, or without one the parameters: what is measured, and made music with."""
        return self.params if self.ema is None else self.ema


def has_checkpoint(workdir: str | Path) -> bool:
    """Whether a work dir has a checkpoint that is not damaged."""
    return any(checksums.find_damage(path) is None for path in _folders(workdir))


def _folders(workdir: str | Path) -> list[Path]:
    """Of all checkpoints, the last first."""
    found = (path for path in (Path(workdir) / "checkpoints").glob("*") if path.name.isdigit())
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def _delete_damaged(workdir: Path) -> None:
    """Deletes the checkpoints that are damaged, of which Orbax would take the last, and says so."""
    for path in _folders(workdir):
        if damage := checksums.find_damage(path):
            print(f"{path} is deleted, as {damage}")
            shutil.rmtree(path)


def load_params(workdir: str | Path, model: Model, which: str) -> tuple[Params, int]:
    """Trained parameters on the first device, and the checkpoint's step. A checkpoint that is
    damaged is named on standard error.

    Args:
        workdir: of the run.
        model: whose they are.
        which: "best" (lowest validation loss; the last, if there was no validation), "last", or the
            number of an epoch.
    Raises:
        InputError: no checkpoint, none of that epoch, all are damaged, or it is of another model.
    """
    expect(CHECKPOINT.holds(which), "checkpoint", which, CHECKPOINT.expected)
    whole: list[Path] = []
    for path in _folders(workdir):
        if damage := checksums.find_damage(path):
            print(f"warning: {path} is not used, as {damage}", file=sys.stderr)
        else:
            whole.append(path)
    if not whole:
        raise InputError(f"{workdir}: no checkpoint yet; train for at least one epoch")
    path = whole[0]
    if which == "best":
        losses = {path: _validation_loss(path) for path in reversed(whole)}
        scored = {path: loss for path, loss in losses.items() if loss is not None}
        path = min(scored, key=scored.__getitem__, default=path)
    elif which != "last":
        epochs = {_epoch(path): path for path in reversed(whole)}
        kept = ", ".join(str(epoch) for epoch in epochs if epoch)
        if int(which) not in epochs:
            raise InputError(
                f"{workdir}: there is no checkpoint of epoch {which}, but of {kept or 'none'}; to "
                f"keep it train with --config.train.keep_epochs='({which},)'"
            )
        path = epochs[int(which)]
    params = model.shapes
    shapes = nnx.to_pure_dict(params)
    saved = ocp.metadata(str(path.absolute()), checkpointable_name="params").metadata
    if _shapes(saved) != _shapes(shapes):
        raise InputError(
            f"{workdir}: checkpoint {path.name} is of another model than config.json describes; "
            "train again in a new --workdir"
        )
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    loaded = ocp.load_checkpointables(str(path.absolute()), {"params": _placed(shapes, device)})
    nnx.replace_by_pure_dict(params, loaded["params"])
    return params, int(path.name)


def _validation_loss(path: Path) -> float | None:
    try:
        return json.loads((path / "metrics" / "metrics").read_text())["validation_loss"]
    except FileNotFoundError:  # of one in the middle of an epoch
        return None


def _epoch(path: Path) -> int | None:
    """The epoch at whose end a checkpoint was saved; None in the middle of one."""
    lines = json.loads((path / "data" / _Place.file).read_text())["lines"]
    return lines[-1]["epoch"] if lines and lines[-1]["step"] == int(path.name) else None


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints of a work dir; a context, at whose end all is written."""

    def __init__(self, workdir: str | Path, keep_steps: Sequence[int] = ()):
        """Opens them, and deletes those that are damaged; the folder is made by the first save.

        Where several processes train together, each calls it.

        Args:
            workdir: of the run.
            keep_steps: whose checkpoints are kept besides the last two and the best.
        """
        if devices.is_first():
            _delete_damaged(Path(workdir))
        devices.gather(0)  # the others wait for it
        policies = ocp.training.preservation_policies
        self._folder = Path(workdir).absolute() / "checkpoints"
        # A save is whole with its checksums, which come after all that Orbax writes.
        self._sealer = concurrent.futures.ThreadPoolExecutor(1)
        self._sealing: concurrent.futures.Future | None = None
        self._checkpointer = ocp.training.Checkpointer(
            str(self._folder),
            preservation_policy=policies.AnyPreservationPolicy(  # type: ignore[arg-type]
                [
                    policies.LatestN(2),
                    policies.CustomSteps(keep_steps),
                    policies.BestN(
                        n=1,
                        get_metric_fn=lambda metrics: -metrics["validation_loss"],
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if peers.is_loss(error[1]):
            return  # a save would wait for the process that was lost
        try:
            self._finish_save()
        finally:
            self._sealer.shutdown()
            self._checkpointer.close()

    @property
    def latest_step(self) -> int:
        """Step of the last checkpoint; 0 without one."""
        latest = self._checkpointer.latest
        return latest.step if latest else 0

    def save(
        self,
        state: TrainState,
        batches: grain.DatasetIterator,
        lines: Sequence[dict[str, Any]] = (),
        validation_loss: float | None = None,
    ) -> None:
        """Saves state, the place in the data and the lines of metrics.jsonl at the state's step, in
        the background.

        Without a validation loss (in the middle of an epoch) it can be the last, but not the best.
        """
        self._finish_save()
        step = int(state.step)
        params = nnx.to_pure_dict(state.averaged)
        saving: Any = self._checkpointer.save_checkpointables_async(
            step,
            {"params": params, "rest": _rest(state), "data": _Place(batches, lines)},
            metrics=None if validation_loss is None else {"validation_loss": validation_loss},
            force=True,  # by default Orbax skips a save while another is under way
            overwrite=True,
        )

        def seal() -> None:
            saving.result()  # Orbax keeps a thread and file handles until it is asked for
            if devices.is_first():
                checksums.write(self._folder / str(step))

        self._sealing = self._sealer.submit(seal)

    def _finish_save(self) -> None:
        if self._sealing is not None:
            sealing, self._sealing = self._sealing, None
            sealing.result()

    def restore(
        self, state: TrainState, batches: grain.DatasetIterator
    ) -> tuple[TrainState, list[dict[str, Any]]]:
        """The last checkpoint's state and lines of metrics.jsonl; `batches` is moved to its place.

        `state` tells the shapes, and where the arrays are to be; another number of devices or
        processes may have saved them.
        """
        everywhere = state.step.sharding
        place = _Place(batches)
        loaded = self._checkpointer.load_checkpointables(
            None,
            {
                "params": _placed(nnx.to_pure_dict(state.averaged), everywhere),
                "rest": _placed(_rest(state), everywhere),
                "data": place,
            },
        )
        nnx.replace_by_pure_dict(state.averaged, loaded["params"])
        rest = loaded["rest"]
        if state.ema is not None:
            nnx.replace_by_pure_dict(state.params, rest["trained"])
        optimizer = jax.tree.unflatten(jax.tree.structure(state.optimizer), rest["optimizer"])
        state = state._replace(step=rest["step"], optimizer=optimizer, sums=rest["sums"])
        return state, list(place.lines)


class _Place:
    """The place in the data and the lines of metrics.jsonl, which are the same for all processes,
    as Orbax saves and loads them.

    Grain's iterator, given to Orbax, would write a file for each process, and could only be loaded
    by as many.
    """

    file = "place.json"

    def __init__(self, batches: grain.DatasetIterator, lines: Sequence[dict[str, Any]] = ()):
        self._batches = batches
        self.lines = lines

    async def save(self, directory: Any) -> Any:
        """Orbax's protocol of a checkpointable: starts, and returns what is to be awaited."""
        state = json.dumps({"batches": self._batches.get_state(), "lines": list(self.lines)})

        async def write() -> None:
            folder = await directory.await_creation()
            if jax.process_index() == 0:
                (folder / self.file).write_text(state)

        return write()

    async def load(self, directory: Any) -> Any:
        """As `save`."""

        async def read() -> None:
            saved = json.loads((directory / self.file).read_text())
            self._batches.set_state(saved["batches"])
            self.lines = saved["lines"]

        return read()


def _rest(state: TrainState) -> dict[str, Any]:
    # Plain dicts and lists: readable by any Orbax, whatever becomes of optax's classes.
    rest = {"step": state.step, "optimizer": jax.tree.leaves(state.optimizer), "sums": state.sums}
    # Of a run with a moving average, what goes on being trained.
    return rest if state.ema is None else rest | {"trained": nnx.to_pure_dict(state.params)}


def _shapes(tree: Mapping) -> dict[str, tuple[int, ...]]:
    """Each parameter's shape, by its place in the tree; lists and dicts of numbers are alike."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    places = (
        "/".join(str(getattr(p, "key", getattr(p, "idx", p))) for p in at) for at, _ in leaves
    )
    return dict(zip(places, (tuple(leaf.shape) for _, leaf in leaves), strict=True))


def _placed(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    """The shapes of a tree, to be restored with a sharding."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
