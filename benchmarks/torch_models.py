"""The causal and the tied bi-axial LSTM in PyTorch, as its users would write them at their best.

Each recurrence is one `nn.LSTM`, whose CPU kernel is oneDNN's: along time the bi-axial network's
batch is all notes of all songs, along the notes all steps. Sizes, tied tables, dropout and first
weights are the config's. What is the same for every epoch is done outside of the time that is
taken, in PyTorch's favour: batches are tensors of the layout that it likes, and the context of
events is in them.

Axes: B batch, T element, N note, C bit.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.nsm_peers import torch_expand
from musicjax.models.base import Batch, Model
from musicjax.models.biaxial import Biaxial
from musicjax.models.causal_lstm import CausalLSTM


class Peer(NamedTuple):
    """A network in PyTorch.

    Attributes:
        network: the nn.Module.
        prepare: a batch as tensors.
        sums: of such a batch, nats and how many elements count.
    """

    network: Any
    prepare: Callable[[Batch], Any]
    sums: Callable[[Any], tuple[Any, Any]]


def make(model: Model) -> Peer:
    """The same model in PyTorch.

    Raises:
        SystemExit: there is none.
    """
    if isinstance(model, CausalLSTM) and not model.settings.memory:
        return _causal(model)
    if isinstance(model, Biaxial) and model.settings.tied and model.settings.loss == "nll":
        return _biaxial(model)
    raise SystemExit(
        "this model has no peer; expected a causal LSTM with model.memory=0, or a bi-axial one "
        "with model.tied=True and model.loss=nll"
    )


def _begin(layer: Any) -> Any:
    """An nn.LSTM or nn.Linear with the first weights of this project's."""
    from torch import nn  # pyright: ignore[reportMissingImports]

    for name, array in layer.named_parameters():
        if "weight_hh" in name:
            nn.init.orthogonal_(array)
        elif "weight" in name:
            nn.init.xavier_uniform_(array)
        else:
            nn.init.zeros_(array)
            if "ih" in name:  # the forget gate's
                array.data[layer.hidden_size : 2 * layer.hidden_size] = 1
    return layer


def _inside(batch: Batch, length: int) -> np.ndarray:
    """bool [B, T]: the elements that count."""
    at = np.arange(length)
    inside = (at >= batch["before"][:, None]) & (at < batch["length"][:, None])
    return inside & (batch["present"] > 0)[:, None]


