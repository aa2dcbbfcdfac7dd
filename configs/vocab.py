"""The vocabulary model: BiLSTM with attention on tokens (note | chord | rest, duration).

    python -m musicjax.train --config=configs/vocab.py --workdir=runs/vocab

is the paper's table 2. Variants, after a colon:

    quick      a small model on Bach's chorales: music within minutes
    large      1024 / 512 units and learning rate 0.01, the paper's first try
    causal     quick in one direction, which makes music many times faster
    baseline   one LSTM layer, the paper's test of which track to train on
    anushree   the model of the paper's reference [1]
    tiny       for tests
"""

from ml_collections import ConfigDict

from configs.collection import get_data
from musicjax.config import Config


def get_config(variant: str = "") -> Config:
    config: Config = ConfigDict()
    config.seed = 0

    config.data = data = get_data()
    data.encoding = "vocabulary"
    data.longest_rest = 4  # quarters; longer rests are cut; 0 keeps them
    data.longest_note = 16  # quarters; longer notes are followed by a rest; 0 keeps them
    # tokens say their instrument, as the paper tried first; its vocabulary grew to over 500,000
    data.instruments = False

    config.model = model = ConfigDict()
    model.name = "vocab"
    model.input = "embedding"  # or "scalar", the id / V of [1]
    model.embedding_size = 128
    model.encoder_layers = 1
    model.encoder_size = 512  # units a direction
    model.bidirectional = True
    model.causal = (
        False  # attend to the past alone; all steps of a window learn, none is read twice
    )
    model.attention = True
    model.attention_size = 32
    model.attention_scores = "linear"  # or "sigmoid", as in [1]
    model.decoder_layers = 1
    model.decoder_size = 256
    model.flatten = False  # all steps into the dense layer, as in [1]; else the last
    model.dense_size = 256  # 0: none
    model.dropout = 0.3  # after each LSTM
    model.storage = "float32"  # or "bfloat16", on accelerators: of what is kept of all steps
    model.remat = 0  # steps of a block that the backward pass computes again, to keep less; 0: none
    model.kernel = "scan"  # or "cudnn", a GPU's own LSTM

    config.train = train = ConfigDict()
    train.epochs = 100
    train.batch_size = 50
    train.window = 50  # tokens read to predict the next
    train.stride = 1  # an epoch takes every stride-th window; the next those beside them
    train.pad = False  # windows may begin before the song: short songs and primes count too
    train.optimizer = "rmsprop"  # or "adam"
    train.learning_rate = 1e-4
    train.schedule = "constant"  # or "cosine", down to 0 at the last epoch
    train.clip_norm = 0.0  # of the gradient; 0: none
    train.class_weights = 1.0  # weight = frequency ** -this; 0: all classes alike
    train.steps_per_call = 10  # training steps in one compiled call
    train.checkpoint_minutes = 10.0  # besides the end of each epoch
    train.devices = 1  # of each process, that share a batch; 0: all, on a CPU its cores
    train.large_pages = True  # of memory, from glibc: for large models
    train.resident_megabytes = 256.0  # encoded songs up to this size lie on the devices

    match variant:
        case "":
            pass
        case "quick" | "causal":
            model.embedding_size = 48
            model.encoder_size = 64
            model.decoder_size = 96
            model.dense_size = 96
            train.epochs = 8
            train.batch_size = 64
            train.window = 24
            train.pad = True
            train.optimizer = "adam"
            train.learning_rate = 3e-3
            train.schedule = "cosine"
            train.clip_norm = 1.0
            train.class_weights = 0.0
            train.steps_per_call = 50
            train.devices = 0
            train.large_pages = False
            if variant == "causal":
                model.bidirectional = False
                model.causal = True
                train.stride = 24
                train.epochs = 48
        case "large":
            model.encoder_size = 1024
            model.decoder_size = 512
            model.dropout = 0.0
            train.learning_rate = 0.01
        case "baseline":
            model.bidirectional = False
            model.attention = False
            model.decoder_layers = 0
            model.dense_size = 0
            model.dropout = 0.0
            train.class_weights = 0.0
        case "anushree":
            model.input = "scalar"
            model.attention_scores = "sigmoid"
            model.decoder_size = 512
            model.flatten = True
            model.dense_size = 0
            train.batch_size = 64
            train.window = 100
            train.learning_rate = 1e-3
            train.class_weights = 0.0
        case "tiny":
            model.embedding_size = 8
            model.encoder_size = 16
            model.attention_size = 4
            model.decoder_size = 16
            model.dense_size = 16
            train.epochs = 2
            train.batch_size = 16
            train.window = 8
            train.learning_rate = 1e-2
            train.steps_per_call = 4
            train.large_pages = False
        case _:
            raise ValueError(
                f"no variant {variant!r}; there are quick, causal, large, baseline, anushree, tiny"
            )
    return config
