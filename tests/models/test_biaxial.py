"""The bi-axial model against plain Python loops over flax's own LSTM cells."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import load_config
from flax import nnx
from small_models import biaxial, note_states, random_batch

from musicjax.errors import InputError
from musicjax.models import build_model
from musicjax.models.base import Prediction
from musicjax.models.biaxial import cell_nll
from musicjax.models.note_features import note_features

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick

B, T, N = 2, 3, 4

LIKELY = {"output": "dense", "loss": "nll"}
VARIANTS = {
    "paper": {},
    "tied sse": {"tied": True},
    "johnson": {"tied": True, "feedback": "true", "beat": "signed", **LIKELY},
    "untied johnson": {"feedback": "true", "beat": "bits", **LIKELY},
    "dense per note": {"tied": True, "output": "dense_per_note", "loss": "nll"},
    "dense sse": {"output": "dense"},
    "play alone": {"tied": True, "articulate": False, "feedback": "true", **LIKELY},
}
SOME_VARIANTS = ["paper", "johnson", "untied johnson", "dense per note"]


def build(*, articulate=True, **settings):
    """A model of 4 notes and 3 steps, and its parameters."""
    sizes = {"window": T, "time_sizes": (4, 3), "note_sizes": (3, 2)}
    model = biaxial(encoding=note_states(N, articulate=articulate), **sizes | settings)
    return model, model.init(0)


def make_batch(model, seed=0):
    return random_batch(model, B, seed)


def flax_cell(w_x, w_h, b):
    """nnx.OptimizedLSTMCell with these weights."""
    cell = nnx.OptimizedLSTMCell(*w_x.shape[:1], len(w_h), rngs=nnx.Rngs(0))
    cell.dense_i.kernel[...] = w_x
    cell.dense_h.kernel[...] = w_h
    cell.dense_h.bias[...] = b
    return cell


def looped(network, states, positions, target):
    """The network's output by loops over notes, steps and layers."""
    features = note_features(states, positions, network.layout)
    settings = network.settings

    def run(bank, number, sequence):
        number = 0 if settings.tied else number
        cell = flax_cell(bank.w_x[number], bank.w_h[number], bank.b[number])
        carry = (jnp.zeros(bank.w_h.shape[1]),) * 2
        outputs = []
        for x in sequence:
            carry, h = cell(carry, x)
            outputs.append(h)
        return outputs

    def one(features, target):
        columns = []
        for note in range(N):
            sequence = list(features[:, note])
            for bank in network.time_lstms:
                sequence = run(bank, note, sequence)
            columns.append(sequence)
        rows = []
        for step in range(T):
            sequence = [column[step] for column in columns]
            if settings.feedback != "none":
                below = [jnp.zeros(network.layout.bits), *target[step, :-1].astype(float)]
                sequence = [jnp.concatenate(pair) for pair in zip(sequence, below, strict=True)]
            for bank in network.note_lstms:
                sequence = run(bank, step, sequence)
            if network.dense:
                each = [note if len(network.w_out) > 1 else 0 for note in range(N)]
                sequence = [
                    h @ network.w_out[i] + network.b_out[i]
                    for h, i in zip(sequence, each, strict=True)
                ]
            rows.append(jnp.stack(sequence))
        return jnp.stack(rows)

    return jax.vmap(one)(features, target)


@pytest.mark.parametrize("variant", SOME_VARIANTS)
def test_equals_plain_loops_over_flax_cells_gradients_too(variant):
    model, params = build(**VARIANTS[variant])
    states, positions, target = model.task(make_batch(model))
    weights = jax.random.normal(jax.random.key(1), target.shape)
    # Biases of zero would hide one that is forgotten.
    params = jax.tree.map(lambda p: p + 0.1 * jnp.cos(jnp.arange(p.size)).reshape(p.shape), params)

    def ours(params):
        out = model.bind(params)(states, positions, target)
        return jnp.sum(weights * jnp.sin(3 * out)), out

    def theirs(params):
        out = looped(model.bind(params), states, positions, target)
        return jnp.sum(weights * jnp.sin(3 * out)), out

    (_, out), gradient = jax.jit(jax.value_and_grad(ours, has_aux=True))(params)
    (_, expected), their_gradient = jax.jit(jax.value_and_grad(theirs, has_aux=True))(params)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    assert float(jnp.abs(out).max()) > 0.05  # or this test shows nothing
    for mine, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(their_gradient), strict=True):
        scale = max(float(jnp.abs(other).max()), 1.0)
        np.testing.assert_allclose(mine / scale, other / scale, atol=1e-5)