def _causal(model: CausalLSTM) -> Peer:
    import jax
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    encoding, m = model.encoding, model.settings
    features = [torch.from_numpy(part) for part in encoding.features()] if m.parts else []
    told = encoding.context(encoding.grammar(1)) if m.context else None
    read = jax.jit(lambda ids: model.read(ids)[1])
    writes = np.flatnonzero(encoding.id_pitches >= 0)
    pitches_of = encoding.id_pitches[writes]

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            small = lambda *shape: nn.Parameter(0.05 * torch.randn(*shape))  # noqa: E731
            self.embedding = small(encoding.size, m.embedding_size)
            self.parts = nn.ParameterList([small(f.shape[1], m.embedding_size) for f in features])
            self.places = small(8 * encoding.units_per_quarter, m.embedding_size)
            if told is not None:
                numbers, pitches = told.pitches.shape[-2:]
                told_size = numbers * pitches + told.others.shape[-1]
                self.context = small(told_size, m.embedding_size)
                self.intervals = _begin(nn.Linear(m.hidden_size, numbers * 37 + 26, bias=False))
                with torch.no_grad():
                    self.intervals.weight.mul_(0.1**0.5)  # as intervals.py's
            between = m.dropout if m.layers > 1 else 0.0
            self.lstm = _begin(nn.LSTM(m.embedding_size, m.hidden_size, m.layers, dropout=between))
            self.out = _begin(nn.Linear(m.hidden_size, m.embedding_size))
            self.bias = nn.Parameter(torch.zeros(encoding.size))
            self.input_dropout, self.dropout = nn.Dropout(m.input_dropout), nn.Dropout(m.dropout)

        def forward(self, ids, places, context):
            table = self.embedding
            for part, weights in zip(features, self.parts, strict=True):
                table = table + part @ weights
            x = nn.functional.embedding(ids, table)
            if m.places:
                x = x + self.places[places.clamp(max=len(self.places) - 1)]
            if context is not None:
                x = x + context[0] @ self.context
            h = self.dropout(self.lstm(self.input_dropout(x))[0])
            logits = self.out(h) @ table.T + self.bias
            if context is not None:
                scores = self.scores(h, *context[1:])[..., pitches_of]
                logits[..., writes] = logits[..., writes] + scores
            logits[..., 0] = -1e9
            return logits

        def scores(self, h, around, classes, moves):
            """As musicjax/models/intervals.py. The fastest of five ways: conv1d, bmm and sums of
            shifted arrays take longer.
            """
            weights = self.intervals(h)
            near, far = weights[..., :-26].unflatten(-1, (-1, 37)).split((25, 12), dim=-1)
            near = torch.einsum("tbck,tbcpk->tbp", near, around.unfold(-1, 25, 1))
            far = torch.einsum("tbck,tbcpk->tbp", far, classes.unfold(-1, 12, 1))
            far = far.repeat(1, 1, 11)[..., :128]
            return near + far + weights[..., -26:].gather(-1, moves)

    network = Network()

    def prepare(batch):
        """Of [T, B]: ids, places and context, and targets, 0 where none counts."""
        ids = torch.from_numpy(batch["elements"].astype(np.int64)).T.contiguous()
        places = torch.from_numpy(batch["positions"].astype(np.int64)).T.contiguous()
        target = torch.where(torch.from_numpy(_inside(batch, len(ids) - 1)).T, ids[1:], 0)
        context = read(batch["elements"][:, :-1])
        if context is not None:
            pitches, moves, others = (np.asarray(each).swapaxes(0, 1) for each in context)
            classes = np.pad(pitches, [(0, 0)] * 3 + [(0, 4)])
            classes = classes.reshape(*pitches.shape[:-1], 11, 12).sum(-2)
            flat = np.concatenate([pitches.reshape(*pitches.shape[:2], -1), others], axis=-1)
            around = np.pad(pitches, [(0, 0)] * 3 + [(12, 12)])
            classes = np.concatenate([classes, classes[..., :-1]], axis=-1)
            moves = np.where(np.abs(moves) <= 12, moves + 12, 25).astype(np.int64)
            context = tuple(map(torch.from_numpy, (flat, around, classes, moves)))
        return ids[:-1], places[1:], context, target

    def sums(tensors):
        *inputs, target = tensors
        logits = network(*inputs).flatten(0, 1)
        nll = nn.functional.cross_entropy(logits, target.flatten(), ignore_index=0, reduction="sum")
        return nll, (target > 0).sum()

    return Peer(network, prepare, sums)


def _biaxial(model: Biaxial) -> Peer:
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    m, layout = model.settings, model.bind(model.shapes).layout
    n, c, expand = layout.notes, layout.bits, torch_expand(layout)
    fed = c if m.feedback == "true" else 0
    if m.feedback == "sample" or m.output != "dense":
        raise SystemExit("the peer has model.feedback=true or none, and model.output=dense")

    def stack(inputs, sizes):
        layers = []
        for size in sizes:
            layers.append(_begin(nn.LSTM(inputs, size)))
            inputs = size
        return nn.ModuleList(layers)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.time = stack(layout.size, m.time_sizes)
            self.note = stack(m.time_sizes[-1] + fed, m.note_sizes)
            self.out = _begin(nn.Linear(m.note_sizes[-1], c))
            self.dropout = nn.Dropout(m.dropout)

        def forward(self, states, positions, target):
            """Of [T, B, N, C], [T, B] and [N, T * B, C]; logits [N, T * B, C]."""
            t, b = positions.shape
            x = expand(states, positions).flatten(1, 2)
            for lstm in self.time:
                x = self.dropout(lstm(x)[0])
            x = x.view(t, b, n, -1).permute(2, 0, 1, 3).reshape(n, t * b, -1)
            if fed:
                x = torch.cat([x, nn.functional.pad(target[:-1], (0, 0, 0, 0, 1, 0))], -1)
            for lstm in self.note:
                x = self.dropout(lstm(x)[0])
            return self.out(x)

    network = Network()

    def prepare(batch):
        states, positions, target = model.task(batch)
        inside = torch.from_numpy(_inside(batch, target.shape[1])).T.flatten()
        states, target = (torch.from_numpy(np.array(a)).float() for a in (states, target))
        positions = torch.from_numpy(np.array(positions)).long().T.contiguous()
        target = target.permute(2, 1, 0, 3).flatten(1, 2).contiguous()
        return states.transpose(0, 1).contiguous(), positions, target, inside.float()

    def sums(tensors):
        states, positions, target, inside = tensors
        logits = network(states, positions, target)
        nll = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        nll = nll[..., 0] + (nll[..., 1:] * target[..., :1]).sum(-1)
        return (nll.sum(0) * inside).sum(), inside.sum()

    return Peer(network, prepare, sums)
