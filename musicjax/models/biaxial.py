"""The bi-axial LSTM: predicts a song's next step of notes from all steps before.

    note states -> note state expand -> LSTMs along time, one for each note
                -> LSTMs along the notes, low to high, one for each step -> [play, articulate]

One model spans its references: weights of its own for each note's and each step's LSTM (the paper),
or the same for all (Johnson, Kotecha); the last LSTM's state as the output, or a dense layer; and a
note told what the note below it does, or not.

Axes: B batch, T time step, N note, C bit, F feature, H hidden, G gate (4H), K weights of its own
(copies), M the batch of a copy.
Source: paper section 2.1; Johnson 2015; Kotecha and Young 2018 [3].
Differs: (1) the input is the step before and the target the step itself, from silence on; the
paper's words, "input shifted one step into the future", are a copy task (`target="literal"`);
(2) feeding up a model's own samples in training is done in two passes, the first of which samples:
the same gradient, since samples have none.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from musicjax import note_state
from musicjax.models.lstm import LSTMBank, State
from musicjax.models.note_features import Layout, note_features, project
from musicjax.vocabulary import Vocabulary

SUMMARY = ("loss", "play_f1", "articulate_f1")
_LEAST = 1e-4  # probability that an output outside 0..1 stands for


class Draw(NamedTuple):
    """How a step's notes are drawn. All may change without compiling anew.

    Attributes:
        temperature: logits are divided by it; 0 takes the more likely.
        most_notes: that play at once; none above them does.
    """

    temperature: float | jax.Array = 1.0
    most_notes: int | jax.Array = 1_000_000


class Model(nnx.Module):
    """The network; all its sizes come from `config.model`, explained in configs/nsm.py."""

    def __init__(self, config, layout: Layout, window: int, *, rngs: nnx.Rngs):
        """Draws the parameters.

        Args:
            config: `config.model`.
            layout: of the features.
            window: T, steps that have weights of their own if they are not tied.
            rngs: with a `params` stream.
        """
        self.layout, self.tied = layout, config.tied
        self.feedback, self.dropout = config.feedback, config.dropout
        bank = functools.partial(
            LSTMBank, storage=config.storage, remat=config.remat, kernel=config.kernel, rngs=rngs
        )
        features, time_lstms = layout.size, []
        for hidden in config.time_sizes:
            time_lstms.append(bank(features, hidden, 1 if config.tied else layout.notes))
            features = hidden
        self.time_lstms = nnx.List(time_lstms)
        features, note_lstms = features + self.fed_bits, []
        for hidden in config.note_sizes:
            note_lstms.append(bank(features, hidden, 1 if config.tied else window))
            features = hidden
        self.note_lstms = nnx.List(note_lstms)
        self.dense = config.output != "hidden"
        # Whether the articulate output is a probability given that the note plays.
        self.conditional = config.loss == "likelihood"
        if self.dense:
            each = layout.notes if config.output == "dense_per_note" else 1
            glorot = jax.nn.initializers.glorot_uniform()
            keys = jax.random.split(rngs.params(), each)
            draw = jax.vmap(lambda key: glorot(key, (features, layout.bits)))
            self.w_out = nnx.Param(draw(keys))
            self.b_out = nnx.Param(jnp.zeros((each, layout.bits)))

    @property
    def fed_bits(self) -> int:
        """Bits of the note below that a note is told."""
        return self.layout.bits if self.feedback != "none" else 0

    def __call__(
        self,
        states: jax.Array,
        beat: jax.Array,
        target: jax.Array,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """The outputs for the steps that follow.

        Args:
            states: 0 or 1 [B, T, N, C].
            beat: int [B, T], their places in the bar.
            target: 0 or 1 [B, T, N, C]: the steps that follow, for the feedback.
            dropout_key: for training; without it nothing is dropped.
        Returns:
            float32 [B, T, N, C]: logits, or the last LSTM's state (-1..1).
        """
        b, t, n, c = target.shape
        x = self.over_time(states, beat, dropout_key)
        if self.feedback == "sample" and dropout_key is not None:
            noise = jax.random.uniform(jax.random.fold_in(dropout_key, 99), (*x.shape[:3], c))
            fed, _ = self.draw_notes(x, noise, Draw(), list(self.note_lstms), dropout_key)
            fed = lax.stop_gradient(fed)
        else:
            fed = jnp.transpose(target, (2, 1, 0, 3)).reshape(n, *x.shape[1:3], c)
        if self.feedback != "none":
            x = jnp.concatenate([x, _below(fed)], axis=-1)
        x = jnp.swapaxes(x, 0, 1)
        for layer, lstm in enumerate(self.note_lstms):
            x = self._drop(lstm.run(x), 10 + layer, dropout_key)
        x = jnp.swapaxes(x, 0, 1)
        return jnp.transpose(self._output(x).reshape(n, t, b, c), (2, 1, 0, 3))

    def over_time(self, states, beat, dropout_key=None) -> jax.Array:
        """The LSTMs along time. As __call__; returns [N, K, M, H], ready for those along notes."""
        b, t, n, _ = states.shape
        first, *others = self.time_lstms
        if self.tied:
            x = first.run(self._features(states, beat))
        else:
            x = first.run((states, beat), lambda steps: self._project_notes(*steps))
        x = self._drop(x, 0, dropout_key)
        for layer, lstm in enumerate(others, 1):
            x = self._drop(lstm.run(x), layer, dropout_key)
        if self.tied:
            return jnp.moveaxis(x.reshape(t, b, n, -1), 2, 0).reshape(n, 1, t * b, -1)
        return x  # [K = N, T, B, H] here is [N, K = T, M = B, H] there

    def step_over_time(
        self, carried: list[State], states: jax.Array, beat: jax.Array
    ) -> tuple[list[State], jax.Array]:
        """One step of over_time.

        Args:
            carried: each layer's state, from `carry`.
            states: [B, N, C].
            beat: int [B].
        Returns:
            the states after, and the last layer's output [N, 1, B, H].
        """
        b, n, _ = states.shape
        states, beat, first = states[:, None], beat[:, None], self.time_lstms[0]
        if self.tied:
            projected = first.project(self._features(states, beat))
        else:
            projected = self._project_notes(states, beat)
        after = []
        for layer, (lstm, state) in enumerate(zip(self.time_lstms, carried, strict=True)):
            projected = projected if layer == 0 else lstm.project(after[-1].h[:, None])
            after.append(lstm.step(projected[:, 0], state))
        h = after[-1].h
        return after, jnp.swapaxes(h.reshape(b, n, -1), 0, 1)[:, None] if self.tied else h[:, None]

    def _features(self, states: jax.Array, beat: jax.Array) -> jax.Array:
        """Note state expand, for one LSTM of all notes. As over_time; returns [1, T, M, F]."""
        b, t, n, _ = states.shape
        features = note_features(states, beat, self.layout)
        return jnp.swapaxes(features, 0, 1).reshape(1, t, b * n, -1)

    def _project_notes(self, states: jax.Array, beat: jax.Array) -> jax.Array:
        """Note state expand times each note's own weights. As over_time; returns [N, T, B, G]."""
        first = self.time_lstms[0]
        return project(states, beat, first.w_x[...], first.b[...], self.layout)

    def carry(self, batch: int) -> list[State]:
        """The state before the first step, of each LSTM along time."""
        n = self.layout.notes
        k, m = (1, batch * n) if self.tied else (n, batch)
        zeros = [jnp.zeros((k, m, lstm.w_h.shape[1])) for lstm in self.time_lstms]
        return [State(zero, zero) for zero in zeros]

    def note_lstms_at(self, step: jax.Array) -> list[LSTMBank]:
        """The LSTMs along the notes with the weights of one step."""
        if self.tied:
            return list(self.note_lstms)
        pick = lambda weights: lax.dynamic_index_in_dim(weights, step, keepdims=True)  # noqa: E731
        return [jax.tree.map(pick, lstm) for lstm in self.note_lstms]

    def draw_notes(
        self,
        x: jax.Array,
        noise: jax.Array,
        draw: Draw,
        lstms: list[LSTMBank],
        dropout_key: jax.Array | None = None,
        raise_by: jax.Array | float = 0.0,
    ) -> tuple[jax.Array, jax.Array]:
        """Draws a step's notes, low to high, each knowing what the one below does.

        Args:
            x: of over_time, [N, K, M, H].
            noise: uniform in 0..1, [N, K, M, C]: a bit is 1 where it is below the probability.
            draw: how.
            lstms: along the notes.
            dropout_key: as in __call__.
            raise_by: added to the logits of play: [M, 1], or one for all.
        Returns:
            drawn bits and outputs, each [N, K, M, C].
        """
        n, k, m, _ = x.shape
        first, *others = lstms
        split = first.w_x.shape[1] - self.fed_bits
        w_above, w_fed = first.w_x[:, :split], first.w_x[:, split:]
        # One product for all notes: only what comes from the note below is sequential.
        projected = jnp.einsum("nkmf,kfg->nkmg", x, w_above) + first.b[...][:, None]
        sizes = [(n, k, m, lstm.w_h.shape[1]) for lstm in lstms]
        masks = [self._drop(jnp.ones(s), 10 + i, dropout_key) for i, s in enumerate(sizes)]

        def note(carry, inputs):
            states, below, count = carry
            projected, index, noise, masks = inputs
            if self.fed_bits:
                projected += jnp.einsum("kmc,kcg->kmg", below, w_fed)
            after = [first.step(projected, states[0])]
            for lstm, state, mask in zip(others, states[1:], masks, strict=False):
                after.append(lstm.step(lstm.project((after[-1].h * mask)[:, None])[:, 0], state))
            output = self._output((after[-1].h * masks[-1])[None], index)[0]
            logits = self.logits(output)
            logits += jnp.where(jnp.arange(self.layout.bits) == 0, raise_by, 0.0)
            likely = jax.nn.sigmoid(logits / jnp.maximum(draw.temperature, 1e-6))
            bits = noise < likely
            play = bits[..., :1] & (count < draw.most_notes)[..., None]
            bits = jnp.concatenate([play, bits[..., 1:] & play], axis=-1)
            drawn = bits.astype(jnp.float32)
            return (after, drawn, count + play[..., 0]), (drawn, output)

        zeros = [jnp.zeros(size[1:]) for size in sizes]
        count = jnp.zeros((k, m), jnp.int32)
        start = ([State(z, z) for z in zeros], jnp.zeros(noise.shape[1:]), count)
        _, drawn = lax.scan(note, start, (projected, jnp.arange(n), noise, masks))
        return drawn

    def logits(self, output: jax.Array) -> jax.Array:
        """Log odds of play, and of articulate given play, from outputs [..., C]."""
        if self.dense and self.conditional:
            return output
        # An output trained by squares is the mean of its bit: a probability, but for its range.
        p = jnp.clip(self.bits(output), _LEAST, 1 - _LEAST)
        given = jnp.clip(p[..., 1:] / p[..., :1], _LEAST, 1 - _LEAST)
        p = jnp.concatenate([p[..., :1], given], axis=-1)
        return jnp.log(p) - jnp.log1p(-p)

    def bits(self, output: jax.Array) -> jax.Array:
        """What each bit is expected to be, from outputs [..., C]."""
        if not self.dense:
            return output
        p = jax.nn.sigmoid(output)
        if not self.conditional:
            return p
        return jnp.concatenate([p[..., :1], p[..., 1:] * p[..., :1]], axis=-1)

    def _output(self, h: jax.Array, note: jax.Array | None = None) -> jax.Array:
        """The dense layer. h: [N, K, M, H], or [1, K, M, H] of one note."""
        if not self.dense:
            return h
        w, b = self.w_out[...], self.b_out[...]
        if note is not None and len(w) > 1:
            w, b = w[note][None], b[note][None]
        w, b = (jnp.broadcast_to(array, (len(h), *array.shape[1:])) for array in (w, b))
        return jnp.einsum("nkmh,nhc->nkmc", h, w) + b[:, None, None]

    def _drop(self, x: jax.Array, layer: int, key: jax.Array | None) -> jax.Array:
        if key is None or not self.dropout:
            return x
        keep = 1 - self.dropout
        kept = jax.random.bernoulli(jax.random.fold_in(key, layer), keep, x.shape)
        return jnp.where(kept, x / keep, 0)


