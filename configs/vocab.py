"""The token model: BiLSTM with attention on tokens (note | chord | rest, duration).

    python -m musicjax.train --config=configs/vocab.py --workdir=runs/vocab

is the paper's table 2, but that rests longer than 4 quarters are cut and notes longer than 16 are
followed by a rest. Variants, after a colon:

    best       what works best here: a causal LSTM that learns from every token, whose tokens share
               strength by their pitches and durations, and that knows the place in the bar;
               2.85 nats a token on the chorales (the longest match in the song 3.23), in a minute
               or two
    best_large wider, of fewer epochs, for some hundred songs, and it may copy from the song so far:
               1.63 nats a token on POP909's piano (the longest match in the song 2.27)
    keys       best, but the songs keep their keys, and each example is moved to one that is drawn:
               music in any key. 3.02 nats a token on the chorales (best: 2.85; the longest match in
               songs of all keys 4.05), in 2.5 times as long; on a folder of 60 pop songs, which
               quick soon knows by heart, better than it
    quick      best of fewer epochs: music within minutes
    small      the paper's network, small
    causal     small in one direction
    large      1024 / 512 units and learning rate 0.01, the paper's first try
    baseline   one LSTM layer, the paper's test of which track to train on
    anushree   the model of the paper's reference [1]
    tiny       for tests; tiny_causal: best's network, tiny
"""

from ml_collections import ConfigDict

from configs.collection import get_data
from configs.training import (
    get_causal_lstm,
    get_causal_train,
    get_lstm,
    get_train,
    tiny_training,
    vary,
)
from musicjax.config import Config


def get_config(variant: str = "") -> Config:
    config: Config = ConfigDict()
    config.seed = 0  # of the weights, the order of examples, and dropout

    config.data = data = get_data()
    data.encoding = "tokens"  # how songs are written as numbers
    data.longest_rest = 4  # quarters; longer rests are cut; 0 keeps them
    data.longest_note = 16  # quarters; longer notes are followed by a rest; 0 keeps them
    # tokens name their instrument, as the paper tried first; its vocabulary grew to over 500,000
    data.instruments = False

    config.model = model = get_lstm()
    model.name = "token_lstm"  # the network
    model.window = 50  # tokens read to predict the next
    model.pad = False  # windows may begin before the song: short songs and primes count too
    model.input = "embedding"  # or "scalar", the id / V of [1]
    model.embedding_size = 128  # numbers that stand for a token
    model.encoder_layers = 1  # LSTMs that read the window
    model.encoder_size = 512  # units a direction
    model.bidirectional = True  # they read it backwards too
    # attend to the past alone: all steps of a window learn, and none is read twice
    model.causal = False
    model.attention = True  # over what they have read
    model.attention_size = 32  # units of its scores
    model.attention_scores = "linear"  # or "sigmoid", as in [1]
    model.decoder_layers = 1  # LSTMs after that; 0: none
    model.decoder_size = 256  # units of each
    model.flatten = False  # all steps into the dense layer, as in [1]; else the last
    model.dense_size = 256  # 0: none
    model.dropout = 0.3  # after each LSTM
    model.class_weights = 1.0  # weight in the loss = frequency ** -this; 0: all classes alike

    config.train = train = get_train()
    train.epochs = 100
    train.batch_size = 50
    train.optimizer = "rmsprop"
    train.learning_rate = 1e-4

    return vary(config, variant, VARIANTS)


def best(config: Config) -> None:
    data = config.data
    data.align = True
    data.longest_rest = 0
    data.longest_note = 0
    data.longest_silence = 4
    config.model = get_causal_lstm()
    config.model.window = 32  # a window as long as the song would be the same in each epoch
    config.model.input_dropout = 0.4
    config.train = get_causal_train()
    config.train.batch_size = 8
    config.train.epochs = 30


def best_large(config: Config) -> None:
    best(config)
    config.model.window = 512  # most of a pop song, which says again what it has said
    config.model.hidden_size = 384
    config.model.memory = 2048  # a whole song
    config.model.input_dropout = 0.2
    config.model.dropout = 0.4
    config.train.epochs = 6
    config.train.batch_size = 2
    config.train.eval_window = 2048


def keys(config: Config) -> None:
    best(config)
    config.data.transpose = False
    config.model.dropout = 0.5
    config.train.epochs = 75
    config.train.transpose_range = (-5, 6)


def quick(config: Config) -> None:
    best(config)
    config.train.epochs = 20
    # A small folder is soon known by heart: its best epoch comes while the learning rate is high,
    # where an average of the weights does what a lower rate would.
    config.train.patience = 5
    config.train.ema = 0.99


def small(config: Config) -> None:
    model, train = config.model, config.train
    model.window = 24
    model.pad = True
    model.embedding_size = 48
    model.encoder_size = 64
    model.decoder_size = 96
    model.dense_size = 96
    model.class_weights = 0.0
    train.epochs = 8
    train.batch_size = 64
    train.optimizer = "adam"
    train.learning_rate = 3e-3
    train.schedule = "cosine"
    train.clip_norm = 1.0
    train.steps_per_call = 50
    train.huge_pages = False


def causal(config: Config) -> None:
    small(config)
    config.model.bidirectional = False
    config.model.causal = True
    config.train.stride = 24
    config.train.epochs = 48


def large(config: Config) -> None:
    config.model.encoder_size = 1024
    config.model.decoder_size = 512
    config.model.dropout = 0.0
    config.train.learning_rate = 0.01


def baseline(config: Config) -> None:
    model = config.model
    model.bidirectional = False
    model.attention = False
    model.decoder_layers = 0
    model.dense_size = 0
    model.dropout = 0.0
    model.class_weights = 0.0


def anushree(config: Config) -> None:
    model, train = config.model, config.train
    model.window = 100
    model.input = "scalar"
    model.attention_scores = "sigmoid"
    model.decoder_size = 512
    model.flatten = True
    model.dense_size = 0
    model.class_weights = 0.0
    train.batch_size = 64
    train.learning_rate = 1e-3


def tiny(config: Config) -> None:
    tiny_training(config)
    model = config.model
    model.window = 8
    model.embedding_size = 8
    model.encoder_size = 16
    model.attention_size = 4
    model.decoder_size = 16
    model.dense_size = 16
    config.train.batch_size = 16
    config.train.steps_per_call = 4


def tiny_causal(config: Config) -> None:
    best(config)
    tiny_training(config)
    model = config.model
    model.window = 16
    model.embedding_size = 16
    model.hidden_size = 16
    model.input_dropout = 0.1
    model.dropout = 0.1
    config.train.batch_size = 8
    config.train.eval_window = 32
    config.train.warmup_steps = 4
    config.train.steps_per_call = 4


VARIANTS = {
    "best": best,
    "best_large": best_large,
    "keys": keys,
    "quick": quick,
    "small": small,
    "causal": causal,
    "large": large,
    "baseline": baseline,
    "anushree": anushree,
    "tiny": tiny,
    "tiny_causal": tiny_causal,
}
