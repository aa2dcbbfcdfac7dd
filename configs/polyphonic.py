"""The bi-axial LSTM on the piano-roll sets that the field compares on.

    python -m benchmarks.polyphonic --source=jsb_chorales.npz --workdir=runs/jsb

trains and prints the test pieces' nats a step beside published figures; musicjax.train takes this
config too, with --config.data.source. The model is nsm.py's best with the play bit alone. The
variants are the sets by name: jsb_chorales (the default), nottingham, piano_midi, musedata; and
tiny, for tests. Their results and times are in benchmarks/results/.
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
    model.beat = "signed"  # the sets do not tell of bars; by the step's number all the same
    model.dropout = 0.3
    train.epochs = 50
    train.window = 64
    train.per_song = 1
    train.transpose_range = (-5, 6)
    train.steps_per_call = 10
    match variant:
        case "" | "jsb_chorales":
            pass
        case "nottingham":
            model.dropout = 0.1
            train.epochs = 3
        case "piano_midi":
            model.dropout = 0.1
            train.epochs = 3
            train.per_song = 8
        case "musedata":
            model.dropout = 0.1
            train.epochs = 2
        case "tiny":
            model.time_sizes = (6,)
            model.note_sizes = (5,)
            train.epochs = 2
            train.batch_size = 4
            train.window = 16
        case _:
            raise ValueError(
                f"no variant {variant!r}; there are jsb_chorales, nottingham, piano_midi, "
                "musedata, tiny"
            )
    return config
