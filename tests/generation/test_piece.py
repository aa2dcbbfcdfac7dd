"""Pieces that trained models make, as a user of Python meets them."""

import numpy as np
import pytest
from conftest import make_song, make_track, random_song
from runs import config_of, trained

from musicjax.errors import InputError
from musicjax.evaluation.metrics import shared_cells
from musicjax.generation.loop import continue_primes
from musicjax.generation.options import Options
from musicjax.generation.piece import describe, generate, write_pieces
from musicjax.music import midi
from musicjax.music.song import Meter
from musicjax.training.run import train_and_evaluate
from musicjax.training.workdir import load_trained

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick


@pytest.fixture(scope="module")
def tokens(folder, tmp_path_factory):
    """A tiny token model, trained for two epochs."""
    return trained(folder, tmp_path_factory)


@pytest.fixture(scope="module")
def events(folder, tmp_path_factory):
    """A tiny model of events, trained for two epochs."""
    return trained(folder, tmp_path_factory, "events")


@pytest.fixture(scope="module")
def paper(folder, tmp_path_factory):
    """The paper's biaxial model, tiny, trained for two epochs."""
    return trained(folder, tmp_path_factory, "nsm")


@pytest.fixture(scope="module")
def tied(folder, tmp_path_factory):
    """The tied model with feedback, tiny, trained for six epochs."""
    return trained(folder, tmp_path_factory, "nsm", "tiny_best", epochs=6)


@pytest.fixture
def prime_file(tmp_path):
    midi.write_song(random_song(5).transposed(4), tmp_path / "prime.mid")
    return str(tmp_path / "prime.mid")


def tokens_of(workdir, elements):
    return load_trained(workdir).model.encoding.vocabulary.decode(elements.tolist())


# --- what is made ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["tokens", "tied"])
def test_seeds(model, request):
    workdir = request.getfixturevalue(model)
    length = {"prime_length": 8} if model == "tied" else {}

    def elements(seed):
        pieces = generate(workdir, Options(num=3, length=20, seed=seed, **length))
        return [piece.passage.elements.tolist() for piece in pieces]

    third = elements(3)
    assert elements(3) == third
    assert elements(4)[:2] == third[1:]
    assert all(a != b for i, a in enumerate(third) for b in third[:i])


def test_the_start_does_not_depend_on_the_length(tied):
    short, long = (
        generate(tied, Options(num=1, length=length, prime_length=8))[0].passage.elements
        for length in (20, 80)
    )
    np.testing.assert_array_equal(long[:20], short)


def test_greedy_and_best_of_three(tokens):
    greedy = Options(num=2, length=10, mode="greedy")
    assert generate(tokens, greedy)[0].text == generate(tokens, greedy)[0].text
    cold = Options(num=2, length=10, temperature=0.0)
    assert [p.text for p in generate(tokens, greedy)] == [p.text for p in generate(tokens, cold)]
    best = Options(num=2, length=10, mode="best_of_three")
    three = Options(num=2, length=10, top_k=3)
    assert [p.text for p in generate(tokens, best)] == [p.text for p in generate(tokens, three)]


def test_class_weights_are_taken_out(tokens):
    plain, weighted = (
        generate(tokens, Options(num=1, length=40, unweight=unweight))[0]
        for unweight in (True, False)
    )
    assert plain.text != weighted.text


def test_a_second_call_compiles_nothing(tokens, tied):
    for workdir in (tokens, tied):
        generate(workdir, Options(num=2, length=9))
        before = continue_primes._cache_size()
        generate(workdir, Options(num=2, length=12, seed=5, temperature=0.8))
        assert continue_primes._cache_size() == before


