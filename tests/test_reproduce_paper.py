"""scripts/reproduce_paper.py, on made songs."""

import json
from types import SimpleNamespace

import pytest
from conftest import ROOT

from musicjax.errors import InputError
from musicjax.system import huge_pages

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick


@pytest.fixture
def reproduce(monkeypatch, folder, tmp_path):
    """Runs the script's experiments on 30 songs of one piano; its module, and a function."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    monkeypatch.setattr(huge_pages, "restart", lambda: None)
    import reproduce_paper

    def run(*only, scale="smoke", table=""):
        flags = SimpleNamespace(
            source=str(folder), parts="", table=table, output=str(tmp_path), scale=scale, only=only
        )
        reproduce_paper._main(flags)

    return run


def results(folder):
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/result.json")}


def test_a_report_of_what_these_songs_can_feed(reproduce, tmp_path, monkeypatch, capsys):
    from paper import together

    def broken(lab, folder):
        raise ZeroDivisionError("of the test")

    with monkeypatch.context() as patch:
        failing = [each._replace(run=broken) for each in together.EXPERIMENTS]
        patch.setattr(together, "EXPERIMENTS", failing)
        reproduce("snapshots", "styles", "instruments", "sound")
    found = results(tmp_path)
    assert {name: each["status"] for name, each in found.items()} == {
        "snapshots": "done", "styles": "impossible", "instruments": "done", "sound": "failed",
    }  # fmt: skip
    assert "no table of years (--table)" in found["styles"]["reason"]
    assert "ZeroDivisionError: of the test" in found["sound"]["reason"]
    # One kind of instrument: to name it makes no token more.
    facts = found["instruments"]["finding"]["facts"]
    assert facts["with"] == facts["without"] > 20
    kept = {path.name for path in (tmp_path / "runs/vocabulary/checkpoints").iterdir()}
    assert len(kept) == 3  # of epochs 1, 2 and 3

    page, summary = ((tmp_path / name).read_text() for name in ("report.html", "summary.md"))
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page  # nothing is loaded
    for text in (page, summary):
        assert "Not possible with these songs: no table of years" in text
        assert "ZeroDivisionError: of the test" in text
        assert "All outputs sound like the same music" in text  # a claim, not run yet
        assert "not run yet" in text
    assert "| 3.2.2 | By epoch 50 the prediction is fuller (Figure 8) | different tokens" in summary

    # Started again, it goes on: what is done stays, what failed is tried again.
    done = (tmp_path / "snapshots/result.json").stat().st_mtime
    capsys.readouterr()
    reproduce("snapshots", "sound")
    assert (tmp_path / "snapshots/result.json").stat().st_mtime == done
    assert results(tmp_path)["sound"]["status"] == "done"
    assert "epoch" not in capsys.readouterr().out.replace("epochs", "")
    assert "<audio controls" in (tmp_path / "report.html").read_text()

    (tmp_path / "styles/result.json").write_text('{"status": "done"')
    reproduce("styles")
    assert "styles/result.json is damaged (" in capsys.readouterr().err
    assert results(tmp_path)["styles"]["status"] == "impossible"

    with pytest.raises(InputError, match=r"holds a report with scale .*; give another --output"):
        reproduce("styles", scale="cpu")
    with pytest.raises(InputError, match="table is 'years'; expected a file"):
        reproduce("styles", table="years")
    with pytest.raises(InputError, match="only is 'drums'; expected some of nsm, alike"):
        reproduce("drums")


def test_each_claim_is_judged_by_an_experiment(reproduce):
    import reproduce_paper
    from paper import claims

    assert {claim.experiment for claim in claims.CLAIMS} <= set(reproduce_paper.NAMES)
