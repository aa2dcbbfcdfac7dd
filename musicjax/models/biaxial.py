"""The bi-axial LSTM: predicts a song's next step of notes from all steps before.

    note states -> note state expand -> LSTMs along time, one for each note
                -> LSTMs along the notes, low to high, one for each step -> [play, articulate]

One model spans its references: weights of its own for each note's and each step's LSTM (the paper),
or the same for all (Johnson, Kotecha); the last LSTM's state as the output, or a dense layer; and,
as a further input of each note, what the note below it does, or not.

Axes: B batch, T time step, N note, C bit, F feature, H hidden, G gate (4H), K one of the LSTMs with
weights of its own, M the batch of such an LSTM.
Source: paper section 2.1; Johnson 2015; Kotecha and Young 2018 [3].
Differs: (1) the input is the step before and the target the step itself, from silence on; the
paper's words, "input shifted one step into the future", are a copy task (`target="literal"`);
(2) feedback of the model's own samples in training is done in two passes, the first of which
samples: the same gradient, since samples have none; (3) slot 0 of the features is the note's index,
where the paper has its MIDI number (`pitch_feature="midi"`).
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from musicjax.config import SIZES, at_least, expect, more_than, one_of, setting, settings_of
from musicjax.errors import InputError
from musicjax.models.base import Batch, Carry, Model, Params, Prediction, Rules, Sums
from musicjax.models.lstm import LSTMBank, LSTMCarry, LSTMSettings, Terms, dropout
from musicjax.models.note_features import Layout, note_features, terms
from musicjax.models.weights import by_name

_LEAST = 1e-4  # probability that an output outside 0..1 stands for
_TINY = 1e-30  # a given note comes, however unlikely it is
_BITS = ("play", "articulate")


@dataclasses.dataclass(frozen=True)
class BiaxialSettings(LSTMSettings):
    """What `config.model` says of a Biaxial; each field is explained in configs/."""

    tied: bool = setting()
    time_sizes: tuple[int, ...] = setting(SIZES)
    note_sizes: tuple[int, ...] = setting(SIZES)
    output: str = setting(one_of("hidden", "dense", "dense_per_note"))
    loss: str = setting(one_of("sse", "nll"))
    feedback: str = setting(one_of("none", "true", "sample"))
    beat: str = setting(one_of("none", "signed", "bits"))
    pitch_feature: str = setting(one_of("index", "midi"))
    rotated: bool = setting()
    window: int = setting(at_least(1))
    target: str = setting(one_of("next", "literal"))
    positive_weight: float = setting(more_than(0))

    def check(self, bits: int) -> None:
        """Whether the settings fit each other, and notes of so many bits.

        Raises:
            InputError: they do not.
        """
        self.check_kernel()
        if self.kernel == "cudnn":
            expect(self.tied, "model.tied", self.tied, "True where model.kernel is 'cudnn'")
        if self.output == "hidden":
            where = "where model.output is 'hidden'"
            expect(self.loss == "sse", "model.loss", self.loss, f"'sse' {where}")
            expect(self.feedback == "none", "model.feedback", self.feedback, f"'none' {where}")
            sizes = self.note_sizes
            expect(sizes[-1] == bits, "model.note_sizes", sizes, f"{bits} last, as the output")


class StepPanels(NamedTuple):
    """LSTMBank.panels of each LSTM along time and along the notes, made once for many steps."""

    time: Sequence[jax.Array | None]
    note: Sequence[jax.Array | None]


class BiaxialCarry(NamedTuple):
    """What is carried from step to step.

    Attributes:
        time: of each LSTM along time, arrays [K, M, H].
        panels: of each LSTM, along time and along the notes: of LSTMBank.panels.
        last: the last step, not yet read, float32 [B, N, C].
        position: int32 [B], its place in the bar.
        step: int32 [], the number of the step to come, which may have weights of its own.
    """

    time: list[LSTMCarry]
    panels: StepPanels
    last: jax.Array
    position: jax.Array
    step: jax.Array


class Given(NamedTuple):
    """What the notes of a step may do, see `Model.constrained_step`.

    Attributes:
        allowed: bool [N, 1 + C].
        path: 0 or 1, float32 [N, C].
        follow: bool [M].
    """

    allowed: jax.Array
    path: jax.Array
    follow: jax.Array


class BiaxialNetwork(nnx.Module):
    """The network of a Biaxial."""

    def __init__(self, settings: BiaxialSettings, layout: Layout, *, rngs: nnx.Rngs):
        """Draws the parameters.

        Args:
            settings: of which the sizes come; steps of the window have weights of their own if
                they are not tied.
            layout: of the features.
            rngs: with a `params` stream.
        """
        self.settings, self.layout = settings, layout
        bank = functools.partial(LSTMBank, **settings.lstm_options, rngs=rngs)
        features, time_lstms = layout.size, []
        for hidden in settings.time_sizes:
            time_lstms.append(bank(features, hidden, 1 if settings.tied else layout.notes))
            features = hidden
        self.time_lstms = nnx.List(time_lstms)
        features, note_lstms = features + self.feedback_bits, []
        for hidden in settings.note_sizes:
            note_lstms.append(bank(features, hidden, 1 if settings.tied else settings.window))
            features = hidden
        self.note_lstms = nnx.List(note_lstms)
        self.dense = settings.output != "hidden"
        if self.dense:
            count = layout.notes if settings.output == "dense_per_note" else 1
            glorot = jax.nn.initializers.glorot_uniform()
            keys = jax.random.split(rngs.params(), count)
            self.w_out = nnx.Param(jax.vmap(lambda key: glorot(key, (features, layout.bits)))(keys))
            self.b_out = nnx.Param(jnp.zeros((count, layout.bits)))

    @property
    def feedback_bits(self) -> int:
        """Bits of the note below that are an input of each note."""
        return self.layout.bits if self.settings.feedback != "none" else 0

    def __call__(
        self,
        states: jax.Array,
        positions: jax.Array,
        target: jax.Array,
        dropout_key: jax.Array | None = None,
    ) -> jax.Array:
        """The outputs for the steps that follow.

        Args:
            states: 0 or 1 [B, T, N, C].
            positions: int [B, T], their places in the bar.
            target: 0 or 1 [B, T, N, C]: the steps that follow, for the feedback.
            dropout_key: for training; without it nothing is dropped.
        Returns:
            float32 [B, T, N, C]: logits, or the last LSTM's state (-1..1).
        """
        b, t, n, c = target.shape
        x = self.over_time(states, positions, dropout_key)
        if self.settings.feedback == "sample" and dropout_key is not None:
            noise = jax.random.uniform(jax.random.fold_in(dropout_key, 99), (*x.shape[:3], c))
            bits, *_ = self.draw_notes(x, noise, list(self.note_lstms), dropout_key=dropout_key)
            bits = lax.stop_gradient(bits)
        else:
            bits = jnp.transpose(target, (2, 1, 0, 3)).reshape(n, *x.shape[1:3], c).astype(x.dtype)
        if self.feedback_bits:
            x = jnp.concatenate([x, _below(bits)], axis=-1)
        x = jnp.swapaxes(x, 0, 1)
        for layer, lstm in enumerate(self.note_lstms):
            x = self._drop(lstm.run(x), 10 + layer, dropout_key)
        x = jnp.swapaxes(x, 0, 1)
        return jnp.transpose(self._output(x).reshape(n, t, b, c), (2, 1, 0, 3))

    def over_time(
        self, states: jax.Array, positions: jax.Array, dropout_key: jax.Array | None = None
    ) -> jax.Array:
        """The LSTMs along time. As __call__; returns [N, K, M, H], ready for those along notes."""
        b, t, n, _ = states.shape
        first, *upper_layers = self.time_lstms
        if self.settings.tied:
            x = first.run(self._features(states, positions))
        else:
            x = first.run((states, positions), lambda steps: self._note_terms(*steps))
        x = self._drop(x, 0, dropout_key)
        for layer, lstm in enumerate(upper_layers, 1):
            x = self._drop(lstm.run(x), layer, dropout_key)
        if self.settings.tied:
            return jnp.moveaxis(x.reshape(t, b, n, -1), 2, 0).reshape(n, 1, t * b, -1)
        return x  # [K = N, T, B, H] of these LSTMs is [N, K = T, M = B, H] of those along notes

    def panels(self) -> StepPanels:
        """Of step_over_time and draw_notes."""
        w_x: list[jax.Array | None] = [None] * len(self.time_lstms)
        if not self.settings.tied:
            silence = jnp.zeros((1, 1, self.layout.notes, self.layout.bits))
            w_x[0] = self._note_terms(silence, jnp.zeros((1, 1), jnp.int32)).w_x
        first, *upper_layers = self.note_lstms
        return StepPanels(
            [lstm.panels(w) for lstm, w in zip(self.time_lstms, w_x, strict=True)],
            [first.panels(self._split(first)[1]), *(lstm.panels() for lstm in upper_layers)],
        )

    def step_over_time(
        self,
        carries: list[LSTMCarry],
        states: jax.Array,
        positions: jax.Array,
        panels: Sequence[jax.Array | None],
    ) -> tuple[list[LSTMCarry], jax.Array]:
        """One step of over_time.

        Args:
            carries: each layer's, from `initial_carries`.
            states: [B, N, C].
            positions: int [B].
            panels: each layer's.
        Returns:
            the carries after, and the last layer's output [N, 1, B, H].
        """
        b, n, _ = states.shape
        states, positions = states[:, None], positions[:, None]
        first, *upper_layers = self.time_lstms
        if self.settings.tied:
            features = self._features(states, positions)[:, 0]
            after = [first.step(features, carries[0], panels[0])]
        else:
            features, w_x, _ = self._note_terms(states, positions)
            nothing = jnp.zeros_like(first.b[...])[:, None]
            after = [first.step(features[:, 0], carries[0], panels[0], w_x, nothing)]
        for lstm, carry, each in zip(upper_layers, carries[1:], panels[1:], strict=True):
            after.append(lstm.step(after[-1].h, carry, each))
        h = after[-1].h
        if self.settings.tied:
            return after, jnp.swapaxes(h.reshape(b, n, -1), 0, 1)[:, None]
        return after, h[:, None]

    def _features(self, states: jax.Array, positions: jax.Array) -> jax.Array:
        """Note state expand, for one LSTM of all notes. As over_time; returns [1, T, M, F]."""
        b, t, n, _ = states.shape
        features = note_features(states, positions, self.layout)
        return jnp.swapaxes(features, 0, 1).reshape(1, t, b * n, -1)

    def _note_terms(self, states: jax.Array, positions: jax.Array) -> Terms:
        """Note state expand times each note's own weights. As over_time; returns [N, T, B, G]."""
        first = self.time_lstms[0]
        return terms(states, positions, first.w_x[...], first.b[...], self.layout)

    def initial_carries(self, batch: int) -> list[LSTMCarry]:
        """The carry before the first step, of each LSTM along time."""
        n = self.layout.notes
        k, m = (1, batch * n) if self.settings.tied else (n, batch)
        zeros = [jnp.zeros((k, m, lstm.w_h.shape[1])) for lstm in self.time_lstms]
        return [LSTMCarry(zero, zero) for zero in zeros]

    def note_lstms_at(
        self, step: jax.Array, panels: Sequence[jax.Array | None]
    ) -> tuple[list[LSTMBank], list[jax.Array | None]]:
        """The LSTMs along the notes with the weights of one step, and their panels."""
        both = list(self.note_lstms), list(panels)
        if self.settings.tied:
            return both
        pick = lambda weights: lax.dynamic_index_in_dim(weights, step, keepdims=True)  # noqa: E731
        return jax.tree.map(pick, both)

    def _split(self, first: LSTMBank) -> tuple[jax.Array, jax.Array]:
        """w_x of the first LSTM along the notes: of the LSTMs along time, and of the note below."""
        size = first.w_x.shape[1] - self.feedback_bits
        return first.w_x[:, :size], first.w_x[:, size:]

    def draw_notes(
        self,
        x: jax.Array,
        noise: jax.Array,
        lstms: Sequence[LSTMBank],
        panels: Sequence[jax.Array | None] = (),
        dropout_key: jax.Array | None = None,
        rules: Rules | None = None,
        given: Given | None = None,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Draws a step's notes, low to high, each from what the one below does.

        Args:
            x: of over_time, [N, K, M, H].
            noise: uniform in 0..1, [N, K, M, C]: a bit is 1 where it is below the probability.
            lstms: along the notes.
            panels: of each LSTM, for the C++.
            dropout_key: as in __call__.
            rules: to be applied to each note's logits [M, C], where K is 1.
            given: what the notes may do, where K is 1.
        Returns:
            drawn bits, the logits that they are drawn by, and outputs, each float32 [N, K, M, C].
        """
        n, k, m, _ = x.shape
        first, *upper_layers = lstms
        first_panels, *upper_panels = panels or [None] * len(lstms)
        w_x, w_below = self._split(first)
        # One product for all notes: only what comes from the note below is sequential.
        projected = lax.optimization_barrier(jnp.swapaxes(x, 0, 1).reshape(k, n * m, -1)) @ w_x
        projected = jnp.swapaxes(projected.reshape(k, n, m, -1) + first.b[:, None, None], 0, 1)
        sizes = [(k, n, m, lstm.w_h.shape[1]) for lstm in lstms]  # axes as in __call__
        masks = [self._drop(jnp.ones(s), 10 + i, dropout_key) for i, s in enumerate(sizes)]
        masks = [jnp.swapaxes(mask, 0, 1) for mask in masks]

        def note(carry, inputs):
            carries, below, num_notes = carry
            projected, index, noise, masks, here = inputs
            below = below[..., : self.feedback_bits]
            after = [first.step(below, carries[0], first_panels, w_below, projected)]
            upper = zip(upper_layers, carries[1:], upper_panels, masks, strict=False)
            for lstm, lstm_carry, each, mask in upper:
                after.append(lstm.step(after[-1].h * mask, lstm_carry, each))
            output = self._output((after[-1].h * masks[-1])[None], index)[0]
            logits = self.logits(output)
            if rules is not None:
                logits = rules(logits[0], num_notes=num_notes[0])[None]
            if given is None:
                drawn = _play_first(noise < jax.nn.sigmoid(logits))
            else:
                drawn = _draw_given(logits, noise, Given(*here, follow=given.follow))
            bits = drawn.astype(jnp.float32)
            num_notes = num_notes + drawn[..., 0].astype(jnp.int32)
            return (after, bits, num_notes), (bits, logits, output)

        zeros = [jnp.zeros(mask.shape[1:]) for mask in masks]
        num_notes = jnp.zeros((k, m), jnp.int32)
        start = ([LSTMCarry(z, z) for z in zeros], jnp.zeros(noise.shape[1:]), num_notes)
        each = None if given is None else (given.allowed, given.path)
        return lax.scan(note, start, (projected, jnp.arange(n), noise, masks, each))[1]

    def logits(self, output: jax.Array) -> jax.Array:
        """Log odds of play, and of articulate given play, from outputs [..., C]."""
        if self.dense and self.settings.loss == "nll":
            return output
        # An output trained by sse is the mean of its bit: a probability, but for its range.
        p = jnp.clip(self.expected(output), _LEAST, 1 - _LEAST)
        given_play = jnp.clip(p[..., 1:] / p[..., :1], _LEAST, 1 - _LEAST)
        p = jnp.concatenate([p[..., :1], given_play], axis=-1)
        return jnp.log(p) - jnp.log1p(-p)

    def expected(self, output: jax.Array) -> jax.Array:
        """What each bit is expected to be, from outputs [..., C]."""
        if not self.dense:
            return output
        p = jax.nn.sigmoid(output)
        if self.settings.loss == "sse":
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
        return dropout(x, self.settings.dropout, layer, key)


@dataclasses.dataclass(frozen=True)
class Biaxial(Model):
    """The model: reads steps of note states, and gives a probability to each bit."""

    reads: ClassVar[Literal["ids", "matrix"]] = "matrix"
    reads_positions: ClassVar[bool] = True
    every_element: ClassVar[bool] = True
    summary: ClassVar[tuple[str, ...]] = ("loss", "play_f1", "articulate_f1")
    free_fields: ClassVar[tuple[str, ...]] = ("kernel", "remat")

    encoding: Any  # one whose note 0 has the MIDI pitch `lowest`
    settings: BiaxialSettings
    window: int
    dropout: float
    pad: bool = False

    @classmethod
    def from_config(cls, config: Any, encoding: Any) -> Self:
        """See Model."""
        settings = settings_of(BiaxialSettings, config.model, "model")
        settings.check(bits=encoding.shape[1])
        return cls(encoding, settings, settings.window, settings.dropout)

    def network(self, rngs: nnx.Rngs) -> BiaxialNetwork:
        """See Model."""
        notes, bits = self.encoding.shape
        layout = Layout(
            notes=notes,
            bits=bits,
            lowest=self.encoding.lowest,
            beat=self.settings.beat,
            pitch_feature=self.settings.pitch_feature,
            rotated=self.settings.rotated,
        )
        return BiaxialNetwork(self.settings, layout, rngs=rngs)

    @property
    def takes_given(self) -> bool:
        """See Model: a song may have any number of steps."""
        return self.settings.tied and self.settings.target == "next"

    @property
    def gives_nll(self) -> bool:
        """See Model."""
        return self.settings.loss == "nll"

    @property
    def loss_unit(self) -> str:
        """See Model."""
        return "nats a step" if self.settings.loss == "nll" else "squared error a segment"

    @property
    def told(self) -> str:
        """See Model."""
        if self.settings.feedback == "none":
            return ""
        return (
            "the model knows the true notes below each note here, as a step's likelihood asks; "
            "when it makes music, and with --mode=predict, it knows its own"
        )

    @property
    def any_window(self) -> bool:
        """See Model."""
        return self.settings.tied

    # --- training -------------------------------------------------------------------------------

    def task(self, batch: Batch) -> tuple[Any, Any, Any]:
        """What the network reads of a batch, and what it is to predict.

        Returns:
            inputs [B, T, N, C], their positions [B, T], and targets [B, T, N, C].
        """
        elements, positions = batch["elements"], batch["positions"]
        if self.settings.target == "literal":
            return elements[:, 1:], positions[:, 1:], elements[:, :-1]
        return elements[:, :-1], positions[:, :-1], elements[:, 1:]

    def apply(self, params: Params, batch: Batch, key: jax.Array | None = None) -> Prediction:
        """See Model."""
        network = self.bind(params)
        inputs, positions, target = self.task(batch)
        output = network(inputs, positions, target, key)
        expected = network.expected(output)
        with_nll = self.settings.loss == "nll"
        nll = cell_nll(output, target.astype(output.dtype)) if with_nll else None
        return Prediction(likely(expected), nll, expected)

    def score(self, prediction: Prediction, batch: Batch) -> tuple[jax.Array, Sums]:
        """The loss is, by `config.model.loss`,

            "sse"   the sum of squared errors over the cells of a segment, mean over segments (the
                    paper's table 1 is such a sum)
            "nll"   minus the log-likelihood of a step's notes in nats, mean over steps; articulate
                    counts where the note plays

        Cells that play weigh `config.model.positive_weight`. Padded steps and absent rows do not
        count. See Model.
        """
        assert prediction.values is not None  # of a matrix they are always given
        _, _, target = self.task(batch)
        target = target.astype(jnp.float32)
        at = jnp.arange(target.shape[1])
        inside = (at >= batch["before"][:, None]) & (at < batch["length"][:, None])
        mask = jnp.where(inside, batch["present"][:, None], 0.0)[..., None]  # [B, T, 1]
        sse = jnp.sum(jnp.square(prediction.values - target), axis=-1) * mask
        weight = 1 + (self.settings.positive_weight - 1) * target[..., 0]
        sums = {
            "segments": batch["present"].sum(),
            "steps": mask.sum(),
            "bits": mask.sum() * target[0, 0].size,
            "sse": sse.sum(),
        }
        if self.settings.loss == "nll":
            assert prediction.nll is not None  # of such a model
            nll = prediction.nll * mask
            sums["nll"] = nll.sum()
            total, examples = (nll * weight).sum(), sums["steps"]
        else:
            total, examples = (sse * weight).sum(), sums["segments"]
        guess = prediction.guess.astype(target.dtype)
        counts = {"true_positives": guess * target, "predicted": guess, "actual": target}
        for name, cells in counts.items():
            count = jnp.einsum("btnc,btx->c", cells, mask)
            sums |= {f"{bit}_{name}": count[i] for i, bit in enumerate(_BITS[: len(count)])}
        return total / jnp.maximum(examples, 1), sums | {"total": total, "examples": examples}

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """ "loss"; "sse" of a segment, and "mse" of a bit; "nll" in nats a step, if the output is a
        probability; of play and articulate "precision", "recall" and "f1" where the expected bit is
        above one half.
        """
        steps = max(sums["steps"], 1.0)
        result = {
            "loss": sums["total"] / max(sums["examples"], 1.0),
            "sse": sums["sse"] / max(sums["segments"], 1.0),
            "mse": sums["sse"] / max(sums["bits"], 1.0),
            "steps": int(sums["steps"]),
        }
        if "nll" in sums:
            result["nll"] = sums["nll"] / steps
        for bit in _BITS[: self.encoding.shape[1]]:
            true_positives, predicted, actual = (
                sums[f"{bit}_{name}"] for name in ("true_positives", "predicted", "actual")
            )
            result |= {
                f"{bit}_precision": true_positives / max(predicted, 1.0),
                f"{bit}_recall": true_positives / max(actual, 1.0),
                f"{bit}_f1": 2 * true_positives / max(predicted + actual, 1.0),
            }
        return result

    def check_devices(self, count: int, platform: str) -> None:
        """See Model."""
        self.settings.check_devices(count, platform)

    def live(self, params: Params) -> tuple[dict[str, Any], Mapping[str, jax.Array]]:
        """See Model."""
        settings = self.settings
        for name, value, needed in (
            ("tied", settings.tied, True),
            ("loss", settings.loss, "nll"),
            ("output", settings.output, "dense"),
            ("target", settings.target, "next"),
        ):
            where = "for a live page; the variants best and quick of configs/nsm.py have it"
            expect(value == needed, f"model.{name}", value, f"{needed!r} {where}")
        network = self.bind(params)
        return {
            "name": "biaxial",
            "time_layers": len(settings.time_sizes),
            "note_layers": len(settings.note_sizes),
            "feedback": network.feedback_bits > 0,
            **network.layout._asdict(),
        }, by_name(params)

    # --- generation -----------------------------------------------------------------------------

    def plan(self, prime_length: int | None, length: int | None) -> tuple[int, int]:
        """See Model: by default 64 steps, and 256; where each step has weights of its own, at most
        half of them and the rest.
        """
        if self.settings.target == "literal":
            raise InputError(
                "the model was trained with model.target=literal, to copy the step it reads; it "
                "cannot go on from it: use --mode=predict, or train with model.target=next"
            )
        prime_length = 64 if prime_length is None else prime_length
        if self.settings.tied:
            return prime_length, 256 if length is None else length
        prime_length = min(prime_length, self.window // 2)
        length = self.window - prime_length if length is None else length
        if prime_length + length > self.window:
            raise InputError(
                f"the model has weights for {self.window} steps; a prime of {prime_length} and a "
                f"piece of {length} are more: lower --length or --prime_length, or train with "
                "model.tied=True"
            )
        return prime_length, length

    def prefill(self, params: Params, prime: jax.Array, positions: jax.Array) -> Carry:
        """See Model. A silent step is read before the prime."""
        network = self.bind(params)
        batch, length = prime.shape[:2]
        steps = jnp.swapaxes(prime, 0, 1).astype(jnp.float32)
        steps = jnp.concatenate([jnp.zeros_like(steps, shape=(1, *steps.shape[1:])), steps])
        positions, panels = jnp.swapaxes(positions, 0, 1), network.panels()

        def read(carries, inputs):
            return network.step_over_time(carries, *inputs, panels.time)[0], None

        start = network.initial_carries(batch)
        carries, _ = lax.scan(read, start, (steps[:-1], positions[:length]))
        return BiaxialCarry(carries, panels, steps[-1], positions[length], jnp.int32(length))

    def sample_step(
        self, params: Params, carry: Carry, keys: jax.Array, position: jax.Array, rules: Rules
    ) -> tuple[Carry, jax.Array]:
        """See Model. The rules are applied to the logits of play, and of articulate given play, of
        each note, low to high.
        """
        carry, _ = self._draw(self.bind(params), carry, keys, position, rules)
        return carry, carry.last.astype(jnp.uint8)

    def _draw(
        self,
        network: BiaxialNetwork,
        carry: Carry,
        keys: jax.Array,
        position: jax.Array,
        rules: Rules,
        given: Given | None = None,
    ) -> tuple[BiaxialCarry, tuple[jax.Array, jax.Array, jax.Array]]:
        """The carry after the next step, which is its `last`, and what draw_notes says of it."""
        panels = carry.panels
        carries, x = network.step_over_time(carry.time, carry.last, carry.position, panels.time)
        shape = (len(x), 1, carry.last.shape[-1])
        noise = jax.vmap(lambda key: jax.random.uniform(key, shape), out_axes=2)(keys)
        at = network.note_lstms_at(carry.step, panels.note)
        drawn = network.draw_notes(x, noise, *at, rules=rules, given=given)
        element = jnp.swapaxes(drawn[0][:, 0], 0, 1)
        return BiaxialCarry(carries, panels, element, position, carry.step + 1), drawn

    def constrained_step(
        self,
        params: Params,
        carry: Carry,
        keys: jax.Array,
        position: jax.Array,
        rules: Rules,
        allowed: jax.Array,
        path: jax.Array,
        follow: jax.Array,
    ) -> tuple[Carry, jax.Array, jax.Array, jax.Array]:
        """See Model."""
        network = self.bind(params)
        given = Given(allowed, path.astype(bool), follow)
        carry, (bits, logits, output) = self._draw(network, carry, keys, position, rules, given)
        model = -cell_nll(network.logits(output), bits).sum((0, 1))
        drawn = _log_shares(logits, bits, allowed[:, None, None]).sum((0, 1))
        return carry, carry.last.astype(jnp.uint8), model, drawn

    def select(self, carry: Carry, rows: jax.Array) -> Carry:
        """See Model."""
        batch = len(carry.last)

        def pick(array: jax.Array) -> jax.Array:
            k, m, hidden = array.shape
            pieces = array.reshape(k, batch, m // batch, hidden)
            return pieces[:, rows].reshape(k, -1, hidden)

        time = jax.tree.map(pick, carry.time)
        return carry._replace(time=time, last=carry.last[rows], position=carry.position[rows])

    def predict(self, params: Params, batch: Batch) -> jax.Array:
        """See Model. bool [B, T, N, C]; of the notes below each note it knows what it expects of
        them, and not what the song has.
        """
        network = self.bind(params)
        inputs, positions, target = self.task(batch)
        if not network.feedback_bits:
            return self.apply(params, batch).guess
        b, t, n, c = target.shape
        x = network.over_time(inputs, positions)
        likelier = jnp.full((*x.shape[:3], c), 0.5)
        bits, *_ = network.draw_notes(x, likelier, list(network.note_lstms))
        return jnp.transpose(bits.reshape(n, t, b, c), (2, 1, 0, 3)) > 0


def likely(expected: jax.Array) -> jax.Array:
    """bool [..., C]: where expected bits are above one half; articulate only where play is too."""
    return _play_first(expected > 0.5)


def cell_nll(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Minus the log-likelihood of each cell [...] in nats, of logits and bits [..., C]; articulate
    counts where the note plays.
    """
    nll = jax.nn.softplus(logits) - logits * target
    return nll[..., 0] + (nll[..., 1:] * target[..., :1]).sum(-1)


def _shares(logits: jax.Array, allowed: jax.Array) -> jax.Array:
    """Probabilities [..., 1 + C] of what a note may do, from logits [..., C], as of
    `Encoding.only`; they add up to 1 where all is allowed.
    """
    p = jax.nn.sigmoid(logits)
    play = p[..., :1]
    ways = [play * (1 - p[..., 1:]), play * p[..., 1:]] if p.shape[-1] > 1 else [play]
    return jnp.concatenate([1 - play + _TINY, *(way + _TINY for way in ways)], axis=-1) * allowed


def _draw_given(logits: jax.Array, noise: jax.Array, given: Given) -> jax.Array:
    """A note's bits, bool [K, M, C], from logits and noise in 0..1 [K, M, C]."""
    shares = _shares(logits, given.allowed)
    sounding = shares[..., 1:].sum(-1, keepdims=True)
    play = noise[..., :1] * (shares[..., :1] + sounding) < sounding
    articulate = noise[..., 1:] * sounding < shares[..., 2:]
    drawn = _play_first(jnp.concatenate([play, articulate], axis=-1))
    return jnp.where(given.follow[:, None], given.path, drawn)


def _log_shares(logits: jax.Array, bits: jax.Array, allowed: jax.Array) -> jax.Array:
    """Log-probabilities [...] of `_draw_given` to draw bits [..., C]."""
    shares = _shares(logits, allowed)
    way = (bits[..., :1] * (1 + bits[..., 1:].sum(-1, keepdims=True))).astype(jnp.int32)
    drawn = jnp.take_along_axis(shares, way, axis=-1)[..., 0]
    return jnp.log(drawn) - jnp.log(shares.sum(-1))


def _play_first(bits: jax.Array) -> jax.Array:
    """Bits [..., C] with articulate only where the note plays."""
    return jnp.concatenate([bits[..., :1], bits[..., 1:] & bits[..., :1]], axis=-1)


def _below(bits: jax.Array) -> jax.Array:
    """Each note's neighbour below, silence below the lowest. [N, ...]."""
    return jnp.concatenate([jnp.zeros_like(bits[:1]), bits[:-1]])
