import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import load_config
from flax import nnx

from musicjax.models import vocab
from musicjax.models.vocab import Attention
from musicjax.vocabulary import Token, Vocabulary

call = jax.jit(lambda model, *inputs: model(*inputs))
VOCABULARY = Vocabulary.build({Token((40 + i,), 12): 12 - i for i in range(11)})


def build(variant="tiny", **model):
    config = load_config(variant)
    if variant != "tiny":
        shrink(config)
    config.model.update(model)
    return config, vocab.build(config, VOCABULARY)


def shrink(config):
    for name in ("embedding_size", "encoder_size", "attention_size", "decoder_size"):
        config.model[name] = 8
    config.model.dense_size = min(config.model.dense_size, 8)
    config.train.window = 6


def tokens_of(config, batch=5, seed=0):
    key = jax.random.key(seed)
    return jax.random.randint(key, (batch, config.train.window + 1), 1, VOCABULARY.size)


def test_attention_is_a_mean_weighted_by_additive_scores():
    attention = Attention(3, 4, "linear", False, rngs=nnx.Rngs(0))
    attention.b[...] += 0.3
    x = np.asarray(jax.random.normal(jax.random.key(1), (2, 5, 3)))
    w_t, w_s, b, v, c = (
        np.asarray(getattr(attention, n)[...]) for n in ("w_t", "w_s", "b", "v", "c")
    )
    expected = np.zeros_like(x)
    for batch in range(2):
        for t in range(5):
            score = np.array(
                [v @ np.tanh(x[batch, t] @ w_t + x[batch, s] @ w_s + b) + c for s in range(5)]
            )
            weight = np.exp(score) / np.exp(score).sum()
            expected[batch, t] = weight @ x[batch]
    np.testing.assert_allclose(attention(jnp.asarray(x)), expected, atol=1e-5)


def test_sigmoid_scores_keep_weights_within_a_factor_e():
    attention = Attention(3, 4, "sigmoid", False, rngs=nnx.Rngs(0))
    attention.v[...] *= 100.0
    eye = jnp.eye(3)[None]
    weights = np.asarray(attention(eye))[0]  # rows are the weights themselves
    assert weights.max() / weights.min() <= np.e + 1e-4
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "variant", ["", "quick", "causal", "large", "baseline", "anushree", "tiny"]
)
def test_every_variant_has_the_parts_its_source_has(variant):
    config, model = build(variant)
    assert (model.attention is None) == (variant == "baseline")
    assert model.scalar == (variant == "anushree")
    assert model.flatten == (variant == "anushree")
    assert (model.dense is None) == (variant in ("baseline", "anushree"))
    assert len(model.encoder) == 1
    one_way = variant in ("baseline", "causal")
    assert model.encoder[0].w_x.shape[0] == (1 if one_way else 2)
    assert model.causal == (variant == "causal")
    assert len(model.decoder) == (0 if variant == "baseline" else 1)
    logits = call(model, tokens_of(config)[:, :-1])
    assert logits.shape == (5, VOCABULARY.size)
    assert logits.dtype == jnp.float32


def test_table_2():
    config = load_config()
    model, train = config.model, config.train
    assert (model.encoder_size, model.decoder_size, model.dense_size) == (512, 256, 256)
    assert (model.dropout, train.batch_size, train.window) == (0.3, 50, 50)
    assert (train.optimizer, train.learning_rate, train.epochs) == ("rmsprop", 1e-4, 100)
    assert (train.class_weights, model.attention_size) == (1.0, 32)


def test_an_unknown_variant_names_those_there_are():
    with pytest.raises(ValueError, match="no variant 'huge'; there are quick, causal, large"):
        load_config("huge")


def test_dropout_only_in_training_and_by_its_key():
    config, model = build(dropout=0.5)
    tokens = tokens_of(config)[:, :-1]
    keys = jax.random.split(jax.random.key(0))
    np.testing.assert_array_equal(call(model, tokens), call(model, tokens))
    np.testing.assert_array_equal(call(model, tokens, keys[0]), call(model, tokens, keys[0]))
    assert not np.allclose(call(model, tokens, keys[0]), call(model, tokens, keys[1]))
    config, model = build(dropout=0.0)
    np.testing.assert_array_equal(call(model, tokens, keys[0]), call(model, tokens))


def test_loss_is_weighted_and_masks_the_unseen_and_the_absent():
    config, model = build()
    tokens = tokens_of(config, batch=6).at[0, -1].set(0)
    present = jnp.ones(6).at[5].set(0.0)
    weights = jnp.arange(VOCABULARY.size, dtype=jnp.float32)
    batch = {"tokens": tokens, "present": present}
    with jax.numpy_dtype_promotion("strict"):
        value, sums = jax.jit(vocab.loss)(model, batch, weights)
    log_p = np.array(jax.nn.log_softmax(vocab.without_unknown(call(model, tokens[:, :-1]))))
    target = np.asarray(tokens[:, -1])
    nats = np.array([-log_p[i, target[i]] for i in range(1, 5)])
    w = target[1:5].astype(np.float32)
    assert value == pytest.approx((w * nats).sum() / 4, rel=1e-5)
    assert sums["tokens"] == 4
    assert sums["unseen"] == 1
    metrics = vocab.metrics({name: float(v) for name, v in sums.items()})
    assert metrics["nats"] == pytest.approx(nats.mean(), rel=1e-5)
    assert metrics["perplexity"] == pytest.approx(np.exp(nats.mean()), rel=1e-5)
    assert metrics["loss"] == pytest.approx((w * nats).sum() / w.sum(), rel=1e-5)
    gradient = jax.jit(jax.grad(lambda m: vocab.loss(m, batch, weights)[0]))(model)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_unweighting_divides_the_probabilities_by_the_weights():
    config, model = build()
    tokens = tokens_of(config)[:, :-1]
    before = np.array(jax.nn.softmax(vocab.without_unknown(call(model, tokens))))
    weights = VOCABULARY.class_weights(1.0)
    vocab.unweight(model, weights)
    after = np.array(jax.nn.softmax(vocab.without_unknown(call(model, tokens))))
    expected = before[:, 1:] / weights[1:]
    np.testing.assert_allclose(after[:, 1:], expected / expected.sum(-1, keepdims=True), rtol=1e-4)


