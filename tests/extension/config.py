"""A config of the toys: tunes, encoded as beats, learnt by a GRU."""

from ml_collections import ConfigDict

from configs.collection import get_data
from configs.training import get_train, tiny_training


def get_config(variant=""):
    """See configs/."""
    config = ConfigDict()
    config.seed = 0
    config.data = get_data()
    config.data.source = "tunes:60"
    config.data.encoding = "beats"
    config.data.transpose = False
    config.model = ConfigDict({"name": "gru", "window": 16, "pad": True, "hidden": 24})
    config.model.dropout = 0.0
    config.train = get_train()
    tiny_training(config)
    config.train.batch_size = 32
    config.train.steps_per_call = 2
    return config
