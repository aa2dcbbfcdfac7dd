"""The live page in a browser: its networks are musicjax's, and it plays."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browser import CHROMIUM, Browser
from conftest import load_config, make_song, make_track, model_of, random_song

import musicjax
from musicjax import readymade
from musicjax.encodings import make_encoding
from musicjax.encodings.base import NO_VOICE
from musicjax.errors import InputError
from musicjax.generation import live as live_pages
from musicjax.generation.options import Options
from musicjax.rendering import live

SETTINGS = {
    "units_per_quarter": 4,
    "tempo": 90,
    "rules": {
        "max_rests": 2,
        "max_repeats": 4,
        "max_silence": 16,
        "max_notes": 12,
        "temperature": 0.8,
        "min_p": 0.3,
    },
    "reads_places": True,
    "transposed": True,
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not CHROMIUM:
        pytest.skip("no Chromium is installed")
    made = Browser(tmp_path_factory.mktemp("browser"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Of the ready-made model."""
    folder = tmp_path_factory.mktemp("live")
    path = live_pages.write_page(readymade.find("chorales"), folder / "page", Options())
    return path.rename(folder / "elsewhere.html")


def small_model(name, variant, **changes):
    config = load_config(variant, name)
    config.data.update({k: v for k, v in changes.items() if k in config.data})
    config.model.update({k: v for k, v in changes.items() if k in config.model})
    config.model.kernel = "scan"  # no compiler is waited for
    return model_of(config, make_encoding(config.data))


def drawn_params(model):
    """Not small, so that whatever is left out would be seen."""
    rng = np.random.default_rng(1)
    draw = lambda shape: rng.normal(0, 0.4, shape.shape).astype(np.float32)  # noqa: E731
    return jax.tree.map(draw, model.shapes)


def write(folder, model, params):
    network, arrays = model.live(params)
    folder.mkdir()
    return live.write_page(
        folder,
        title="<live>",
        text="",
        network=network,
        arrays=arrays,
        reader=model.encoding.live(),
        openings=[],
        settings=SETTINGS,
    )


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "variant", "changes"),
    [
        ("vocab", "tiny_causal", {"layers": 2}),
        ("events", "tiny", {"velocities": 4, "tempos": 4}),
    ],
)
def test_a_causal_lstm_has_musicjaxs_logits(browser, tmp_path, name, variant, changes):
    model = small_model(name, variant, **changes)
    params, rng = drawn_params(model), np.random.default_rng(0)
    ids = rng.integers(1, model.encoding.size, (1, 40))
    places = rng.integers(0, 60, (1, 41))

    @jax.jit
    def logits(params):
        network = model.bind(params)
        table = network.table(model.encoding.features())
        before = jnp.pad(ids, [(0, 0), (1, 0)])[:, :-1]
        context = model.read(before)[1]
        h = network(before, places[:, 1:], context, table)
        return network.outputs(h, context, table, model.encoding.id_pitches)[0]

    browser.open(write(tmp_path / "page", model, params))
    found = browser.run(f"musicjax.trace({ids[0].tolist()}, {places[0].tolist()})")
    close(np.array(found)[:, 1:], logits(params)[:, 1:])
    assert browser.errors == []


def test_unisons_have_musicjaxs_context(browser, page):
    """Of two notes, of three, and in the next bar; and whether there is room for more."""
    config = load_config("tiny", "events")
    unisons = [
        (0, 480, 50),
        (0, 240, 50),
        (0, 960, 50),
        (0, 480, 64),
        (480, 2400, 64),
        (480, 240, 64),
    ]
    song = make_song(make_track([*unisons, (960, 240, 52), (2160, 240, 47), (2160, 240, 47)]))
    encoding = musicjax.get_encoding(config, [song])
    elements = musicjax.encode_song(song, encoding).elements
    browser.open(page)
    found = browser.run(
        f"const reader = new READERS.events({json.dumps(encoding.live())}), found = [];"
        f"for (const element of {elements.tolist()}) {{"
        "  reader.read(element);"
        "  const context = [];"
        "  reader.context((number, value) => context.push([number, value]));"
        "  const crowds = reader.kinds.map((_, id) => reader.crowds(id, 3));"
        "  found.push([context, reader.moves(), crowds]); }"
        "found"
    )
    state = encoding.grammar(1)
    for element, (told, moves, crowds) in zip(elements, found, strict=True):
        state = encoding.read(state, np.array([element]))
        context = encoding.context(state)
        numbers = np.zeros(context.pitches.size + context.others.size)
        for number, value in told:
            numbers[number] += value
        expected = np.concatenate([context.pitches.ravel(), context.others.ravel()])
        np.testing.assert_allclose(numbers, expected, atol=1e-6)
        none = [NO_VOICE if move is None else move for move in moves]
        np.testing.assert_array_equal(none, context.moves[0])
        np.testing.assert_array_equal(crowds, encoding.crowds(state, 3)[0])


