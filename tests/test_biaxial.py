"""The bi-axial model against plain Python loops over flax's own LSTM cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import load_config
from flax import nnx

from musicjax.models import biaxial
from musicjax.models.note_features import note_features

B, T, N = 2, 3, 4


def make_config(*, tied=False, **changes):
    config = load_config("tiny", "nsm")
    config.data.lowest, config.data.highest = 60, 60 + N - 1
    config.model.tied = tied
    config.model.time_sizes, config.model.note_sizes = (4, 3), (3, 2)
    config.train.window = T
    for name, value in changes.items():
        group = config.data if name in config.data else config.model
        (config.train if name in config.train else group)[name] = value
    return config


LIKELY = {"output": "dense", "loss": "likelihood"}
VARIANTS = {
    "paper": {},
    "tied squares": {"tied": True},
    "johnson": {"tied": True, "feedback": "true", "beat": "signed", **LIKELY},
    "untied johnson": {"feedback": "true", "beat": "bits", **LIKELY},
    "dense per note": {"tied": True, "output": "dense_per_note", "loss": "likelihood"},
    "dense squares": {"output": "dense"},
    "play alone": {"tied": True, "articulate": False, "feedback": "true", **LIKELY},
}


def make_batch(config, seed=0):
    bits = 2 if config.data.articulate else 1
    rng = np.random.default_rng(seed)
    states = (rng.random((B, T + 1, N, bits)) < 0.4).astype(np.uint8)
    states[..., 1:] &= states[..., :1]
    return {
        "states": states,
        "beat": np.tile(np.arange(T + 1, dtype=np.int32), (B, 1)),
        "length": np.full(B, T, np.int32),
        "present": np.ones(B, np.float32),
    }


def flax_cell(w_x, w_h, b):
    """nnx.OptimizedLSTMCell with these weights."""
    cell = nnx.OptimizedLSTMCell(*w_x.shape[:1], len(w_h), rngs=nnx.Rngs(0))
    cell.dense_i.kernel[...] = w_x
    cell.dense_h.kernel[...] = w_h
    cell.dense_h.bias[...] = b
    return cell


def looped(model, states, beat, target):
    """The model's output by loops over notes, steps and layers."""
    features = note_features(states, beat, model.layout)

    def run(bank, copy, sequence):
        copy = 0 if model.tied else copy
        cell = flax_cell(bank.w_x[copy], bank.w_h[copy], bank.b[copy])
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
            for bank in model.time_lstms:
                sequence = run(bank, note, sequence)
            columns.append(sequence)
        rows = []
        for step in range(T):
            sequence = [column[step] for column in columns]
            if model.feedback != "none":
                below = [jnp.zeros(model.layout.bits), *target[step, :-1].astype(float)]
                sequence = [jnp.concatenate(pair) for pair in zip(sequence, below, strict=True)]
            for bank in model.note_lstms:
                sequence = run(bank, step, sequence)
            if model.dense:
                each = [note if len(model.w_out) > 1 else 0 for note in range(N)]
                sequence = [
                    h @ model.w_out[i] + model.b_out[i] for h, i in zip(sequence, each, strict=True)
                ]
            rows.append(jnp.stack(sequence))
        return jnp.stack(rows)

    return jax.vmap(one)(features, target)


@pytest.mark.parametrize("variant", ["paper", "johnson", "untied johnson", "dense per note"])
def test_equals_plain_loops_over_flax_cells_gradients_too(variant):
    config = make_config(**VARIANTS[variant])
    model = biaxial.build(config)
    batch = make_batch(config)
    states, target, beat = batch["states"][:, :-1], batch["states"][:, 1:], batch["beat"][:, :-1]
    weights = jax.random.normal(jax.random.key(1), target.shape)
    graph, params = nnx.split(model)
    # Biases of zero would hide one that is forgotten.
    params = jax.tree.map(lambda p: p + 0.1 * jnp.cos(jnp.arange(p.size)).reshape(p.shape), params)

    def ours(params):
        out = nnx.merge(graph, params)(states, beat, target)
        return jnp.sum(weights * jnp.sin(3 * out)), out

    def theirs(params):
        out = looped(nnx.merge(graph, params), states, beat, target)
        return jnp.sum(weights * jnp.sin(3 * out)), out

    (_, out), gradient = jax.jit(jax.value_and_grad(ours, has_aux=True))(params)
    (_, expected), their_gradient = jax.jit(jax.value_and_grad(theirs, has_aux=True))(params)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    assert float(jnp.abs(out).max()) > 0.05  # or this test shows nothing
    for mine, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(their_gradient), strict=True):
        scale = max(float(jnp.abs(other).max()), 1.0)
        np.testing.assert_allclose(mine / scale, other / scale, atol=1e-5)


