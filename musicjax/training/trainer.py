"""The training loop: compiled steps, validation after each epoch, checkpoints, curves.

Knows no model and no encoding beyond the contract of musicjax.models.base.
"""

import contextlib
import functools
import json
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from tqdm import tqdm

from musicjax.errors import InputError
from musicjax.models.base import Model, Params
from musicjax.system import files, stop
from musicjax.training import devices
from musicjax.training.checkpoint import Checkpoints, TrainState
from musicjax.training.dataset import (
    Arrays,
    Examples,
    batches_per_epoch,
    ordered_batches,
    training_batches,
)
from musicjax.training.settings import TrainSettings
from musicjax.training.workdir import load_step_losses, save_step_losses

# (an epoch's line of metrics.jsonl, the parameters that were measured) -> nothing; the parameters'
# buffers are given to the next step.
Callback = Callable[[dict[str, Any], Params], None]


def new_state(
    loss_fn: Callable,
    params: Params,
    optimizer: optax.GradientTransformation,
    batch: Arrays,
    ema: float = 0.0,
) -> TrainState:
    """The state before the first step; `batch` is one of those to come. With `ema` the parameters'
    moving average is kept.
    """
    sums = jax.eval_shape(loss_fn, params, batch, None)[1]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        optimizer=optimizer.init(params),
        sums=jax.tree.map(jnp.zeros_like, sums),
        ema=jax.tree.map(jnp.copy, params) if ema else None,  # each is donated
    )


def make_train_steps(
    loss_fn: Callable,
    optimizer: optax.GradientTransformation,
    seed: int,
    mesh: Mesh | None = None,
    gather: Callable | None = None,
    ema: float = 0.0,
) -> Callable:
    """Compiles several training steps as one call, to which the state's buffers are donated.

    Args:
        loss_fn: (params, batch, dropout key) -> loss, sums.
        optimizer: of optax.
        seed: of dropout; each step's draws depend on it and on the step's number alone.
        mesh: the devices that share a batch; where the arguments are, by default.
        gather: (data, indices) -> batch, where the corpus's data is on the devices.
        ema: what the moving average of the parameters keeps of itself in a step; less in the first
            ones, so that it does not remember the beginning. 0: there is none.
    Returns:
        (state, batches, count, data) -> state, losses: `batches`, or with `gather` the indices of
        batches, are stacked along a leading axis K, the first `count` of them are used, losses is
        [K].
    """

    def step(state: TrainState, batch: Arrays) -> tuple[TrainState, jax.Array]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        (loss, sums), gradient = jax.value_and_grad(loss_fn, has_aux=True)(state.params, batch, key)
        update, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, update)
        sums = jax.tree.map(jnp.add, state.sums, sums)
        if state.ema is not None:
            kept = jnp.minimum(ema, (1 + state.step) / (10 + state.step))
            average = jax.tree.map(lambda a, p: a + (1 - kept) * (p - a), state.ema, params)
            state = state._replace(ema=average)
        return state._replace(
            step=state.step + 1, params=params, optimizer=optimizer_state, sums=sums
        ), loss

    everywhere = devices.replicated(mesh) if mesh else None

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=everywhere)
    def train_steps(
        state: TrainState, batches: Arrays, count: jax.Array, data: jax.Array | None = None
    ):
        def body(i, carry):
            state, losses = carry
            batch = jax.tree.map(lambda array: array[i], batches)
            state, loss = step(state, gather(data, batch) if gather else batch)
            return state, losses.at[i].set(loss)

        capacity = len(jax.tree.leaves(batches)[0])
        return jax.lax.fori_loop(0, count, body, (state, jnp.zeros(capacity)))

    return train_steps


def make_evaluate(model: Model, mesh: Mesh | None = None) -> Callable[..., dict[str, float]]:
    """(params, batches) -> metrics over all of the batches, nothing dropped out."""

    @functools.partial(jax.jit, out_shardings=devices.replicated(mesh))
    def sums_of(params: Params, batch: Arrays):
        return model.loss(params, batch)[1]

    def evaluate(params: Params, batches: Iterable[Arrays]) -> dict[str, float]:
        total: dict[str, float] = {}
        for batch in batches:
            rows = devices.put(batch, devices.sharded(mesh, 0))
            for name, value in sums_of(params, rows).items():
                total[name] = total.get(name, 0.0) + float(value)
        return model.metrics(total)

    return evaluate


