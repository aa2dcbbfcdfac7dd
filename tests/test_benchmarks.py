"""The benchmarks' peers compute what ours does; the tables say what was measured."""

import importlib
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT, load_config

from benchmarks import __main__ as everything
from benchmarks import machine, nsm_peers
from musicjax.generation import sampling
from musicjax.models.note_features import note_features

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick


@pytest.mark.parametrize("variant", ["tiny_best", "kotecha"])
def test_pytorchs_loop_over_notes_is_our_sampling(variant):
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra `bench`)")
    config = load_config(variant, "nsm")
    config.model.time_sizes, config.model.note_sizes = (8, 6), (6, 5)
    model = nsm_peers.make_model(config)
    network = model.bind(model.init(0))
    layout, pieces, max_notes = network.layout, 3, 4
    step = nsm_peers.torch_step(network)
    rng = np.random.default_rng(0)
    states = np.zeros((pieces, layout.notes, layout.bits), np.float32)
    their_carry, our_carries = None, network.initial_carries(pieces)
    panels = network.panels()

    def rules(logits, num_notes):
        history = sampling.History(states, None, None, None, num_notes)
        return sampling.limit_notes(logits, history, {"max_notes": max_notes}, model.encoding)

    for t in range(3):
        positions = np.full(pieces, (t - 1) % 16)
        noise = rng.random((layout.notes, pieces, layout.bits), np.float32)
        our_carries, x = network.step_over_time(our_carries, states, positions, panels.time)
        drawn, _, logits = network.draw_notes(
            x, noise[:, None], *network.note_lstms_at(t, panels.note), rules=rules
        )
        their_carry, theirs, their_logits = step(
            *(torch.tensor(array) for array in (states, positions, noise)),
            their_carry,
            max_notes,
        )
        np.testing.assert_allclose(np.stack(their_logits), logits[:, 0], atol=1e-4)
        states = np.swapaxes(np.asarray(drawn[:, 0]), 0, 1)
        np.testing.assert_array_equal(theirs, states)
        assert states.any()


def test_pytorchs_features_are_ours():
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra `bench`)")
    rng = np.random.default_rng(1)
    for variant in ("", "best", "kotecha"):
        layout = nsm_peers.layout_of(load_config(variant, "nsm"))
        states = rng.integers(2, size=(2, 3, layout.notes, layout.bits)).astype(np.float32)
        positions = rng.integers(16, size=(2, 3))
        theirs = nsm_peers.torch_expand(layout)(torch.tensor(states), torch.tensor(positions))
        ours = note_features(jax.numpy.array(states), positions, layout)
        np.testing.assert_array_equal(theirs, ours)


def entry(**result):
    versions = dict.fromkeys(machine.PACKAGES) | {"jax": "1.2.3"}
    return {"date": "2026-01-02", "machine": "abacus", "versions": versions, "result": result}


def figures(summary, work):
    """What was measured and whether that is enough, of the table's rows about something."""
    rows = [line.strip("|").split("|") for line in everything.table(summary).splitlines()[2:]]
    return [tuple(cell.strip() for cell in row[3:]) for row in rows if row[0].strip() == work]


def trained(musicjax, peer):
    rates = {"musicjax": [musicjax - 1, musicjax, musicjax + 9], "torch batched": [peer] * 3}
    return entry(examples_per_second=rates, roof_examples_per_second=100.0)


def test_the_table_says_plainly_what_is_not_reached():
    summary = {"nsm 10": trained(80, 40), "nsm 32": trained(44, 40)}
    bi_axial = "train the paper's bi-axial network, 10 songs a batch"
    assert figures(summary, bi_axial) == [("2.00", "yes"), ("0.80", "yes")]
    larger = "the same, 32 songs a batch"
    assert figures(summary, larger) == [("1.10", "no"), ("0.44", "no")]
    assert "| times as fast as PyTorch, batched | at least 1.8 | 2.00 |" in everything.table(
        summary
    )


def test_the_table_says_what_was_not_measured():
    assert {line.split("|")[-2].strip() for line in everything.table({}).splitlines()[2:]} == {
        "not measured"
    }
    rows = [("windowed", 80.0), ("torch", 40.0)]
    runs = [{"pieces": 1, "what": what, "tokens_per_second": [rate]} for what, rate in rows]
    summary = {"generate": entry(runs=runs)}
    assert figures(summary, "make tokens, one piece") == [
        ("2.00", "yes"),
        ("", "not measured"),
        ("", "not measured"),
    ]


def test_what_should_stay_small_is_reached_from_below():
    result = {"train_help_s": 0.2, "generate_help_s": 0.3, "first_step_cold_s": 15.0}
    again = "first training step, compiled before"
    quick = {"startup": entry(**result, first_step_cached_s=[3.0, 4.0])}
    assert figures(quick, "answer `--help`") == [("0.30", "yes")]
    assert figures(quick, again) == [("4.0", "yes")]
    slow = {"startup": entry(**result, first_step_cached_s=[7.0, 9.5])}
    assert figures(slow, again) == [("9.5", "no")]


def test_the_page_has_a_place_for_the_table():
    page = everything.PAGE.read_text()
    written = everything.with_table(page, {"nsm 10": trained(60, 40)})
    assert "2026-01-02: abacus; jax 1.2.3." in written
    for half in (0, -1):  # what is around it stays
        marks = (everything.BEGIN, everything.END)
        assert page.split(marks[half])[half] == written.split(marks[half])[half]
    with pytest.raises(SystemExit, match="has no"):
        everything.with_table("# Speed", {})


def modules():
    paths = sorted((ROOT / "benchmarks").glob("*.py"))
    return [path.stem for path in paths if "def main()" in path.read_text()]


@pytest.mark.parametrize("name", modules())
def test_every_benchmark_answers_help(name, monkeypatch, capsys):
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert not ended.value.code
    assert "usage:" in capsys.readouterr().out
    assert f"python -m benchmarks{'' if name == '__main__' else f'.{name}'}" in module.__doc__


def test_every_benchmark_is_run_or_left_out_with_a_word():
    assert {*modules()} - {"__main__"} == {*everything.MODULES, "polyphonic"}
    assert "polyphonic" in everything.LEFT_OUT
