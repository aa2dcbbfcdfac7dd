"""The bi-axial model from MIDI files to music, as a user of Python meets it."""

import json
import os
import signal

import jax
import numpy as np
import pytest
from conftest import encoded, load_config, make_song, make_track, random_song, read
from flax import nnx

from musicjax import checkpoint, cleaning, encoders, loop, midi
from musicjax.corpus import Corpus
from musicjax.dataset import Segments, ordered_batches, training_batches
from musicjax.errors import InputError
from musicjax.evaluate import evaluate, state_sums
from musicjax.generate import Options, generate, shared_cells, write_pieces
from musicjax.note_state import song_to_note_state, unpack
from musicjax.train import train_and_evaluate


def config_of(source, variant="tiny", **changes):
    config = load_config(variant, "nsm")
    config.data.source, config.data.least_notes = str(source), 1
    for name, value in changes.items():
        groups = (group for group in (config.train, config.data, config.model) if name in group)
        next(groups)[name] = value
    return config


@pytest.fixture(scope="module")
def paper(folder, tmp_path_factory):
    """The paper's model, tiny, trained for two epochs."""
    path = tmp_path_factory.mktemp("run") / "paper"
    train_and_evaluate(config_of(folder), path)
    return path


@pytest.fixture(scope="module")
def best(folder, tmp_path_factory):
    """The tied model with feedback, tiny, trained for two epochs."""
    path = tmp_path_factory.mktemp("run") / "best"
    train_and_evaluate(config_of(folder, "tiny_best", epochs=6), path)
    return path


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


# --- corpus and segments ---------------------------------------------------------------------


def test_a_corpus_of_note_states_saved_and_loaded(folder, tmp_path):
    corpus = encoded(config_of(folder, transpose=False).data)
    corpus.save(tmp_path / "corpus")
    back = Corpus.load(tmp_path / "corpus")
    assert back.vocabulary is None
    assert back.data.dtype == np.uint8
    assert back.manifest["transitions"] == corpus.manifest["transitions"]
    for song in back.songs:
        expected = song_to_note_state(midi.read_song(folder / song["name"])).states
        np.testing.assert_array_equal(unpack(np.asarray(back.encoded(song)), 78, 2), expected)
    # What follows what in the training songs, all cells of it.
    steps = sum(song["length"] for song in back.split("train"))
    assert sum(back.manifest["transitions"]) == steps * 78


def test_a_fixed_number_of_songs_is_split_exactly_and_the_others_counted(folder):
    corpus = encoded(config_of(folder, songs=16).data)
    assert [len(corpus.split(name)) for name in ("train", "test", "validation")] == [14, 2, 0]
    assert [row["reason"] for row in corpus.skipped] == ["spare"] * 14
    # Fewer than asked for keep the proportion.
    corpus = encoded(config_of(folder, songs=400).data)
    assert [len(corpus.split(name)) for name in ("train", "test")] == [26, 4]


def test_an_index_decides_the_splits(folder, tmp_path):
    source = tmp_path / "songs"
    source.mkdir()
    for file in sorted(folder.glob("*.mid"))[:8]:
        (source / file.name).write_bytes(file.read_bytes())
    rows = [f"{i:02d}\t{'test' if i in (2, 5) else 'train'}" for i in range(7)]
    (source / "index.tsv").write_text("\n".join(["id\tsplit", *rows]) + "\n")
    config = config_of(source, split_by="index", validation_share=0.3)
    corpus = encoded(config.data)
    assert sorted(s["name"] for s in corpus.split("test")) == ["02.mid", "05.mid"]
    assert len(corpus.songs) == 7  # the eighth is not in the index
    assert len(corpus.split("validation")) >= 1
    (source / "index.tsv").write_text("id\tsplit\n00\tdev\n")
    with pytest.raises(InputError, match="split is 'dev'"):
        encoded(config.data)
    (source / "index.tsv").unlink()
    with pytest.raises(InputError, match="not a table of songs"):
        encoded(config.data)


def test_drums_come_in_by_a_flag(tmp_path):
    piano, drums = random_song(1).tracks[0], make_track([(0, 120, 36)], is_drum=True)
    midi.write_song(make_song(piano, drums), tmp_path / "a.mid")
    song = midi.read_song(tmp_path / "a.mid")
    for flag in (False, True):
        data = config_of(tmp_path, drums=flag, transpose=False).data
        states = encoders.states_of(cleaning.prepare(song, data).song, data).states
        assert states[0, 36 - 24, 1] == flag


