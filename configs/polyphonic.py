"""The bi-axial LSTM on the piano-roll sets that the field compares on.

    python -m benchmarks.polyphonic --source=jsb_chorales.npz --workdir=runs/jsb

trains and prints the test pieces' nats a step beside published figures; musicjax.train takes this
config too, with --config.data.source. The model is nsm.py's best with the play bit alone.
"""

from ml_collections import ConfigDict

from configs import nsm
from musicjax.config import Config


def get_config(variant: str = "") -> Config:
    config: Config = ConfigDict(nsm.get_config("best"))
    data, model, train = config.data, config.model, config.train
    data.source = "jsb_chorales.npz"
    data.transpose = False
    data.align = False
    data.lowest = 21  # the piano's 88 keys
    data.highest = 108
    data.articulate = False
    model.beat = "none"  # the sets do not tell of bars
    model.time_sizes = (128,)
    model.note_sizes = (64,)
    model.dropout = 0.3
    train.epochs = 60
    train.batch_size = 12
    train.window = 64
    train.transpose_range = (-5, 6)
    train.learning_rate = 3e-3
    match variant:
        case "":
            pass
        case "tiny":
            model.time_sizes = (6,)
            model.note_sizes = (5,)
            train.epochs = 2
            train.batch_size = 4
            train.window = 16
        case _:
            raise ValueError(f"no variant {variant!r}; there is tiny")
    return config
