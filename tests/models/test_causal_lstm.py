import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import load_config
from flax import nnx
from small_models import EVENTS, TOKENS, causal_lstm, random_batch

from musicjax.encodings.vocabulary import Token, Vocabulary
from musicjax.errors import InputError
from musicjax.models import pointer
from musicjax.models.categorical import without_unknown
from musicjax.models.causal_lstm import CausalLSTM

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick

# Ids 1 to 10 are a quarter long, 11 to 20 an eighth.
TWO_DURATIONS = dataclasses.replace(
    TOKENS,
    vocabulary=Vocabulary.build(
        {Token((40 + i,), length): 8 * length - i for length in (12, 6) for i in range(10)}
    ),
)
NO_DROPOUT = {"input_dropout": 0.0, "dropout": 0.0}

loss = jax.jit(
    lambda model, params, batch, key=None: model.loss(params, batch, key), static_argnums=0
)


def build(factor=4.0, **settings):
    """A model, and parameters large enough that each input matters."""
    model = causal_lstm(**settings)
    params = jax.tree.map(lambda leaf: factor * leaf, model.init(0))
    network = model.bind(params)
    keys = jax.random.split(jax.random.key(7), 2)
    network.bias[...] = jax.random.normal(keys[0], network.bias.shape)
    network.b_out[...] = jax.random.normal(keys[1], network.b_out.shape)
    return model, nnx.split(network)[1]


def table_of(model, network):
    return network.table(model.encoding.features() if model.settings.parts else [])


def logits_of(model, params, ids, places, key=None):
    """[B, T, V] of the ids that follow, at those places."""
    network = model.bind(params)
    table = table_of(model, network)
    ids = jnp.asarray(ids)
    _, context = model.read(ids)
    h = network(ids, jnp.asarray(places), context, table, key)
    logits = network.outputs(h, context, table, model.encoding.id_pitches)
    if network.pointer is None:
        return logits
    logits, rows = without_unknown(logits), []
    times = jnp.cumsum(model.encoding.units(ids), axis=1)
    memory = network.pointer.remember(h[:, :0], ids[:, :1], times[:, :0], model.settings.memory)
    for t in range(ids.shape[1]):
        memory, shares = network.pointer.recall(memory, h[:, t], ids[:, t], times[:, t])
        rows.append(pointer.mix(logits[:, t : t + 1], shares))
        if t + 1 < ids.shape[1]:
            memory = network.pointer.write(memory, h[:, t], ids[:, t + 1], times[:, t])
    return jnp.concatenate(rows, axis=1)


# --- what it computes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [{}, {"layers": 2}, {"parts": False}, {"places": False}, {"remat": 3}]
)
def test_equals_plain_loops_over_flaxs_cell(settings):
    model, params = build(**settings)
    network, batch = model.bind(params), random_batch(model, rows=3)
    ids, places = batch["elements"][:, :-1], batch["positions"][:, 1:]
    features = [np.asarray(part) for part in model.encoding.features()]
    rows = []
    for i in range(model.encoding.size):
        row = np.array(network.embedding[i])
        for part, weights in zip(features, network.parts, strict=False):
            for f in np.flatnonzero(part[i]):
                row = row + np.asarray(weights[...][f])
        rows.append(row)
    expected = np.zeros((*ids.shape, model.encoding.size))
    for b in range(3):
        cells = []
        for lstm in network.lstms:
            cell = nnx.OptimizedLSTMCell(*lstm.w_x.shape[1:2], lstm.w_h.shape[1], rngs=nnx.Rngs(0))
            cell.dense_i.kernel[...] = lstm.w_x[0]
            cell.dense_h.kernel[...] = lstm.w_h[0]
            cell.dense_h.bias[...] = lstm.b[0]
            zeros = jnp.zeros(lstm.w_h.shape[1])
            cells.append([cell, (zeros, zeros)])
        for t, (i, place) in enumerate(zip(ids[b], places[b], strict=True)):
            x = rows[i]
            if model.settings.places:
                x = x + network.places[place]
            for layer in cells:
                layer[1], x = layer[0](layer[1], x)
            out = np.asarray(x) @ network.w_out[...] + network.b_out[...]
            expected[b, t] = np.array([out @ row for row in rows]) + network.bias[...]
    np.testing.assert_allclose(logits_of(model, params, ids, places), expected, atol=2e-4)
    prediction = model.apply(params, batch)
    log_p = jax.nn.log_softmax(without_unknown(jnp.asarray(expected)))
    target = batch["elements"][:, 1:, None]
    nll = -np.take_along_axis(np.asarray(log_p), target, axis=-1)[..., 0]
    np.testing.assert_allclose(prediction.nll, nll, atol=2e-4)
    np.testing.assert_array_equal(prediction.guess, log_p.argmax(-1))
    np.testing.assert_array_equal(prediction.correct, log_p.argmax(-1) == target[..., 0])


