"""The bi-axial LSTM on note state matrices.

    python -m musicjax.train --config=configs/nsm.py --workdir=runs/nsm

is the paper's: an LSTM for each of 78 notes along time, one for each of 128 steps along the notes,
the sum of squared errors, 350 songs to train on and 50 to test. On POP909's, 50 epochs took 14
minutes on two CPU cores with other work beside them, and gave 287 a test song (all silent 523,
repeating the last step 477). Where it is not the paper's: slot 0 of a note's features is its index
and not its MIDI number, songs come in another order each epoch, and percussion is left out (a pitch
there names an instrument). Variants, after a colon:

    t256       256 steps, as the paper had first
    johnson    the network of Johnson 2015
    kotecha    the network of Kotecha and Young 2018, the paper's reference [3]
    best       what works best here: shared weights, likelihood, feedback from the note below;
               5.04 nats a step on the same songs (repeating the last step 8.86), in 24 minutes
    quick      a smaller best: music within minutes
    tiny       for tests, as is tiny_best
"""

from ml_collections import ConfigDict

from configs.collection import get_data
from configs.training import get_lstm, get_train, tiny_training, vary
from musicjax.config import Config


def get_config(variant: str = "") -> Config:
    config: Config = ConfigDict()
    config.seed = 0  # of the weights, the order of examples, and dropout

    config.data = data = get_data()
    data.encoding = "note_states"  # how songs are written as numbers
    data.track = "all"
    data.lowest = 24  # MIDI pitch of the matrix, as is the highest
    data.highest = 101  # itself included
    data.articulate = True  # two bits a note; False: play alone
    data.songs = 400
    data.validation_share = 0.0  # the paper had none
    data.test_share = 0.125

    config.model = model = get_lstm()
    model.name = "biaxial"  # the network
    model.window = 128  # steps of an example
    model.target = "next"  # or "literal": the paper's words make it a copy task
    model.tied = False  # one set of weights for all notes, and for all steps
    model.time_sizes = (36,)  # units of the LSTMs along time
    model.note_sizes = (2,)  # and along the notes
    model.output = "hidden"  # of the last LSTM; or "dense", "dense_per_note"
    model.loss = "sse"  # or "nll", articulate counting where the note plays
    model.positive_weight = 1.0  # of cells that play, against the many that do not
    model.feedback = "none"  # what a note knows of the one below: "true" or the model's "sample"
    model.beat = "none"  # place in the bar: "signed" (Johnson) or "bits" (Kotecha)
    model.pitch_feature = "index"  # or "midi" (Kotecha)
    model.rotated = False  # interval classes begin with the next (Kotecha)
    model.dropout = 0.0  # after each LSTM

    config.train = train = get_train()
    train.starts = "beginning"

    return vary(config, variant, VARIANTS)


def t256(config: Config) -> None:
    config.model.window = 256


def shared(config: Config) -> None:
    """One set of weights for all notes and steps, and all songs split three ways."""
    data, model, train = config.data, config.model, config.train
    data.songs = 0
    data.validation_share = 0.1
    data.test_share = 0.1
    data.longest_silence = 4
    model.tied = True
    model.output = "dense"
    model.loss = "nll"
    model.feedback = "true"
    model.beat = "signed"
    train.starts = "bars"


def as_published(config: Config) -> None:
    shared(config)
    config.data.transpose = False
    config.model.dropout = 0.5
    config.train.epochs = 1000
    config.train.optimizer = "adadelta"
    config.train.learning_rate = 1.0


def johnson(config: Config) -> None:
    as_published(config)
    config.model.time_sizes = (300, 300)
    config.model.note_sizes = (100, 50)


def kotecha(config: Config) -> None:
    as_published(config)
    model = config.model
    model.time_sizes = (200, 200)
    model.note_sizes = (100, 100)
    model.output = "dense_per_note"
    model.feedback = "sample"
    model.beat = "bits"
    model.pitch_feature = "midi"
    model.rotated = True


def best(config: Config) -> None:
    shared(config)
    data, model, train = config.data, config.model, config.train
    data.align = True
    model.time_sizes = (128,)
    model.note_sizes = (64,)
    model.dropout = 0.2
    train.epochs = 6
    train.batch_size = 4
    train.per_song = 4
    train.learning_rate = 3e-3
    train.schedule = "cosine"
    train.clip_norm = 5.0


def quick(config: Config) -> None:
    best(config)
    config.model.time_sizes = (64,)
    config.model.note_sizes = (32,)
    config.model.dropout = 0.1
    config.train.epochs = 3
    config.train.patience = 5  # where --config.train.epochs asks for more


def tiny(config: Config) -> None:
    tiny_training(config)
    config.data.songs = 0
    config.model.window = 16
    config.model.time_sizes = (6,)
    config.train.batch_size = 4
    config.train.steps_per_call = 2


def tiny_best(config: Config) -> None:
    shared(config)
    tiny(config)
    config.model.time_sizes = (8, 6)
    config.model.note_sizes = (6, 5)
    config.model.dropout = 0.1


VARIANTS = {
    "t256": t256,
    "johnson": johnson,
    "kotecha": kotecha,
    "best": best,
    "quick": quick,
    "tiny": tiny,
    "tiny_best": tiny_best,
}