def test_songs_without_a_matrix_are_skipped_with_a_reason(tmp_path):
    midi.write_song(random_song(1), tmp_path / "good.mid")
    midi.write_song(make_song(make_track([(0, 480, 5)])), tmp_path / "low.mid")
    corpus = encoded(config_of(tmp_path, transpose=False).data)
    assert [row["reason"] for row in corpus.skipped] == ["no_note_in_range"]
    (tmp_path / "good.mid").unlink()
    with pytest.raises(InputError, match=r"none of its 1 files gave a song \(no_note_in_range: 1"):
        encoded(config_of(tmp_path, transpose=False).data)


def make_corpus(tmp_path, *quarters, **changes):
    """Songs of such lengths, all for training; and the config."""
    for i, length in enumerate(quarters):
        notes = [(t * 480, 480, 40 + (t * (i + 3)) % 40) for t in range(length)]
        midi.write_song(make_song(make_track(notes)), tmp_path / f"{i}.mid")
    config = config_of(tmp_path, transpose=False, test_share=0.0, **changes)
    return encoded(config.data), config


def test_segments_begin_with_the_step_before_and_never_cross_songs(tmp_path):
    corpus, config = make_corpus(tmp_path, 4, 9, 20, window=16, starts="bars")
    segments = Segments(corpus, "train", config.train, training=False)
    # 4 quarters are exactly a segment, 9 are two and a bit, 20 are five.
    assert len(segments) == 1 + 3 + 5
    assert segments.short_songs == 0
    batch = read(segments, np.arange(9))
    assert batch["length"].tolist() == [16, 16, 16, 4, 16, 16, 16, 16, 16]
    for number in range(9):
        song, start, stop = segments.place(number)
        states = unpack(np.asarray(corpus.encoded(song)), 78, 2)
        before = states[start - 1] if start else np.zeros_like(states[0])
        np.testing.assert_array_equal(batch["states"][number, 0], before)
        inside = batch["states"][number, 1 : 1 + stop - start]
        np.testing.assert_array_equal(inside, states[start:stop])
        assert not batch["states"][number, 1 + stop - start :].any()
        assert batch["beat"][number].tolist() == [
            step % 16 for step in range(start - 1, start + 16)
        ]


def test_short_songs_are_padded_or_left_out_and_counted(tmp_path):
    corpus, config = make_corpus(tmp_path, 3, 9, window=16)
    padded = Segments(corpus, "train", config.train, training=True)
    assert (len(padded), padded.short_songs) == (2, 1)
    assert read(padded, [0])["length"].tolist() == [12]
    config.train.short_songs = "leave_out"
    left = Segments(corpus, "train", config.train, training=True)
    assert (len(left), left.short_songs) == (1, 1)
    config.train.window = 64
    with pytest.raises(InputError, match="its longest song has 36 steps, a segment takes 64"):
        Segments(corpus, "train", config.train, training=True)


def test_starts_are_drawn_at_bar_lines_or_are_the_beginning(tmp_path):
    corpus, config = make_corpus(tmp_path, 20, 40, window=16, starts="bars")
    segments = Segments(corpus, "train", config.train, training=True)
    drawn = np.concatenate([segments.order(0, epoch) for epoch in range(60)])
    places = {(s["name"], start) for s, start, _ in map(segments.place, drawn)}
    expected = {("0.mid", 16 * i) for i in range(5)} | {("1.mid", 16 * i) for i in range(10)}
    assert places == expected
    assert segments.per_epoch == 2
    config.train.starts, config.train.shuffle = "beginning", False
    in_order = Segments(corpus, "train", config.train, training=True)
    for epoch in range(3):
        assert [in_order.place(n)[1] for n in in_order.order(0, epoch)] == [0, 0]
        assert in_order.order(0, epoch).tolist() == [0, 1]


def test_transposed_segments_lose_only_what_leaves_the_matrix(tmp_path):
    corpus, config = make_corpus(tmp_path, 20, window=16, transpose_range=(-5, 6))
    segments = Segments(corpus, "train", config.train, training=True)
    plain = read(segments, [0])["states"][0]
    seen = set()
    for seed in range(60):
        moved = read(segments, [0], np.random.default_rng(seed))["states"][0]
        steps, notes = np.nonzero(moved[..., 0])
        old_steps, old_notes = np.nonzero(plain[..., 0])
        np.testing.assert_array_equal(steps, old_steps)
        assert len(set((notes - old_notes).tolist())) == 1
        seen.add(int(notes[0] - old_notes[0]))
    assert seen == set(range(-5, 7))