def hot(logits, num_notes):
    """A sampling rule that makes an untrained model play."""
    return logits / 20


@pytest.mark.parametrize("variant", SOME_VARIANTS)
@pytest.mark.parametrize(("primed", "kernel"), [(0, "scan"), (2, "native")])
def test_generation_step_by_step_gives_the_teacher_forced_output(variant, primed, kernel):
    """Each note drawn is the one that the forced output and the same noise give."""
    length = 5
    model, params = build(**VARIANTS[variant] | {"window": primed + length, "kernel": kernel})
    batch = make_batch(model)
    prime, positions = batch["elements"][:, 1 : 1 + primed], batch["positions"]
    keys = jax.random.split(jax.random.key(3), (length, B))

    @jax.jit
    def walk(params):
        def step(carry, inputs):
            return model.sample_step(params, carry, *inputs, hot)

        carry = model.prefill(params, prime, positions[:, : 1 + primed])
        return jax.lax.scan(step, carry, (keys, positions[:, 1 + primed :].T))[1]

    drawn = jnp.moveaxis(walk(params), 0, 1)
    assert drawn.dtype == jnp.uint8
    assert 0 < float(drawn.mean()) < 1
    made = jnp.concatenate([jnp.zeros((B, 1, N, 2), jnp.uint8), prime, drawn], axis=1)
    network = model.bind(params)
    output = jax.jit(lambda network: network(made[:, :-1], positions[:, :-1], made[:, 1:]))(network)
    likelihood = jax.nn.sigmoid(network.logits(output)[:, primed:] / 20)
    noise = jax.vmap(jax.vmap(lambda key: jax.random.uniform(key, (N, 1, 2))))(keys)
    expected = jnp.moveaxis(noise[:, :, :, 0], 0, 1) < likelihood
    np.testing.assert_array_equal(drawn[..., 0], expected[..., 0])
    np.testing.assert_array_equal(drawn[..., 1], expected[..., 0] & expected[..., 1])


def test_a_piece_depends_on_its_key_and_prime_alone():
    model, params = build(**VARIANTS["johnson"])
    batch = random_batch(model, 3)
    keys = jax.random.split(jax.random.key(3), 3)

    @jax.jit
    def draw(elements, positions, keys):
        carry = model.prefill(params, elements, positions[:, :3])
        return model.sample_step(params, carry, keys, positions[:, 3], hot)[1]

    together = draw(batch["elements"][:, :2], batch["positions"], keys)
    alone = draw(batch["elements"][1:2, :2], batch["positions"][1:2], keys[1:2])
    np.testing.assert_array_equal(together[1], alone[0])
    assert not np.array_equal(together[0], together[1])


def test_rules_see_each_notes_logits_and_how_many_notes_sound_below():
    model, params = build(**VARIANTS["johnson"])
    batch = make_batch(model)

    def at_most_two(logits, num_notes):
        assert logits.shape == (B, 2)
        assert num_notes.shape == (B,)
        silent = (num_notes >= 2)[:, None] & (jnp.arange(2) == 0)
        return jnp.where(silent, -1e9, 50.0)  # all would play

    carry = model.prefill(params, batch["elements"][:, :0], batch["positions"][:, :1])
    keys = jax.random.split(jax.random.key(0), B)
    _, step = model.sample_step(params, carry, keys, batch["positions"][:, 1], at_most_two)
    assert step[..., 0].tolist() == [[1, 1, 0, 0]] * B
    assert step[..., 1].tolist() == [[1, 1, 0, 0]] * B  # articulate only where it plays


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_batch_over_fits(variant):
    settings = {"time_sizes": (16,)} | VARIANTS[variant]
    hidden = "output" not in settings
    model, params = build(**settings, **({} if hidden else {"note_sizes": (16,)}))
    batch = make_batch(model)
    if hidden:
        # A hidden state comes near 1 slowly.
        batch["elements"] = batch["elements"] // 2 + (batch["elements"] > 2)
    optimizer = optax.adam(0.03)

    @jax.jit
    def fit(params):
        def step(_, carry):
            params, state = carry
            gradient = jax.grad(lambda params: model.loss(params, batch)[0])(params)
            update, state = optimizer.update(gradient, state)
            return optax.apply_updates(params, update), state

        return jax.lax.fori_loop(0, 300, step, (params, optimizer.init(params)))[0]

    first = float(model.loss(params, batch)[0])
    assert float(model.loss(fit(params), batch)[0]) < 0.2 * first


