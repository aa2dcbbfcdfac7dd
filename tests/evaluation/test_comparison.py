"""Runs side by side."""

import shutil

import pytest
from runs import lines, trained

from musicjax.errors import InputError
from musicjax.evaluation import comparison, scores
from musicjax.training import workdir
from musicjax.training.workdir import Standing

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    """A run, and a copy of it that says to be another."""
    one = trained(folder, tmp_path_factory)
    other = tmp_path_factory.mktemp("other") / "b"
    shutil.copytree(one, other)
    config, fingerprint = workdir.load_config(other)
    config.train.update(learning_rate=0.5, epochs=7)
    workdir.save_config(other, config, fingerprint)
    workdir.save_standing(other, Standing(9, "validation", "nll", 3.0, "Kneser-Ney", 2.5))
    return [one, other]


def test_a_table_tells_how_runs_did_and_what_differs(runs, tmp_path):
    found = comparison.read_runs(runs)
    one, other = found
    best = min(lines(runs[0]), key=lambda line: line["validation_loss"])
    assert one.best == best
    assert comparison.differences(found) == {
        "train.epochs": [2, 7],
        "train.learning_rate": [0.01, 0.5],
    }
    table, fields = comparison.describe(found).split("\n\n")
    title, first, second = table.splitlines()
    assert title.split() == ["run", "epochs", "best", "loss", "minutes", "beside"]
    loss = f"{best['validation_loss']:.4f} nats a token, validation".split()
    assert first.split()[:-2] == [str(runs[0]), "2/2", str(best["epoch"]), *loss]
    assert first.split()[-1] == "-"
    assert second.endswith("nll 3; Kneser-Ney 2.5")
    assert fields.splitlines()[2].split() == ["train.learning_rate", "0.01", "0.5"]
    comparison.plot([one, other._replace(unit="nats a step")], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert "differs in" not in comparison.describe([one, one])


def test_the_test_songs_of_runs(runs):
    rows = comparison.on_test_songs(runs)
    results = scores.evaluate(runs[0])
    assert rows[0].nll == results["model"]["nll"]
    nll = {name: row["nll"] for name, row in results.items() if name not in ("model", "unweighted")}
    assert rows[0].baseline_nll == min(nll.values())
    assert rows[0][1:] == rows[1][1:]
    assert str(runs[1])[-20:] in comparison.describe_tested(rows)


def test_a_model_beside_the_strongest_baseline_on_the_validation_songs(runs, tmp_path):
    copy = shutil.copytree(runs[0], tmp_path / "copy")
    standing = scores.stand(copy)
    assert standing.step == min(lines(runs[0]), key=lambda line: line["validation_loss"])["step"]
    assert (standing.split, standing.metric) == ("validation", "nll")
    assert standing.name in ("Kneser-Ney", "unigram", "repeat last")
    assert workdir.load_standing(copy) == standing
    better, worse = standing._replace(model=1.0), standing._replace(model=9.0)
    assert better.warning is None
    assert worse.warning
    assert "what needs no network (on the validation songs: nll 9; " in worse.warning
    (copy / "baseline.json").write_text("[")
    with pytest.raises(InputError, match=r"baseline\.json: damaged"):
        workdir.load_standing(copy)


def test_without_validation_songs_the_test_songs_are_measured(folder, tmp_path, tmp_path_factory):
    paper = trained(folder, tmp_path_factory, "nsm")
    standing = scores.stand(shutil.copytree(paper, tmp_path / "paper"))
    assert (standing.split, standing.metric) == ("test", "loss")
    assert standing.name in ("all silent", "repeat last step", "cell map")
    (run,) = comparison.read_runs([paper])
    assert (run.split, run.unit, run.standing) == ("test", "squared error a segment", None)
    with pytest.raises(InputError, match=r"without likelihoods .* leave --test out"):
        comparison.on_test_songs([paper])


def test_what_cannot_be_compared(tmp_path, runs):
    with pytest.raises(InputError, match="not a work dir"):
        comparison.read_runs([tmp_path])
    copy = shutil.copytree(runs[0], tmp_path / "copy")
    (copy / "metrics.jsonl").write_text("")
    with pytest.raises(InputError, match="no epoch yet; train for at least one"):
        comparison.read_runs([copy])
    (copy / "metrics.jsonl").write_text("{")
    with pytest.raises(InputError, match=r"metrics\.jsonl: damaged"):
        comparison.read_runs([copy])
