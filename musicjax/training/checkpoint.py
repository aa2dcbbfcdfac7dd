"""Checkpoints of a run, by Orbax: the last and the best (lowest validation loss)."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import grain
import jax
import optax
from flax import nnx
from orbax.checkpoint import v1 as ocp

from musicjax.errors import InputError
from musicjax.models.base import Model, Params


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
    """Whether anything was trained in a work dir."""
    return any(path.name.isdigit() for path in (Path(workdir) / "checkpoints").glob("*"))


class Checkpoints(contextlib.AbstractContextManager):
    """The checkpoints of a work dir; a context, at whose end all is written."""

    def __init__(self, workdir: str | Path):
        """Opens them; the folder is made by the first save."""
        policies = ocp.training.preservation_policies
        self._workdir = Path(workdir).absolute()
        self._saving = None  # Orbax keeps a thread and file handles until its result is asked for
        self._checkpointer = ocp.training.Checkpointer(
            str(self._workdir / "checkpoints"),
            preservation_policy=policies.AnyPreservationPolicy(  # type: ignore[arg-type]
                [
                    policies.LatestN(1),
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
        try:
            self._finish_save()
        finally:
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
        validation_loss: float | None = None,
    ) -> None:
        """Saves state and the place in the data at the state's step, in the background.

        Without a validation loss (in the middle of an epoch) it can be the last, but not the best.
        """
        self._finish_save()
        params = nnx.to_pure_dict(state.averaged)
        self._saving = self._checkpointer.save_checkpointables_async(
            int(state.step),
            {"params": params, "rest": _rest(state), "data": _Place(batches)},
            metrics=None if validation_loss is None else {"validation_loss": validation_loss},
            force=True,  # by default Orbax skips a save while another is under way
            overwrite=True,
        )

    def _finish_save(self) -> None:
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def restore(self, state: TrainState, batches: grain.DatasetIterator) -> TrainState:
        """The last checkpoint's state; `batches` is moved to its place.

        `state` tells the shapes, and where the arrays are to be; another number of devices or
        processes may have saved them.
        """
        everywhere = state.step.sharding
        loaded = self._checkpointer.load_checkpointables(
            None,
            {
                "params": _placed(nnx.to_pure_dict(state.averaged), everywhere),
                "rest": _placed(_rest(state), everywhere),
                "data": _Place(batches),
            },
        )
        nnx.replace_by_pure_dict(state.averaged, loaded["params"])
        rest = loaded["rest"]
        if state.ema is not None:
            nnx.replace_by_pure_dict(state.params, rest["trained"])
        optimizer = jax.tree.unflatten(jax.tree.structure(state.optimizer), rest["optimizer"])
        return state._replace(step=rest["step"], optimizer=optimizer, sums=rest["sums"])

    def load_params(self, model: Model, which: str) -> tuple[Params, int]:
        """Trained parameters on the first device, and the checkpoint's step.

        Args:
            model: whose they are.
            which: "best" (lowest validation loss; the last, if there was no validation) or "last".
        Raises:
            InputError: the checkpoint is of another model.
        """
        losses: dict[int, Any] = {
            found.step: cast(dict, found.metrics or {}).get("validation_loss")
            for found in self._checkpointer.checkpoints
        }
        step, scored = max(losses), [step for step in losses if losses[step] is not None]
        if which == "best" and scored:
            step = min(sorted(scored), key=losses.__getitem__)
        params = model.shapes
        shapes = nnx.to_pure_dict(params)
        path = self._workdir / "checkpoints" / str(step)
        saved = ocp.metadata(str(path), checkpointable_name="params").metadata
        if _shapes(saved) != _shapes(shapes):
            raise InputError(
                f"{self._workdir}: checkpoint {step} is of another model than config.json "
                "describes; train again in a new --workdir"
            )
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        loaded = self._checkpointer.load_checkpointables(step, {"params": _placed(shapes, device)})
        nnx.replace_by_pure_dict(params, loaded["params"])
        return params, step


class _Place:
    """The place in the data, which is the same for all processes, as Orbax saves and loads it.

    Grain's iterator, given to Orbax, would write a file for each process, and could only be loaded
    by as many.
    """

    file = "process_0-of-1.json"  # as Grain names it

    def __init__(self, batches: grain.DatasetIterator):
        self._batches = batches

    async def save(self, directory: Any) -> Any:
        """Orbax's protocol of a checkpointable: starts, and returns what is to be awaited."""
        state = json.dumps(self._batches.get_state())

        async def write() -> None:
            folder = await directory.await_creation()
            if jax.process_index() == 0:
                (folder / self.file).write_text(state)

        return write()

    async def load(self, directory: Any) -> Any:
        """As `save`."""

        async def read() -> None:
            self._batches.set_state(json.loads((directory / self.file).read_text()))

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