def test_seconds_cut_each_piece_to_its_playing_time(tokens, tied):
    for piece in generate(tokens, Options(num=3, seconds=7.5, include_prime=False, tempo=90.0)):
        assert piece.metrics["seconds"] == pytest.approx(7.5, abs=0.06)
        assert midi.song_to_pretty_midi(piece.song).get_end_time() <= 7.6
        total = sum(token.duration for token in tokens_of(tokens, piece.passage.elements))
        assert total / 12 / 90 * 60 >= 7.5  # the last is shortened as it is written
    for piece in generate(tied, Options(num=2, seconds=3.0, tempo=75.0, prime_length=8)):
        assert len(piece.passage.elements) == 15  # steps of 0.2 seconds


def test_a_piece_of_events_ends_where_its_model_ends_it(events):
    pieces = generate(events, Options(num=8, length=600, min_quarters=0, min_p=0.0, seed=3))
    for piece in pieces:
        assert piece.ended == piece.text.endswith("EOS_None")
        assert piece.text.count("EOS_None") == piece.ended
        assert piece.ended == ("ends by itself" in describe(piece))
    assert any(piece.ended for piece in pieces)
    short = generate(events, Options(num=8, length=40, min_quarters=999, seed=3))
    assert not any(piece.ended for piece in short)
    for piece in short:  # a chord that 40 events cut is left out
        assert 20 < piece.metrics["elements"] < 60
        assert "Duration" in piece.text.split()[-1]


def test_a_piece_carries_its_metrics(tokens, tied):
    for workdir, element in ((tokens, "token"), (tied, "step")):
        [piece] = generate(workdir, Options(num=1, length=16, prime_length=8))
        assert piece.metrics["elements"] == len(piece.passage.elements) == 16
        assert piece.metrics["pitches"] == len(np.unique(piece.passage.song.notes()[:, 2]))
        assert len(piece.text.split()) == 16
        line = describe(piece)
        assert line.startswith(f"seed 0: 16 {element}s")
        assert line.endswith(f"after {piece.prime.name}")


# --- primes ---------------------------------------------------------------------------------------


def test_tokens_continue_a_prime_in_its_own_key(tokens, prime_file):
    [piece] = generate(tokens, Options(num=1, length=30, prime=prime_file, mode="greedy"))
    assert piece.prime.semitones == -4
    prime, made = piece.song.tracks
    original = random_song(5).transposed(4)
    assert set(prime.pitch.tolist()) <= set(original.tracks[0].pitch.tolist())
    assert made.onset_ticks.min() >= sum(
        token.duration for token in tokens_of(tokens, piece.prime.heard)
    )
    sounding = [
        pitch - piece.prime.semitones
        for token in tokens_of(tokens, piece.passage.elements)
        for pitch in token.pitches
    ]
    assert sorted(made.pitch.tolist()) == sorted(sounding)


def test_note_states_continue_a_prime_at_another_tempo(tied, prime_file):
    options = Options(num=2, length=20, prime=prime_file, prime_length=32, tempo=77.0)
    pieces = generate(tied, options)
    assert len(pieces[0].prime.elements) == 32
    assert (pieces[0].passage.elements != pieces[1].passage.elements).any()
    assert pieces[0].song.main_qpm == 77
    assert pieces[0].prime.semitones == -4


def test_the_untied_model_goes_on_from_the_songs_end(paper, prime_file):
    [piece] = generate(paper, Options(num=1, prime=prime_file))
    encoding = load_trained(paper).model.encoding
    whole = encoding.states(random_song(5).transposed(4 + piece.prime.semitones)).states
    np.testing.assert_array_equal(piece.prime.elements, whole[-8:])
    assert piece.prime.start == len(whole) - 8
    assert len(piece.passage.elements) == 8  # the rest of its 16 steps


def test_nothing_to_go_on_from(tied):
    [piece] = generate(tied, Options(num=1, length=20, prime_length=0))
    assert len(piece.prime.elements) == 0
    assert [track.name for track in piece.song.tracks] == ["generated"]
    assert piece.song.tracks[0].onset_ticks.min() < 20