@pytest.mark.parametrize("variant", ["tiny", "baseline", "anushree"])
def test_one_batch_over_fits(variant):
    config, model = build(variant, dropout=0.0)
    batch = {"tokens": tokens_of(config, batch=8), "present": jnp.ones(8)}
    weights = jnp.ones(VOCABULARY.size)
    graph, params = nnx.split(model)
    optimizer = optax.adam(0.02)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        def loss(params):
            return vocab.loss(nnx.merge(graph, params), batch, weights)

        (_, sums), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        update, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, update), state, sums

    for _ in range(300):
        params, state, sums = step(params, state)
    assert sums["correct"] == 8
    assert sums["nats"] / 8 < 0.1


@pytest.mark.parametrize(
    "parts", [{}, {"bidirectional": False, "encoder_layers": 2}, {"input": "scalar"}]
)
def test_a_table_of_the_vocabularys_projections_gives_the_same_logits(parts, monkeypatch):
    config, model = build(**parts)
    tokens = tokens_of(config)
    table = model.project_vocabulary()
    np.testing.assert_allclose(model(tokens, table=table), model(tokens), atol=1e-5)
    monkeypatch.setattr(vocab, "_FEW", VOCABULARY.size - 1)
    assert model.project_vocabulary() is None


def test_without_an_encoder_there_is_no_table():
    _, model = build(encoder_layers=0, attention=False)
    assert model.project_vocabulary() is None


CAUSAL = {"causal": True, "bidirectional": False}


@pytest.mark.parametrize(
    "parts", [{}, {"attention": False}, {"decoder_layers": 2, "dense_size": 0}]
)
def test_a_causal_model_knows_no_token_to_come_and_carries_those_before(parts):
    config, model = build(**CAUSAL, **parts)
    window = config.train.window
    tokens = tokens_of(config)[:, :window]
    logits = jax.jit(lambda model, tokens: model(tokens, every_step=True))(model, tokens)
    assert logits.shape == (5, window, VOCABULARY.size)
    for last in (1, 3, window):
        # Each step's logits are those of a window that ends there.
        alone = call(model, tokens[:, :last])
        np.testing.assert_allclose(logits[:, last - 1], alone, atol=1e-5)
        memory = jax.jit(lambda model, tokens: model.read(tokens))(model, tokens[:, :last])
        np.testing.assert_allclose(memory.logits, alone, atol=1e-5)


def test_a_causal_model_attends_to_its_last_window_however_long_the_piece():
    config, model = build(**CAUSAL)
    window, length = config.train.window, 21
    tokens = jax.random.randint(jax.random.key(3), (2, length), 1, VOCABULARY.size)
    memory = jax.jit(lambda model, tokens: model.read(tokens))(model, tokens[:, :window])
    step = jax.jit(lambda model, memory, token: model.step(memory, token))
    made = []
    for t in range(window, length):
        memory = step(model, memory, tokens[:, t])
        made.append(memory.logits)
    assert memory.values.shape == (2, window, config.model.encoder_size)
    x = model.encoder[0](model.embedding[tokens])
    distance = jnp.arange(length)[:, None] - jnp.arange(length)
    x = model.attention.over(x, x, model.attention.keys(x), (distance >= 0) & (distance < window))
    x = jax.nn.relu(model.dense(model.decoder[0](x)))
    expected = model.logits(x)[:, window:]
    np.testing.assert_allclose(jnp.stack(made, axis=1), expected, atol=1e-5)


def test_a_causal_model_learns_from_each_token_and_is_measured_on_the_last():
    config, model = build(**CAUSAL, dropout=0.0)
    window = 3
    tokens = tokens_of(config)[:, : window + 1]
    batch = {"tokens": tokens.at[0, :2].set(0), "present": jnp.ones(5).at[4].set(0)}
    weights = jnp.ones(VOCABULARY.size)
    loss = jax.jit(vocab.loss)
    _, held = loss(model, batch, weights, None)
    assert held["tokens"] == 4
    value, trained = loss(model, batch, weights, jax.random.key(0))
    assert trained["tokens"] == 4 * window - 1  # the first song's first is before its beginning
    nats = 0.0
    for last in range(1, window + 1):
        part = {"tokens": batch["tokens"][:, : last + 1], "present": batch["present"]}
        nats += loss(model, part, weights, None)[1]["nats"]
    assert value == pytest.approx(float(nats) / (4 * window - 1), rel=1e-5)
