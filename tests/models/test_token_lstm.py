import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import load_config
from flax import nnx
from small_models import TOKENS, random_batch, token_lstm

from musicjax.errors import InputError
from musicjax.models import token_lstm as module
from musicjax.models.categorical import without_unknown
from musicjax.models.token_lstm import class_weights

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick

CAUSAL = {"causal": True, "bidirectional": False}
SMALL = {"window": 6, "embedding_size": 8, "encoder_size": 8, "attention_size": 8}

# Compiled once for all models: a network is a pytree, its settings are static.
call = jax.jit(
    lambda network, ids, key=None, every_step=False: network(ids, key, every_step=every_step),
    static_argnames="every_step",
)
loss = jax.jit(
    lambda model, params, batch, key=None: model.loss(params, batch, key), static_argnums=0
)


def build(variant="tiny", **settings):
    model = token_lstm(variant, **settings)
    return model, model.init(0)


def small(variant, **settings):
    dense_size = min(load_config(variant).model.dense_size, 8)
    return token_lstm(variant, **SMALL, decoder_size=8, dense_size=dense_size, **settings)


def likeliest(logits):
    """A sampling rule that leaves the likeliest element alone."""
    return jnp.where(logits == logits.max(-1, keepdims=True), 0.0, -1e9)


def generate(model, params, prime, length, seed=0, rules=likeliest):
    """Elements [B, length] after a prime, by the model's own prefill and sample_step."""
    batch = len(prime)
    positions = jnp.zeros((batch, 1 + prime.shape[1]), jnp.int32)

    @jax.jit
    def run(params):
        def step(carry, key):
            keys = jax.random.split(key, batch)
            return model.sample_step(params, carry, keys, positions[:, 0], rules)

        carry = model.prefill(params, prime, positions)
        return jax.lax.scan(step, carry, jax.random.split(jax.random.key(seed), length))

    carry, ids = run(params)
    return carry, np.asarray(ids).T


@pytest.mark.parametrize(
    "variant", ["", "small", "causal", "large", "baseline", "anushree", "tiny"]
)
def test_every_variant_has_the_parts_its_source_has(variant):
    model = small(variant)
    network = model.bind(model.init(0))
    assert (network.attention is None) == (variant == "baseline")
    assert hasattr(network, "embedding") == (variant != "anushree")
    assert (network.dense is None) == (variant in ("baseline", "anushree"))
    features = network.dense.in_features if network.dense else network.logits.in_features
    assert features == 8 * (6 if variant == "anushree" else 1)  # flattened, or the last step
    assert model.any_window == (variant != "anushree")
    assert len(network.encoder) == 1
    one_way = variant in ("baseline", "causal")
    assert network.encoder[0].w_x.shape[0] == (1 if one_way else 2)
    assert model.settings.causal == (variant == "causal")
    assert len(network.decoder) == (0 if variant == "baseline" else 1)
    logits = call(network, random_batch(model)["elements"][:, :-1])
    assert logits.shape == (5, TOKENS.size)
    assert logits.dtype == jnp.float32


def test_table_2():
    config = load_config()
    model, train = config.model, config.train
    assert (model.encoder_size, model.decoder_size, model.dense_size) == (512, 256, 256)
    assert (model.dropout, train.batch_size, model.window) == (0.3, 50, 50)
    assert (train.optimizer, train.learning_rate, train.epochs) == ("rmsprop", 1e-4, 100)
    assert (model.class_weights, model.attention_size) == (1.0, 32)


def test_an_unknown_variant_names_those_there_are():
    with pytest.raises(ValueError, match=r"no variant 'huge'; there are best, .*small, causal"):
        load_config("huge")


def test_dropout_only_in_training_and_by_its_key():
    model, params = build(dropout=0.5)
    network = model.bind(params)
    ids = random_batch(model)["elements"][:, :-1]
    keys = jax.random.split(jax.random.key(0))
    np.testing.assert_array_equal(call(network, ids), call(network, ids))
    np.testing.assert_array_equal(call(network, ids, keys[0]), call(network, ids, keys[0]))
    assert not np.allclose(call(network, ids, keys[0]), call(network, ids, keys[1]))
    model, params = build(dropout=0.0)
    network = model.bind(params)
    np.testing.assert_array_equal(call(network, ids, keys[0]), call(network, ids))