def test_a_prime_that_cannot_be_read(tokens, tmp_path):
    (tmp_path / "bad.mid").write_bytes(b"GIF89a")
    with pytest.raises(InputError, match="not_midi"):
        generate(tokens, Options(prime=str(tmp_path / "bad.mid")))
    with pytest.raises(InputError, match="missing"):
        generate(tokens, Options(prime=str(tmp_path / "none.mid")))
    with pytest.raises(InputError, match="no folder; train one first"):
        generate(tmp_path / "nowhere")


# --- what a model cannot do -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        ("paper", {"length": 30}, "weights for 16 steps; a prime of 8 and a piece of 30"),
        ("paper", {"seconds": 30.0}, r"weights for 16 steps; a prime of 8 and a piece of \d+"),
        ("paper", {"top_k": 3}, "top_k is 3, which has no effect on a model of steps"),
        ("paper", {"mode": "best_of_three"}, "mode is 'best_of_three', which has no effect"),
        ("tokens", {"max_silence": 3}, "max_silence is 3, which has no effect on a model of token"),
        ("tokens", {"mode": "predict"}, "mode is 'predict', which a TokenLSTM does not do"),
        ("tokens", {"prime_length": 4}, "the prime is 4 tokens; the model reads 8"),
        ("tied", {"prime_length": 9999}, r"none of the \d+ test songs has 9999 steps"),
    ],
)
def test_options_that_do_not_fit_the_model(model, options, expected, request):
    with pytest.raises(InputError, match=expected):
        generate(request.getfixturevalue(model), Options(**options))


def test_a_model_that_copies_does_not_go_on(folder, tmp_path):
    train_and_evaluate(config_of(folder, "nsm", target="literal", epochs=1), tmp_path)
    with pytest.raises(InputError, match=r"trained with model.target=literal, to copy"):
        generate(tmp_path)
    assert len(generate(tmp_path, Options(num=1, mode="predict"))) == 1


# --- predictions ----------------------------------------------------------------------------------


def test_predictions_are_the_outputs_above_one_half(paper):
    pieces = generate(paper, Options(num=2, mode="predict"))
    model, params, *_ = load_trained(paper)
    for piece in pieces:
        target = piece.prime.elements[None]
        before = np.concatenate([np.zeros_like(target[:, :1]), target[:, :-1]], 1)
        positions = np.arange(-1, target.shape[1] - 1)[None] % 16
        out = np.asarray(model.bind(params)(before, positions, target))[0]
        np.testing.assert_array_equal(piece.passage.elements[..., 0], out[..., 0] > 0.5)
        assert {track.name for track in piece.song.tracks} <= {"song", "predicted"}
    assert pieces[0].prime.name != pieces[1].prime.name


def test_a_song_of_ones_own_is_predicted_from_its_beginning(paper, prime_file):
    [piece] = generate(paper, Options(num=1, mode="predict", prime=prime_file))
    assert piece.prime.start == 0
    assert len(piece.passage.elements) == len(piece.prime.heard) == 16
    song = piece.song.tracks[0]
    assert song.name == "song"
    assert song.onset_ticks.min() == 0


# --- files ----------------------------------------------------------------------------------------


def test_files_of_tokens_have_prime_and_music_at_the_right_tempo(tokens, tmp_path):
    pieces = generate(tokens, Options(num=2, length=40))
    paths = write_pieces(pieces, tmp_path / "out", text=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"seed_{i}.{suffix}" for i in (0, 1) for suffix in ("mid", "png", "txt")
    ]
    for piece, path in zip(pieces, paths, strict=True):
        song = midi.read_song(path)
        assert [track.name for track in song.tracks] == ["prime", "generated"]
        assert song.main_qpm == pytest.approx(100)  # the training songs' tempo
        np.testing.assert_array_equal(song.notes()[:, :3], piece.song.notes()[:, :3])
        expected = map(str, tokens_of(tokens, piece.passage.elements))
        assert path.with_suffix(".txt").read_text().split() == list(expected)
        assert path.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


