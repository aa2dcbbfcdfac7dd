import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import load_config, model_of
from flax import nnx
from runs import config_of, lines, trained

from musicjax.corpus import build
from musicjax.errors import InputError
from musicjax.evaluation.scores import evaluate
from musicjax.generation.options import Options
from musicjax.generation.piece import generate
from musicjax.training import workdir
from musicjax.training.run import train_and_evaluate

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick


def test_a_run_leaves_a_whole_work_dir(folder, tmp_path_factory):
    path = trained(folder, tmp_path_factory)
    names = {path.name for path in path.iterdir()}
    assert names >= {
        "config.json",
        "songs",
        "checkpoints",
        "metrics.jsonl",
        "loss.png",
    }


def test_a_corpus_folder_brings_its_own_settings(folder, tmp_path, capsys):
    config = config_of(folder, track="piano", transpose=False, epochs=1)
    plan = build.make_plan(config.data)
    assert plan
    build.encode_corpus(plan, tmp_path / "corpus", number_of_workers=0)
    config.data.update(track="all", transpose=True, source=str(tmp_path / "corpus"))
    train_and_evaluate(config, tmp_path / "run")
    assert "was encoded with {" in capsys.readouterr().out
    data = workdir.load_config(tmp_path / "run")[0].data
    assert (data.track, data.transpose) == ("piano", False)
    train_and_evaluate(config, tmp_path / "run")  # and is the same run


def test_another_config_or_other_songs_in_a_work_dir_are_refused(folder, tmp_path):
    source = Path(shutil.copytree(folder, tmp_path / "midi"))
    config = config_of(source, epochs=1)
    train_and_evaluate(config, tmp_path / "run")
    (source / "00.mid").unlink()
    with pytest.raises(InputError, match="holds a run on other songs: the files of"):
        train_and_evaluate(config, tmp_path / "run")
    config.train.learning_rate = 0.5
    expected = r"holds a run with train.learning_rate=0.01, now it is 0.5"
    with pytest.raises(InputError, match=expected):
        train_and_evaluate(config, tmp_path / "run")


def test_what_may_change_when_a_run_goes_on(folder, tmp_path):
    config = config_of(folder, epochs=1)
    train_and_evaluate(config, tmp_path)
    config.train.update(epochs=2, checkpoint_minutes=1.0, huge_pages=True, steps_per_call=3)
    config.model.remat = 4  # a model's own
    assert train_and_evaluate(config, tmp_path)["epoch"] == 2
    config.model.dropout = 0.4
    with pytest.raises(InputError, match=r"holds a run with model\.dropout=0\.3, now it is 0\.4"):
        train_and_evaluate(config, tmp_path)


def test_a_schedule_is_stretched_over_more_epochs(folder, tmp_path, capsys):
    config = config_of(folder, "vocab", "tiny_causal", epochs=1)
    assert config.train.schedule == "cosine"
    train_and_evaluate(config, tmp_path)
    config.train.epochs = 2
    for _ in range(2):  # the second time it has ended
        assert train_and_evaluate(config, tmp_path)["epoch"] == 2
    said = capsys.readouterr().out
    assert said.count("train.epochs was 1: from here on the learning rate follows the cosine") == 1
    first, second = lines(tmp_path)
    assert second["train_loss"] < first["train_loss"]


def test_the_causal_lstm_is_trained_generates_and_beats_counting_alone(folder, tmp_path):
    last = train_and_evaluate(config_of(folder, "vocab", "tiny_causal", epochs=24), tmp_path)
    results = evaluate(tmp_path)
    assert list(results) == ["model", "unigram", "repeat last", "Kneser-Ney", "longest match"]
    songs = workdir.load_songs(tmp_path)
    test = sum(song.length for song in songs.split("test"))
    for row in results.values():  # each token of each test song once
        assert row["tokens"] + row["unseen"] == test
    assert results["model"]["nll"] < results["unigram"]["nll"] - 0.1
    assert results["model"]["nll"] < results["repeat last"]["nll"]
    validation = sum(song.length for song in songs.split("validation"))
    assert last["validation_tokens"] + last["validation_unseen"] == validation
    # Measured in one window or in several: the same tokens.
    whole = evaluate(tmp_path, window=500)["model"]
    assert whole["tokens"] == results["model"]["tokens"]
    assert whole["nll"] == pytest.approx(results["model"]["nll"], rel=0.1)
    pieces = generate(tmp_path, Options(num=3, length=100))
    assert [len(piece.passage.elements) for piece in pieces] == [100] * 3
    assert len({piece.text for piece in pieces}) == 3
    for piece in pieces:
        assert piece.passage.song.meters[-1][1:] == (4, 4)
    (again,) = generate(tmp_path, Options(num=1, length=100))
    assert again.text == pieces[0].text
    (from_nothing,) = generate(tmp_path, Options(num=1, length=20, prime_length=0))
    assert len(from_nothing.passage.elements) == 20


@pytest.mark.parametrize("variant", ["best", "best_large", "keys", "quick"])
def test_every_variant_of_the_causal_lstm_trains_two_steps(variant, folder, tmp_path):
    config = config_of(folder, "vocab", variant, epochs=2, window=16, steps_per_call=2)
    config.model.update(embedding_size=8, hidden_size=8)
    last = train_and_evaluate(config, tmp_path)
    assert last["step"] >= 2
    assert np.isfinite(last["validation_loss"])