def _below(bits: jax.Array) -> jax.Array:
    """Each note's neighbour below, silence below the lowest. [N, ...]."""
    return jnp.concatenate([jnp.zeros_like(bits[:1]), bits[:-1]])


def layout_of(config) -> Layout:
    """The feature layout of a config."""
    data, model = config.data, config.model
    notes, bits = note_state.step_shape(data)
    return Layout(
        notes=notes,
        bits=bits,
        lowest=data.lowest,
        beat=model.beat,
        numbers=model.numbers,
        rotated=model.rotated,
    )


def build(config, vocabulary: Vocabulary | None = None) -> Model:
    """The model of a config, its parameters drawn from `config.seed`; it has no vocabulary."""
    rngs = nnx.Rngs(params=jax.random.key(config.seed))
    return Model(config.model, layout_of(config), config.train.window, rngs=rngs)


def loss_unit(config) -> str:
    """What the loss is counted in."""
    likelihood = config.model.loss == "likelihood"
    return "nats a step" if likelihood else "squares a segment"


def make_loss(config, vocabulary: Vocabulary | None = None):
    """The loss of a config: (model, batch, dropout_key) -> loss, sums.

    `batch` is what musicjax.dataset.Segments gives. The loss is, by `config.model.loss`,

    "squares"       the sum of squared differences over the cells of a segment, mean over segments
                    (the paper's table 1 is such a sum)
    "likelihood"    minus the log-likelihood of a step's notes in nats, mean over steps;
                    articulate counts where the note plays

    Cells that play weigh `config.train.sounding_weight`. Padded steps and absent rows do not count.
    """
    weigh = config.train.sounding_weight

    def loss(model: Model, batch, dropout_key=None):
        inputs, target, beat = task(batch, config.train.target)
        output = model(inputs, beat, target, dropout_key)
        target = target.astype(output.dtype)
        inside = jnp.arange(target.shape[1]) < batch["length"][:, None]
        mask = jnp.where(inside, batch["present"][:, None], 0.0)[..., None]  # [B, T, 1]
        bits = model.bits(output)
        squares = jnp.sum(jnp.square(bits - target), axis=-1) * mask
        cell = 1 + (weigh - 1) * target[..., 0]
        counts = {
            "segments": batch["present"].sum(),
            "steps": mask.sum(),
            "bits": mask.sum() * bits[0, 0].size,
            "squares": squares.sum(),
        }
        if model.conditional:
            nats = _nats(output, target) * mask
            counts["nats"] = nats.sum()
            total, examples = (nats * cell).sum(), counts["steps"]
        else:
            total, examples = (squares * cell).sum(), counts["segments"]
        guess = likely(bits)
        hits = jnp.einsum("btnc,btx->c", guess * target, mask)
        guessed = jnp.einsum("btnc,btx->c", guess.astype(target.dtype), mask)
        there = jnp.einsum("btnc,btx->c", target, mask)
        for bit, name in enumerate(("play", "articulate")[: target.shape[-1]]):
            counts |= {
                f"{name}_hits": hits[bit],
                f"{name}_guessed": guessed[bit],
                f"{name}_there": there[bit],
            }
        return total / jnp.maximum(examples, 1), counts | {"total": total, "examples": examples}

    return loss