def size_of(variant):
    config = load_config(variant, "nsm")
    encoding = note_states(78, lowest=24)
    assert (encoding.lowest, encoding.highest) == (config.data.lowest, config.data.highest)
    return sum(leaf.size for leaf in jax.tree.leaves(build_model(config, encoding).shapes))


def test_the_paper_has_its_parameters():
    time = 78 * (80 * 144 + 36 * 144 + 144)
    notes = 128 * (36 * 8 + 2 * 8 + 8)
    assert size_of("") == time + notes
    assert round(size_of("") / 1e6, 2) == 1.35  # the facts' count


def test_johnson_has_its_parameters():
    assert size_of("johnson") == 1_369_902  # the facts' count


def test_losses_are_the_sums_they_say():
    model, params = build()
    batch = make_batch(model)
    batch["length"] = np.array([T, 2], np.int32)
    loss, sums = model.loss(params, batch)
    inputs, positions, target = model.task(batch)
    out = model.bind(params)(inputs, positions, target)
    difference = np.square(np.asarray(out) - target)
    expected = difference[0].sum() + difference[1, :2].sum()
    np.testing.assert_allclose(sums["sse"], expected, rtol=1e-5)
    np.testing.assert_allclose(loss, expected / B, rtol=1e-5)
    assert (float(sums["steps"]), float(sums["bits"])) == (T + 2, (T + 2) * N * 2)
    metrics = model.metrics({name: float(value) for name, value in sums.items()})
    np.testing.assert_allclose(metrics["loss"], expected / B, rtol=1e-5)
    np.testing.assert_allclose(metrics["sse"], expected / B, rtol=1e-5)
    np.testing.assert_allclose(metrics["mse"], expected / ((T + 2) * N * 2), rtol=1e-5)
    assert metrics["steps"] == T + 2
    assert "nll" not in metrics


def test_f1_counts_true_positives_predicted_and_actual_bits():
    model, _ = build()
    batch = make_batch(model, seed=3)
    batch["length"] = np.array([T, 1], np.int32)
    inputs, _, target = model.task(batch)
    prediction = Prediction(inputs, None, inputs)  # the step before again
    sums = {name: float(value) for name, value in model.score(prediction, batch)[1].items()}
    inside = (np.arange(T) < batch["length"][:, None])[..., None, None]
    metrics = model.metrics(sums)
    for bit, name in enumerate(("play", "articulate")):
        guess, truth = (inputs * inside)[..., bit], (target * inside)[..., bit]
        both = (guess & truth).sum()
        assert sums[f"{name}_true_positives"] == both > 0
        assert sums[f"{name}_predicted"] == guess.sum()
        assert sums[f"{name}_actual"] == truth.sum()
        assert metrics[f"{name}_precision"] == pytest.approx(both / guess.sum())
        assert metrics[f"{name}_recall"] == pytest.approx(both / truth.sum())
        assert metrics[f"{name}_f1"] == pytest.approx(2 * both / (guess.sum() + truth.sum()))


def test_articulate_counts_only_where_the_note_plays():
    logits = jnp.array([[2.0, 3.0], [2.0, 3.0], [-1.0, 0.5]])
    target = jnp.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    expected = [
        -np.log(sigmoid(2) * sigmoid(3)),
        -np.log(sigmoid(2) * (1 - sigmoid(3))),
        -np.log(1 - sigmoid(-1)),
    ]
    np.testing.assert_allclose(cell_nll(logits, target), expected, rtol=1e-5)