def test_no_id_knows_of_those_after_it_and_each_of_all_before():
    model, params = build(**NO_DROPOUT)
    ids = random_batch(model, rows=1)["elements"][:, :-1]
    places = np.zeros_like(ids)
    plain = logits_of(model, params, ids, places)
    for t in (0, 5, model.window - 1):
        other = ids.copy()
        other[0, t] = ids[0, t] % (TOKENS.size - 1) + 1
        changed = np.abs(logits_of(model, params, other, places) - plain).max(-1)[0]
        assert not changed[:t].any()
        assert (changed[t:] > 0).all()


def test_the_place_of_the_id_that_follows_matters_and_far_ones_are_the_last():
    model, params = build()
    batch = random_batch(model, rows=2)
    plain = model.apply(params, batch).nll
    moved = model.apply(params, batch | {"positions": batch["positions"] + 7}).nll
    assert np.abs(moved - plain).min() > 0
    # The place of the first id, which is only read, is not.
    positions = batch["positions"].copy()
    positions[:, 0] += 5
    np.testing.assert_array_equal(model.apply(params, batch | {"positions": positions}).nll, plain)
    # Eight quarters of twelfths, and all places after.
    ends = [model.apply(params, batch | {"positions": np.full_like(positions, p)}).nll
            for p in (94, 95, 96, 1000)]  # fmt: skip
    np.testing.assert_array_equal(ends[1], ends[2])
    np.testing.assert_array_equal(ends[1], ends[3])
    assert np.abs(ends[0] - ends[1]).max() > 0
    blind, params = build(places=False)
    assert blind.bind(params).places is None
    here, there = (
        blind.apply(params, batch | {"positions": batch["positions"] + p}).nll for p in (0, 7)
    )
    np.testing.assert_array_equal(here, there)


def test_one_table_is_read_and_written():
    """Tied: what changes an id's row changes it as an input and as an output."""
    model, params = build()
    network = model.bind(params)
    assert {p.shape for p in network.parts} == {(129, 16), (12, 16), (2, 16)}
    table = table_of(model, network)
    ids, places = np.array([[3, 5, 3]]), np.zeros((1, 3), np.int32)

    def logits(table):
        h = network(ids, places, None, table)
        return network.outputs(h, None, table, model.encoding.id_pitches)

    plain, other = logits(table), logits(table.at[4].add(1.0))
    np.testing.assert_array_equal(np.flatnonzero(np.abs(other - plain).max((0, 1))), [4])  # output
    other = logits(table.at[5].add(1.0))
    assert (np.abs(other - plain)[0, 1:].min(-1) > 0).all()  # input, from where it comes on
    assert model.bind(model.init(0)).bias.shape == (TOKENS.size,)


def test_a_rare_id_is_learned_from_common_ones_of_its_parts():
    """Tunes that keep to one duration: ids of it that never came are likelier than those of the
    other.
    """
    rare, other = slice(6, 11), slice(16, 21)
    tokens = TWO_DURATIONS.vocabulary.tokens
    assert (tokens[6], tokens[16]) == (Token((45,), 12), Token((45,), 6))
    rng = np.random.default_rng(0)
    found = {}
    for parts in (True, False):
        model = causal_lstm(encoding=TWO_DURATIONS, parts=parts, **NO_DROPOUT)
        batch = random_batch(model, rows=16)
        batch["elements"] = rng.integers(1, 6, batch["elements"].shape, dtype=np.int32)
        params = fit(model, batch, 60)
        logits = logits_of(model, params, batch["elements"][:, :-1], batch["positions"][:, 1:])
        found[parts] = float((logits[..., rare] - logits[..., other]).mean())
    assert found[True] > 3
    assert abs(found[False]) < 1


# --- learning ------------------------------------------------------------------------------------


