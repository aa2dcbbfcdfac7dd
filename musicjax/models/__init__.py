"""The models. Each module musicjax.models.<name> exposes the same names, so that what trains,
evaluates and generates has no branch by model:

    Model       an nnx module that owns the parameters and maps a batch to logits
    build       (config, vocabulary) -> Model
    loss        (model, batch, class_weights, dropout_key) -> loss, sums
    metrics     sums -> what people read
    unweight    (model, class_weights): takes the weights out of its probabilities
"""

from musicjax.models import vocab

MODELS = {"vocab": vocab}