def test_files_of_note_states(tied, tmp_path):
    pieces = generate(tied, Options(num=3, length=40, prime_length=16))
    for piece, path in zip(pieces, write_pieces(pieces, tmp_path), strict=True):
        assert piece.passage.elements.shape == (40, 78, 2)
        song = midi.read_song(path)
        names = [track.name for track in song.tracks]
        assert names in (["prime", "generated"], ["generated"])  # a prime may be silent
        states, made = piece.passage.elements, song.tracks[-1]
        play = states[..., 0].astype(bool)
        before = np.pad(play, ((1, 0), (0, 0)))[:-1]
        # A note that plays without having been struck begins there in the file.
        begins = play & (~before | states[..., 1].astype(bool))
        assert len(made) == begins.sum()
        assert made.onset_ticks.min() >= 16
        assert song.meters == (Meter(0, 4, 4),)
        assert path.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
        assert not path.with_suffix(".txt").exists()
    alike = shared_cells([piece.passage.song for piece in pieces])
    assert 0 <= min(alike) <= max(alike) < 1


def test_a_piece_without_its_prime_begins_at_once(tied):
    [piece] = generate(tied, Options(num=1, length=40, prime_length=16, include_prime=False))
    assert [track.name for track in piece.song.tracks] == ["generated"]
    np.testing.assert_array_equal(piece.song.notes(), piece.passage.song.notes())


def test_songs_whose_names_latin_1_cannot_hold(tied, tmp_path):
    rows = [(i * 480, 480, 60 + i % 5) for i in range(40)]
    midi.write_song(make_song(make_track(rows, name="Flöte 笛")), tmp_path / "Lied 歌.mid")
    options = Options(num=1, length=8, prime=str(tmp_path / "Lied 歌.mid"), prime_track="笛")
    [piece] = generate(tied, options)
    assert piece.prime.name == "Lied 歌.mid"
    [path] = write_pieces([piece], tmp_path)
    np.testing.assert_array_equal(midi.read_song(path).notes()[:, :3], piece.song.notes()[:, :3])


def test_nothing_is_overwritten(tokens, tmp_path):
    pieces = generate(tokens, Options(num=1, length=5))
    first = write_pieces(pieces, tmp_path)
    before = first[0].read_bytes()
    second = write_pieces(generate(tokens, Options(num=1, length=9)), tmp_path)
    assert [path.name for path in first + second] == ["seed_0.mid", "seed_0-2.mid"]
    assert first[0].read_bytes() == before != second[0].read_bytes()


def test_key_tempo_program_and_loudness_are_as_asked(tokens, prime_file):
    song = midi.read_song(prime_file)
    [plain] = generate(tokens, Options(num=1, length=20, prime=prime_file))
    key = plain.prime.key.moved(3 - plain.prime.semitones)
    options = Options(
        num=1, length=20, key=key.name, tempo=91.0, program="church organ", velocity=33
    )
    [piece] = generate(tokens, options, prime=song)
    np.testing.assert_array_equal(piece.passage.elements, plain.passage.elements)
    assert [track.program for track in piece.song.tracks] == [19, 19]
    assert {v for track in piece.song.tracks for v in track.velocity.tolist()} == {33}
    assert piece.song.main_qpm == 91
    (signature,) = piece.song.keys
    assert (signature.tonic, signature.minor) == key
    assert [pitch % 12 for pitch in piece.song.tracks[1].pitch.tolist()] == [
        (pitch + 3) % 12 for pitch in plain.song.tracks[1].pitch.tolist()
    ]
    with pytest.raises(InputError, match=r"'church orgel', .*did you mean 'church organ'"):
        Options(program="church orgel")
    with pytest.raises(InputError, match=r"key is 'H'; expected such as D, F#m"):
        Options(key="H")
    with pytest.raises(InputError, match=r"meter is '3-4'; expected such as 3/4"):
        Options(meter="3-4")
