import csv

import numpy as np
import pytest
from conftest import SHARED, make_song, make_track

from musicjax.music import key, midi

MAJOR = [0, 2, 4, 5, 7, 9, 11, 12]
HARMONIC_MINOR = [0, 2, 3, 5, 7, 8, 11, 12]


def scale(tonic, steps):
    """The scale with a long tonic and fifth."""
    lengths = [3, 1, 1, 1, 2, 1, 1, 3]
    onsets = np.cumsum([0, *lengths[:-1]]) * 480
    rows = [(o, n * 480, tonic + s) for o, n, s in zip(onsets, lengths, steps, strict=True)]
    return make_song(make_track(rows), make_track([(0, 99_999, 66)], is_drum=True))


@pytest.mark.parametrize("tonic", range(48, 60))
def test_scales_are_found_and_moved_home_by_the_shorter_way(tonic):
    for steps, minor, home in ((MAJOR, False, 0), (HARMONIC_MINOR, True, 9)):
        song = scale(tonic, steps)
        found = key.estimate_key(song)
        assert (found.tonic, found.minor) == (tonic % 12, minor)
        assert found.margin > 0
        assert -6 <= found.semitones_to_c <= 5
        assert (tonic + found.semitones_to_c) % 12 == home
        again = key.estimate_key(song.transposed(found.semitones_to_c))
        assert again.semitones_to_c == 0


def test_drums_have_no_key():
    assert key.estimate_key(make_song(make_track([(0, 10, 36)], is_drum=True))) is None


def test_names():
    assert key.Key(0, False, 0.1).name == "C:maj"
    assert key.Key(9, True, 0.1).name == "A:min"
    assert key.Key(6, False, 0.1).semitones_to_c == -6
    assert key.Key(7, False, 0.1).semitones_to_c == 5


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/midi is not there")
def test_annotated_keys_of_pop909():
    flats = {"Db": "C#", "D#": "Eb", "Gb": "F#", "G#": "Ab", "A#": "Bb"}
    right, total = 0, 0
    with (SHARED / "pop909" / "index.tsv").open() as index:
        for row in csv.DictReader(index, delimiter="\t"):
            if row["n_key_segments"] == "1":
                tonic, mode = row["main_key_annotated"].split(":")
                song = midi.read_song(SHARED / "pop909" / f"{row['id']}.mid")
                found = key.estimate_key(song)
                right += found is not None and found.name == f"{flats.get(tonic, tonic)}:{mode}"
                total += 1
    assert total > 300
    assert right / total >= 0.90
