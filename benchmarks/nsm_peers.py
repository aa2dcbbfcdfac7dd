"""Peers of the bi-axial model's training step, and its count of operations."""

import numpy as np

from configs import nsm
from musicjax.config import Config
from musicjax.models import biaxial
from musicjax.models.note_features import REACH

SIZES = ("paper", "best")


def make_config(size: str) -> Config:
    config = nsm.get_config("" if size == "paper" else size)
    config.train.update(optimizer="adam", schedule="constant", clip_norm=0.0)
    return config


def flops(config: Config) -> float:
    """Multiplications and additions of one segment's training step, from the sizes."""
    layout = biaxial.layout_of(config)
    m, cells = config.model, config.train.window * layout.notes
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
    layout = biaxial.layout_of(config)
    lead, steps = (count, config.train.batch_size), config.train.window + 1
    rng = np.random.default_rng(0)
    shape = (*lead, steps, layout.notes, layout.bits)
    states = (rng.random(shape) < 0.05).astype(np.uint8)
    states[..., 1:] &= states[..., :1]
    return {
        "states": states,
        "beat": np.broadcast_to(np.arange(steps, dtype=np.int32) % 16, (*lead, steps)),
        "length": np.full(lead, config.train.window, np.int32),
        "present": np.ones(lead, np.float32),
    }


def make_vocabulary() -> None:
    """It has none."""


def torch_runners(config: Config, count: int) -> dict:
    """The paper's network in PyTorch, as its authors had it, and batched over notes and steps.

    Both make the features of their batch in each step, as musicjax does.
    """
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    if config.model.tied:
        return {}
    layout, t = biaxial.layout_of(config), config.train.window
    n, (h,), (o,) = layout.notes, config.model.time_sizes, config.model.note_sizes
    batches = random_batches(config, count)
    examples = []
    for states in batches["states"]:
        examples.append(torch.from_numpy(states.astype(np.float32)))
    index = torch.arange(n)
    constant = torch.cat([index[:, None], torch.eye(12)[(index + layout.lowest) % 12]], 1)
    around = index[:, None] + torch.arange(2 * REACH + 1)
    classes = torch.eye(12)[(index[:, None] - index) % 12]

    def expand(states):
        """Note state expand. states: [b, t, n, 2]."""
        lead = (*states.shape[:2], n)
        padded = nn.functional.pad(states, (0, 0, REACH, REACH))
        return torch.cat(
            [
                constant.expand(*lead, 13),
                padded[:, :, around].reshape(*lead, -1),
                torch.einsum("btm,mnk->btnk", states[..., 0], classes),
                states.new_zeros(*lead, 5),
            ],
            -1,
        )

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

        def __init__(self, copies, features, hidden):
            super().__init__()
            self.w_x = nn.Parameter(0.1 * torch.randn(copies, features, 4 * hidden))
            self.w_h = nn.Parameter(0.1 * torch.randn(copies, hidden, 4 * hidden))
            self.b = nn.Parameter(torch.zeros(copies, 1, 4 * hidden))

        def forward(self, x):  # [copies, steps, batch, features]
            copies, steps, batch, _ = x.shape
            flat = torch.baddbmm(self.b, x.reshape(copies, steps * batch, -1), self.w_x)
            projected = flat.view(copies, steps, batch, -1).unbind(1)
            state = c = x.new_zeros(copies, batch, self.w_h.shape[1])
            outputs = []
            for step in projected:
                gates = torch.baddbmm(step, state, self.w_h)
                i, f, g, out = gates.chunk(4, -1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                state = torch.sigmoid(out) * torch.tanh(c)
                outputs.append(state)
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
