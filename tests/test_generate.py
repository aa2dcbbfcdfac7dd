import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import load_config, make_song, make_track, random_song
from flax import nnx

from musicjax import checkpoint, midi
from musicjax.errors import InputError
from musicjax.generate import Options, describe, generate, write_pieces
from musicjax.models.vocab import without_unknown
from musicjax.piano_roll import plot_piano_roll
from musicjax.song import Meter
from musicjax.train import train_and_evaluate


@pytest.fixture(scope="module")
def workdir(folder, tmp_path_factory):
    """A tiny model, trained for two epochs."""
    config = load_config("tiny")
    config.data.source = str(folder)
    path = tmp_path_factory.mktemp("run") / "tiny"
    train_and_evaluate(config, path)
    return path


@pytest.fixture
def prime_file(tmp_path):
    midi.write_song(random_song(5).transposed(4), tmp_path / "prime.mid")
    return str(tmp_path / "prime.mid")


def test_greedy_generation_equals_the_batch_forward_pass(workdir):
    options = Options(num=3, length=20, mode="greedy", unweight=False, max_repeats=99, max_rests=99)
    pieces = generate(workdir, options)
    trained = checkpoint.load_trained(workdir)
    window = trained.config.train.window
    for piece in pieces:
        ids = np.concatenate([piece.prime.ids, trained.vocabulary.encode(piece.tokens)])
        windows = np.stack([ids[i : i + window] for i in range(20)])
        logits = without_unknown(trained.model(jnp.asarray(windows)))
        np.testing.assert_array_equal(logits.argmax(-1), ids[window:])


def test_sampled_tokens_follow_the_models_probabilities(workdir):
    """Many first tokens after one prime: their frequencies are the softmax."""
    trained = checkpoint.load_trained(workdir)
    piece = generate(workdir, Options(num=1, length=1))[0]
    from musicjax.sampler import Sampling, continue_windows

    draws = 4000
    graph, params = nnx.split(trained.model)
    tokens, _ = continue_windows(
        graph,
        params,
        np.tile(piece.prime.ids, (draws, 1)),
        jax.vmap(jax.random.key)(np.arange(draws)),
        length=1,
        enough_tokens=1,
        enough_units=np.full(draws, 99),
        durations=trained.vocabulary.durations,
        is_rest=np.zeros(trained.vocabulary.size, bool),
        sampling=Sampling(max_repeats=99),
    )
    expected = np.asarray(jax.nn.softmax(without_unknown(trained.model(piece.prime.ids[None]))))[0]
    found = np.bincount(np.asarray(tokens)[:, 0], minlength=len(expected)) / draws
    assert np.abs(found - expected).max() < 0.02


def test_seeds(workdir):
    def tokens(**options):
        return [piece.tokens for piece in generate(workdir, Options(length=30, **options))]

    assert tokens(seed=3, num=2) == tokens(seed=3, num=2)
    assert tokens(seed=3, num=3)[1:] == tokens(seed=4, num=2)
    four = tokens(num=4)
    assert len({tuple(piece) for piece in four}) == 4


def test_seconds_cut_each_piece_to_its_playing_time(workdir):
    for piece in generate(workdir, Options(num=3, seconds=7.5, include_prime=False, qpm=90.0)):
        assert sum(t.duration for t in piece.tokens) / 12 / 90 * 60 == pytest.approx(7.5, abs=0.06)
        assert midi.song_to_pretty_midi(piece.song).get_end_time() <= 7.6


def test_files_hold_prime_and_music_at_the_right_tempo(workdir, tmp_path):
    pieces = generate(workdir, Options(num=2, length=40))
    paths = write_pieces(pieces, tmp_path / "out", tokens=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"seed_{i}.{suffix}" for i in (0, 1) for suffix in ("mid", "png", "txt")
    ]
    for piece, path in zip(pieces, paths, strict=True):
        song = midi.read_song(path)
        assert [track.name for track in song.tracks] == ["prime", "generated"]
        assert song.main_qpm == pytest.approx(100)  # the training songs' tempo
        np.testing.assert_array_equal(song.notes()[:, :3], piece.song.notes()[:, :3])
        assert path.with_suffix(".txt").read_text().split() == list(map(str, piece.tokens))
        assert path.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
        assert f"seed {piece.seed}: 40 tokens" in describe(piece)