@pytest.mark.parametrize("variant", ["", "small", "causal", "large", "baseline", "anushree"])
def test_every_variant_of_the_token_model_trains_two_steps(variant, folder, tmp_path):
    config = config_of(
        folder, "vocab", variant, epochs=1, window=6, batch_size=64, steps_per_call=2, stride=8
    )
    for name in ("embedding_size", "encoder_size", "attention_size", "decoder_size"):
        config.model[name] = 8
    config.model.dense_size = min(config.model.dense_size, 8)
    last = train_and_evaluate(config, tmp_path)
    assert last["step"] >= 2
    assert np.isfinite(last["validation_loss"])


@pytest.mark.parametrize("variant", ["johnson", "kotecha", "best", "quick"])
def test_every_variant_of_the_biaxial_model_trains_two_steps(variant, folder, tmp_path):
    config = config_of(
        folder, "nsm", variant, epochs=1, window=8, batch_size=12, steps_per_call=2, devices=1
    )
    config.train.huge_pages = False
    config.model.time_sizes = (4,) * len(config.model.time_sizes)
    config.model.note_sizes = (3,) * len(config.model.note_sizes)
    last = train_and_evaluate(config, tmp_path)
    assert last["step"] >= 2
    assert np.isfinite(last["validation_loss"])


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("", [(78, 36), (128, 2)]),
        ("t256", [(78, 36), (256, 2)]),
        ("johnson", [(1, 300), (1, 300), (1, 100), (1, 50)]),
        ("kotecha", [(1, 200), (1, 200), (1, 100), (1, 100)]),
    ],
)
def test_every_variant_of_the_biaxial_model_has_the_lstms_of_its_source(variant, expected):
    model = model_of(load_config(variant, "nsm"))
    network = nnx.eval_shape(lambda: model.network(nnx.Rngs(params=0)))
    assert [x.w_h.shape[:2] for x in (*network.time_lstms, *network.note_lstms)] == expected
    if variant == "kotecha":
        assert network.w_out.shape == (78, 100, 2)


def test_piano_rolls_are_trained_and_measured_in_their_own_splits(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 6), ("valid", 2), ("test", 3)):
        lengths = rng.integers(10, 40, count)
        arrays[f"{split}_rolls"] = (rng.random((lengths.sum(), 88)) < 0.1).astype(np.uint8)
        arrays[f"{split}_lengths"] = lengths
    np.savez(tmp_path / "rolls.npz", **arrays)
    config = load_config("tiny", "polyphonic")
    config.data.source = str(tmp_path / "rolls.npz")
    last = train_and_evaluate(config, tmp_path / "run")
    assert last["validation_steps"] == arrays["valid_lengths"].sum()
    results = evaluate(tmp_path / "run", window=int(arrays["test_lengths"].max()))
    assert results["model"]["steps"] == arrays["test_lengths"].sum()
    (tmp_path / "rolls.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match="not a set of piano rolls"):
        train_and_evaluate(config, tmp_path / "other")


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("vocab", {"batch_size": 0}, "train.batch_size is 0; expected at least 1"),
        ("vocab", {"window": 1000}, "no example in the train split"),
        ("vocab", {"window": -3}, "model.window is -3; expected at least 1"),
        ("vocab", {"dropout": 1.0}, "model.dropout is 1.0; expected 0 <= share < 1"),
        ("vocab", {"input": "onehot"}, "model.input is 'onehot'; expected one of 'embedding'"),
        ("vocab", {"causal": True}, "False where model.causal is set"),
        ("vocab", {"test_share": 0.95}, "data.test_share"),
        ("vocab", {"most_qpm": 10.0}, "data.most_qpm is 10.0; expected more than 20"),
        ("vocab", {"decade": 1970}, "data.table"),
        ("vocab", {"optimizer": "adamv"}, "train.optimizer is 'adamv'; did you mean adam."),
        ("vocab", {"schedule": "cosine(alpha=0.1, x=1)"}, "which has no 'x'"),
        ("vocab", {"init_from": "/none"}, r"/none: not a work dir \(no config.json\)"),
        ("vocab", {"kernel": "cudnn"}, "model.kernel is 'cudnn', but training would run on"),
        ("vocab", {"encoding": "midi"}, "data.encoding is 'midi'; expected one of tokens"),
        ("vocab", {"name": "rnn"}, "model.name is 'rnn'; expected one of token_lstm"),
        ("nsm", {"loss": "nll"}, "model.loss is 'nll'; expected 'sse' where"),
        ("nsm", {"note_sizes": (3,)}, r"model.note_sizes is \(3,\); expected 2 last"),
        ("nsm", {"feedback": "true"}, "model.feedback is 'true'; expected 'none' where"),
        ("nsm", {"starts": "middle"}, "train.starts is 'middle'; expected one of 'all'"),
        ("nsm", {"lowest": 102}, "data.lowest is 102; expected a MIDI pitch up to data.highest"),
        ("nsm", {"transpose_range": (1, 2)}, "expected semitones"),
    ],
)
def test_what_cannot_be_trained_leaves_no_work_dir(folder, tmp_path, name, changes, expected):
    with pytest.raises(InputError, match=expected):
        train_and_evaluate(config_of(folder, name, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_and_an_encoding_that_do_not_fit(folder, tmp_path):
    config = config_of(folder, "nsm")
    config.data = config_of(folder).data
    with pytest.raises(InputError, match="which do not fit: one makes 'ids', the other reads"):
        train_and_evaluate(config, tmp_path / "run")
