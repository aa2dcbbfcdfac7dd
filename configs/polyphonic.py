"""The bi-axial LSTM on the piano-roll sets that the field compares on.

    python -m benchmarks.polyphonic --source=jsb_chorales.npz --workdir=runs/jsb

trains and prints the test pieces' nats a step beside published figures; musicjax.train takes this
config too, with --config.data.source. The model is nsm.py's best with the play bit alone. The
variants are the sets by name: jsb_chorales (the default), nottingham, piano_midi, musedata; the
same with _events, the causal LSTM with a pointer on a piece's events; and tiny, for tests. Their
results and times are in benchmarks/results/.
"""

from ml_collections import ConfigDict

from configs import nsm
from configs.training import get_causal_lstm, get_causal_train, vary
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
    data.dedupe_files = False  # the sets are measured as they are
    data.dedupe_notes = False
    data.least_notes = 0
    data.longest_minutes = 0.0
    data.longest_silence = 0
    data.most_megabytes = 100.0
    model.beat = "signed"  # the sets have no bars; by the step's number all the same
    model.dropout = 0.25
    model.window = 64
    train.epochs = 70
    train.per_song = 1
    train.transpose_range = (-5, 6)
    train.steps_per_call = 10
    return vary(config, variant, VARIANTS)


def nottingham(config: Config) -> None:
    config.model.dropout = 0.1
    config.train.epochs = 3


def piano_midi(config: Config) -> None:
    config.train.epochs = 24
    config.train.per_song = 8
    config.train.steps_per_call = 20


def musedata(config: Config) -> None:
    config.model.dropout = 0.1
    config.train.epochs = 2


def events(config: Config) -> None:
    data, train = config.data, get_causal_train()
    data.encoding = "events"
    data.resolution = 4  # a step is taken for a sixteenth
    data.velocities = 0
    data.instruments = False
    data.tempos = 0
    data.ends = False  # a piece is as long as it is
    data.meter = ""
    config.model = model = get_causal_lstm()
    model.window = 512
    model.memory = 16384  # a whole piece: they repeat themselves
    model.hidden_size = 384
    model.places = False
    model.context = True
    model.input_dropout = 0.1
    model.dropout = 0.3
    config.train = train
    train.epochs = 8
    train.batch_size = 2  # twice as many steps teach more than twice as many windows
    train.transpose_range = (-5, 6)


def piano_midi_events(config: Config) -> None:
    events(config)
    config.train.batch_size = 8
    config.train.epochs = 40


def jsb_chorales_events(config: Config) -> None:
    events(config)
    config.data.transpose = True  # so few that they must not be spread over twelve keys
    config.model.dropout = 0.5
    config.train.batch_size = 8
    config.train.epochs = 30
    config.train.transpose_range = (0, 0)


def musedata_events(config: Config) -> None:
    events(config)
    # Where a step may be a sixteenth or an eighth, and a bar three beats or four, bars of two steps
    # write what comes again in the same way, wherever that is.
    config.data.meter = "1/8"
    config.model.window = 1024
    config.model.hidden_size = 512
    config.model.moved_copies = True
    config.model.input_dropout = 0.2
    config.model.dropout = 0.4
    config.train.epochs = 13


def tiny(config: Config) -> None:
    config.model.time_sizes = (6,)
    config.model.note_sizes = (5,)
    config.model.window = 16
    config.train.epochs = 2
    config.train.batch_size = 4


VARIANTS = {
    "jsb_chorales": lambda config: None,
    "nottingham": nottingham,
    "piano_midi": piano_midi,
    "musedata": musedata,
    "jsb_chorales_events": jsb_chorales_events,
    "nottingham_events": events,
    "piano_midi_events": piano_midi_events,
    "musedata_events": musedata_events,
    "tiny": tiny,
}
