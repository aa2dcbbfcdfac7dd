import numpy as np
import pytest
from conftest import encoded, load_config, make_song, make_track, random_song, settings
from hypothesis import given
from hypothesis import strategies as st

from musicjax import cleaning, midi
from musicjax.song import Meter, Tempo


def reasons(data):
    """Reason by name, of a source that also has a good song."""
    return {row["name"]: row["reason"] for row in encoded(data).skipped}


def test_each_setting_leaves_out_what_it_says(tmp_path):
    good = random_song(0)
    midi.write_song(good, tmp_path / "good.mid")
    notes = [(t * 480, 480, 60 + t % 12) for t in range(20)]
    midi.write_song(make_song(make_track(notes), tempos=(Tempo(0, 700.0),)), tmp_path / "fast.mid")
    midi.write_song(make_song(make_track(notes), tempos=(Tempo(0, 12.0),)), tmp_path / "slow.mid")
    late = [*notes, (480 * 200 * 60, 480, 60)]
    midi.write_song(make_song(make_track(late)), tmp_path / "long.mid")
    midi.write_song(make_song(make_track(notes[:7])), tmp_path / "short.mid")
    (tmp_path / "big.mid").write_bytes((tmp_path / "good.mid").read_bytes() + bytes(5_000_000))
    assert reasons(settings(tmp_path)) == {
        "fast.mid": "tempo",
        "slow.mid": "tempo",
        "long.mid": "too_long",
        "short.mid": "few_notes",
        "big.mid": "too_big",
    }
    off = {"least_qpm": 0.0, "most_qpm": 1e9, "longest_minutes": 0.0, "least_notes": 0}
    # The two tempos' notes are the same; the large file's are the good one's.
    assert reasons(settings(tmp_path, most_megabytes=6.0, **off)) == {
        "good.mid": "same_notes",
        "slow.mid": "same_notes",
    }
    assert reasons(settings(tmp_path, most_megabytes=6.0, same_notes=True, **off)) == {}


@pytest.mark.parametrize("config", ["vocab", "nsm"])
def test_copies_in_whatever_key_are_found_and_the_first_stays(tmp_path, config):
    data = load_config("tiny", config).data
    data.source, data.transpose = str(tmp_path), False
    for seed in range(3):
        midi.write_song(random_song(seed), tmp_path / f"{seed}.mid")
    (tmp_path / "copy.mid").write_bytes((tmp_path / "1.mid").read_bytes())
    midi.write_song(random_song(2).transposed(5), tmp_path / "higher.mid")
    midi.write_song(random_song(2).transposed(-12), tmp_path / "octave.mid")
    corpus = encoded(data)
    assert {row["name"]: (row["reason"], row["detail"]) for row in corpus.skipped} == {
        "copy.mid": ("copy", "of 1.mid"),
        "higher.mid": ("same_notes", "of 2.mid"),
        "octave.mid": ("same_notes", "of 2.mid"),
    }
    data.copies = data.same_notes = True
    assert len(encoded(data).songs) == 6


def test_silence_is_cut_by_whole_bars():
    # 3/4: a bar is counted as two, six quarters. Ten quarters, 100 of silence, then on.
    before = [(t * 480, 480, 60) for t in range(10)]
    after = [((110 + t) * 480, 480, 62) for t in range(4)]
    song = make_song(make_track([*before, *after]), meters=(Meter(0, 3, 4),))
    cut, bars = cleaning.without_silence(song, 4)
    onset = cut.tracks[0].onset_ticks // 480
    assert onset[:10].tolist() == list(range(10))
    # 100 quarters are 16 bars of six and four quarters: 12 bars go.
    assert bars == 12
    assert onset[10:].tolist() == [110 - 72 + t for t in range(4)]
    assert cleaning.without_silence(cut, 4) == (cut, 0)


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 30)), min_size=1, max_size=20),
    st.sampled_from([(4, 4), (3, 4), (7, 8), (1, 4), (2, 2)]),
    st.integers(1, 4),
)
def test_cutting_silence_keeps_the_notes_and_their_places_in_the_bar(places, meter, longest):
    rows = [(12 * onset, 12 * length, 60 + i) for i, (onset, length) in enumerate(places)]
    song = make_song(make_track(rows), ticks_per_quarter=24, meters=(Meter(0, *meter),))
    cut, bars = cleaning.without_silence(song, longest)
    before, after = song.notes(), cut.notes()
    np.testing.assert_array_equal(before[:, 1:], after[:, 1:])
    moved = before[:, 0] - after[:, 0]
    bar = 96 * meter[0] // meter[1]
    assert not (moved % bar).any()
    assert (np.diff(moved) >= 0).all()
    assert (moved[-1] > 0) == (bars > 0)
    # No silence is longer than allowed by a bar, which may be several of the meter's.
    ends = np.maximum.accumulate(np.append(0, after[:, 0] + after[:, 1]))[:-1]
    whole = bar * -(-96 // bar)
    assert (after[:, 0] - ends).max() < (longest + 1) * whole


def test_the_voice_is_found_by_its_shape(tmp_path):
    tune = [(t * 480, 400, 64 + t % 7) for t in range(40)]
    chords = [(t * 960, 900, p) for t in range(20) for p in (60, 64, 67)]
    bass = [(t * 480, 400, 36 + t % 5) for t in range(40)]
    flute = [(t * 480, 400, 90 + t % 5) for t in range(40)]
    song = make_song(*(make_track(rows, name="") for rows in (chords, bass, tune, flute)))
    prepared = cleaning.prepare(song, settings("", track="vocals"))
    assert prepared.rule == "melody"
    assert len(prepared.song.tracks) == 1
    assert np.median(prepared.song.transposed(-prepared.semitones).tracks[0].pitch) == 67
    only_chords = make_song(make_track(chords, name=""))
    assert cleaning.prepare(only_chords, settings("", track="vocals")).rule == "none"
