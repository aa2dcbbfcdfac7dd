"""The Python API: what `import musicjax` gives."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT, make_song, make_track, random_song
from runs import trained

import musicjax
from musicjax import api
from musicjax.corpus.store import Corpus
from musicjax.errors import InputError
from musicjax.music.song import Meter


@pytest.fixture(scope="module")
def workdir(folder, tmp_path_factory):
    return trained(folder, tmp_path_factory, "vocab", "tiny_causal")


# --- the package -------------------------------------------------------------------------------


def test_importing_it_is_quick_and_imports_nothing():
    code = (
        "import sys, time; started = time.process_time(); import musicjax; "
        "print(time.process_time() - started, 'numpy' in sys.modules, 'train' in dir(musicjax)); "
        "musicjax.Run; print('jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    seconds, *words = done.stdout.split()
    assert words == ["False", "True", "False"]
    assert float(seconds) < 0.15


def test_its_names_are_those_of_the_api():
    assert musicjax.__all__ == api.__all__
    assert {name for name in musicjax.__all__ if getattr(musicjax, name) is None} == set()
    assert set(musicjax.__all__) <= set(dir(musicjax))
    assert (ROOT / "musicjax" / "py.typed").is_file()
    with pytest.raises(AttributeError, match="module 'musicjax' has no attribute 'trane'"):
        musicjax.trane  # noqa: B018


def test_commands_do_not_take_the_place_of_functions():
    import musicjax.encode
    import musicjax.train

    assert musicjax.train is api.train
    assert musicjax.encode is api.encode
    both = {path.stem for path in (ROOT / "musicjax").iterdir()} & set(musicjax.__all__)
    assert both == {"encode", "train"}  # which musicjax/__init__.py names


# --- songs and arrays --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vocab:best", "nsm:best", "nsm", "events", "events:piano"])
def test_a_song_to_an_array_and_back(name):
    config = musicjax.get_config(name)
    song = musicjax.prepare_song(random_song(3), config)
    assert song.num_notes == random_song(3).num_notes
    encoding = musicjax.get_encoding(config, [random_song(4), song])
    encoded = musicjax.encode_song(song, encoding)
    assert encoded.elements.dtype == (np.uint8 if encoding.shape else np.int32)
    assert encoded.elements.shape[1:] == encoding.shape
    again = musicjax.decode_song(encoded.elements, encoding, layout=encoded.layout, tempo=77)
    # What sounds, by onset in quarters and pitch; tokens clip durations at the next onset.
    for one, other in zip(song.notes().T, again.notes().T, strict=True):
        assert len(one) == len(other)
    np.testing.assert_array_equal(
        song.notes()[:, 0] / song.ticks_per_quarter,
        again.notes()[:, 0] / again.ticks_per_quarter,
    )
    np.testing.assert_array_equal(song.notes()[:, 2], again.notes()[:, 2])
    assert (again.meters, again.main_qpm) == ((Meter(0, 4, 4),), 77)
    assert musicjax.decode_song(encoded.elements, encoding).meters == ()


def test_music_of_any_kind_is_encoded(tmp_path):
    song = random_song(5)
    musicjax.write_song(song, tmp_path / "song.mid")
    encoding = musicjax.get_encoding(musicjax.get_config("events"))
    expected = musicjax.encode_song(song, encoding).elements
    for music in (
        tmp_path / "song.mid",
        str(tmp_path / "song.mid"),
        musicjax.read_song(tmp_path / "song.mid"),
        musicjax.song_to_pretty_midi(song),
        musicjax.song_to_symusic(song),
    ):
        np.testing.assert_array_equal(musicjax.encode_song(music, encoding).elements, expected)


def test_tokens_that_the_vocabulary_lacks_are_an_error_unless_asked():
    encoding = musicjax.get_encoding(musicjax.get_config("vocab:best"), [random_song(6)])
    strange = make_song(make_track([(0, 480, 30), (480, 480, 31)]))
    with pytest.raises(InputError, match="2 of the prime's last 2 tokens are unknown"):
        musicjax.encode_song(strange, encoding)
    assert len(musicjax.encode_song(strange, encoding, unknown="nearest").elements) == 2
    assert len(musicjax.encode_song(strange, encoding, unknown="drop").elements) == 0


# --- collections -------------------------------------------------------------------------------


def test_a_folder_is_encoded_and_opened_again(folder, tmp_path):
    config = musicjax.get_config("events:tiny", **{"data.source": folder})
    corpus = musicjax.encode(config, tmp_path / "corpus", workers=0)
    assert isinstance(corpus, Corpus)
    again = musicjax.load_corpus(tmp_path / "corpus")
    assert again.songs == corpus.songs
    assert len(again.songs) == 30
    config.data.source = str(tmp_path / "corpus")
    with pytest.raises(InputError, match="a corpus folder: train on it as it is"):
        musicjax.encode(config, tmp_path / "other")
    with pytest.raises(InputError, match="not a corpus folder"):
        musicjax.load_corpus(folder)


# --- runs --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_training_calls_back_after_each_epoch_and_goes_on(folder, tmp_path):
    seen = []

    class StopError(Exception):
        pass

    def callback(metrics, params):
        # Its line is written: what is raised here loses nothing.
        assert musicjax.load(tmp_path / "run").metrics[-1] == metrics
        seen.append((metrics["epoch"], sum(leaf.size for leaf in jax.tree.leaves(params))))
        raise StopError

    config = musicjax.get_config("vocab:tiny_causal", **{"data.source": folder})
    with pytest.raises(StopError):
        musicjax.train(config, tmp_path / "run", callbacks=[callback])
    run = musicjax.train(config, tmp_path / "run", callbacks=[lambda m, p: seen.append(m["epoch"])])
    size = sum(leaf.size for leaf in jax.tree.leaves(run.params))
    assert seen == [(1, size), 2]
    assert [line["epoch"] for line in run.metrics] == [1, 2]
    assert (run.workdir / "baseline.json").is_file()


def test_a_run_generates_and_is_measured(workdir, tmp_path):
    run = musicjax.load(workdir)
    assert repr(run) == f"Run({str(workdir)!r}, checkpoint='best')"
    assert run.config.model.name == "causal_lstm"
    assert run.encoding == run.corpus.encoding
    assert run.model.encoding.size == run.encoding.size
    pieces = run.generate(num=2, length=20, seed=3, prime=random_song(40))
    assert [piece.seed for piece in pieces] == [3, 4]
    paths = musicjax.write_pieces(pieces, tmp_path, text=True)
    assert [path.name for path in paths] == ["seed_3.mid", "seed_4.mid"]
    assert (tmp_path / "seed_4.txt").read_text().strip() == pieces[1].text
    assert run.evaluate()["model"]["tokens"] > 0
    assert musicjax.load(workdir, "last").generate(num=1, length=8)[0].seed == 0
    with pytest.raises(InputError, match="temperature is -1; expected at least 0"):
        run.generate(temperature=-1)


def test_no_run_is_one_clear_line(tmp_path, workdir):
    with pytest.raises(InputError, match=r"not a work dir .*--workdir='.*a b'"):
        musicjax.load(tmp_path / "a b")
    with pytest.raises(InputError, match="checkpoint is 'first'; expected best, last, or an epoch"):
        musicjax.load(workdir, "first")