def train(
    model: Model,
    examples: Examples,
    eval_dataset: Examples,
    settings: TrainSettings,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    workdir: Path,
    mesh: Mesh,
    eval_split: str = "validation",
    params: Params | None = None,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Trains to the last epoch, from the last checkpoint if the work dir has one.

    With a patience it ends earlier, when so many epochs have not been better than the best before.
    That is for data that a model soon knows by heart; a schedule that falls until the last epoch
    is then cut short, so it is best given time: a quarter of the epochs.

    Where several processes train together, each calls it; the first writes and prints.

    Args:
        model: to train.
        examples: to train on.
        eval_dataset: examples to measure after each epoch.
        settings: of the loop.
        optimizer: of musicjax.training.optimizer.
        seed: of the parameters, the order of examples, and dropout.
        workdir: holds config.json already.
        mesh: the devices that share each batch.
        eval_split: the split of `eval_dataset`. The checkpoint that does best on "validation" is
            kept; nothing is chosen by "test".
        params: to begin with; default: drawn from the seed.
        callbacks: called after each epoch, when it is saved.
    Returns:
        the last epoch's line of metrics.jsonl.
    Raises:
        InputError: the loss is no longer a number; or the processes see different work dirs.
        KeyboardInterrupt: stopped by SIGINT or SIGTERM; a checkpoint was saved.
    """
    # --- input ------------------------------------------------------------------------------
    batch_size = settings.batch_size
    steps_per_epoch = batches_per_epoch(examples, batch_size)
    total_steps = steps_per_epoch * settings.epochs
    cached = _fits(examples.data, settings.device_cache_megabytes)
    data = devices.put(examples.data, devices.replicated(mesh)) if cached else None
    batches = training_batches(
        examples, batch_size=batch_size, seed=seed, epochs=settings.epochs, indices_only=cached
    )
    for name, dataset in (("training", examples), (eval_split, eval_dataset)):
        short = dataset.short_songs
        also = f", {short} songs shorter than one" if short else ""
        print(f"{name}: {len(dataset)} examples of {model.window} {model.encoding.element}s{also}")
    low, high = examples.transpose_range
    if (low, high) != (0, 0):
        print(
            f"training examples are moved by {low} to {high} semitones, and what the "
            f"{model.encoding.name} do not hold is left out: {examples.lost_by_transposing():.1%}"
        )

    # --- model and optimizer ----------------------------------------------------------------
    ema, patience = settings.ema, settings.patience
    if patience and eval_split != "validation":
        print("there are no validation songs, so train.patience has no effect")
        patience = 0
    one_batch = next(ordered_batches(eval_dataset, batch_size))
    # The state owns the parameters: its buffers are donated to the first call.
    params = model.init(seed) if params is None else params
    state = new_state(model.loss, params, optimizer, one_batch, ema)
    gather = examples.gather if cached else None
    train_steps = make_train_steps(model.loss, optimizer, seed, mesh, gather, ema)
    evaluate = make_evaluate(model, mesh)
    size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    on = f" on {mesh.size} devices" if mesh.size > 1 else ""
    on += f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    print(
        f"model: {size:,} parameters; {steps_per_epoch} steps an epoch, {settings.epochs} epochs"
        f"{on}"
    )

    # --- checkpoints ------------------------------------------------------------------------
    with contextlib.ExitStack() as stack:
        stack.callback(batches.close)
        # From the first step on there is something to save; several processes must stop together.
        to_save = stack.enter_context(contextlib.ExitStack())
        if jax.process_count() > 1:
            to_save.enter_context(stop.held())
        keep_steps = [epoch * steps_per_epoch for epoch in settings.keep_epochs]
        checkpoints = stack.enter_context(Checkpoints(workdir, keep_steps))
        state = devices.put(state, devices.replicated(mesh))
        lines: list[dict[str, Any]] = []
        if _latest_step(checkpoints, workdir):
            state, lines = checkpoints.restore(state, batches)
            print(f"going on from step {int(state.step)}")
            _write_metrics(lines, workdir)
        step_losses = _step_losses_before(int(state.step), workdir)

        def save(validation_loss: float | None = None) -> None:
            # Losses first: those after the last checkpoint are cut off when the run goes on.
            if devices.is_first():
                save_step_losses(workdir, np.concatenate(step_losses))
            checkpoints.save(state, batches, lines, validation_loss)

        writer = None
        stopped = stack.enter_context(_stop_signal())

        # --- loop ---------------------------------------------------------------------------
        bars = stack.enter_context(contextlib.ExitStack())  # no error is written behind one
        step = first_step = int(state.step)
        saved_at = time.monotonic()
        while step < total_steps and not _out_of_patience(lines, patience, step):
            epoch, done = divmod(step, steps_per_epoch)
            started, trained_on = time.monotonic(), 0
            progress = bars.enter_context(
                tqdm(
                    total=steps_per_epoch,
                    initial=done,
                    desc=f"epoch {epoch + 1}/{settings.epochs}",
                    unit="step",
                    leave=False,
                    disable=None if devices.is_first() else True,  # None: only a terminal has a bar
                )
            )
            for group in _groups(batches, settings.steps_per_call, steps_per_epoch - done):
                count = len(group)
                stacked = devices.put(
                    _stack(group, settings.steps_per_call), devices.sharded(mesh, 1)
                )
                state, losses = train_steps(state, stacked, count, data)
                losses = np.asarray(losses)[:count]
                _check_finite(losses, step, workdir)
                step_losses.append(losses)
                if step == first_step:
                    to_save.enter_context(stop.held())
                step += count
                trained_on += int(sum(batch["present"].sum() for batch in group))
                progress.update(count)
                progress.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
                if step % steps_per_epoch == 0:
                    continue  # the epoch's end saves what belongs to it
                # A signal to one process, or its clock, is followed by all at the same step.
                due = time.monotonic() - saved_at > 60 * settings.checkpoint_minutes
                number, due = np.max(devices.gather(stopped[0], due), axis=0)
                if number:
                    bars.close()
                    save()
                    raise _stopped(number, step)
                if due:
                    save()
                    saved_at = time.monotonic()
            bars.close()
            seconds = time.monotonic() - started

            # --- end of an epoch ------------------------------------------------------------
            trained = model.metrics(jax.tree.map(float, state.sums))
            measured = evaluate(state.averaged, ordered_batches(eval_dataset, batch_size))
            if not np.isfinite(measured["loss"]):
                raise InputError(_not_finite(f"{eval_split} loss", measured["loss"], step, workdir))
            state = state._replace(sums=jax.tree.map(jnp.zeros_like, state.sums))
            line = {
                "epoch": epoch + 1,
                "step": step,
                "seconds": round(seconds, 2),
                "examples_per_second": round(trained_on / seconds, 2),
                **{f"train_{name}": value for name, value in trained.items()},
                **{f"{eval_split}_{name}": value for name, value in measured.items()},
            }
            lines.append(line)
            if devices.is_first():
                # Not before the first step: it imports PyTorch if that is there, two seconds.
                from tensorboardX import SummaryWriter

                writer = writer or stack.enter_context(SummaryWriter(str(workdir), flush_secs=10))
                _write_metrics(lines, workdir)
                plot_losses(lines, workdir / "loss.png", eval_split, model.loss_unit, model.dropout)
                for name, value in line.items():
                    writer.add_scalar(name.replace("_", "/", 1), value, step)
            save(measured["loss"] if eval_split == "validation" else None)
            saved_at = time.monotonic()
            print(_describe(line, settings.epochs, eval_split, model.summary), flush=True)
            for callback in callbacks:
                callback(line, state.averaged)
            if step < total_steps and (number := devices.gather(stopped[0]).max()):
                raise _stopped(number, step)
        if step < total_steps:
            print(
                f"ends here: {patience} epochs without a better validation loss (train.patience; "
                "raise it to go on)"
            )
    if eval_split == "validation":
        best = best_line(lines, eval_split)
        print(f"the best epoch: {best['epoch']}, validation loss {best['validation_loss']:.4g}")
    return lines[-1]


def best_line(lines: list[dict[str, Any]], eval_split: str) -> dict[str, Any]:
    """The line of metrics.jsonl with the lowest loss, the first of several."""
    return min(lines, key=lambda line: line[f"{eval_split}_loss"])


def _out_of_patience(lines: list[dict[str, Any]], patience: int, step: int) -> bool:
    """Whether `patience` epochs were no better than one before them; at an epoch's end alone."""
    if not patience or not lines or lines[-1]["step"] != step:
        return False
    return lines[-1]["epoch"] - best_line(lines, "validation")["epoch"] >= patience


def _fits(data: np.ndarray, megabytes: float) -> bool:
    """Whether each device can hold all encoded songs."""
    return data.nbytes <= megabytes * 2**20 and len(data) < 2**31  # jax counts by int32


def _latest_step(checkpoints: Checkpoints, workdir: Path) -> int:
    """The last checkpoint's step, 0 without one; the same for each process."""
    seen = devices.gather(checkpoints.latest_step)[:, 0].tolist()
    if len(set(seen)) > 1:
        raise InputError(
            f"{workdir}: the processes see its last checkpoint at steps {seen}; expected one "
            "folder that all of them share"
        )
    return seen[0]


def _stopped(number: int, step: int) -> stop.Stopped:
    return stop.Stopped(int(number), f"stopped at step {step}; the same command goes on from there")


def _write_metrics(lines: list[dict[str, Any]], workdir: Path) -> None:
    if devices.is_first():
        text = "".join(json.dumps(row) + "\n" for row in lines)
        files.write_text(workdir / "metrics.jsonl", text)


def _step_losses_before(step: int, workdir: Path) -> list[np.ndarray]:
    """The losses of the steps before one; NaN where they were not written down."""
    before = load_step_losses(workdir)[:step]
    return [before, np.full(step - len(before), np.nan, np.float32)]


def _groups(batches: Iterator[dict], size: int, left: int) -> Iterator[list[dict]]:
    """Lists of `size` batches until `left` are taken; the last may be shorter."""
    while left:
        group = [next(batches) for _ in range(min(size, left))]
        left -= len(group)
        yield group


def _stack(group: list[dict], capacity: int) -> dict[str, np.ndarray]:
    """Stacks batches, the last one repeated up to `capacity`: one shape, so one compilation."""
    filled = group + group[-1:] * (capacity - len(group))
    return {name: np.stack([batch[name] for batch in filled]) for name in group[0]}


def _check_finite(losses: np.ndarray, first_step: int, workdir: Path) -> None:
    bad = np.flatnonzero(~np.isfinite(losses))
    if len(bad):
        step = first_step + int(bad[0]) + 1
        raise InputError(_not_finite("training loss", float(losses[bad[0]]), step, workdir))


def _not_finite(what: str, value: float, step: int, workdir: Path) -> str:
    return (
        f"the {what} became {value} at step {step}; expected a number: lower train.learning_rate "
        f"or set train.clip_norm=1, with a new --workdir (what was saved before stays in {workdir})"
    )


@contextlib.contextmanager
def _stop_signal() -> Iterator[list[int]]:
    """A list of the number of the SIGINT or SIGTERM that came, 0 before; the second SIGINT
    interrupts at once.
    """
    came = [0]
    if threading.current_thread() is not threading.main_thread():
        yield came  # signals can only be caught in the main thread
        return

    def note(number, frame):
        if came[0] and number == signal.SIGINT:
            raise KeyboardInterrupt
        came[0] = came[0] or number

    before = {number: signal.signal(number, note) for number in stop.SIGNALS}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _describe(line: dict[str, Any], epochs: int, eval_split: str, summary: tuple[str, ...]) -> str:
    def part(prefix: str) -> str:
        shown = [name for name in summary if f"{prefix}_{name}" in line]
        values = (f"{name} {line[f'{prefix}_{name}']:.4g}" for name in shown)
        return f"{prefix} {', '.join(values)}"

    return (
        f"epoch {line['epoch']:3d}/{epochs}: {part('train')}; {part(eval_split)}; "
        f"{line['examples_per_second']:,.4g} examples/s"
    )


def plot_losses(
    lines: list[dict[str, Any]], path: Path, eval_split: str, unit: str, dropout: float
) -> None:
    """Draws training and held-out loss over epochs, the best epoch marked.

    Args:
        lines: of metrics.jsonl.
        path: of the PNG.
        eval_split: the split that was measured.
        unit: of the loss.
        dropout: of the model; it raises the training loss alone.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    epochs = [line["epoch"] for line in lines]
    name = f"{eval_split}_loss"
    best = best_line(lines, eval_split)
    training = "training (with dropout)" if dropout else "training"
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel=f"loss ({unit})")
    axes.plot(epochs, [line["train_loss"] for line in lines], label=training)
    axes.plot(epochs, [line[name] for line in lines], label=eval_split)
    axes.plot(
        best["epoch"],
        best[name],
        "o",
        color="C1",
        label=f"best: {best[name]:.3f} at epoch {best['epoch']}",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
