"""The bi-axial LSTM on note state matrices.

    python -m musicjax.train --config=configs/nsm.py --workdir=runs/nsm

is the paper's: an LSTM for each of 78 notes along time, one for each of 128 steps along the notes,
the sum of squares, 350 songs to train on and 50 to test. On POP909's, 50 epochs took 14 minutes on
two CPU cores with other work beside them, and gave 287 squares a test song (all silent 523,
repeating the last step 477). Variants, after a colon:

    t256       256 steps, as the paper had first
    johnson    the network of Johnson 2015
    kotecha    the network of Kotecha and Young 2018, the paper's reference [3]
    best       what works best here: shared weights, likelihood, feedback from the note below;
               5.04 nats a step on the same songs (repeating the last step 8.86), in 24 minutes
    quick      a smaller best: music within minutes
    tiny       for tests
"""

from ml_collections import ConfigDict

from configs.collection import get_data
from musicjax.config import Config


def get_config(variant: str = "") -> Config:
    config: Config = ConfigDict()
    config.seed = 0

    config.data = data = get_data()
    data.encoding = "note_state"
    data.track = "all"  # the source may be an .npz of piano rolls, too
    data.lowest = 24  # MIDI pitches of the matrix, both included
    data.highest = 101
    data.articulate = True  # two bits a note; False: play alone
    data.align = False  # move songs that lie between the grid's points onto it
    data.longest_silence = 4  # bars; longer ones are cut to it; 0 keeps them
    data.songs = 400
    data.validation_share = 0.0  # the paper had none
    data.test_share = 0.125

    config.model = model = ConfigDict()
    model.name = "biaxial"
    model.tied = False  # one set of weights for all notes, and for all steps
    model.time_sizes = (36,)  # units of the LSTMs along time
    model.note_sizes = (2,)  # and along the notes
    model.output = "hidden"  # of the last LSTM; or "dense", "dense_per_note"
    model.loss = "squares"  # or "likelihood", articulate counting where the note plays
    model.feedback = "none"  # what a note knows of the one below: "true" or the model's "sample"
    model.beat = "none"  # place in the bar: "signed" (Johnson) or "bits" (Kotecha)
    model.numbers = "index"  # or "midi" (Kotecha)
    model.rotated = False  # interval classes begin with the next (Kotecha)
    model.dropout = 0.0  # after each LSTM
    model.storage = "float32"  # or "bfloat16", on accelerators: of what is kept of all steps
    model.remat = 0  # steps of a block that the backward pass computes again, to keep less; 0: none
    model.kernel = "scan"  # or "cudnn", a GPU's own LSTM

    config.train = train = ConfigDict()
    train.epochs = 50
    train.batch_size = 10
    train.window = 128  # steps of a segment
    train.starts = "beginning"  # of the song; or "bars": an epoch draws bar lines of each song
    train.per_song = 1  # segments of each song in an epoch
    train.shuffle = True  # songs in another order each epoch
    train.short_songs = "pad"  # or "leave_out"
    train.transpose_range = (0, 0)  # semitones down and up, drawn for each segment
    train.target = "next"  # or "literal": the paper's words make it a copy task
    train.sounding_weight = 1.0  # of cells that play, against the many that do not
    train.optimizer = "adam"  # or "rmsprop", "adadelta"
    train.learning_rate = 1e-3
    train.schedule = "constant"  # or "cosine", down to 0 at the last epoch
    train.clip_norm = 0.0  # of the gradient; 0: none
    train.steps_per_call = 5  # training steps in one compiled call
    train.checkpoint_minutes = 10.0  # besides the end of each epoch
    train.devices = 0  # of each process, that share a batch; 0: all, on a CPU its cores
    train.large_pages = True  # of memory, from glibc: for large models
    train.resident_megabytes = 256.0  # encoded songs up to this size lie on the devices

    def shared() -> None:
        train.devices = 1
        data.songs = 0
        data.validation_share = 0.1
        data.test_share = 0.1
        model.tied = True
        model.output = "dense"
        model.loss = "likelihood"
        model.feedback = "true"
        model.beat = "signed"
        train.starts = "bars"

    def as_published() -> None:
        data.transpose = False
        model.dropout = 0.5
        train.epochs = 1000
        train.optimizer = "adadelta"
        train.learning_rate = 1.0

    def small() -> None:
        train.devices = 1
        train.large_pages = False
        train.epochs = 2
        train.batch_size = 4
        train.window = 16
        train.learning_rate = 1e-2
        train.steps_per_call = 2

    match variant:
        case "":
            pass
        case "t256":
            train.window = 256
        case "johnson":
            shared()
            as_published()
            model.time_sizes = (300, 300)
            model.note_sizes = (100, 50)
        case "kotecha":
            shared()
            as_published()
            model.time_sizes = (200, 200)
            model.note_sizes = (100, 100)
            model.output = "dense_per_note"
            model.feedback = "sample"
            model.beat = "bits"
            model.numbers = "midi"
            model.rotated = True
        case "best" | "quick":
            shared()
            data.align = True
            model.time_sizes = (128,)
            model.note_sizes = (64,)
            model.dropout = 0.2
            train.epochs = 6
            train.batch_size = 4
            train.per_song = 4
            train.optimizer = "adam"
            train.learning_rate = 3e-3
            train.schedule = "cosine"
            train.clip_norm = 5.0
            if variant == "quick":
                model.time_sizes = (64,)
                model.note_sizes = (32,)
                model.dropout = 0.1
                train.epochs = 3
        case "tiny":
            small()
            data.songs = 0
            model.time_sizes = (6,)
        case "tiny_best":
            shared()
            small()
            model.time_sizes = (8, 6)
            model.note_sizes = (6, 5)
            model.dropout = 0.1
        case _:
            raise ValueError(
                f"no variant {variant!r}; there are t256, johnson, kotecha, best, quick, tiny, "
                "tiny_best"
            )
    return config