@pytest.mark.parametrize("variant", ["paper", "johnson", "untied johnson", "dense per note"])
def test_one_step_at_a_time_gives_the_teacher_forced_output(variant):
    config = make_config(**VARIANTS[variant])
    model = biaxial.build(config)
    states, beat = make_batch(config)["states"], make_batch(config)["beat"]
    key = jax.random.key(3)

    @nnx.jit
    def walk(model):
        carried, last, drawn, outputs = model.carry(B), states[:, 0], [], []
        for step in range(T):
            carried, x = model.step_over_time(carried, last, beat[:, step])
            lstms = model.note_lstms_at(jnp.array(step))
            # Hot, since an untrained hidden state would never play.
            draw = biaxial.Draw(temperature=20.0)
            noise = jax.random.uniform(jax.random.fold_in(key, step), (N, 1, B, 2))
            bits, out = model.draw_notes(x, noise, draw, lstms)
            last = jnp.swapaxes(bits[:, 0], 0, 1)
            drawn.append(last)
            outputs.append(jnp.swapaxes(out[:, 0], 0, 1))
        drawn = jnp.stack(drawn, 1)
        before = jnp.concatenate([states[:, :1], drawn[:, :-1]], 1)
        return drawn, jnp.stack(outputs, 1), model(before, beat[:, :-1], drawn)

    drawn, outputs, forced = walk(model)
    assert 0 < float(drawn.mean()) < 1
    np.testing.assert_allclose(outputs, forced, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_batch_over_fits(variant):
    config = make_config(**VARIANTS[variant])
    config.model.time_sizes = (16,)
    if config.model.output != "hidden":
        config.model.note_sizes = (16,)
    model, loss_of = biaxial.build(config), biaxial.make_loss(config)
    batch = make_batch(config)
    graph, params = nnx.split(model)
    if config.model.output == "hidden":
        # A hidden state comes near 1 slowly.
        batch["states"] = batch["states"] // 2 + (batch["states"] > 2)
    import optax

    optimizer = optax.adam(0.03)

    @jax.jit
    def fit(params):
        def step(_, carry):
            params, state = carry
            gradient = jax.grad(lambda p: loss_of(nnx.merge(graph, p), batch)[0])(params)
            update, state = optimizer.update(gradient, state)
            return optax.apply_updates(params, update), state

        return jax.lax.fori_loop(0, 300, step, (params, optimizer.init(params)))[0]

    first = float(loss_of(model, batch)[0])
    assert float(loss_of(nnx.merge(graph, fit(params)), batch)[0]) < 0.2 * first


def test_the_paper_has_its_parameters():
    config = load_config("", "nsm")
    shapes = nnx.eval_shape(lambda: biaxial.build(config))
    size = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(shapes)))
    time = 78 * (80 * 144 + 36 * 144 + 144)
    notes = 128 * (36 * 8 + 2 * 8 + 8)
    assert size == time + notes
    assert round(size / 1e6, 2) == 1.35  # the facts' count


def test_johnson_has_its_parameters():
    config = load_config("johnson", "nsm")
    shapes = nnx.eval_shape(lambda: biaxial.build(config))
    size = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(shapes)))
    assert size == 1_369_902  # the facts' count


def test_losses_are_the_sums_they_say():
    config = make_config()
    model, batch = biaxial.build(config), make_batch(config)
    batch["length"] = np.array([T, 2], np.int32)
    _, sums = biaxial.make_loss(config)(model, batch)
    out = model(batch["states"][:, :-1], batch["beat"][:, :-1], batch["states"][:, 1:])
    difference = np.square(np.asarray(out) - batch["states"][:, 1:])
    expected = difference[0].sum() + difference[1, :2].sum()
    np.testing.assert_allclose(sums["squares"], expected, rtol=1e-5)
    assert (float(sums["steps"]), float(sums["bits"])) == (T + 2, (T + 2) * N * 2)
    np.testing.assert_allclose(
        biaxial.metrics({k: float(v) for k, v in sums.items()})["loss"], expected / B, rtol=1e-5
    )


def test_articulate_counts_only_where_the_note_plays():
    logits = jnp.array([[2.0, 3.0], [2.0, 3.0], [-1.0, 0.5]])
    target = jnp.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    expected = [
        -np.log(sigmoid(2) * sigmoid(3)),
        -np.log(sigmoid(2) * (1 - sigmoid(3))),
        -np.log(1 - sigmoid(-1)),
    ]
    np.testing.assert_allclose(biaxial._nats(logits, target), expected, rtol=1e-5)


