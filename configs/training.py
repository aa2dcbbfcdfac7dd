"""What the configs of all models say of training, and those of LSTMs of their kernels."""

from collections.abc import Callable

from ml_collections import ConfigDict

from musicjax.config import Config


def get_train() -> ConfigDict:
    train = ConfigDict()
    train.epochs = 50  # times that all songs are trained on
    train.patience = 0  # epochs that may be no better than the best before; 0: any number
    train.ema = 0.0  # such as 0.99: the weights' moving average is measured and saved; 0: none
    train.init_from = ""  # work dir of another run, whose weights are the beginning
    train.batch_size = 10  # examples of a training step
    # Where in a song examples begin: all (at every element), tiles (one after another inside of the
    # song, from a place that each epoch draws), beginning, or bars (an epoch draws bar lines).
    train.starts = "all"
    train.stride = 1  # of "all": an epoch takes every stride-th example, the next those beside them
    train.per_song = 1  # of "beginning" and "bars": examples of each song in an epoch
    train.eval_window = 0  # elements of an example when measuring; 0: model.window
    train.shuffle = True  # another order of examples each epoch
    train.short_songs = "pad"  # or "leave_out", but for "all"
    # Semitones down and up that an example is moved by, drawn; with data.transpose=False it pays.
    train.transpose_range = (0, 0)
    train.optimizer = "adam"  # or another of optax, such as "adamw(weight_decay=0.01)"
    train.learning_rate = 1e-3  # at its highest
    # or "cosine", down to 0 at the last epoch, or another of optax, in training steps
    train.schedule = "constant"
    train.warmup_steps = 0  # in which the learning rate rises to its value
    train.clip_norm = 0.0  # of the gradient; 0: none
    train.steps_per_call = 10  # training steps in one compiled call
    train.checkpoint_minutes = 10.0  # besides the end of each epoch
    train.keep_epochs = ()  # whose checkpoints are kept too, such as (1, 10, 50)
    train.devices = 1  # of each process, that share a batch; 0: all, on a CPU its cores
    train.huge_pages = True  # of memory, from glibc: for large models
    train.device_cache_megabytes = 256.0  # encoded songs up to this size are kept on the devices
    return train


def get_lstm() -> ConfigDict:
    model = ConfigDict()
    model.residual_dtype = "float32"  # or "bfloat16", on accelerators: of what is kept of all steps
    model.remat = 0  # steps of a block that the backward pass computes again, to keep less; 0: none
    # "native": C++ on a CPU that has a compiler, else as "scan"; or "cudnn", a GPU's own LSTM
    model.kernel = "native"
    return model


def get_causal_train() -> ConfigDict:
    """Training as it suits the causal LSTM."""
    train = get_train()
    train.batch_size = 16
    train.starts = "tiles"
    train.eval_window = 512
    train.optimizer = "adam"
    train.learning_rate = 3e-3
    train.schedule = "cosine"
    train.warmup_steps = 50
    train.clip_norm = 1.0
    train.steps_per_call = 25
    train.huge_pages = False
    return train


def get_causal_lstm() -> ConfigDict:
    model = get_lstm()
    model.name = "causal_lstm"  # the network
    model.window = 64  # elements of an example
    model.embedding_size = 128  # numbers that stand for an id
    model.layers = 1  # LSTMs, one upon another
    model.hidden_size = 256  # units of each LSTM
    model.parts = True  # ids share strength by what they are made of: pitches, a duration
    model.places = True  # the place in the bar of the next element is an input
    model.context = False  # what sounds is an input, and pitches are judged by it
    model.memory = 0  # ids back to which the model may point, to copy what came next; 0: none
    model.moved_copies = False  # or at other pitches, of encodings whose ids are of one pitch each
    model.input_dropout = 0.3  # of the numbers that stand for ids
    model.dropout = 0.6  # of each LSTM's outputs
    return model


def vary(config: Config, variant: str, variants: dict[str, Callable[[Config], None]]) -> Config:
    """The config, changed as its variant says; "" changes nothing."""
    if variant:
        if variant not in variants:
            raise ValueError(f"no variant {variant!r}; there are {', '.join(variants)}")
        variants[variant](config)
    return config


def tiny_training(config: Config) -> None:
    """Training settings of the variants for tests."""
    config.train.epochs = 2
    config.train.learning_rate = 1e-2
    config.train.huge_pages = False
