"""Peers of the bi-axial model's training step and of its sampling; its count of operations."""

import numpy as np

from configs import nsm
from musicjax.config import Config
from musicjax.encodings import make_encoding
from musicjax.models import build_model
from musicjax.models.base import Model
from musicjax.models.biaxial import BiaxialNetwork
from musicjax.models.note_features import REACH, Layout

SIZES = ("paper", "best")


def make_config(size: str) -> Config:
    config = nsm.get_config("" if size == "paper" else size)
    config.train.update(optimizer="adam", schedule="constant", clip_norm=0.0)
    return config


def make_model(config: Config) -> Model:
    """The config's model."""
    return build_model(config, make_encoding(config.data))


def layout_of(config: Config) -> Layout:
    """The features of the config's model."""
    model = make_model(config)
    return model.bind(model.shapes).layout


def flops(config: Config) -> float:
    """Multiplications and additions of one segment's training step, from the sizes."""
    layout = layout_of(config)
    m, cells = config.model, config.model.window * layout.notes
    forward, features = 0, layout.size
    fed = layout.bits if m.feedback != "none" else 0
    for hidden in m.time_sizes:
        forward += (features + hidden) * 4 * hidden
        features = hidden
    features += fed
    for hidden in m.note_sizes:
        forward += (features + hidden) * 4 * hidden
        features = hidden
    if m.output != "hidden":
        forward += features * layout.bits
    return 3.0 * 2 * forward * cells


def random_batches(config: Config, count: int) -> dict[str, np.ndarray]:
    """`count` batches, stacked; a twentieth of the cells play."""
    layout = layout_of(config)
    lead, steps = (count, config.train.batch_size), config.model.window + 1
    rng = np.random.default_rng(0)
    shape = (*lead, steps, layout.notes, layout.bits)
    states = (rng.random(shape) < 0.05).astype(np.uint8)
    states[..., 1:] &= states[..., :1]
    return {
        "elements": states,
        "positions": np.broadcast_to(np.arange(steps, dtype=np.int32) % 16, (*lead, steps)),
        "before": np.zeros(lead, np.int32),
        "length": np.full(lead, config.model.window, np.int32),
        "present": np.ones(lead, np.float32),
    }


def torch_names(config: Config) -> list[str]:
    """Of torch_runners, which has none for tied weights."""
    return [] if config.model.tied else ["torch loops", "torch batched"]


