import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicjax.encodings.vocabulary import Token, Vocabulary, parse_token
from musicjax.errors import InputError


@pytest.mark.parametrize(
    ("token", "text"),
    [
        (Token((60,), 12), "C4:1"),
        (Token((0, 60, 64, 67), 6), "C-1.C4.E4.G4:1/2"),
        (Token((63, 70), 4), "Eb4.Bb4:1/3"),
        (Token((61, 66, 68), 500), "C#4.F#4.Ab4:125/3"),
        (Token((), 24), "rest:2"),
        (Token((36,), 12, "bass"), "bass|C2:1"),
        (Token((), 3, "synth lead"), "synth lead|rest:1/4"),
    ],
)
def test_the_text_of_a_token(token, text):
    assert str(token) == text
    assert parse_token(text) == token


tokens = st.builds(
    lambda pitches, duration: Token(tuple(sorted(pitches)), duration),
    st.sets(st.integers(0, 127), max_size=6),
    st.integers(1, 500),
)


@given(tokens)
def test_token_to_text_to_token(token):
    assert parse_token(str(token)) == token


@pytest.mark.parametrize(
    "text",
    ["", "C4", "H4:1", "C4:0", "C4:1/7", "rest", "C4.:1", "G#9:1", "E#4:1", "D#4:1", "C4:1/0"],
)
def test_a_malformed_token_is_refused(text):
    with pytest.raises(ValueError, match="is not a token; expected such as C4:1"):
        parse_token(text)


def test_a_vocabulary_counts_the_training_songs_alone(tmp_path):
    train = [parse_token(t) for t in ["C4:1", "C4:1", "rest:1", "D4:1", "rest:1", "C4:1"]]
    other = [parse_token(t) for t in ["E4:1", "C4:1"]]
    vocabulary = Vocabulary.build(train, other)
    assert [str(t) for t in vocabulary.tokens[1:]] == ["C4:1", "rest:1", "D4:1", "E4:1"]
    assert vocabulary.counts == (0, 3, 2, 1)
    assert vocabulary.size == 4  # the unknown and three trained types
    ids = vocabulary.encode([*train[:3], other[0], parse_token("F4:1")])
    assert ids.tolist() == [1, 1, 2, 4, 0]
    assert vocabulary.decode([1, 4, 0]) == [train[0], other[0]]
    assert vocabulary.is_rest.tolist()[1:] == [False, True, False, False]
    assert vocabulary.durations.tolist() == [0, 12, 12, 12, 12]
    vocabulary.save(tmp_path / "v.json")
    loaded = Vocabulary.load(tmp_path / "v.json")
    assert loaded == vocabulary
    assert hash(loaded) == hash(vocabulary)


def test_equally_frequent_tokens_are_in_the_order_of_their_pitches():
    texts = ["D4:1", "C4:2", "rest:1", "C4:1"]
    for order in (texts, texts[::-1]):
        vocabulary = Vocabulary.build(map(parse_token, order))
        assert [str(t) for t in vocabulary.tokens[1:]] == ["rest:1", "C4:1", "C4:2", "D4:1"]


def test_the_nearest_known_token():
    known = ["C4.E4.G4:1", "C4:1", "C4:1/2", "rest:1", "F3.A3.C4:1"]
    vocabulary = Vocabulary.build(map(parse_token, known), [parse_token("C4.E4:1")])
    for text, expected in {
        "C4.E4.G4:3": "C4.E4.G4:1",
        "C4.E4:1": "C4.E4.G4:1",
        "C5:1/2": "C4:1/2",
        "rest:7": "rest:1",
        "A3.C4:1": "F3.A3.C4:1",
    }.items():
        assert str(vocabulary.nearest(parse_token(text))) == expected


def test_the_nearest_known_token_is_of_the_same_instrument():
    vocabulary = Vocabulary.build(map(parse_token, ["bass|C2:1", "piano|C4:1", "piano|rest:1"]))
    for text, expected in {
        "bass|C4:1": "bass|C2:1",
        "bass|rest:1": "bass|C2:1",  # that has no rest
        "piano|C2:1": "piano|C4:1",
        "drums|C2:1": "bass|C2:1",  # there is none of its own
    }.items():
        assert str(vocabulary.nearest(parse_token(text))) == expected


@pytest.mark.parametrize(
    "text",
    ['{"tokens": ["C4:1", "nonsense"], "counts": [1]}', '{"tokens": []}', "[]", "{", ""],
)
def test_a_damaged_vocabulary_is_one_clear_line(tmp_path, text):
    path = tmp_path / "v.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"not a vocabulary .* encode the songs again"):
        Vocabulary.load(path)
    with pytest.raises(InputError, match="not a vocabulary"):
        Vocabulary.load(tmp_path / "none.json")


def test_transposed_classes_are_known_ones_or_none_and_drums_stay():
    texts = ["C4:1", "rest:1", "C5:1", "drums|C2:1", "C4.E4:1", "D4:1", "D4.F#4:1", "C4:2"]
    tokens = list(map(parse_token, texts))
    vocabulary = Vocabulary.build({token: 9 - i for i, token in enumerate(tokens)})
    moved = vocabulary.transposed
    assert moved.shape == (25, 9)
    np.testing.assert_array_equal(moved[12], np.arange(9))
    assert moved[14].tolist() == [0, 6, 2, 0, 4, 7, 0, 0, 0]  # two semitones up
    assert moved[10].tolist() == [0, 0, 2, 0, 4, 0, 1, 5, 0]  # two down
    assert moved[24].tolist() == [0, 3, 2, 0, 4, 0, 0, 0, 0]
    other = Vocabulary.build({tokens[0]: 1}, [tokens[2]])  # of a song that is held out
    assert not other.transposed[24].any()
