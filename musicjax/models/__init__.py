"""The models. Each module in MODELS exposes the same names: what trains has no branch by model.

Model       an nnx module that owns the parameters
build       (config, vocabulary) -> Model
make_loss   (config, vocabulary) -> (model, batch, dropout_key) -> loss, sums
metrics     sums -> what people read, by name
loss_unit   config -> what the loss is counted in
SUMMARY     names of the metrics that are shown after each epoch
"""

from musicjax.models import biaxial, vocab

MODELS = {"vocab": vocab, "biaxial": biaxial}