def fit(model, batch, steps, rate=0.01):
    optimizer, params = optax.adam(rate), model.init(0)

    def step(carry, _):
        params, state = carry
        gradients = jax.grad(lambda p: model.loss(p, batch)[0])(params)
        updates, state = optimizer.update(gradients, state)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def run(params):
        return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[0][0]

    return run(params)


def test_one_batch_can_be_learned_by_heart():
    model = causal_lstm(layers=1, hidden_size=32, **NO_DROPOUT)
    batch = random_batch(model, rows=4)
    sums = loss(model, fit(model, batch, 300, rate=0.02), batch)[1]
    # The first id of each tune cannot be known; all later ones can.
    assert sums["correct"] / sums["elements"] > 0.95
    assert model.metrics({k: float(v) for k, v in sums.items()})["nll"] < 0.3


def test_at_first_all_ids_are_about_as_likely():
    for settings in ({}, {"parts": False}):
        model = causal_lstm(**settings)
        value, sums = loss(model, model.init(0), random_batch(model, rows=16))
        assert value == pytest.approx(np.log(TOKENS.size - 1), rel=0.02)
        assert value == pytest.approx(float(sums["nll"] / sums["elements"]))


def test_what_is_before_and_after_the_song_and_the_unknown_do_not_count():
    model, params = build(**NO_DROPOUT)
    batch = random_batch(model, rows=4)
    batch["elements"][0, :4] = 0  # begins three elements after its window
    batch["before"][0] = 3
    batch["elements"][1, 9:] = 0
    batch["length"][1] = 8
    batch["elements"][2, 5] = 0  # unknown inside the song
    batch["present"][3] = 0
    window = model.window
    value, sums = loss(model, params, batch)
    assert (sums["elements"], sums["unseen"]) == ((window - 3) + 8 + (window - 1), 1)
    nll = np.asarray(model.apply(params, batch).nll)
    counted = [*nll[0, 3:], *nll[1, :8], *nll[2, :4], *nll[2, 5:]]
    assert value == pytest.approx(np.mean(counted), rel=1e-5)


def test_dropout_is_drawn_by_its_key_and_only_in_training():
    model, params = build(dropout=0.5, input_dropout=0.0)
    batch = random_batch(model, rows=2)
    one, same, other = (loss(model, params, batch, jax.random.key(seed))[0] for seed in (0, 0, 1))
    assert one == same != other
    assert loss(model, params, batch)[0] not in (one, other)
    inputs_alone, params = build(dropout=0.0, input_dropout=0.5)
    one, other = (loss(inputs_alone, params, batch, jax.random.key(seed))[0] for seed in (0, 1))
    assert one != other


# --- generation ----------------------------------------------------------------------------------


def likeliest(logits):
    return jnp.where(logits == logits.max(-1, keepdims=True), 0.0, -1e9)


def generate(model, params, prime, positions, to_come, rules=likeliest, seed=0):
    """Elements [B, length] after a prime; to_come: places [B, length] of each."""

    @jax.jit
    def run(params):
        def step(carry, now):
            key, place = now
            return model.sample_step(params, carry, jax.random.split(key, len(prime)), place, rules)

        keys = jax.random.split(jax.random.key(seed), to_come.shape[1])
        carry = model.prefill(params, prime, positions)
        return jax.lax.scan(step, carry, (keys, jnp.asarray(to_come).T))

    carry, ids = run(params)
    return carry, np.asarray(ids).T


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"layers": 2},
        {"parts": False, "places": False},
        {"memory": 5},
        {"memory": 100},
        {"memory": 100, "encoding": EVENTS, "places": False, "moved_copies": True},
        {"encoding": EVENTS, "context": True},
    ],
)
@pytest.mark.parametrize("primed", [0, 1, 9])
def test_step_by_step_equals_the_teacher_forced_output(settings, primed):
    """Over more than a window: what is carried does not end with it."""
    model, params = build(**settings)
    size = model.encoding.size
    rng, length = np.random.default_rng(0), 2 * model.window + 3
    prime = rng.integers(1, size, (3, primed), dtype=np.int32)
    places = rng.integers(0, 48, (3, 1 + primed + length), dtype=np.int32)
    _, made = generate(model, params, prime, places[:, : 1 + primed], places[:, 1 + primed :])
    assert len(np.unique(made)) > 1 or not primed  # a pointer that begins with one id copies it
    heard = np.concatenate([np.zeros((3, 1), np.int32), prime, made], axis=1)
    logits = without_unknown(logits_of(model, params, heard[:, :-1], places[:, 1:]))
    np.testing.assert_array_equal(made, logits.argmax(-1)[:, primed:])