def test_an_epoch_of_training_batches_is_the_same_for_the_same_seed(tmp_path):
    corpus, config = make_corpus(tmp_path, 20, 40, 30, starts="bars", transpose_range=(-2, 2))
    segments = Segments(corpus, "train", config.train, training=True)

    def states(seed):
        batches = training_batches(segments, batch_size=2, seed=seed, epochs=2)
        result = np.stack([batch["states"] for batch in batches])
        batches.close()
        return result

    assert states(1).shape == (4, 2, 17, 78, 2)
    np.testing.assert_array_equal(states(1), states(1))
    assert (states(1) != states(2)).any()
    last = list(ordered_batches(segments, 4))[-1]
    assert last["present"].sum() == len(segments) % 4 or 4


# --- training, evaluation, generation ---------------------------------------------------------


def test_the_papers_run_watches_the_test_songs_and_chooses_nothing_by_them(paper):
    run = lines(paper)
    assert [line["epoch"] for line in run] == [1, 2]
    for name in ("loss", "squares", "squares_per_bit", "play_f1", "articulate_recall"):
        assert np.isfinite(run[-1][f"train_{name}"])
        assert np.isfinite(run[-1][f"test_{name}"])
    assert not any(name.startswith("validation") for name in run[-1])
    assert [path.name for path in (paper / "checkpoints").iterdir()] == [str(run[-1]["step"])]
    assert checkpoint.load_trained(paper, "best").step == run[-1]["step"]
    assert (paper / "loss.png").read_bytes()[:4] == b"\x89PNG"


def test_the_tied_run_learns_and_keeps_its_best(best):
    run = lines(best)
    assert run[-1]["train_loss"] < run[0]["train_loss"]
    step = min(run, key=lambda line: line["validation_loss"])["step"]
    assert checkpoint.load_trained(best).step == step


def test_evaluation_beside_baselines_that_are_what_they_say(best, paper):
    for workdir in (best, paper):
        results = evaluate(workdir)
        assert list(results) == ["model", "all silent", "repeat last"]
        assert len({metrics["steps"] for metrics in results.values()}) == 1
        trained = checkpoint.load_trained(workdir)
        held_out = Corpus.load(workdir / "test_songs")
        segments = Segments(held_out, "test", trained.config.train, training=False)
        batch = read(segments, np.arange(len(segments)))
        states = batch["states"].astype(int)
        inside = (np.arange(16) < batch["length"][:, None])[..., None, None]
        before, target = states[:, :-1] * inside, states[:, 1:]
        silent, last = results["all silent"], results["repeat last"]
        assert silent["squares"] == pytest.approx(target.sum() / len(segments))
        assert last["squares"] == pytest.approx(((before - target) ** 2).sum() / len(segments))
        assert silent["play_f1"] == silent["articulate_f1"] == 0
        hits = (before * target)[..., 1].sum()
        expected = 2 * hits / (before[..., 1].sum() + target[..., 1].sum())
        assert last["articulate_f1"] == pytest.approx(expected)


def test_the_baselines_have_the_training_songs_probabilities():
    # After silence 90 are silent, 2 held, 8 struck; after a note 20, 20 and 10.
    transitions = [90, 0, 2, 8, 20, 0, 20, 10]
    config = config_of("", "tiny_best", window=2, lowest=60, highest=61)
    states = np.zeros((1, 3, 2, 2), np.uint8)
    states[0, 1:, 0] = [[1, 1], [1, 0]]  # struck, then held; the other note is silent
    batch = {
        "states": states,
        "beat": np.zeros((1, 3)),
        "length": np.array([2]),
        "present": np.ones(1),
    }
    sums = state_sums([batch], transitions, config)
    play, struck = 42 / 154, 19 / 42  # half a cell added to each count
    silent = -np.log([play * struck, 1 - play, play * (1 - struck), 1 - play]).sum()
    np.testing.assert_allclose(sums["all silent"]["nats"], silent, rtol=1e-6)
    # Play, and struck given play: after silence, after a note.
    before = np.array([[11 / 102, 8.5 / 11], [31 / 52, 10.5 / 31]])
    last = -np.log(
        [
            before[0, 0] * before[0, 1],  # struck out of silence
            1 - before[0, 0],
            before[1, 0] * (1 - before[1, 1]),  # held
            1 - before[0, 0],
        ]
    ).sum()
    np.testing.assert_allclose(sums["repeat last"]["nats"], last, rtol=1e-6)


