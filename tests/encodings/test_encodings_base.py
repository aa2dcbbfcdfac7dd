"""What is true of every encoding."""

import dataclasses
from typing import ClassVar

import jax
import numpy as np
import pytest
from conftest import load_config, random_song

from musicjax.encodings import ENCODINGS, make_encoding
from musicjax.encodings.base import (
    EncodedSong,
    Encoding,
    FixedIds,
    ShardSong,
    shares_of_notes,
)
from musicjax.errors import InputError


def made(config) -> Encoding:
    return make_encoding(load_config("tiny", config).data)


def through_a_corpus(encoding, *songs):
    """The encoding as a corpus of songs knows it, and each song's rows there."""
    encoded = [encoding.encode(song) for song in songs]
    data, symbols = encoding.shard([song.elements for song in encoded])
    ends = np.cumsum([len(song.elements) for song in encoded])
    assert len(data) == ends[-1]
    encoding = encoding.fit(
        ShardSong(elements, symbols, True) for elements in np.split(data, ends[:-1])
    )
    return encoding, np.split(encoding.renumber(data, symbols), ends[:-1])


@pytest.mark.parametrize("config", ["vocab", "nsm"])
def test_songs_come_back_from_their_rows(config):
    songs = [random_song(1), random_song(2)]
    encoding, rows = through_a_corpus(made(config), *songs)
    for song, its_rows in zip(songs, rows, strict=True):
        assert its_rows.dtype == encoding.rows(0).dtype
        assert its_rows.shape[1:] == encoding.rows(0).shape[1:]
        elements = encoding.unpack(its_rows)
        assert elements.shape == (len(its_rows), *encoding.shape)
        assert elements.max() < (encoding.size if encoding.kind == "ids" else 2)
        (track,) = encoding.decode(elements)
        ticks = 480 // encoding.units_per_quarter
        np.testing.assert_array_equal(track.onset_ticks * ticks, song.tracks[0].onset_ticks)
        np.testing.assert_array_equal(track.pitch, song.tracks[0].pitch)
        np.testing.assert_array_equal(encoding.all_elements(its_rows), elements)
        whole, start, _, _ = encoding.prime(song, None, "error")
        np.testing.assert_array_equal(whole, elements)
        assert start == 0
        assert encoding.length(elements) == track.onset_ticks[-1] + track.duration_ticks[-1]
        assert len(encoding.text(elements).split(" ")) == len(elements)


@pytest.mark.parametrize("config", ["vocab", "nsm"])
def test_rows_of_zeros_are_elements_of_zeros(config):
    encoding, _ = through_a_corpus(made(config), random_song(1))
    elements = encoding.unpack(encoding.rows(3))
    assert elements.shape == (3, *encoding.shape)
    assert not elements.any()


@pytest.mark.parametrize("config", ["vocab", "nsm"])
def test_an_encoding_is_a_static_argument_of_jax(config):
    encoding, (rows,) = through_a_corpus(made(config), random_song(1))
    assert hash(encoding) == hash(dataclasses.replace(encoding))
    unpack = jax.jit(lambda encoding, rows: encoding.unpack(rows), static_argnums=0)
    np.testing.assert_array_equal(unpack(encoding, rows), encoding.unpack(rows))
    assert ENCODINGS[encoding.name] is type(encoding)


@dataclasses.dataclass(frozen=True)
class Pitches(FixedIds):
    """The pitches of a song's notes, one after another."""

    name: ClassVar[str] = "pitches"
    element: ClassVar[str] = "note"
    units_per_quarter: ClassVar[int] = 1

    @property
    def size(self):
        return 129

    def encode(self, song):
        ids = song.notes()[:, 2].astype(np.int32) + 1
        repeats = int((np.diff(ids) == 0).sum())
        return EncodedSong(ids, {}, {"repeats": repeats})


def test_an_encoding_that_cannot_be_transposed_says_so():
    with pytest.raises(
        InputError, match=r"transpose_range is set, but pitches .*expected \(0, 0\)"
    ):
        Pitches().transposed(np.zeros((1, 4), np.int32), np.zeros(1, np.int32))


def test_fixed_ids_are_counted_in_the_training_songs(tmp_path):
    encoding, songs = Pitches(), [random_song(seed) for seed in range(2)]
    assert encoding.counts == (0,) * 129
    ids = [encoding.encode(song).elements for song in songs]
    fit = encoding.fit([ShardSong(ids[0], [], True), ShardSong(ids[1], [], False)])
    assert fit.counts == tuple(np.bincount(ids[0], minlength=129).tolist())
    fit.save(tmp_path)
    assert encoding.load(tmp_path) == fit
    statistics = fit.statistics(
        {"length": np.array(90), "songs": np.array(2)},
        {"length": np.array(50), "songs": np.array(1), "repeats": np.array(7)},
    )
    assert statistics == {"counts": {"notes": 90}, "repeat_share": 1 / 7}
    assert fit.describe(statistics) == ["90 notes"]
    (tmp_path / "counts.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="2 counts, expected 129; encode the songs again"):
        encoding.load(tmp_path)
    (tmp_path / "counts.json").write_text("{")
    with pytest.raises(InputError, match="not counts"):
        encoding.load(tmp_path)


def test_plots_show_what_is_a_thousandth_or_more():
    durations, polyphony = shares_of_notes({1.0: 999, 0.5: 3000, 7.0: 1}, {0: 1, 4: 3})
    _, value, share = durations.series[""]
    assert (value.tolist(), share.tolist()) == ([0.5, 1.0], [0.75, 0.24975])
    _, value, share = polyphony.series[""]
    assert (value.tolist(), share.tolist()) == ([0, 4], [0.25, 0.75])
