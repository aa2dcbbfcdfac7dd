"""Beginning from another run's weights."""

import dataclasses

import jax
import numpy as np
import pytest
from conftest import load_config
from runs import config_of, lines, trained

from musicjax.encodings import make_encoding
from musicjax.encodings.vocabulary import Token, Vocabulary
from musicjax.errors import InputError
from musicjax.models import build_model
from musicjax.training import pretrained
from musicjax.training.run import train_and_evaluate
from musicjax.training.workdir import Trained


def model_with(config, tokens):
    vocabulary = Vocabulary.build({token: 100 - i for i, token in enumerate(tokens)})
    encoding = dataclasses.replace(make_encoding(config.data), vocabulary=vocabulary)
    return build_model(config, encoding)


def named(text):
    """Tokens, such as "60:3" for a note of three twelfths; in the order of their ids."""
    return [Token((int(pitch),), int(units)) for pitch, _, units in map(_split, text.split())]


def _split(word):
    return word.partition(":")


OLD = named("60:3 61:3 62:6 64:12 65:24")
NEW = named("65:24 67:48 60:3 62:6 70:9 64:4")


@pytest.mark.parametrize("variant", ["tiny_causal", "tiny"])
def test_what_two_vocabularies_have_in_common_is_taken_over(variant, capsys):
    config = load_config(variant)
    config.train.init_from = "runs/old"
    there, here = model_with(config, OLD), model_with(config, NEW)
    weights, fresh = there.init(7), here.init(config.seed)
    found = pretrained.adopt(Trained(there, weights, config, 12), here, config)
    assert capsys.readouterr().out == (
        "begins with the weights of runs/old at step 12: 3 of 6 token types are known there, the "
        "others begin afresh\n"
    )
    common = {0: 0} | {NEW.index(token) + 1: OLD.index(token) + 1 for token in set(OLD) & set(NEW)}
    assert len(common) == 4
    ours, theirs, before = (tree["embedding"][...] for tree in (found, weights, fresh))
    for i in range(len(NEW) + 1):
        expected = theirs[common[i]] if i in common else before[i]
        np.testing.assert_array_equal(ours[i], expected)
    leaves = zip(*map(jax.tree.leaves, (found, weights)), strict=True)
    for mine, other in leaves:  # what does not depend on the vocabulary
        if mine.shape == other.shape:
            np.testing.assert_array_equal(mine, other)


def test_parts_of_tokens_are_known_by_the_tokens_that_have_them():
    config = load_config("tiny_causal")
    config.train.init_from = "runs/old"
    there, here = model_with(config, OLD), model_with(config, NEW)
    weights, fresh = there.init(7), here.init(config.seed)
    found = pretrained.adopt(Trained(there, weights, config, 12), here, config)
    old, new = (sorted({token.duration for token in tokens} | {0}) for tokens in (OLD, NEW))
    ours, theirs, before = (tree["parts"][2][...] for tree in (found, weights, fresh))
    for i, duration in enumerate(new):
        shared = duration in (0, 3, 6, 24)
        expected = theirs[old.index(duration)] if shared else before[i]
        np.testing.assert_array_equal(ours[i], expected)


def test_as_many_types_that_are_others_are_not_taken_for_the_same():
    config = load_config("tiny_causal")
    config.train.init_from = "runs/old"
    there, here = model_with(config, OLD), model_with(config, OLD[::-1])
    weights = there.init(7)
    found = pretrained.adopt(Trained(there, weights, config, 12), here, config)
    expected = np.asarray(weights["embedding"][...])[[0, 5, 4, 3, 2, 1]]
    np.testing.assert_array_equal(found["embedding"][...], expected)


def test_another_network_is_refused_in_one_line():
    config, other = load_config("tiny_causal"), load_config("tiny_causal")
    config.train.init_from, other.model.hidden_size = "runs/old", 24
    there, here = model_with(other, OLD), model_with(config, NEW)
    expected = (
        r"train.init_from is 'runs/old', a run of another network \(model.hidden_size is 24 there "
        r"and 16 here\); expected one of the same model, sizes and encoding"
    )
    with pytest.raises(InputError, match=expected):
        pretrained.adopt(Trained(there, there.init(7), other, 12), here, config)


@pytest.mark.slow
def test_a_run_begins_where_another_ended(folder, tmp_path_factory, tmp_path, capsys):
    base = trained(folder, tmp_path_factory)
    config = config_of(folder, init_from=str(base), epochs=1, learning_rate=1e-6)
    last = train_and_evaluate(config, tmp_path / "run")
    best = min(lines(base), key=lambda line: line["validation_loss"])
    assert last["validation_loss"] == pytest.approx(best["validation_loss"], abs=0.01)
    assert f"begins with the weights of {base} at step {best['step']}\n" in capsys.readouterr().out
    config = config_of(folder, "vocab", "tiny_causal", init_from=str(base))
    with pytest.raises(InputError, match=r"another network \(model.name is 'token_lstm' there"):
        train_and_evaluate(config, tmp_path / "other")
    assert not (tmp_path / "other").exists()