def test_absent_rows_do_not_count_and_cells_that_play_can_weigh_more():
    model, params = build(**VARIANTS["johnson"])
    batch = make_batch(model)
    one = {name: array[:1] for name, array in batch.items()}
    batch["present"][1] = 0
    loss, sums = model.loss(params, batch)
    alone, alone_sums = model.loss(params, one)
    np.testing.assert_allclose(loss, alone, rtol=1e-5)
    for name, value in alone_sums.items():
        np.testing.assert_allclose(sums[name], value, rtol=1e-5)
    heavy, _ = build(**VARIANTS["johnson"], positive_weight=5.0)
    weighted, weighted_sums = heavy.loss(params, batch)
    assert weighted > loss
    np.testing.assert_allclose(weighted_sums["nll"], sums["nll"], rtol=1e-6)


def test_the_literal_target_is_a_copy_task():
    model, params = build(target="literal")
    batch = make_batch(model)
    states, positions = batch["elements"], batch["positions"]
    sums = model.loss(params, batch)[1]
    out = model.bind(params)(states[:, 1:], positions[:, 1:], states[:, :-1])
    expected = np.square(np.asarray(out) - states[:, :-1]).sum()
    np.testing.assert_allclose(sums["sse"], expected, rtol=1e-5)


@pytest.mark.parametrize("feedback", ["none", "true", "sample"])
def test_dropout_is_by_its_key_and_only_in_training(feedback):
    model, params = build(tied=True, feedback=feedback, dropout=0.5, **LIKELY)
    batch = make_batch(model)
    loss = jax.jit(lambda key: model.loss(params, batch, key)[0])
    plain = [float(loss(None)) for _ in range(2)]
    a, b = (float(loss(jax.random.key(i))) for i in range(2))
    assert plain[0] == plain[1]
    assert len({plain[0], a, b}) == 3
    assert a == float(loss(jax.random.key(0)))


@pytest.mark.parametrize("tied", [True, False])
def test_feedback_of_samples_has_the_gradient_of_feedback_of_those_bits(tied):
    """Both passes of feedback="sample" have the same dropout, and samples have no gradient."""
    model, params = build(tied=tied, feedback="sample", dropout=0.3, **LIKELY)
    network = model.bind(params)
    key = jax.random.key(7)
    states, positions, target = model.task(make_batch(model))
    x = network.over_time(states, positions, key)
    noise = jax.random.uniform(jax.random.fold_in(key, 99), (*x.shape[:3], 2))
    bits, _, outputs = network.draw_notes(x, noise, list(network.note_lstms), dropout_key=key)
    out = network(states, positions, target, key)
    # The pass that samples computes the very outputs that the second pass learns from.
    back = jnp.transpose(outputs.reshape(N, T, B, 2), (2, 1, 0, 3))
    np.testing.assert_allclose(out, back, atol=1e-5)
    assert 0 < float(bits.mean()) < 1


@pytest.mark.parametrize("output", ["hidden", "dense"])
def test_outputs_trained_by_squared_errors_make_probabilities(output):
    model, params = build(output=output)
    outputs = jnp.array([[0.8, 0.4], [-0.3, 0.2], [1.0, 1.0]])
    if output == "dense":
        outputs = jnp.log(
            jnp.clip(outputs, 1e-6, 1 - 1e-6) / (1 - jnp.clip(outputs, 1e-6, 1 - 1e-6))
        )
    p = jax.nn.sigmoid(model.bind(params).logits(outputs))
    np.testing.assert_allclose(p[0], [0.8, 0.5], rtol=1e-4)  # articulate given play
    assert ((p > 0) & (p < 1)).all()
    assert p[1, 0] < 0.001
    assert p[2, 0] > 0.999


def test_predictions_are_the_bits_above_one_half():
    model, params = build(**VARIANTS["paper"])
    params = jax.tree.map(lambda leaf: 3 * leaf, params)
    batch = make_batch(model)
    predicted = np.asarray(model.predict(params, batch))
    assert predicted.shape == (B, T, N, 2)
    values = np.asarray(model.apply(params, batch).values)
    np.testing.assert_array_equal(predicted[..., 0], values[..., 0] > 0.5)
    np.testing.assert_array_equal(predicted[..., 1], (values > 0.5).all(-1))


