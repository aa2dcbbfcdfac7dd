"""What holds of each model: the contract of musicjax.models.base."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
from conftest import load_config
from small_models import TOKENS, biaxial, causal_lstm, note_states, random_batch, token_lstm

from musicjax.errors import InputError
from musicjax.models import MODELS, build_model

MAKE = {
    "tokens": token_lstm,
    "tokens causal": partial(token_lstm, causal=True, bidirectional=False),
    "tokens flat": partial(token_lstm, "anushree", window=4, encoder_size=4, decoder_size=4),
    "causal": causal_lstm,
    "paper": biaxial,
    "best": partial(biaxial, "tiny_best"),
}


@pytest.mark.parametrize("name", MAKE)
def test_models_of_equal_configs_are_equal_and_share_what_was_compiled(name):
    model, same, other = MAKE[name](), MAKE[name](), MAKE[name](dropout=0.4)
    assert model is not same
    assert model == same
    assert hash(model) == hash(same)
    assert model.graph == same.graph
    assert hash(model.graph) == hash(same.graph)
    assert model != other

    compiled = []

    @partial(jax.jit, static_argnames="model")
    def loss(model, params, batch):
        compiled.append(model)
        return model.loss(params, batch)[0]

    params, batch = model.init(0), random_batch(model, rows=2)
    assert loss(model, params, batch) == loss(same, params, batch)
    assert compiled == [model]
    loss(other, params, batch)
    assert compiled == [model, other]


@pytest.mark.parametrize("name", MAKE)
def test_a_model_is_frozen(name):
    model = MAKE[name]()
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.window = 3


@pytest.mark.parametrize("name", MAKE)
def test_parameters_are_by_their_seed_and_of_the_shapes_it_tells(name):
    model = MAKE[name]()
    first, again, other = (jax.tree.leaves(model.init(seed)) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), jax.tree.leaves(model.shapes))
    assert shapes == [(leaf.shape, leaf.dtype) for leaf in first]


@pytest.mark.parametrize("name", MAKE)
def test_what_is_shown_after_an_epoch_is_among_its_metrics(name):
    model = MAKE[name]()
    sums = jax.jit(model.loss)(model.init(0), random_batch(model, rows=2))[1]
    metrics = model.metrics({key: float(value) for key, value in sums.items()})
    assert set(model.summary) | {"loss"} <= set(metrics)


@pytest.mark.parametrize("name", MAKE)
def test_settings_that_may_change_do_not_change_the_parameters(name):
    kept, free = MAKE[name](), MAKE[name](remat=2)
    assert set(kept.free_fields) <= {field.name for field in dataclasses.fields(kept.settings)}
    jax.tree.map(np.testing.assert_array_equal, kept.init(0), free.init(0))


def test_a_model_reads_only_the_encodings_of_its_kind():
    config = load_config()
    with pytest.raises(InputError) as error:
        build_model(config, note_states())
    assert str(error.value) == (
        "data.encoding is 'note_states' and model.name is 'token_lstm', which do not fit: one "
        "makes 'matrix', the other reads 'ids'; expected data.encoding 'tokens' or 'events', or "
        "model.name 'biaxial'"
    )
    config.model.name = "gru"
    with pytest.raises(
        InputError, match=r"model\.name is 'gru'; expected one of token_lstm, causal_lstm"
    ):
        build_model(config, TOKENS)


def test_the_models_are_known_by_name():
    for name, make in {
        "token_lstm": token_lstm,
        "causal_lstm": causal_lstm,
        "biaxial": biaxial,
    }.items():
        assert type(make()) is MODELS[name]


CUDNN = {"kernel": "cudnn"}
HIDDEN = "where model.output is 'hidden'"


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (make, *case)
        for make in (token_lstm, causal_lstm, biaxial)
        for case in [
            ({"dropout": 1.0}, "model.dropout is 1.0; expected 0 <= share < 1"),
            (
                {"residual_dtype": "float16"},
                "model.residual_dtype is 'float16'; expected one of 'float32', 'bfloat16'",
            ),
            ({"remat": -1}, "model.remat is -1; expected at least 0"),
            (
                {"kernel": "fast"},
                "model.kernel is 'fast'; expected one of 'native', 'scan', 'cudnn'",
            ),
            (
                CUDNN | {"residual_dtype": "bfloat16"},
                "model.residual_dtype is 'bfloat16'; expected 'float32' where model.kernel is",
            ),
            (CUDNN | {"remat": 2}, "model.remat is 2; expected 0 where model.kernel is 'cudnn'"),
            ({"window": 0}, "model.window is 0; expected at least 1"),
        ]
    ]
    + [
        (token_lstm, *case)
        for case in [
            ({"embedding_size": 0}, "model.embedding_size is 0; expected at least 1"),
            ({"decoder_layers": -1}, "model.decoder_layers is -1; expected at least 0"),
            ({"dense_size": -1}, "model.dense_size is -1; expected at least 0"),
            ({"input": "onehot"}, "model.input is 'onehot'; expected one of 'embedding', 'scalar'"),
            ({"attention_scores": "relu"}, "expected one of 'linear', 'sigmoid'"),
            ({"class_weights": -1.0}, "model.class_weights is -1.0; expected at least 0"),
            (
                {"causal": True},
                "model.bidirectional is True; expected False where model.causal is set",
            ),
            (
                {"causal": True, "bidirectional": False, "flatten": True},
                "model.flatten is True; expected False where model.causal is set",
            ),
        ]
    ]
    + [
        (causal_lstm, *case)
        for case in [
            ({"embedding_size": 0}, "model.embedding_size is 0; expected at least 1"),
            ({"hidden_size": 0}, "model.hidden_size is 0; expected at least 1"),
            ({"layers": 0}, "model.layers is 0; expected at least 1"),
            ({"input_dropout": 1.0}, "model.input_dropout is 1.0; expected 0 <= share < 1"),
        ]
    ]
    + [
        (biaxial, *case)
        for case in [
            ({"time_sizes": ()}, "model.time_sizes is (); expected sizes, such as (36,)"),
            ({"note_sizes": (3, 0)}, "model.note_sizes is (3, 0); expected sizes"),
            ({"output": "conv"}, "expected one of 'hidden', 'dense', 'dense_per_note'"),
            ({"loss": "mse"}, "model.loss is 'mse'; expected one of 'sse', 'nll'"),
            ({"feedback": "both"}, "expected one of 'none', 'true', 'sample'"),
            ({"beat": "bar"}, "model.beat is 'bar'; expected one of 'none', 'signed', 'bits'"),
            ({"pitch_feature": "hertz"}, "expected one of 'index', 'midi'"),
            ({"target": "last"}, "model.target is 'last'; expected one of 'next', 'literal'"),
            ({"positive_weight": 0.0}, "model.positive_weight is 0.0; expected more than 0"),
            (CUDNN, "model.tied is False; expected True where model.kernel is 'cudnn'"),
            ({"loss": "nll"}, f"model.loss is 'nll'; expected 'sse' {HIDDEN}"),
            ({"feedback": "true"}, f"model.feedback is 'true'; expected 'none' {HIDDEN}"),
            ({"note_sizes": (3,)}, "model.note_sizes is (3,); expected 2 last, as the output"),
        ]
    ],
)
def test_settings_that_cannot_be_are_named(make, settings, message):
    with pytest.raises(InputError) as error:
        make(**settings)
    assert message in str(error.value)


def test_a_setting_that_a_config_lacks_is_named():
    config = load_config()
    del config.model.remat
    with pytest.raises(InputError, match=r"no model\.remat, which TokenLSTMSettings needs"):
        build_model(config, TOKENS)


@pytest.mark.parametrize("make", [token_lstm, causal_lstm, partial(biaxial, "tiny_best")])
def test_cudnn_needs_one_gpu(make):
    make().check_devices(2, "cpu")
    model = make(kernel="cudnn")
    model.check_devices(1, "gpu")
    for count, platform in ((2, "gpu"), (1, "cpu")):
        with pytest.raises(InputError, match=f"training would run on {count} x {platform}; exp"):
            model.check_devices(count, platform)