def torch_runners(config: Config, count: int) -> dict:
    """The paper's network in PyTorch, as its authors had it, and batched over notes and steps.

    Both make the features of their batch in each step, as musicjax does.
    """
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    layout, t = layout_of(config), config.model.window
    n, (h,), (o,) = layout.notes, config.model.time_sizes, config.model.note_sizes
    batches = random_batches(config, count)
    examples = []
    for states in batches["elements"]:
        examples.append(torch.from_numpy(states.astype(np.float32)))
    expand = torch_expand(layout)

    class Loops(nn.Module):
        """One nn.LSTM for each note, one for each step."""

        def __init__(self):
            super().__init__()
            self.time = nn.ModuleList(nn.LSTM(layout.size, h, batch_first=True) for _ in range(n))
            self.note = nn.ModuleList(nn.LSTM(h, o, batch_first=True) for _ in range(t))

        def forward(self, x):
            x = torch.stack([lstm(x[:, :, i])[0] for i, lstm in enumerate(self.time)], 2)
            return torch.stack([lstm(x[:, i])[0] for i, lstm in enumerate(self.note)], 1)

    class Bank(nn.Module):
        """LSTMs with weights of their own, side by side in batched products."""

        def __init__(self, num_lstms, features, hidden):
            super().__init__()
            self.w_x = nn.Parameter(0.1 * torch.randn(num_lstms, features, 4 * hidden))
            self.w_h = nn.Parameter(0.1 * torch.randn(num_lstms, hidden, 4 * hidden))
            self.b = nn.Parameter(torch.zeros(num_lstms, 1, 4 * hidden))

        def forward(self, x):  # [num_lstms, steps, batch, features]
            num_lstms, steps, batch, _ = x.shape
            flat = torch.baddbmm(self.b, x.reshape(num_lstms, steps * batch, -1), self.w_x)
            projected = flat.view(num_lstms, steps, batch, -1).unbind(1)
            h = c = x.new_zeros(num_lstms, batch, self.w_h.shape[1])
            outputs = []
            for step in projected:
                gates = torch.baddbmm(step, h, self.w_h)
                i, f, g, out = gates.chunk(4, -1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(out) * torch.tanh(c)
                outputs.append(h)
            return torch.stack(outputs, 1)

    class Batched(nn.Module):
        def __init__(self):
            super().__init__()
            self.time, self.note = Bank(n, layout.size, h), Bank(t, h, o)

        def forward(self, x):
            x = self.time(x.permute(2, 1, 0, 3))  # [n, t, b, h]
            return self.note(x.permute(1, 0, 2, 3)).permute(2, 0, 1, 3)

    def runner(model):
        optimizer = torch.optim.Adam(model.parameters(), lr=config.train.learning_rate)

        def run():
            for states in examples:
                optimizer.zero_grad(set_to_none=True)
                target = states[:, 1:]
                ((model(expand(states[:, :-1])) - target) ** 2).sum().div(len(target)).backward()
                optimizer.step()

        return run

    torch.manual_seed(0)
    return {"torch loops": runner(Loops()), "torch batched": runner(Batched())}


def torch_expand(layout: Layout):
    """Note state expand: (states [b, t, n, c], positions int [b, t]) -> [b, t, n, features].

    Without positions the beat's features are 0, as in the paper.
    """
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    n = layout.notes
    index = torch.arange(n)
    pitch = index + (layout.lowest if layout.pitch_feature == "midi" else 0)
    constant = torch.cat([pitch[:, None], torch.eye(12)[(index + layout.lowest) % 12]], 1)
    around = index[:, None] + torch.arange(2 * REACH + 1)
    classes = torch.eye(12)[(index[:, None] - index - (1 if layout.rotated else 0)) % 12]

    def expand(states, positions=None):
        lead = (*states.shape[:2], n)
        padded = nn.functional.pad(states, (0, 0, REACH, REACH))
        last = states.new_zeros(*lead, 5)
        if positions is not None and layout.beat != "none":
            bits = (positions[..., None] >> torch.arange(4)) & 1
            last[..., :4] = (2 * bits - 1 if layout.beat == "signed" else bits)[:, :, None]
        return torch.cat(
            [
                constant.expand(*lead, 13),
                padded[:, :, around].reshape(*lead, -1),
                torch.einsum("btm,mnk->btnk", states[..., 0], classes),
                last,
            ],
            -1,
        )

    return expand


def torch_step(network: BiaxialNetwork):
    """A tied network's step of sampling in PyTorch, with the network's weights.

    LSTMCells read a step, all notes of all pieces as one batch; then a Python loop over the notes
    draws play and articulate of each, from what the one below does. The temperature is 1, and
    nothing guards against silence.

    Returns:
        a function of a step's states [b, n, c], its position int [b], noise in 0..1 [n, b, c], the
        carry of the step before (None at first) and the most notes at once; it returns the carry,
        the next step's states, and the logits they are drawn by, [b, c] for each note.
    """
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    def cell(lstm):
        w_x, w_h, b = (torch.tensor(np.asarray(w[0])) for w in (lstm.w_x, lstm.w_h, lstm.b))
        made = nn.LSTMCell(len(w_x), len(w_h))
        made.load_state_dict(
            {
                "weight_ih": w_x.T,
                "weight_hh": w_h.T,
                "bias_ih": b,
                "bias_hh": torch.zeros_like(b),
            }
        )
        return made

    n, expand = network.layout.notes, torch_expand(network.layout)
    time_cells = [cell(lstm) for lstm in network.time_lstms]
    note_cells = [cell(lstm) for lstm in network.note_lstms]
    w_out, b_out = (torch.tensor(np.asarray(w[...])) for w in (network.w_out, network.b_out))
    w_out, b_out = (w.expand(n, *w.shape[1:]).unbind() for w in (w_out, b_out))

    @torch.inference_mode()
    def step(states, positions, noise, carry=None, max_notes=n):
        b, _, c = states.shape
        h, after = expand(states[:, None], positions[:, None]).reshape(b * n, -1), []
        for lstm, lstm_carry in zip(time_cells, carry or [None] * len(time_cells), strict=True):
            after.append(lstm(h, lstm_carry))
            h = after[-1][0]
        below, count = states.new_zeros(b, c), torch.zeros(b, 1, dtype=torch.int64)
        along: list = [None] * len(note_cells)
        drawn, logits = [], []
        for note, (x, u) in enumerate(zip(h.view(b, n, -1).unbind(1), noise, strict=True)):
            h = torch.cat([x, below], -1)
            for i, lstm in enumerate(note_cells):
                along[i] = lstm(h, along[i])
                h = along[i][0]
            logits.append(torch.addmm(b_out[note], h, w_out[note]))
            bits = u < torch.sigmoid(logits[-1])
            play = bits[:, :1] & (count < max_notes)
            below = torch.cat([play, bits[:, 1:] & play], -1).float()
            count = count + play
            drawn.append(below)
        return after, torch.stack(drawn, 1), logits

    return step