def test_a_tied_model_can_be_measured_on_longer_segments(best, paper):
    longer = evaluate(best, window=64)
    assert longer["model"]["steps"] == evaluate(best)["model"]["steps"]
    assert longer["model"]["nats"] != evaluate(best)["model"]["nats"]
    with pytest.raises(InputError, match="weights for segments of 16"):
        evaluate(paper, window=64)


def test_stopped_and_resumed_is_bit_equal_to_unbroken(folder, tmp_path, monkeypatch):
    config = config_of(folder, "tiny_best", dropout=0.3, transpose_range=(-2, 2))
    train_and_evaluate(config, tmp_path / "whole")
    make_train_steps = loop.make_train_steps

    def make(*args):
        train_steps = make_train_steps(*args)

        def stop(*args):
            os.kill(os.getpid(), signal.SIGTERM)
            return train_steps(*args)

        return stop

    monkeypatch.setattr(loop, "make_train_steps", make)
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(config, tmp_path / "broken")
    monkeypatch.setattr(loop, "make_train_steps", make_train_steps)
    train_and_evaluate(config, tmp_path / "broken")
    ours, theirs = (
        jax.tree.leaves(nnx.state(checkpoint.load_trained(tmp_path / name, "last").model))
        for name in ("whole", "broken")
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_pieces_are_files_that_say_what_was_made(best, tmp_path):
    pieces = generate(best, Options(num=3, length=40, prime_steps=16))
    paths = write_pieces(pieces, tmp_path)
    for piece, path in zip(pieces, paths, strict=True):
        assert piece.states.shape == (40, 78, 2)
        song = midi.read_song(path)
        names = [track.name for track in song.tracks]
        assert names in (["prime", "generated"], ["generated"])  # a prime may be silent
        generated = song.tracks[-1]
        assert len(generated) == piece.states[..., 1].sum() + held_at_the_start(piece.states)
        assert generated.onset_ticks.min() >= 16
        assert path.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    assert 0 <= min(shared_cells(pieces)) < 1
    assert shared_cells(pieces[:1] * 2) == [1.0]


def held_at_the_start(states):
    """Notes that play in the first step without being struck: they begin there in the file."""
    play = states[..., 0].astype(bool)
    before = np.pad(play, ((1, 0), (0, 0)))[:-1]
    return int((play & ~before & ~states[..., 1].astype(bool)).sum())


def test_seeds_and_batches(best):
    def states(**options):
        pieces = generate(best, Options(length=20, prime_steps=8, **options))
        return [piece.states.tolist() for piece in pieces]

    assert states(seed=3, num=2) == states(seed=3, num=2)
    assert states(seed=3, num=3)[1:] == states(seed=4, num=2)
    four = states(num=4)
    assert all(a != b for i, a in enumerate(four) for b in four[:i])


def test_the_start_does_not_depend_on_the_length(best):
    short, long = (
        generate(best, Options(num=1, length=length, prime_steps=8))[0].states
        for length in (20, 80)
    )
    np.testing.assert_array_equal(long[:20], short)


def test_guards_against_silence_and_against_everything(best):
    [quiet] = generate(best, Options(num=1, length=200, prime_steps=0, max_silence=2, max_notes=2))
    at_once = quiet.states[..., 0].sum(1)
    assert at_once.max() <= 2
    longest = max(len(run) for run in "".join("x" if n else "." for n in at_once).split("x"))
    # An untrained model's notes have odds of e^-4 or so each: they rise by e a step.
    assert longest <= 2 + 8


def test_a_prime_of_ones_own(best, tmp_path):
    song = random_song(5).transposed(4)
    midi.write_song(song, tmp_path / "prime.mid")
    options = Options(num=2, length=20, prime=str(tmp_path / "prime.mid"), prime_steps=32, qpm=77)
    pieces = generate(best, options)
    config = checkpoint.load_trained(best).config
    encoded = encoders.states_of(cleaning.prepare(song, config.data).song, config.data)
    np.testing.assert_array_equal(pieces[0].prime.states, encoded.states[-32:])
    assert (pieces[0].states != pieces[1].states).any()
    assert pieces[0].song.main_qpm == 77
    semitones = pieces[0].prime.semitones
    assert semitones != 0 or not config.data.transpose


def test_predictions_are_the_outputs_above_one_half(paper):
    pieces = generate(paper, Options(num=2, mode="predict"))
    trained = checkpoint.load_trained(paper)
    for piece in pieces:
        target = piece.prime.states[None]
        before = np.concatenate([np.zeros_like(target[:, :1]), target[:, :-1]], 1)
        beat = np.arange(-1, target.shape[1] - 1)[None] % 16
        out = np.asarray(trained.model(before, beat, target))[0]
        np.testing.assert_array_equal(piece.states[..., 0], out[..., 0] > 0.5)
    assert pieces[0].prime.name != pieces[1].prime.name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "greedy"}, "mode is 'greedy'; .* biaxial model, which knows sample, predict"),
        ({"length": 30}, "weights for 16 steps; a prime of 8 and a piece of 30"),
        ({"prime_steps": -1}, "prime_steps is -1; expected 0 or more"),
    ],
)
def test_what_the_paper_model_cannot_do_is_one_clear_line(paper, options, said):
    with pytest.raises(InputError, match=said):
        generate(paper, Options(**options))