def task(batch, target: str) -> tuple:
    """What the model reads and what it is to give, of a batch of musicjax.dataset.Segments.

    Args:
        batch: states [B, T + 1, N, C] and beat [B, T + 1], of numpy or jax.
        target: `config.train.target`.
    Returns:
        inputs [B, T, N, C], target [B, T, N, C], beat [B, T] of the inputs.
    """
    states, beat = batch["states"], batch["beat"]
    if target == "literal":
        return states[:, 1:], states[:, :-1], beat[:, 1:]
    return states[:, :-1], states[:, 1:], beat[:, :-1]


def likely(bits: jax.Array) -> jax.Array:
    """bool [..., C]: where expected bits are above one half; articulate only where play is too."""
    above = bits > 0.5
    return jnp.concatenate([above[..., :1], above[..., 1:] & above[..., :1]], axis=-1)


def _nats(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Minus the log-likelihood of each cell [...], of logits and bits [..., C]."""
    nats = jax.nn.softplus(logits) - logits * target
    return nats[..., 0] + (nats[..., 1:] * target[..., :1]).sum(-1)


def metrics(sums: dict[str, float]) -> dict[str, float]:
    """What people read, from sums over any number of batches.

    "loss"; "squares" and "squares_per_bit": summed over a segment, and their mean; "nats" a step,
    if the output is a probability; of play and articulate "precision", "recall" and "f1" where the
    expected bit is above one half.
    """
    steps = max(sums["steps"], 1.0)
    result = {
        "loss": sums["total"] / max(sums["examples"], 1.0),
        "squares": sums["squares"] / max(sums["segments"], 1.0),
        "squares_per_bit": sums["squares"] / max(sums["bits"], 1.0),
        "steps": int(sums["steps"]),
    }
    if "nats" in sums:
        result["nats"] = sums["nats"] / steps
    for name in ("play", "articulate"):
        if f"{name}_hits" in sums:
            hits, guessed, there = (sums[f"{name}_{x}"] for x in ("hits", "guessed", "there"))
            result |= {
                f"{name}_precision": hits / max(guessed, 1.0),
                f"{name}_recall": hits / max(there, 1.0),
                f"{name}_f1": 2 * hits / max(guessed + there, 1.0),
            }
    return result
