"""Peers of the token model's training step, and its count of operations."""

import dataclasses

import numpy as np

from configs import vocab as vocab_config
from musicjax.config import Config
from musicjax.encodings.tokens import TokenEncoding
from musicjax.encodings.vocabulary import Token, Vocabulary
from musicjax.models import build_model
from musicjax.models.base import Model

VOCABULARY_SIZE = 1000  # as Bach's chorales, two voices
SIZES = ("table2", "small")


def make_config(size: str) -> Config:
    config = vocab_config.get_config("" if size == "table2" else size)
    # One optimizer for all, so that what is compared is the model.
    config.train.update(optimizer="rmsprop", schedule="constant", clip_norm=0.0)
    return config


def flops(config: Config) -> float:
    """Multiplications and additions of one window's training step, from the sizes."""
    m, t = config.model, config.model.window
    directions = 2 if m.bidirectional else 1
    encoded = directions * m.encoder_size
    encoder = directions * t * (m.embedding_size + m.encoder_size) * 4 * m.encoder_size
    attention = t * encoded * m.attention_size * 2 + t * t * (m.attention_size + encoded)
    decoder = t * (encoded + m.decoder_size) * 4 * m.decoder_size
    head = m.decoder_size * m.dense_size + m.dense_size * VOCABULARY_SIZE
    forward = 2 * (encoder + attention + decoder + head)
    return 3.0 * forward


def random_batches(config: Config, count: int) -> dict[str, np.ndarray]:
    """`count` batches, stacked."""
    lead, window = (count, config.train.batch_size), config.model.window
    ids = np.random.default_rng(0).integers(1, VOCABULARY_SIZE, (*lead, window + 1), dtype=np.int32)
    return {
        "elements": ids,
        "before": np.zeros(lead, np.int32),
        "length": np.full(lead, window, np.int32),
        "present": np.ones(lead, np.float32),
    }


def make_model(config: Config) -> Model:
    """The config's model, of VOCABULARY_SIZE ids."""
    pairs = [(low, high) for low in range(40) for high in range(60, 100)]
    vocabulary = Vocabulary.build({Token(p, 12): 1 for p in pairs[: VOCABULARY_SIZE - 1]})
    encoding = TokenEncoding.from_config(config.data)
    return build_model(config, dataclasses.replace(encoding, vocabulary=vocabulary))


def torch_model(config: Config):
    """The same model of nn.LSTM."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    m = config.model

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY_SIZE, m.embedding_size)
            self.encoder = nn.LSTM(
                m.embedding_size, m.encoder_size, batch_first=True, bidirectional=m.bidirectional
            )
            encoded = m.encoder_size * (2 if m.bidirectional else 1)
            self.w_t = nn.Linear(encoded, m.attention_size, bias=False)
            self.w_s = nn.Linear(encoded, m.attention_size)
            self.v = nn.Linear(m.attention_size, 1)
            self.decoder = nn.LSTM(encoded, m.decoder_size, batch_first=True)
            self.dense = nn.Linear(m.decoder_size, m.dense_size)
            self.logits = nn.Linear(m.dense_size, VOCABULARY_SIZE)
            self.drop = nn.Dropout(m.dropout)

        def forward(self, tokens):
            x = self.drop(self.encoder(self.embedding(tokens))[0])
            score = self.v(torch.tanh(self.w_t(x)[:, :, None] + self.w_s(x)[:, None]))[..., 0]
            x = torch.softmax(score, -1) @ x
            x = self.drop(self.decoder(x)[0])[:, -1]
            return self.logits(torch.relu(self.dense(x)))

    torch.manual_seed(0)
    return Model()


def torch_names(config: Config) -> list[str]:
    """Of torch_runners."""
    return ["torch"]


def torch_runners(config: Config, count: int) -> dict:
    """PyTorch's training step."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch import nn  # pyright: ignore[reportMissingImports]

    model = torch_model(config)
    optimizer = torch.optim.RMSprop(
        model.parameters(), lr=config.train.learning_rate, alpha=0.9, eps=1e-7
    )
    tokens = torch.from_numpy(random_batches(config, count)["elements"].astype(np.int64))

    def run():
        for batch in tokens:
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(model(batch[:, :-1]), batch[:, -1]).backward()
            optimizer.step()

    return {"torch": run}