def test_a_prime_is_continued_in_its_own_key(workdir, prime_file):
    options = Options(num=1, length=30, prime=prime_file, mode="greedy")
    piece = generate(workdir, options)[0]
    assert piece.prime.semitones == -4
    prime, made = piece.song.tracks
    original = random_song(5).transposed(4)
    assert set(prime.pitch.tolist()) <= set(original.tracks[0].pitch.tolist())
    start = sum(token.duration for token in piece.prime.tokens)
    assert made.onset_ticks.min() >= start
    sounding = [p - piece.prime.semitones for t in piece.tokens for p in t.pitches]
    assert sorted(made.pitch.tolist()) == sorted(sounding)


def strange(tmp_path, pitch=100, length=100):
    rows = [(i * 480, 480, pitch) for i in range(length)]
    midi.write_song(make_song(make_track(rows)), tmp_path / "strange.mid")
    return str(tmp_path / "strange.mid")


def test_a_prime_with_unknown_tokens(workdir, tmp_path):
    path = strange(tmp_path)
    with pytest.raises(InputError, match=r"8 of the prime's last 8 tokens are unknown .*=nearest"):
        generate(workdir, Options(prime=path))
    with pytest.raises(InputError, match="the prime has 0 tokens; the model reads 8"):
        generate(workdir, Options(prime=path, unknown_tokens="drop"))
    piece = generate(workdir, Options(num=1, length=5, prime=path, unknown_tokens="nearest"))[0]
    assert len(piece.prime.ids) == 8
    assert piece.prime.ids.all()


def test_a_prime_without_the_part_or_that_cannot_be_read(workdir, tmp_path):
    midi.write_song(
        make_song(make_track([(0, 480, 36)], name="Kit", is_drum=True)), tmp_path / "kit.mid"
    )
    with pytest.raises(
        InputError, match=r"no track for 'all'; its tracks are Kit; choose by --prime"
    ):
        generate(workdir, Options(prime=str(tmp_path / "kit.mid")))
    kit = make_track([(i * 480, 480, 60 + i % 3) for i in range(40)], name="Kit", is_drum=True)
    midi.write_song(make_song(kit), tmp_path / "kit.mid")
    options = Options(
        num=1, prime=str(tmp_path / "kit.mid"), prime_track="kit", unknown_tokens="nearest"
    )
    assert generate(workdir, options)[0].tokens
    (tmp_path / "bad.mid").write_bytes(b"GIF89a")
    with pytest.raises(InputError, match="not_midi"):
        generate(workdir, Options(prime=str(tmp_path / "bad.mid")))
    with pytest.raises(InputError, match="missing"):
        generate(workdir, Options(prime=str(tmp_path / "none.mid")))
    with pytest.raises(InputError, match="no folder; train one first"):
        generate(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "change",
    [
        {"num": 0},
        {"length": 0},
        {"seconds": -1.0},
        {"mode": "best"},
        {"temperature": -0.1},
        {"top_k": -1},
        {"top_p": 0.0},
        {"max_repeats": 0},
        {"qpm": 0.0},
        {"checkpoint": "first"},
        {"seed": -1},
        {"unknown_tokens": "ignore"},
    ],
)
def test_impossible_options_are_one_clear_line(change):
    (name,) = change
    with pytest.raises(InputError, match=rf"{name} is .*; expected"):
        dataclasses.replace(Options(), **change)


def test_piano_rolls_of_odd_songs(tmp_path):
    songs = {
        "empty": make_song(),
        "one": make_song(make_track([(0, 1, 0)])),
        "meters": make_song(
            make_track([(0, 480, 60), (9000, 480, 127)], name="a"),
            make_track([(480, 960, 64)], name="b"),
            meters=(Meter(0, 3, 4), Meter(4320, 7, 8)),
        ),
        "long": make_song(make_track([(i * 1920, 1920, 60 + i % 5) for i in range(2000)])),
    }
    for name, song in songs.items():
        plot_piano_roll(song, tmp_path / f"{name}.png", title=name)
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