@pytest.mark.parametrize("memory", [7, 100])
@pytest.mark.parametrize(
    ("name", "variant", "moved"),
    [("vocab", "tiny_causal", False), ("events", "tiny", False), ("events", "tiny", True)],
)
def test_a_pointer_says_what_musicjaxs_does(browser, tmp_path, name, variant, moved, memory):
    model = small_model(name, variant, memory=memory, moved_copies=moved)
    params, rng = drawn_params(model), np.random.default_rng(0)
    some = rng.integers(1, model.encoding.size, 12)
    ids = np.tile(rng.choice(some, 25), 2)  # what comes again, matches
    ids[31] = some[0]
    places = rng.integers(0, 60, 51)
    batch = {"elements": np.append(0, ids)[None], "positions": places[None]}
    expected = jax.jit(model.apply)(params, batch).nll[0]
    browser.open(write(tmp_path / "page", model, params))
    found = np.array(browser.run(f"musicjax.trace({ids.tolist()}, {places.tolist()})"))
    close(-found[np.arange(50), ids], expected)
    close(np.exp(found).sum(axis=1), 1)
    assert browser.errors == []


@pytest.mark.parametrize(
    "changes",
    [
        {"beat": "signed", "lowest": 50, "highest": 80},
        {"beat": "bits", "rotated": True, "pitch_feature": "midi", "articulate": False},
    ],
)
def test_a_biaxial_lstm_has_musicjaxs_logits(browser, tmp_path, changes):
    model = small_model("nsm", "tiny_best", **changes)
    params, rng = drawn_params(model), np.random.default_rng(0)
    states = (rng.random((1, 13, *model.encoding.shape)) < 0.2).astype(np.uint8)
    states[..., 1:] &= states[..., :1]
    states[:, 0] = 0
    places = np.arange(7, 20)[None] % 16
    read = jax.jit(lambda params, *args: model.bind(params)(*args))
    expected = read(params, states[:, :-1], places[:, :-1], states[:, 1:])[0]
    browser.open(write(tmp_path / "page", model, params))
    steps = [[[i, 1] for i in np.flatnonzero(step).tolist()] for step in states[0, 1:]]
    found = browser.run(f"musicjax.trace(musicjax.matrixOf({steps}), {places[0].tolist()})")
    close(found, np.asarray(expected).reshape(12, -1))
    assert browser.errors == []