def test_absent_rows_do_not_count_and_sounding_cells_can_weigh_more():
    config = make_config(**VARIANTS["johnson"])
    model, batch = biaxial.build(config), make_batch(config)
    one = {name: array[:1] for name, array in batch.items()}
    batch["present"][1] = 0
    loss, sums = biaxial.make_loss(config)(model, batch)
    alone, alone_sums = biaxial.make_loss(config)(model, one)
    np.testing.assert_allclose(loss, alone, rtol=1e-5)
    for name, value in alone_sums.items():
        np.testing.assert_allclose(sums[name], value, rtol=1e-5)
    config.train.sounding_weight = 5.0
    weighed, weighed_sums = biaxial.make_loss(config)(model, batch)
    assert weighed > loss
    np.testing.assert_allclose(weighed_sums["nats"], sums["nats"], rtol=1e-6)


def test_the_literal_target_is_a_copy_task():
    config = make_config(target="literal")
    model, batch = biaxial.build(config), make_batch(config)
    _, sums = biaxial.make_loss(config)(model, batch)
    out = model(batch["states"][:, 1:], batch["beat"][:, 1:], batch["states"][:, :-1])
    expected = np.square(np.asarray(out) - batch["states"][:, :-1]).sum()
    np.testing.assert_allclose(sums["squares"], expected, rtol=1e-5)


@pytest.mark.parametrize("feedback", ["none", "true", "sample"])
def test_dropout_is_by_its_key_and_only_in_training(feedback):
    config = make_config(tied=True, feedback=feedback, dropout=0.5, **LIKELY)
    model, batch = biaxial.build(config), make_batch(config)
    loss = nnx.jit(biaxial.make_loss(config))
    plain = [float(loss(model, batch)[0]) for _ in range(2)]
    a, b = (float(loss(model, batch, jax.random.key(i))[0]) for i in range(2))
    assert plain[0] == plain[1]
    assert len({plain[0], a, b}) == 3
    assert a == float(loss(model, batch, jax.random.key(0))[0])


def test_feeding_up_samples_has_the_gradient_of_feeding_up_those_bits():
    """Both passes of feedback="sample" see the same dropout, and samples have no gradient."""
    config = make_config(tied=True, feedback="sample", dropout=0.3, **LIKELY)
    model, batch = biaxial.build(config), make_batch(config)
    key = jax.random.key(7)
    states, beat, target = batch["states"][:, :-1], batch["beat"][:, :-1], batch["states"][:, 1:]
    x = model.over_time(states, beat, key)
    noise = jax.random.uniform(jax.random.fold_in(key, 99), (*x.shape[:3], 2))
    bits, outputs = model.draw_notes(x, noise, biaxial.Draw(), list(model.note_lstms), key)
    out = model(states, beat, target, key)
    # The pass that samples computes the very outputs that the second pass learns from.
    back = jnp.transpose(outputs.reshape(N, T, B, 2), (2, 1, 0, 3))
    np.testing.assert_allclose(out, back, atol=1e-5)
    assert 0 < float(bits.mean()) < 1


def test_temperature_zero_takes_the_likelier_and_guards_hold():
    config = make_config(**VARIANTS["johnson"])
    model = biaxial.build(config)
    x = jax.random.normal(jax.random.key(0), (N, 1, B, 3))
    lstms = list(model.note_lstms)
    noise = lambda seed: jax.random.uniform(jax.random.key(seed), (N, 1, B, 2))  # noqa: E731
    draw = lambda seed, **options: model.draw_notes(  # noqa: E731
        x, noise(seed), biaxial.Draw(**options), lstms
    )
    a, b = draw(0, temperature=0.0)[0], draw(1, temperature=0.0)[0]
    np.testing.assert_array_equal(a, b)
    bits, outputs = draw(0, temperature=0.0)
    np.testing.assert_array_equal(bits[..., 0] > 0, outputs[..., 0] > 0)
    loud = model.draw_notes(
        x, noise(0), biaxial.Draw(1.0, 2), lstms, raise_by=jnp.full((B, 1), 50.0)
    )[0]
    assert (np.asarray(loud[..., 0]).sum(0) == 2).all()  # no more than two, though all would play


@pytest.mark.parametrize("output", ["hidden", "dense"])
def test_outputs_of_squares_make_probabilities(output):
    config = make_config(output=output)
    model = biaxial.build(config)
    outputs = jnp.array([[0.8, 0.4], [-0.3, 0.2], [1.0, 1.0]])
    if output == "dense":
        outputs = jnp.log(
            jnp.clip(outputs, 1e-6, 1 - 1e-6) / (1 - jnp.clip(outputs, 1e-6, 1 - 1e-6))
        )
    p = jax.nn.sigmoid(model.logits(outputs))
    np.testing.assert_allclose(p[0], [0.8, 0.5], rtol=1e-4)  # articulate given play
    assert ((p > 0) & (p < 1)).all()
    assert p[1, 0] < 0.001
    assert p[2, 0] > 0.999