def test_ids_are_drawn_by_their_probabilities_and_never_the_unknown():
    model, params = build()
    rows = 4000
    prime = np.tile(np.array([[1, 2, 3]], np.int32), (rows, 1))
    places = np.zeros((rows, 4), np.int32)
    _, made = generate(model, params, prime, places, places[:, :1], rules=lambda logits: logits)
    heard = np.array([[0, 1, 2, 3]])
    logits = without_unknown(logits_of(model, params, heard, np.zeros((1, 4), np.int32)))
    expected = np.asarray(jax.nn.softmax(logits[0, -1]))
    found = np.bincount(made[:, 0], minlength=TOKENS.size) / rows
    assert found[0] == 0
    assert np.abs(found - expected).max() < 0.025


def test_a_plan_is_a_window_and_200_ids_of_any_prime():
    model = causal_lstm()
    assert model.plan(None, None) == (model.window, 200)
    assert model.plan(1000, 7) == (1000, 7)
    assert model.plan(0, None) == (0, 200)
    assert model.min_prime == 0
    assert model.any_window


# --- what it is ----------------------------------------------------------------------------------


def test_equal_models_compile_once():
    def make():
        return causal_lstm(encoding=type(TOKENS)(**vars(TOKENS)))

    first, second = make(), make()
    assert first.encoding is not second.encoding
    assert (first, hash(first), first.graph) == (second, hash(second), second.graph)
    assert isinstance(first, CausalLSTM)
    before = loss._cache_size()
    batch = random_batch(first, rows=3)
    values = [loss(model, model.init(0), batch)[0] for model in (first, second)]
    assert values[0] == values[1]
    assert loss._cache_size() == before + 1


def test_what_it_says_of_itself():
    model = causal_lstm()
    assert (model.reads, model.reads_positions, model.every_element) == ("ids", True, True)
    assert (model.pad, model.loss_unit) == (True, "nats a token")


def test_instruments_with_times_of_their_own_have_no_one_place():
    tokens = {Token((40,), 12, "bass"): 2, Token((60,), 12, "piano"): 1}
    encoding = dataclasses.replace(TOKENS, instruments=True, vocabulary=Vocabulary.build(tokens))
    assert causal_lstm(encoding=encoding, places=False).encoding.streams == 2
    with pytest.raises(InputError, match=r"model\.places is True; expected False, as tokens of"):
        causal_lstm(encoding=encoding, places=True)


def test_the_context_is_an_input_where_the_encoding_has_one():
    model, params = build(encoding=EVENTS, context=True, **NO_DROPOUT)
    ids = random_batch(model, rows=1)["elements"]
    network, places = model.bind(params), np.zeros_like(ids)
    _, context = model.read(jnp.asarray(ids))
    nothing = jax.tree.map(jnp.zeros_like, context)
    table = table_of(model, network)
    h, other = (network(ids, places, each, table) for each in (context, nothing))
    assert (np.abs(h - other).max(-1) > 0).all()
    # Of what comes out, it changes pitches alone.
    pitches = model.encoding.id_pitches
    logits, other = (network.outputs(h, each, table, pitches) for each in (context, nothing))
    changed = (logits != other).any((0, 1))
    np.testing.assert_array_equal(changed, pitches >= 0)
    with pytest.raises(InputError, match=r"model\.context is True; expected False, as tokens do"):
        causal_lstm(context=True)


@pytest.mark.parametrize(
    "settings", [{"memory": 8}, {"encoding": EVENTS, "places": False, "memory": 0}]
)
def test_copies_are_moved_only_of_pitches_that_a_pointer_finds(settings):
    with pytest.raises(InputError, match=r"model\.moved_copies is True; expected False, but of ev"):
        causal_lstm(moved_copies=True, **settings)


def test_what_was_saved_before_copies_were_moved_has_none():
    model = causal_lstm()
    config = load_config("tiny_causal")
    del config.model.moved_copies
    assert CausalLSTM.from_config(config, model.encoding).settings == model.settings
