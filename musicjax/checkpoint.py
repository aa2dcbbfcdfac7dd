"""The work dir of a run: what training writes, and what generate and evaluate need.

    config.json        the config, with the version of this format
    vocabulary.json    the tokens the model knows, if it knows tokens
    test_songs/        the held-out test songs, a corpus folder
    checkpoints/       the last and the best (lowest validation loss) by Orbax
    metrics.jsonl      one line an epoch; TensorBoard's events and loss.png show the same

Nothing outside it is needed: it can be moved to another machine.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from flax import nnx
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp

from musicjax.config import Config
from musicjax.errors import InputError
from musicjax.models import MODELS
from musicjax.vocabulary import Vocabulary

FORMAT = 5


class TrainState(NamedTuple):
    """All that a training step changes.

    Attributes:
        step: int32 []: steps done.
        params: the model's nnx.State.
        optimizer: optax's state.
        sums: the model's sums over this epoch so far, each float32 [].
    """

    step: jax.Array
    params: nnx.State
    optimizer: optax.OptState
    sums: dict[str, jax.Array]


class Trained(NamedTuple):
    """A model out of a work dir.

    Attributes:
        model: with its trained parameters.
        config: of the run.
        vocabulary: whose ids it reads and predicts; None if it knows note states.
        step: of the checkpoint.
    """

    model: Any
    config: Config
    vocabulary: Vocabulary | None
    step: int


def open_checkpoints(workdir: str | Path) -> ocp.training.Checkpointer:
    """Orbax's checkpointer that keeps the last checkpoint and the best; close() it."""
    policies = ocp.training.preservation_policies
    return ocp.training.Checkpointer(
        str(Path(workdir).absolute() / "checkpoints"),
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


def has_checkpoint(workdir: str | Path) -> bool:
    """Whether anything was trained in a work dir."""
    return any(path.name.isdigit() for path in (Path(workdir) / "checkpoints").glob("*"))


def save(
    checkpoints: ocp.training.Checkpointer,
    state: TrainState,
    batches,
    validation_loss: float | None = None,
) -> None:
    """Saves state and the place in the data at the state's step, in the background.

    Without a validation loss (in the middle of an epoch) it can be the last, but not the best.
    """
    checkpoints.save_checkpointables_async(
        int(state.step),
        {"params": nnx.to_pure_dict(state.params), "rest": _rest(state), "data": _Place(batches)},
        metrics=None if validation_loss is None else {"validation_loss": validation_loss},
        force=True,  # by default Orbax skips a save while another is under way
        overwrite=True,
    )


def restore(checkpoints: ocp.training.Checkpointer, state: TrainState, batches) -> TrainState:
    """The last checkpoint's state; `batches` is moved to its place. `state` gives the shapes, and
    where the arrays lie; another number of devices or processes may have saved them.
    """
    everywhere = state.step.sharding
    loaded = checkpoints.load_checkpointables(
        None,
        {
            "params": _placed(nnx.to_pure_dict(state.params), everywhere),
            "rest": _placed(_rest(state), everywhere),
            "data": _Place(batches),
        },
    )
    nnx.replace_by_pure_dict(state.params, loaded["params"])
    rest = loaded["rest"]
    optimizer = jax.tree.unflatten(jax.tree.structure(state.optimizer), rest["optimizer"])
    return TrainState(rest["step"], state.params, optimizer, rest["sums"])


class _Place:
    """The place in the data, which is the same for all processes, as Orbax saves and loads it.

    Grain's iterator, given to Orbax, would write a file for each process, and could only be loaded
    by as many.
    """

    file = "process_0-of-1.json"  # as Grain names it

    def __init__(self, batches):
        self._batches = batches

    async def save(self, directory):
        state = json.dumps(self._batches.get_state())

        async def write():
            folder = await directory.await_creation()
            if jax.process_index() == 0:
                (folder / self.file).write_text(state)

        return write()

    async def load(self, directory):
        async def read():
            self._batches.set_state(json.loads((directory / self.file).read_text()))

        return read()


def _rest(state: TrainState) -> dict:
    # Plain dicts and lists: readable by any Orbax, whatever becomes of optax's classes.
    leaves = jax.tree.leaves(state.optimizer)
    return {"step": state.step, "optimizer": leaves, "sums": state.sums}


def save_config(workdir: Path, config: Config, fingerprint: str) -> None:
    """Writes config.json."""
    saved = {"format": FORMAT, "corpus": fingerprint, "config": config.to_dict()}
    write_whole(workdir / "config.json", json.dumps(saved, indent=2) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Writes a file, or leaves what was there: a stop or a full disk leaves no half of it."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load_config(workdir: str | Path) -> tuple[Config, str]:
    """The config of a work dir, and the fingerprint of the corpus it was trained on.

    Raises:
        InputError: no work dir, or one of another version.
    """
    path = Path(workdir) / "config.json"
    try:
        saved = json.loads(path.read_text())
        version = saved["format"]
    except FileNotFoundError:
        raise InputError(
            f"{workdir}: not a work dir (no config.json); train one by "
            f"python -m musicjax.train --config=configs/vocab.py --workdir={workdir}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error!r}); train again in a new --workdir") from None
    if version != FORMAT:
        raise InputError(
            f"{workdir}: a work dir of format {version}; this musicjax reads {FORMAT}: train again "
            "or use the musicjax that made it"
        )
    return ConfigDict(_with_tuples(saved["config"])), saved["corpus"]


def _with_tuples(fields: dict) -> dict:
    """The config's tuples, which JSON knows as lists."""

    def restored(value):
        if isinstance(value, dict):
            return _with_tuples(value)
        return tuple(value) if isinstance(value, list) else value

    return {name: restored(value) for name, value in fields.items()}


def load_trained(workdir: str | Path, which: str = "best") -> Trained:
    """The model of a work dir.

    Args:
        workdir: of a run of musicjax.train.
        which: "best" (lowest validation loss) or "last".
    Raises:
        InputError: no work dir, no checkpoint in it, or one of another version.
    """
    config, _ = load_config(workdir)
    has_tokens = config.data.encoding == "vocabulary"
    vocabulary = Vocabulary.load(Path(workdir) / "vocabulary.json") if has_tokens else None
    if not has_checkpoint(workdir):
        raise InputError(f"{workdir}: no checkpoint yet; train for at least one epoch")
    with open_checkpoints(workdir) as checkpoints:
        found = sorted(checkpoints.checkpoints, key=lambda checkpoint: checkpoint.step)
        scored = [checkpoint for checkpoint in found if checkpoint.metrics]
        chosen = found[-1]
        if which == "best" and scored:
            chosen = min(scored, key=lambda checkpoint: checkpoint.metrics["validation_loss"])
        model = nnx.eval_shape(lambda: MODELS[config.model.name].build(config, vocabulary))
        graph, params = nnx.split(model)
        shapes = nnx.to_pure_dict(params)
        path = Path(workdir).absolute() / "checkpoints" / str(chosen.step)
        saved = ocp.metadata(str(path), checkpointable_name="params").metadata
        if _shapes(saved) != _shapes(shapes):
            raise InputError(
                f"{workdir}: checkpoint {chosen.step} holds another model than config.json tells; "
                "train again in a new --workdir"
            )
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        loaded = checkpoints.load_checkpointables(chosen.step, {"params": _placed(shapes, device)})
    nnx.replace_by_pure_dict(params, loaded["params"])
    return Trained(nnx.merge(graph, params), config, vocabulary, chosen.step)


def _shapes(tree) -> dict[str, tuple[int, ...]]:
    """Each parameter's shape, by its place in the tree; lists and dicts of numbers are alike."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    places = (
        "/".join(str(getattr(p, "key", getattr(p, "idx", p))) for p in at) for at, _ in leaves
    )
    return dict(zip(places, (tuple(leaf.shape) for _, leaf in leaves), strict=True))


def _placed(tree, sharding: jax.sharding.Sharding):
    """The shapes of a tree, to be restored as a sharding tells."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