def test_loss_is_weighted_and_masks_the_unseen_and_the_absent():
    model, params = build(class_weights=0.5)
    batch = random_batch(model, rows=6)
    batch["elements"][0, -1] = 0
    batch["present"][5] = 0
    with jax.numpy_dtype_promotion("strict"):
        value, sums = loss(model, params, batch)
    ids, weights = batch["elements"], model.element_weights
    logits = call(model.bind(params), ids[:, :-1])
    log_p = np.array(jax.nn.log_softmax(without_unknown(logits)))
    target = ids[1:5, -1]
    nll = -log_p[np.arange(1, 5), target]
    w = weights[target]
    assert len(set(w.tolist())) > 1
    assert value == pytest.approx((w * nll).sum() / 4, rel=1e-5)
    assert sums["elements"] == 4
    assert sums["unseen"] == 1
    metrics = model.metrics({name: float(v) for name, v in sums.items()})
    assert (metrics["tokens"], metrics["unseen"]) == (4, 1)
    assert metrics["nll"] == pytest.approx(nll.mean(), rel=1e-5)
    assert metrics["perplexity"] == pytest.approx(np.exp(nll.mean()), rel=1e-5)
    assert metrics["loss"] == pytest.approx((w * nll).sum() / w.sum(), rel=1e-5)
    right = np.asarray(logits)[1:5, 1:].argmax(-1) + 1 == target
    assert metrics["accuracy"] == pytest.approx(right.mean())
    assert metrics["weighted_accuracy"] == pytest.approx((w * right).sum() / w.sum())
    gradient = jax.jit(jax.grad(lambda params: model.loss(params, batch)[0]))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_class_weights_fall_with_frequency_and_have_mean_1_over_tokens():
    counts = (0, 100, 10, 1)
    weights = class_weights(counts, 1.0)
    assert weights.dtype == np.float32
    assert weights[0] == 0
    np.testing.assert_allclose(weights[1:] * np.array(counts[1:]), weights[3])
    assert weights @ np.array(counts) / 111 == pytest.approx(1)
    np.testing.assert_allclose(class_weights(counts, 0.0), [0, 1, 1, 1])
    root = class_weights(counts, 0.5)
    np.testing.assert_allclose(root[3] / root[1], 10, rtol=1e-6)


def test_unweighting_divides_the_probabilities_by_the_weights():
    model, params = build(class_weights=1.0)
    ids = random_batch(model)["elements"][:, :-1]

    def probabilities(params):
        return np.array(jax.nn.softmax(without_unknown(call(model.bind(params), ids))))

    before, after = probabilities(params), probabilities(model.unweighted(params))
    expected = before[:, 1:] / model.element_weights[1:]
    np.testing.assert_allclose(after[:, 1:], expected / expected.sum(-1, keepdims=True), rtol=1e-4)
    np.testing.assert_array_equal(probabilities(params), before)  # they are left as they were


def test_without_class_weights_there_is_nothing_to_unweight():
    model, params = build(class_weights=0.0)
    assert model.element_weights is None
    assert model.unweighted(params) is params


@pytest.mark.parametrize("variant", ["tiny", "baseline", "anushree"])
def test_one_batch_over_fits(variant):
    shrink = {"class_weights": 0.0, "dropout": 0.0}
    model = token_lstm("tiny", **shrink) if variant == "tiny" else small(variant, dropout=0.0)
    batch, params = random_batch(model, rows=8), model.init(0)
    optimizer = optax.adam(0.02)

    @jax.jit
    def fit(params):
        def step(_, carry):
            params, state = carry
            gradient = jax.grad(lambda params: model.loss(params, batch)[0])(params)
            update, state = optimizer.update(gradient, state)
            return optax.apply_updates(params, update), state

        return jax.lax.fori_loop(0, 300, step, (params, optimizer.init(params)))[0]

    sums = loss(model, fit(params), batch)[1]
    assert sums["correct"] == 8
    assert sums["nll"] / 8 < 0.1


@pytest.mark.parametrize(
    "parts", [{}, {"bidirectional": False, "encoder_layers": 2}, {"input": "scalar"}]
)
def test_a_table_of_the_vocabularys_projections_gives_the_same_logits(parts, monkeypatch):
    model, params = build(**parts)
    network, ids = model.bind(params), random_batch(model)["elements"]
    table = network.project_vocabulary()
    np.testing.assert_allclose(network(ids, table=table), network(ids), atol=1e-5)
    monkeypatch.setattr(module, "TABLE_ROWS", TOKENS.size - 1)
    assert network.project_vocabulary() is None


def test_without_an_encoder_there_is_no_table():
    model, params = build(encoder_layers=0, attention=False)
    assert model.bind(params).project_vocabulary() is None


@pytest.mark.parametrize(
    "parts", [{}, {"attention": False}, {"decoder_layers": 2, "dense_size": 0}]
)
def test_a_causal_model_knows_no_token_to_come_and_carries_those_before(parts):
    model, params = build(**CAUSAL, **parts)
    network, window = model.bind(params), model.window
    ids = random_batch(model)["elements"][:, :window]
    logits = call(network, ids, every_step=True)
    assert logits.shape == (5, window, TOKENS.size)
    prefill = jax.jit(lambda network, ids: network.prefill(ids))
    for last in (1, 3, window):
        # Each step's logits are those of a window that ends there.
        alone = call(network, ids[:, :last])
        np.testing.assert_allclose(logits[:, last - 1], alone, atol=1e-5)
        np.testing.assert_allclose(prefill(network, ids[:, :last]).logits, alone, atol=1e-5)


