"""The bugs of the systems behind the paper that touch songs and tokens, each shown absent."""

import numpy as np
import pytest
from conftest import encoded, gather, load_config, make_song, make_track, model_of, random_song

from musicjax.config import settings_of
from musicjax.encodings.tokens import song_to_tokens, tokens_to_song
from musicjax.encodings.vocabulary import Token
from musicjax.music import midi
from musicjax.music.song import Meter
from musicjax.training.dataset import Examples
from musicjax.training.settings import ExampleSettings


def texts(song):
    return [str(token) for token in song_to_tokens(song).tokens]


def written(song, tmp_path):
    midi.write_song(song, tmp_path / "song.mid")
    return midi.read_song(tmp_path / "song.mid")


def test_the_last_notes_end(tmp_path):
    song = written(tokens_to_song([Token((60,), 12), Token((64, 67), 30)]), tmp_path)
    assert song.notes()[:, :3].tolist() == [[0, 12, 60], [12, 30, 64], [12, 30, 67]]


def test_predicted_durations_are_written(tmp_path):
    tokens = [Token((60,), n) for n in (1, 3, 4, 12, 30, 96)]
    song = written(tokens_to_song(tokens), tmp_path)
    assert song.tracks[0].duration_ticks.tolist() == [1, 3, 4, 12, 30, 96]
    assert song.tracks[0].onset_ticks.tolist() == [0, 1, 4, 8, 20, 50]


def test_the_first_note_is_not_lost(tmp_path):
    song = written(make_song(make_track([(0, 480, 60), (480, 480, 62)])), tmp_path)
    assert texts(song) == ["C4:1", "D4:1"]


@pytest.mark.parametrize("ticks_per_quarter", [1, 5, 7, 25, 96, 120, 220, 479, 1024, 32_767])
def test_no_resolution_loses_steps_or_drifts(ticks_per_quarter):
    beats = np.arange(400)
    rows = np.stack([beats * ticks_per_quarter, np.full(400, ticks_per_quarter), 60 + beats % 12])
    song = make_song(make_track(rows.T), ticks_per_quarter=ticks_per_quarter)
    tokens = song_to_tokens(song).tokens
    assert len(tokens) == 400
    assert {token.duration for token in tokens} == {12}


@pytest.mark.parametrize("length", [1, 10, 59])
def test_notes_shorter_than_a_sixteenth_stay(length):
    assert texts(make_song(make_track([(0, length, 60), (480, length, 62)]))) == [
        "C4:1/4",
        "rest:3/4",
        "D4:1/4",
    ]


def test_the_same_pitch_in_two_tracks_ends_with_the_longer(tmp_path):
    song = make_song(make_track([(0, 480, 60)]), make_track([(0, 1920, 60)], program=40))
    song = written(song, tmp_path)
    assert sorted(song.notes()[:, 1].tolist()) == [480, 1920]
    assert texts(song) == ["C4:4"]


def test_empty_tracks_do_no_harm(tmp_path):
    song = make_song(make_track([]), make_track([(0, 480, 60)]), make_track([]))
    assert texts(song) == ["C4:1"]
    assert texts(written(song, tmp_path)) == ["C4:1"]


@pytest.mark.parametrize(
    "meters",
    [
        (Meter(0, 3, 4),),
        (Meter(0, 4, 4), Meter(960, 7, 8), Meter(4000, 3, 4)),
        (Meter(0, 1, 4),),
        (Meter(240, 5, 16),),
    ],
)
def test_no_meter_discards_or_shifts_a_song(meters, tmp_path):
    notes = [(i * 480, 480, 60 + i) for i in range(12)]
    plain = make_song(make_track(notes))
    song = written(make_song(make_track(notes), meters=meters), tmp_path)
    assert texts(song) == texts(plain)


def test_songs_of_two_type_2_tracks_are_not_mixed(tmp_path):
    song = make_song(make_track([(0, 480, 60)]), make_track([(0, 480, 61)]))
    midi.write_song(song, tmp_path / "a.mid")
    data = bytearray((tmp_path / "a.mid").read_bytes())
    data[9] = 2
    with pytest.raises(midi.MidiError, match="type_2"):
        midi.song_from_bytes(bytes(data), "a.mid")


def examples_of(lengths, tmp_path):
    """A corpus of songs of so many tokens, all of other notes; and its examples, by `pad`."""
    for i, length in enumerate(lengths):
        notes = [(t * 480, 480, 40 + (t * (i + 3)) % 40) for t in range(length)]
        midi.write_song(make_song(make_track(notes)), tmp_path / f"{i}.mid")
    config = load_config("tiny")
    config.data.source, config.data.transpose = str(tmp_path), False
    config.data.validation_share = config.data.test_share = 0.0
    corpus = encoded(config.data)
    examples = {}
    for pad in (False, True):
        config.model.pad = pad
        model = model_of(config, corpus.encoding)
        settings = settings_of(ExampleSettings, config.train, "train")
        examples[pad] = Examples(corpus, "train", model, settings, training=True)
    return corpus, examples


def test_a_piece_of_exactly_a_windows_length_is_neither_dropped_nor_a_crash(tmp_path):
    _, examples = examples_of([9, 8, 30], tmp_path)
    # 9 tokens: one window and its target; 8: none left to predict, and it is counted.
    assert len(examples[False]) == 1 + 0 + 22
    assert examples[False].short_songs == 1
    assert len(examples[True]) == 9 + 8 + 30


@pytest.mark.parametrize("pad", [False, True])
def test_windows_never_cross_songs(tmp_path, pad):
    corpus, examples = examples_of([9, 13, 30], tmp_path)
    songs = [corpus.rows(song).tolist() for song in corpus.songs]
    expected = []
    for song in songs:
        padded = [0] * 8 + song if pad else song
        expected += [padded[i : i + 9] for i in range(len(padded) - 8)]
    windows = gather(examples[pad], np.arange(len(examples[pad])))["elements"]
    assert windows.tolist() == expected


def test_outputs_have_the_tempo_they_were_given(tmp_path):
    song = written(tokens_to_song([Token((60,), 12)], qpm=83.0), tmp_path)
    assert song.main_qpm == pytest.approx(83.0, rel=1e-5)


def test_the_same_music_gives_the_same_tokens_whatever_the_track_order():
    a, b = random_song(1).tracks[0], random_song(2).tracks[0]
    assert texts(make_song(a, b)) == texts(make_song(b, a))
