"""The C++ for CPUs against the scan; and what happens where it cannot be compiled."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from musicjax.models import lstm_cpu
from musicjax.models.lstm import LSTMBank, LSTMCarry, native_lstm
from musicjax.system import checksums

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="there is no C++ compiler"
)


def run_and_gradients(kernel, x, d, hidden, sharding=None):
    """h of a bank of LSTMs, and the gradients of sum(d h) for its parameters and x."""
    bank = LSTMBank(x.shape[-1], hidden, len(x), kernel=kernel, rngs=nnx.Rngs(1))
    bank.b[...] += 0.1 * jax.random.normal(jax.random.key(5), bank.b.shape)
    graph, params = nnx.split(bank)

    def loss(params, x):
        bank = nnx.merge(graph, params)
        assert bank.uses_native == (kernel == "native")
        h = bank.run(x)
        return jnp.sum(d * h), h

    if sharding is not None:
        x = jax.device_put(x, sharding)
        params = jax.device_put(params, NamedSharding(sharding.mesh, PartitionSpec()))

    @jax.jit
    def both(params, x):
        # Where x is data, other code computes the parameters' gradients.
        return jax.grad(loss, (0, 1), has_aux=True)(params, x), jax.grad(loss, has_aux=True)(
            params, x
        )

    return jax.tree.map(np.asarray, both(params, x))


@needs_compiler
@pytest.mark.parametrize(
    ("num_lstms", "steps", "batch", "features", "hidden"),
    [
        (3, 7, 10, 63, 36),  # the bi-axial network's shape
        (5, 3, 2, 3, 2),  # a register holds many of these
        (2, 40, 10, 36, 2),  # and of these a unit's rows, in several blocks of steps
        (1, 4, 150, 9, 3),  # of which a task has more than a register holds
        (1, 4, 70, 9, 17),  # a batch in parts, rows and units that divide nothing
        (1, 300, 8, 16, 16),  # gradients of weights in several blocks
        (2, 3, 4, 200, 170),  # large weights
        (1, 300, 3, 5, 41),  # few rows, whose steps all threads take together, in several blocks
        (1, 500, 2, 60, 200),  # the same with large weights
        (1, 1, 1, 3, 2),
    ],
)
def test_equals_the_scan_gradients_too(num_lstms, steps, batch, features, hidden):
    x = jax.random.normal(jax.random.key(2), (num_lstms, steps, batch, features))
    d = jax.random.normal(jax.random.key(3), (num_lstms, steps, batch, hidden))
    native, scan = (run_and_gradients(kernel, x, d, hidden) for kernel in ("native", "scan"))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max()), native, scan
    )


@needs_compiler
def test_threads_that_take_a_step_together_wait_for_each_other():
    """Whoever computes a number, and when, it is the same sum: runs are equal bit by bit."""
    assert lstm_cpu.is_available()
    keys = jax.random.split(jax.random.key(0), 3)
    x, d = (jax.random.normal(key, (1, 200, 2, 200)) for key in keys[:2])
    w = 0.1 * jax.random.normal(keys[2], (1, 200 + 200 + 1, 800))
    zeros = jnp.zeros((1, 2, 200))

    def loss(x, w):
        h, _ = native_lstm(x, w, LSTMCarry(zeros, zeros))
        return jnp.sum(d * h), h

    gradients = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
    first = gradients(x, w)
    for _ in range(50):
        jax.tree.map(np.testing.assert_array_equal, gradients(x, w), first)


@needs_compiler
def test_two_devices_share_the_rows():
    x = jax.random.normal(jax.random.key(2), (2, 5, 6, 4))
    d = jax.random.normal(jax.random.key(3), (2, 5, 6, 3))
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    sharding = NamedSharding(mesh, PartitionSpec(None, None, "data"))
    shared = run_and_gradients("native", x, d, 3, sharding)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        shared,
        run_and_gradients("scan", x, d, 3),
    )


@needs_compiler
def test_vmap_adds_lstms():
    """Gradients too: as of each alone."""
    assert lstm_cpu.is_available()
    keys = jax.random.split(jax.random.key(0), 2)
    x, w = (
        jax.random.normal(keys[0], (1, 4, 3, 2)),
        jax.random.normal(keys[1], (5, 1, 2 + 3 + 1, 12)),
    )
    zeros = jnp.zeros((1, 3, 3))

    def loss(w, x):
        return jnp.sum(native_lstm(x, w, LSTMCarry(zeros, zeros))[0] ** 2)

    gradient = jax.grad(loss, (0, 1))
    together = jax.vmap(gradient, (0, None))(w, x)
    alone = [gradient(each, x) for each in w]
    for index, several in enumerate(zip(*alone, strict=True)):
        np.testing.assert_allclose(together[index], jnp.stack(several), atol=1e-6)


@needs_compiler
def test_carries_go_on_and_have_gradients():
    """Two halves of a sequence equal the whole, and so do gradients through what is carried."""
    assert lstm_cpu.is_available()
    keys = jax.random.split(jax.random.key(0), 5)
    x, w = jax.random.normal(keys[0], (2, 6, 3, 4)), jax.random.normal(keys[1], (2, 4 + 5 + 1, 20))
    start = LSTMCarry(*(jax.random.normal(key, (2, 3, 5)) for key in keys[2:4]))
    d = jax.random.normal(keys[4], (2, 6, 3, 5))

    def whole(x, w, start):
        return native_lstm(x, w, start)

    def halves(x, w, start):
        first, between = native_lstm(x[:, :3], w, start)
        second, last = native_lstm(x[:, 3:], w, between)
        return jnp.concatenate([first, second], axis=1), last

    def gradients(of):
        def loss(*inputs):
            h, last = of(*inputs)
            return jnp.sum(d * h) + jnp.sum(last.c) + jnp.sum(last.h)

        return of(x, w, start), jax.grad(loss, (0, 1, 2))(x, w, start)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        gradients(halves),
        gradients(whole),
    )
    h, last = native_lstm(x[:, :0], w, start)
    assert h.shape == (2, 0, 3, 5)
    jax.tree.map(np.testing.assert_array_equal, last, start)


@needs_compiler
@pytest.mark.parametrize(
    ("num_lstms", "batch", "added", "features", "hidden"),
    [
        (1, 200, 8, 9, 17),  # several tasks, units that divide nothing, rows that add in turns
        (3, 7, 1, 0, 36),  # nothing is read
        (1, 40, 2, 64, 64),  # threads share the units
    ],
)
def test_a_step_equals_the_scans(num_lstms, batch, added, features, hidden):
    keys = jax.random.split(jax.random.key(0), 5)
    x, h, c = (
        jax.random.normal(key, (num_lstms, batch, size))
        for key, size in zip(keys, (features, hidden, hidden), strict=False)
    )
    x *= jax.random.bernoulli(keys[3], 0.1, x.shape)  # bits of music: most are 0
    added = jax.random.normal(keys[4], (num_lstms, added, 4 * hidden))
    bank = LSTMBank(features + 1, hidden, num_lstms, kernel="native", rngs=nnx.Rngs(1))
    w_x = bank.w_x[:, :features]
    panels = bank.panels(w_x)
    assert panels is not None
    ours = bank.step(x, LSTMCarry(h, c), panels, added=added)
    repeated = jnp.tile(added, (1, batch // added.shape[1], 1))
    theirs = bank.step(x, LSTMCarry(h, c), w_x=w_x, added=repeated)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, theirs)
    more = jax.vmap(lambda x: bank.step(x, LSTMCarry(h, c), panels, added=added))(x[None])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b), more, ours)


@pytest.fixture
def _may_be_nan():
    with jax.debug_nans(False):
        yield


@needs_compiler
@pytest.mark.usefixtures("_may_be_nan")
def test_extremes_saturate_and_nan_stays():
    assert lstm_cpu.is_available()
    x = np.array([1e9, -1e9, np.inf, np.nan], np.float32).reshape(1, 1, 4, 1)
    w = jnp.ones((1, 1 + 1 + 1, 4)).at[0, 2].set(0.0)
    zeros = jnp.zeros((1, 4, 1))
    with jax.debug_nans(False):
        h, _ = native_lstm(x, w, LSTMCarry(zeros, zeros))
        h = np.asarray(h)
    np.testing.assert_allclose(h[0, 0, :3, 0], [np.tanh(1.0), 0, np.tanh(1.0)], atol=1e-6)
    assert np.isnan(h[0, 0, 3, 0])


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lstm_cpu._library.cache_clear()
    yield tmp_path
    lstm_cpu._library.cache_clear()


@pytest.mark.parametrize(
    ("compiler", "said"),
    [
        ("/nowhere/c++", "No such file or directory: '/nowhere/c++'"),
        ("false", "false cannot compile lstm_cpu.cc: status 1"),
    ],
)
def test_without_a_compiler_the_scan_goes_on(compiler, said, own_cache, monkeypatch, capsys):
    monkeypatch.setenv("CXX", compiler)
    x = jnp.ones((1, 2, 3, 4))
    banks = [LSTMBank(4, 5, 1, kernel=kernel, rngs=nnx.Rngs(0)) for kernel in ("native", "scan")]
    np.testing.assert_array_equal(banks[0].run(x), banks[1].run(x))
    banks[0].run(x)
    (line,) = capsys.readouterr().err.splitlines()  # once
    assert said in line
    assert line.endswith("going on with 'scan'")
    assert not list(own_cache.rglob("*.so"))


@needs_compiler
def test_a_damaged_library_is_compiled_again(own_cache, monkeypatch):
    monkeypatch.setattr(lstm_cpu, "FLAGS", ("-std=c++20", "-O0", "-w", "-shared", "-fPIC"))
    folder = lstm_cpu._compiled()
    library = folder / "lstm_cpu.so"
    was = library.read_bytes()
    library.write_bytes(was[:1000] + b"x" + was[1001:])
    assert lstm_cpu._compiled() == folder
    assert checksums.find_damage(folder) is None
    assert library.stat().st_size == len(was)


def test_a_cache_that_cannot_be_written_to(own_cache, capsys):
    (own_cache / "musicjax").write_text("")  # in the folder's place, also for one who may all
    assert not lstm_cpu.is_available()
    assert "going on with 'scan'" in capsys.readouterr().err
