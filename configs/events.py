"""Events, the field's REMI: bars, positions, pitches and durations, read by a causal LSTM.

    python -m musicjax.train --config=configs/events.py --workdir=runs/events

is Bach's chorales with all four voices, on sixteenths: 0.65 nats an event (Kneser-Ney 1.47), in
ten minutes. Variants, after a colon:

    quick   of fewer epochs, without the pointer: four voices, 0.71 nats an event
            (Kneser-Ney 1.47), in two or three minutes
    large   larger, for hundreds of songs: POP909's piano, 0.71 nats an event (Kneser-Ney 1.98,
            the longest match in the song 1.18)
    piano   triplets and loudness too: --config.data.source=/my/midi
    band    every instrument and the drums, each note with its program
    tiny    for tests
"""

from ml_collections import ConfigDict

from configs.collection import get_data
from configs.training import get_causal_lstm, get_causal_train, tiny_training, vary
from musicjax.config import Config


def get_config(variant: str = "") -> Config:
    config: Config = ConfigDict()
    config.seed = 0  # of the weights, the order of examples, and dropout

    config.data = data = get_data()
    data.encoding = "events"  # how songs are written as numbers
    data.track = "all"
    data.align = True
    data.longest_silence = 4
    data.resolution = 4  # points of the grid in a beat: 4, sixteenths; 12, triplets too
    data.velocities = 0  # bins of loudness, such as 32; 0: none is written
    data.instruments = False  # notes name their program; else all tracks are one instrument
    data.tempos = 0  # bins of tempo, such as 32; 0: none is written, the song's own is kept apart
    data.ends = True  # songs end with an event of their own, and so do pieces
    data.meter = ""  # such as "3/4", of all bars; "": as each song says

    config.model = model = get_causal_lstm()
    model.window = 512  # some sixteen bars of four voices
    model.places = False  # events say themselves where they are in the bar
    model.context = True
    model.memory = 2048  # a whole song, that may say again what it has said

    config.train = train = get_causal_train()
    train.epochs = 15
    train.batch_size = 2  # twice as many steps teach more than twice as many windows
    train.eval_window = 2048

    return vary(config, variant, VARIANTS)


def quick(config: Config) -> None:
    config.model.memory = 0
    config.train.epochs = 8
    config.train.patience = 5
    config.train.eval_window = 512


def large(config: Config) -> None:
    model, train = config.model, config.train
    model.window = 1024
    model.memory = 4096  # a whole song
    model.hidden_size = 384
    model.input_dropout = 0.1
    model.dropout = 0.3
    train.epochs = 4
    train.eval_window = 4096


def piano(config: Config) -> None:
    config.data.track = "piano"
    config.data.resolution = 12
    config.data.velocities = 32


def band(config: Config) -> None:
    config.data.drums = True
    config.data.resolution = 12
    config.data.instruments = True


def tiny(config: Config) -> None:
    tiny_training(config)
    config.model.window = 16
    config.model.memory = 0
    config.model.embedding_size = 8
    config.model.hidden_size = 16
    config.train.batch_size = 16
    config.train.eval_window = 0
    config.train.steps_per_call = 4


VARIANTS = {"quick": quick, "large": large, "piano": piano, "band": band, "tiny": tiny}