@pytest.mark.parametrize(
    ("name", "changes"),
    [("vocab", {}), ("events", {"velocities": 4, "resolution": 12}), ("nsm", {})],
)
def test_elements_are_read_as_they_are_decoded(browser, page, name, changes):
    config = load_config("tiny", name)
    config.data.update(changes)
    song = random_song(3)
    encoding = musicjax.get_encoding(config, [song])
    elements = musicjax.encode_song(song, encoding).elements
    steps = elements.reshape(len(elements), -1).tolist() if elements.ndim > 1 else elements.tolist()
    browser.open(page)
    browser.run(
        f"tables = {json.dumps(encoding.live())};"
        "readAll = (elements) => {"
        f"  const reader = new READERS.{encoding.name}(tables), notes = [], may = [];"
        "  for (const element of elements) {"
        "    may.push((reader.kinds || []).map((_, id) => reader.allowed(id)));"
        "    notes.push(...reader.read(element)); }"
        "  if (reader.sounding) reader.read(elements[0].map(() => 0));"  # what sounds on, ends
        "  return [notes.map((n) => [n.start, n.end - n.start, n.pitch]), may]; }"
    )
    found = browser.run(f"readAll({steps})")
    [track] = encoding.decode(elements)
    columns = (track.onset_ticks, track.duration_ticks, track.pitch)
    assert sorted(found[0]) == sorted(np.stack(columns, axis=1).tolist())
    # Notes that are played, as elements; tokens have none but those of their vocabulary.
    if name != "vocab":
        quarter = encoding.units_per_quarter
        notes = [(0, quarter, 60), (0, quarter, 64), (quarter, quarter // 2, 62)]
        notes.append((5 * quarter, quarter, 67))  # in the next bar
        given = [{"start": at, "end": at + long, "pitch": pitch} for at, long, pitch in notes]
        made = f"new READERS.{encoding.name}(tables).elementsOf({json.dumps(given)})"
        again = browser.run(f"readAll({made}.map((e) => e.length ? [...e] : e))")[0]
        assert sorted(again) == sorted(map(list, notes))
    # What may follow: events alone have a grammar.
    state = encoding.grammar(1)
    if name == "events":
        for element, may in zip(elements, found[1], strict=True):
            ends = encoding.is_end(np.arange(encoding.size))  # the page plays on
            np.testing.assert_array_equal(may, encoding.may_follow(state)[0] & ~ends)
            state = encoding.read(state, np.array([element]))


def test_ids_are_drawn_as_likely_as_they_are_but_for_the_unlikely(browser, tmp_path):
    model = small_model("vocab", "tiny_causal")
    browser.open(write(tmp_path / "page", model, drawn_params(model)))
    assert browser.run("value('temperature')") == 0.8
    logits = np.log([1e-9, 0.4, 0.3, 0.2, 0.1]).tolist()
    drawn = browser.run(
        "let count = 0;"
        "const reader = {isRest: () => false, allowed: () => true, crowds: () => false};"
        "const sampler = new Sampler(reader, () => (count++ + 0.5) / 90, () => 1);"
        f"Array.from({{length: 90}}, () => sampler.id({logits}))"
    )
    assert [drawn.count(id) for id in range(5)] == [0, 40, 30, 20, 0]


def test_it_plays_without_end_and_goes_on_from_what_is_played(browser, page, tmp_path):
    browser.open(page)
    assert browser.run("document.querySelectorAll('#prime option').length") == 2 + 8
    assert browser.run("musicjax.speed(60)") > 30  # six a second are played

    # --- by keyboard, from nothing; the same seed and settings make the same piece --------------
    set_value(browser, "prime", "")
    set_value(browser, "tempo", 240)
    browser.press(" ")
    browser.wait("musicjax.player.made > 30 && audio.currentTime > 0.5")
    pitches = "JSON.stringify(musicjax.player.shown.slice(0, 12).map((note) => note.pitch))"
    first = browser.run(pitches)
    set_value(browser, "key", 2)
    browser.press("Enter")
    browser.wait("musicjax.player.shown.length >= 12")
    moved = browser.run(pitches)
    assert [p + 2 for p in json.loads(first)] == json.loads(moved)
    browser.press(" ")
    browser.wait("audio.state === 'suspended'")
    assert browser.run("document.getElementById('status').textContent") == "Paused."
    browser.press("n")
    assert browser.run("document.getElementById('seed').value") == "1"
    browser.wait("audio.state === 'running' && musicjax.player.shown.length >= 12")
    assert browser.run(pitches) != moved

    # --- notes that are played become the beginning ---------------------------------------------
    for key in "adg":
        browser.press(key)
    browser.run("press(72); new Promise((done) => setTimeout(done, 400)).then(() => release(72))")
    assert browser.run("document.getElementById('prime').value") == "played"
    assert "4 notes" in browser.run("document.getElementById('status').textContent")
    browser.press(" ")
    browser.wait("musicjax.player.shown.some((note) => !note.given)")
    given = browser.run("musicjax.player.shown.filter((n) => n.given).map((n) => n.pitch)")
    assert set(given) == {60, 64, 67, 72}  # they sound as they were played, in whatever key
    assert browser.run("musicjax.player.shown.every((note) => note.end > note.start)")

    for width in (1280, 360):
        browser.picture(tmp_path / "picture.png", width=width, height=800, dark=width < 500)
        assert browser.run("document.documentElement.scrollWidth") <= width
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    assert browser.errors == []


def set_value(browser, name, value):
    browser.run(
        f"document.getElementById('{name}').value = '{value}';"
        f"document.getElementById('{name}').dispatchEvent(new Event('input'))"
    )


def test_a_model_that_the_page_cannot_run_is_one_line():
    for name, variant, said in (
        ("vocab", "tiny", "does not run a TokenLSTM"),
        ("nsm", "tiny", "model.tied is False; expected True for a live page"),
    ):
        model = small_model(name, variant)
        with pytest.raises(InputError, match=said):
            model.live(model.shapes)
    for name in ("vocab", "events"):
        encoding = make_encoding(load_config("tiny", name).data)
        with pytest.raises(InputError, match="plays one instrument"):
            dataclasses.replace(encoding, instruments=True).live()
