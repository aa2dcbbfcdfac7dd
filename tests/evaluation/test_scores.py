import numpy as np
import pytest
from conftest import gather
from runs import config_of, examples_of, trained

from musicjax.errors import InputError
from musicjax.evaluation import scores
from musicjax.evaluation.scores import describe, evaluate
from musicjax.training.run import train_and_evaluate
from musicjax.training.workdir import load_songs, load_trained

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick


@pytest.fixture(scope="module")
def tokens(folder, tmp_path_factory):
    return trained(folder, tmp_path_factory)


@pytest.fixture(scope="module")
def paper(folder, tmp_path_factory):
    """The paper's biaxial model."""
    return trained(folder, tmp_path_factory, "nsm")


@pytest.fixture(scope="module")
def tied(folder, tmp_path_factory):
    return trained(folder, tmp_path_factory, "nsm", "tiny_best", epochs=6)


def all_test_examples(workdir):
    config = load_trained(workdir).config
    examples = examples_of(load_songs(workdir), config, "test", training=False)
    return gather(examples, np.arange(len(examples)))


def test_a_token_model_beside_its_baselines(tokens):
    results = evaluate(tokens)
    assert list(results) == [
        "model",
        "unweighted",
        "unigram",
        "repeat last",
        "Kneser-Ney",
        "weighted unigram",
    ]
    assert len({metrics["tokens"] for metrics in results.values()}) == 1
    model = load_trained(tokens).model
    counts = np.array(model.encoding.counts)
    pairs = all_test_examples(tokens)["elements"][:, -2:]
    last, target = pairs[pairs[:, 1] > 0].T
    nll = -np.log(counts[target] / counts.sum()).mean()
    assert results["unigram"]["nll"] == pytest.approx(nll)
    assert results["unigram"]["accuracy"] == pytest.approx((target == counts.argmax()).mean())
    # With weights inverse to frequency, the best constant guess is uniform over the types.
    best = results["weighted unigram"]["loss"]
    assert best == pytest.approx(np.log(model.encoding.size - 1), rel=1e-5)
    guess = np.where(last > 0, last, counts.argmax())
    assert results["repeat last"]["accuracy"] == pytest.approx((guess == target).mean())
    # Taken out of the model, the weights do not reward what is rare.
    assert results["unweighted"]["nll"] < results["model"]["nll"]


def test_a_model_without_weights_has_neither_of_the_rows_of_one_with(folder, tmp_path):
    train_and_evaluate(config_of(folder, epochs=1, class_weights=0.0), tmp_path)
    assert list(evaluate(tmp_path)) == ["model", "unigram", "repeat last", "Kneser-Ney"]


def test_note_state_models_beside_their_baselines(tied, paper):
    for workdir in (tied, paper):
        results = evaluate(workdir)
        assert list(results) == ["model", "all silent", "repeat last step", "cell map"]
        assert len({metrics["steps"] for metrics in results.values()}) == 1
        batch = all_test_examples(workdir)
        states = batch["elements"].astype(int)
        inside = (np.arange(16) < batch["length"][:, None])[..., None, None]
        before, target = states[:, :-1] * inside, states[:, 1:]
        silent, last = results["all silent"], results["repeat last step"]
        assert silent["sse"] == pytest.approx(target.sum() / len(states))
        assert last["sse"] == pytest.approx(((before - target) ** 2).sum() / len(states))
        assert silent["play_f1"] == silent["articulate_f1"] == 0
        hits = (before * target)[..., 1].sum()
        expected = 2 * hits / (before[..., 1].sum() + target[..., 1].sum())
        assert last["articulate_f1"] == pytest.approx(expected)


def test_a_model_that_fits_any_window_can_be_measured_on_longer_ones(tied, paper, tokens):
    as_trained, longer = evaluate(tied), evaluate(tied, window=64)
    assert longer["model"]["steps"] == as_trained["model"]["steps"]
    assert longer["model"]["nll"] != as_trained["model"]["nll"]
    longer = evaluate(tokens, window=12)["model"]
    assert longer["tokens"] < evaluate(tokens)["model"]["tokens"]  # without padding
    with pytest.raises(InputError, match=r"examples of 64 .* weights for 16 .*; expected 16"):
        evaluate(paper, window=64)


def test_padding_that_is_left_out_changes_nothing(tied, monkeypatch):
    cut = evaluate(tied, window=100)
    monkeypatch.setattr(scores, "_without_padding", lambda batch: batch)
    for name, metrics in evaluate(tied, window=100).items():
        assert cut[name] == pytest.approx(metrics, rel=1e-5)


def test_the_last_checkpoint_can_be_measured(folder, tmp_path_factory):
    workdir = trained(folder, tmp_path_factory, epochs=6, learning_rate=0.3)
    assert evaluate(workdir, checkpoint="last")["model"] != evaluate(workdir)["model"]


def test_no_work_dir(tmp_path):
    with pytest.raises(InputError, match="not a work dir"):
        evaluate(tmp_path)


def test_a_table_for_people():
    results = {
        "model": {"loss": 1.5, "accuracy": 0.25, "tokens": 300, "unseen": 4},
        "repeat last": {"loss": 2.125, "accuracy": 0.5, "tokens": 300, "unseen": 4},
    }
    assert describe(results).splitlines() == [
        "                        loss  accuracy",
        "model                 1.5000    0.2500",
        "repeat last           2.1250    0.5000",
        "on the test songs: 300 tokens, 4 unseen",
    ]
