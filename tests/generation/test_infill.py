"""Bars filled in and voices added, as a user of Python meets them."""

import dataclasses

import numpy as np
import pytest
from conftest import load_config, make_song, make_track, model_of, random_song
from runs import trained

from musicjax.errors import InputError
from musicjax.generation import infill
from musicjax.generation.options import Options
from musicjax.generation.piece import describe, generate, write_pieces
from musicjax.music import midi
from musicjax.music.song import Meter
from musicjax.training.workdir import load_trained

pytestmark = pytest.mark.slow  # left out by scripts/test.sh --quick

FEW = {"num": 1, "particles": 3, "sweeps": 1}


@pytest.fixture(scope="module")
def tied(folder, tmp_path_factory):
    """The tied model with feedback, tiny, trained for six epochs."""
    return trained(folder, tmp_path_factory, "nsm", "tiny_best", epochs=6)


@pytest.fixture(scope="module")
def song():
    """Seven bars of a tune over a bass that is an octave lower, each a track."""
    tune = random_song(5, 24)
    upper = dataclasses.replace(tune.tracks[0], name="Tune")
    lower = dataclasses.replace(upper, name="Low", pitch=upper.pitch - 24)
    return dataclasses.replace(tune, tracks=(upper, lower)).transposed(4)


def states(workdir, song, semitones):
    return load_trained(workdir).model.encoding.states(song.transposed(semitones)).states


def test_bars_are_filled_in_and_the_rest_stays(tied, song, tmp_path):
    [piece] = generate(tied, Options(**FEW, infill="3-4"), prime=song)
    before = states(tied, song, piece.prime.semitones)
    inside = slice(32, 64)
    made = piece.passage.elements
    np.testing.assert_array_equal(np.delete(made, inside, 0), np.delete(before, inside, 0))
    assert (made[inside] != before[inside]).any()
    [path] = write_pieces([piece], tmp_path)
    written = midi.read_song(path)
    assert [track.name for track in written.tracks] == ["given", "generated"]
    given, generated = written.tracks
    quarter = written.ticks_per_quarter
    assert (generated.onset_ticks >= 8 * quarter).all()
    assert (generated.onset_ticks < 16 * quarter).all()
    bars = given.onset_ticks // (4 * quarter)
    assert not np.isin(bars, [2, 3]).any()
    assert describe(piece).endswith("; in song 5")


def test_a_kept_voice_stays_and_is_the_highest(tied, song):
    [piece] = generate(tied, Options(**FEW, keep="tune"), prime=song)
    given, generated = piece.song.tracks
    tune = song.tracks[0]
    quarter = song.ticks_per_quarter // piece.song.ticks_per_quarter
    np.testing.assert_array_equal(given.pitch, tune.pitch)
    np.testing.assert_array_equal(given.onset_ticks * quarter, tune.onset_ticks)
    np.testing.assert_array_equal(given.duration_ticks * quarter, tune.duration_ticks)
    assert len(generated)
    play = piece.passage.elements[..., 0] > 0
    kept = states(tied, dataclasses.replace(song, tracks=(tune,)), piece.prime.semitones)[..., 0]
    kept = np.pad(kept, [(0, len(play) - len(kept)), (0, 0)])
    highest = np.where(kept, np.arange(78), -1).max(1)
    sounding = highest >= 0
    assert (np.where(play, np.arange(78), -1).max(1)[sounding] == highest[sounding]).all()
    # The same voice by its pitches, and without it in the file.
    low, high = int(tune.pitch.min()), int(tune.pitch.max())
    options = Options(**FEW, keep=f"{low}-{high}", include_prime=False)
    [same] = generate(tied, options, prime=song)
    np.testing.assert_array_equal(same.passage.elements, piece.passage.elements)
    assert [track.name for track in same.song.tracks] == ["generated"]


def test_what_is_given_of_a_voice_in_some_bars(tied, song):
    """Both: free are the other voices, in these bars alone. A low voice is the lowest."""
    model, _, config, *_ = load_trained(tied)
    options = Options(infill="2", keep="Low")
    task = infill.task_of(song, model, config.data, options, is_drum=False)
    free = task.gap.allowed.sum(-1) > 1
    assert (task.gap.start, task.gap.stop) == (16, 32)
    assert not free[:16].any()
    assert not free[32:].any()
    low = dataclasses.replace(song, tracks=song.tracks[1:])
    kept = states(tied, low, task.prime.semitones)[16:32]
    np.testing.assert_array_equal(task.gap.elements[16:32], kept)
    for here, voice in zip(free[16:32], kept[..., 0] > 0, strict=True):
        assert not here[voice].any()
        if voice.any():
            assert not here[: voice.argmax()].any()
            assert here[-1]


def test_seeds_and_empty_bars(tied):
    """A song may have a gap; its bars are filled in, however many they are."""
    rows = [(i * 480, 480, 60 + i % 5) for i in (*range(8), *range(26, 31))]
    song = make_song(make_track(rows), meters=(Meter(0, 2, 4),))
    options = Options(**FEW | {"num": 2}, infill="5-13")  # bars of two quarters
    first, second = generate(tied, options, prime=song)
    assert len(first.passage.elements) == 4 * 31  # no bar was cut
    assert first.passage.elements[32:104, :, 0].any()
    assert (first.passage.elements != second.passage.elements).any()
    again = generate(tied, dataclasses.replace(options, num=1, seed=1), prime=song)
    np.testing.assert_array_equal(again[0].passage.elements, second.passage.elements)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"infill": "7-8"}, r"infill is 7-8, but song 5 has bars 1 to 7"),
        ({"infill": "1-7"}, r"infill is 1-7, which is all of song 5, so that nothing is given"),
        ({"keep": "flute"}, r"keep is 'flute', .* one of its tracks, Low, Tune, or pitches"),
        ({"keep": "0-10"}, r"keep is '0-10', but song 5 has no such notes"),
        ({"keep": "all"}, r"keep is 'all', which is all of song 5; keep less: its tracks are Low"),
    ],
)
def test_what_cannot_be_filled_in(tied, song, options, expected):
    with pytest.raises(InputError, match=expected):
        generate(tied, Options(**options), prime=song)


def test_a_song_is_needed_and_a_model_that_can(tied, song):
    with pytest.raises(InputError, match="infill needs a song to fill in; give it by --prime"):
        generate(tied, Options(infill="1"))
    for config in (load_config("tiny"), load_config("tiny", "nsm")):
        with pytest.raises(
            InputError, match=r"keep needs a model whose notes can be given, .*cannot"
        ):
            infill.task_of(song, model_of(config), config.data, Options(keep="tune"), False)
