"""Small models, and batches for them."""

import numpy as np
from conftest import VOCABULARY, load_config, model_of

from musicjax.encodings.events import EventEncoding
from musicjax.encodings.note_states import NoteStateEncoding
from musicjax.encodings.tokens import TokenEncoding
from musicjax.models.base import Model
from musicjax.models.biaxial import Biaxial
from musicjax.models.causal_lstm import CausalLSTM
from musicjax.models.token_lstm import TokenLSTM

EVENTS = EventEncoding(resolution=4, velocities=0, instruments=False, tempos=0, ends=True, meter="")
TOKENS = TokenEncoding(longest_rest=4, longest_note=16, instruments=False, vocabulary=VOCABULARY)


def note_states(notes: int = 4, lowest: int = 60, articulate: bool = True) -> NoteStateEncoding:
    highest = lowest + notes - 1
    return NoteStateEncoding(lowest=lowest, highest=highest, articulate=articulate)


def token_lstm(variant: str = "tiny", **settings) -> TokenLSTM:
    """Of configs/vocab.py, other settings of `config.model` as given."""
    config = load_config(variant)
    config.model.update(settings)
    return model_of(config, TOKENS)


def causal_lstm(encoding: TokenEncoding | EventEncoding = TOKENS, **settings) -> CausalLSTM:
    """Of configs/vocab.py:tiny_causal, other settings of `config.model` as given."""
    config = load_config("tiny_causal")
    config.model.update(settings)
    return model_of(config, encoding)


def biaxial(
    variant: str = "tiny", encoding: NoteStateEncoding | None = None, **settings
) -> Biaxial:
    """Of configs/nsm.py, other settings of `config.model` as given; of 4 notes."""
    config = load_config(variant, "nsm")
    config.model.update(settings)
    return model_of(config, encoding or note_states())


def random_batch(model: Model, rows: int = 5, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    steps = model.window + 1
    batch = {
        "present": np.ones(rows, np.float32),
        "before": np.zeros(rows, np.int32),
        "length": np.full(rows, model.window, np.int32),
    }
    if model.reads_positions:
        batch["positions"] = np.tile(np.arange(steps, dtype=np.int32), (rows, 1))
    if model.reads == "ids":
        ids = rng.integers(1, model.encoding.size, (rows, steps), dtype=np.int32)
        return batch | {"elements": ids}
    states = (rng.random((rows, steps, *model.encoding.shape)) < 0.4).astype(np.uint8)
    states[..., 1:] &= states[..., :1]
    return batch | {"elements": states}