def test_primes_that_do_not_fit_are_one_clear_line(best, tmp_path):
    midi.write_song(make_song(make_track([(0, 480, 5)])), tmp_path / "low.mid")
    with pytest.raises(InputError, match=r"low.mid: no_note_in_range"):
        generate(best, Options(prime=str(tmp_path / "low.mid")))
    midi.write_song(random_song(1), tmp_path / "a.mid")
    with pytest.raises(InputError, match="no track for 'drums'; its tracks are"):
        generate(best, Options(prime=str(tmp_path / "a.mid"), prime_track="drums"))
    with pytest.raises(InputError, match=r"none of the \d+ test songs has 9999 steps"):
        generate(best, Options(prime_steps=9999))


def test_a_checkpoint_of_another_variant_is_one_clear_line(best, folder, tmp_path):
    with pytest.raises(InputError, match=r"holds a run with model\.dropout=0\.1, now it is 0\.2"):
        train_and_evaluate(config_of(folder, "tiny_best", dropout=0.2), best)
    import shutil

    other = shutil.copytree(best, tmp_path / "other")
    saved = json.loads((other / "config.json").read_text())
    saved["config"]["model"]["time_sizes"] = [9, 6]
    (other / "config.json").write_text(json.dumps(saved))
    with pytest.raises(InputError, match=r"holds another model than config\.json tells"):
        generate(other)


def test_piano_rolls_in_their_own_splits(tmp_path):
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
    assert (
        generate(tmp_path / "run", Options(num=1, length=8, prime_steps=8))[0].states.shape[2] == 1
    )
    config.data.highest = 100
    with pytest.raises(InputError, match=r"its rolls have 88 notes; .* are 80"):
        train_and_evaluate(config, tmp_path / "other")
    (tmp_path / "rolls.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match="not a set of piano rolls"):
        train_and_evaluate(config, tmp_path / "other")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": "likelihood"}, "model.loss is 'likelihood'; expected 'squares' where"),
        ({"note_sizes": (3,)}, r"model.note_sizes is \(3,\); expected 2 last"),
        ({"feedback": "true"}, "model.feedback is 'true'; expected 'none' where"),
        ({"starts": "middle"}, "train.starts is 'middle'; expected one of beginning, bars"),
        ({"encoding": "vocabulary"}, "expected 'note_state', which biaxial reads"),
        ({"lowest": 102}, "data.lowest is 102; expected a MIDI pitch up to data.highest"),
        ({"transpose_range": (1, 2)}, "expected semitones"),
    ],
)
def test_configs_that_cannot_be_are_one_clear_line(folder, tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        train_and_evaluate(config_of(folder, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("variant", ["", "t256", "johnson", "kotecha", "best", "quick"])
def test_every_variant_builds_what_its_source_has(variant):
    from musicjax.config import check_config
    from musicjax.models import biaxial

    config = load_config(variant, "nsm")
    check_config(config)
    model = nnx.eval_shape(lambda: biaxial.build(config))
    sizes = [lstm.w_h.shape[:2] for lstm in (*model.time_lstms, *model.note_lstms)]
    assert sizes == {
        "": [(78, 36), (128, 2)],
        "t256": [(78, 36), (256, 2)],
        "johnson": [(1, 300), (1, 300), (1, 100), (1, 50)],
        "kotecha": [(1, 200), (1, 200), (1, 100), (1, 100)],
    }.get(variant, sizes)
    if variant == "kotecha":
        assert model.w_out.shape == (78, 100, 2)