def test_predictions_know_what_was_predicted_below_and_not_what_is_there():
    """Where feedback is used, each note of a step is told its own guess of those below."""
    model, params = build(**VARIANTS["johnson"])
    params = jax.tree.map(lambda leaf: 3 * leaf, params)
    batch = make_batch(model)
    predicted = np.asarray(model.predict(params, batch))
    assert predicted.shape == (B, T, N, 2)
    # The last step's own notes are no input of its prediction.
    other = batch | {"elements": batch["elements"].copy()}
    other["elements"][:, -1] = 1 - other["elements"][:, -1]
    np.testing.assert_array_equal(model.predict(params, other), predicted)
    # Told what was predicted, the network expects just that, note by note.
    guessed = batch | {"elements": batch["elements"].copy()}
    guessed["elements"][:, -1] = predicted[:, -1]
    logits = np.asarray(
        model.bind(params).logits(
            model.bind(params)(*model.task(guessed)[:2], jnp.asarray(guessed["elements"][:, 1:]))
        )
    )
    np.testing.assert_array_equal(predicted[:, -1, :, 0], logits[:, -1, :, 0] > 0)
    assert model.told
    assert not build(**VARIANTS["paper"])[0].told


def test_a_plan_is_64_steps_and_256_where_weights_are_shared():
    model, _ = build(**VARIANTS["johnson"])
    assert model.plan(None, None) == (64, 256)
    assert model.plan(0, 1000) == (0, 1000)
    assert model.any_window


def test_a_plan_is_within_the_window_where_steps_have_their_own_weights():
    model, _ = build(window=128)
    assert not model.any_window
    assert model.plan(None, None) == (64, 64)
    assert model.plan(100, None) == (64, 64)
    assert model.plan(10, None) == (10, 118)
    assert model.plan(10, 20) == (10, 20)
    with pytest.raises(InputError, match="has weights for 128 steps; a prime of 10 and a piece of"):
        model.plan(10, 119)


def test_a_model_that_copies_makes_no_pieces():
    model, _ = build(target="literal")
    with pytest.raises(InputError, match=r"trained with model\.target=literal, to copy"):
        model.plan(None, None)


def test_what_it_says_of_itself():
    model, _ = build()
    assert (model.reads, model.reads_positions, model.pad) == ("matrix", True, False)
    assert model.loss_unit == "squared error a segment"
    assert build(**VARIANTS["johnson"])[0].loss_unit == "nats a step"


# --- notes that are given -------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["johnson", "play alone"])
def test_given_notes_come_as_they_are_and_weigh_their_likelihood(variant):
    model, params = build(**VARIANTS[variant])
    batch = make_batch(model)
    song, positions = batch["elements"][0, 1:], batch["positions"][0]
    keys, follow = jax.random.split(jax.random.key(0), B), jnp.zeros(B, bool)

    @jax.jit
    def walk(params):
        def step(carry, inputs):
            allowed, position = inputs
            places = jnp.broadcast_to(position, B)
            carry, *made = model.constrained_step(
                params, carry, keys, places, hot, allowed, jnp.zeros_like(song[0]), follow
            )
            return carry, made

        carry = model.prefill(
            params, np.zeros_like(song[None, :0]).repeat(B, 0), np.tile(positions[:1], (B, 1))
        )
        return jax.lax.scan(step, carry, (model.encoding.only(song), positions[1:]))[1]

    elements, likelihood, drawing = walk(params)
    np.testing.assert_array_equal(elements, np.repeat(song[:, None], B, 1))
    np.testing.assert_allclose(drawing, 0, atol=1e-5)  # they could not but come
    nothing = np.zeros_like(song[:1])
    forced = {"elements": np.concatenate([nothing, song])[None], "positions": positions[None]}
    expected = -model.apply(params, forced).nll[0].sum(-1)
    np.testing.assert_allclose(likelihood, np.repeat(expected[:, None], B, 1), rtol=1e-4)


def test_rows_of_a_carry_are_picked():
    for settings in (VARIANTS["johnson"], VARIANTS["paper"]):
        model, params = build(**settings)
        batch = make_batch(model)
        arguments = batch["elements"][:, :2], batch["positions"][:, :3]
        prefill = jax.jit(functools.partial(model.prefill, params))
        carry, turned = prefill(*arguments), prefill(*(array[::-1] for array in arguments))
        picked = model.select(carry, np.array([1, 0]))
        jax.tree.map(np.testing.assert_allclose, picked, turned)