def test_a_causal_model_attends_to_its_last_window_however_long_the_piece():
    model, params = build(**CAUSAL)
    network, window, length = model.bind(params), model.window, 21
    ids = jax.random.randint(jax.random.key(3), (2, length), 1, TOKENS.size)
    carry = network.prefill(ids[:, :window])
    step = jax.jit(lambda network, carry, ids: network.step(carry, ids))
    made = []
    for t in range(window, length):
        carry = step(network, carry, ids[:, t])
        made.append(carry.logits)
    assert carry.values.shape == (2, window, model.settings.encoder_size)
    x = network.encoder[0](network.embedding[ids])
    distance = jnp.arange(length)[:, None] - jnp.arange(length)
    mask = (distance >= 0) & (distance < window)
    x = network.attention.attend(x, x, network.attention.keys(x), mask)
    x = jax.nn.relu(network.dense(network.decoder[0](x)))
    expected = network.logits(x)[:, window:]
    np.testing.assert_allclose(jnp.stack(made, axis=1), expected, atol=1e-5)


def test_a_causal_model_learns_from_each_token_and_is_measured_on_the_last():
    model, params = build(**CAUSAL, dropout=0.0, class_weights=0.0)
    window = 3
    batch = random_batch(model)
    batch["elements"] = batch["elements"][:, : window + 1]
    batch["elements"][0, :2] = 0
    batch["present"][4] = 0
    assert model.apply(params, batch).nll.shape == (5,)
    assert model.apply(params, batch, jax.random.key(0)).nll.shape == (5, window)
    measured = loss(model, params, batch)[1]
    assert measured["elements"] == 4
    value, trained = loss(model, params, batch, jax.random.key(0))
    assert trained["elements"] == 4 * window - 1  # the first song's first is before its beginning
    nll = 0.0
    for last in range(1, window + 1):
        part = batch | {"elements": batch["elements"][:, : last + 1]}
        nll += loss(model, params, part)[1]["nll"]
    assert value == pytest.approx(float(nll) / (4 * window - 1), rel=1e-5)


@pytest.mark.parametrize("parts", [{}, CAUSAL, {"flatten": True}])
def test_generation_makes_the_music_that_the_windows_would(parts):
    model, params = build(pad=True, **parts)
    params = jax.tree.map(lambda leaf: 3 * leaf, params)  # so that the likeliest is not always one
    prime = random_batch(model, rows=3)["elements"][:, : model.window]
    _, made = generate(model, params, prime, model.window)
    assert len(np.unique(made)) > 2
    network = model.bind(params)
    carry = network.prefill(prime) if model.settings.causal else None
    heard = prime
    for t in range(model.window):
        if carry is not None:
            logits = carry.logits
        else:
            logits = call(network, heard[:, -model.window :])
        expected = np.asarray(without_unknown(logits)).argmax(-1)
        np.testing.assert_array_equal(made[:, t], expected)
        heard = np.concatenate([heard, expected[:, None]], axis=1)
        carry = None if carry is None else network.step(carry, expected)


@pytest.mark.parametrize("parts", [{}, CAUSAL])
@pytest.mark.parametrize("length", [0, 3])
def test_a_short_prime_has_zeros_before_it(parts, length):
    model, params = build(pad=True, **parts)
    prime = random_batch(model, rows=2)["elements"][:, :length]
    whole = np.pad(prime, [(0, 0), (model.window - length, 0)])
    np.testing.assert_array_equal(
        generate(model, params, prime, 5)[1], generate(model, params, whole, 5)[1]
    )


@pytest.mark.parametrize("parts", [{}, CAUSAL])
def test_a_piece_depends_on_its_key_and_prime_alone_and_is_never_unknown(parts):
    model, params = build(**parts)
    prime = random_batch(model, rows=200)["elements"][:, : model.window]
    keys = jax.random.split(jax.random.key(5), 200)

    def known_alike(logits):
        return jnp.where(logits < -1e6, logits, 0.0)

    @jax.jit
    def draw(prime, keys):
        positions = jnp.zeros((len(prime), 1 + model.window), jnp.int32)
        carry = model.prefill(params, prime, positions)
        return model.sample_step(params, carry, keys, positions[:, 0], known_alike)[1]

    together = draw(prime, keys)
    assert together.dtype == jnp.int32
    assert together[1] == draw(prime[1:2], keys[1:2])[0]
    assert set(np.unique(together)) == set(range(1, TOKENS.size))


def test_a_plan_is_a_window_and_200_tokens():
    model = token_lstm(pad=True)
    assert model.plan(None, None) == (8, 200)
    assert model.plan(100, 7) == (8, 7)
    assert model.plan(3, None) == (3, 200)
    assert token_lstm(pad=False).plan(8, None) == (8, 200)
    with pytest.raises(InputError, match="the prime is 3 tokens; the model reads 8: train with"):
        token_lstm(pad=False).plan(3, None)
    assert token_lstm(pad=True).min_prime == 1
    assert token_lstm(pad=False).min_prime == 8


def test_a_model_of_tokens_does_not_predict_each_element():
    model, params = build()
    with pytest.raises(InputError, match="mode is 'predict', which a TokenLSTM does not do"):
        model.predict(params, random_batch(model))


def test_what_it_says_of_itself():
    model = token_lstm()
    assert (model.reads, model.reads_positions, model.loss_unit) == ("ids", False, "nats a token")
    assert nnx.split(model.network(nnx.Rngs(params=0)))[0] == model.graph
