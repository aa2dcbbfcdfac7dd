import math

import numpy as np
import pytest
from conftest import encoded, load_config, make_song, make_track, random_song
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from musicjax.errors import InputError
from musicjax.evaluation.distance import compare, describe, distance, passages_of
from musicjax.evaluation.metrics import MEASURES, Measure, Passage, measure

VALUES = st.lists(st.integers(-50, 50).map(lambda n: n / 7), min_size=1, max_size=12)


def tune(*pitches):
    notes = [(12 * i, 12, pitch) for i, pitch in enumerate(pitches)]
    return Passage.of_song(make_song(make_track(notes), ticks_per_quarter=12))


TUNES = [tune(60, 62, 64, 65), tune(60, 64, 67, 72), tune(60, 59, 57, 55, 60)]
NOTHING = Passage.of_song(make_song())


@pytest.fixture(scope="module", params=["vocab", "nsm"])
def corpus(request, folder):
    data = load_config("tiny", request.param).data
    data.source = str(folder)
    return encoded(data)


# --- of values ------------------------------------------------------------------------------------


def test_two_bells_overlap_by_what_is_below_both():
    reference = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
    found = distance(reference + 1, reference)
    assert found.overlap == pytest.approx(2 * stats.norm.cdf(-0.5), abs=0.02)
    assert found.divergence == pytest.approx(0.5, abs=0.04)


def test_as_the_densities_of_scipy():
    rng = np.random.default_rng(0)
    values, reference = rng.normal(1, 1, 40), rng.normal(0, 1, 40) ** 3
    bandwidth = min(values.std(), reference.std()) * 40**-0.2
    points = np.linspace(-40, 40, 20_001)
    p, q = (
        stats.gaussian_kde(each, bandwidth / each.std(ddof=1))(points) * 0.004
        for each in (values, reference)
    )
    found = distance(values, reference)
    assert found.overlap == pytest.approx(np.minimum(p, q).sum(), abs=2e-3)
    both = np.concatenate([values, reference])
    inside = (points > both.min() - 4 * bandwidth) & (points < both.max() + 4 * bandwidth)
    p, q = (1 / inside.sum() / 41 + 40 / 41 * each[inside] for each in (p, q))
    assert found.divergence == pytest.approx((p * np.log(p / q)).sum(), abs=2e-3)


@given(VALUES, VALUES)
def test_an_overlap_is_a_share_and_a_divergence_is_finite(values, reference):
    values, reference = np.array(values), np.array(reference)
    found, back = distance(values, reference), distance(reference, values)
    assert 0 <= found.overlap <= 1 + 1e-9
    assert found.overlap == pytest.approx(back.overlap, abs=1e-9)
    assert 0 <= found.divergence < 20
    assert distance(values, values).overlap == pytest.approx(1)
    assert distance(values * 1000 + 5, reference * 1000 + 5) == pytest.approx(found, abs=0.05)


def test_sets_of_one_value():
    zeros, one = np.zeros(30), np.ones(1)
    assert distance(zeros, zeros[:1]) == (1.0, 0.0)
    assert distance(one, zeros).overlap == pytest.approx(0, abs=1e-3)
    assert math.isfinite(distance(one, zeros).divergence)
    # Equal values count as common, whatever else there is.
    assert distance(np.append(zeros, one), zeros).overlap == pytest.approx(30 / 31, abs=1e-3)
    # A set that is always the same is not like one that varies.
    assert distance(zeros, np.linspace(-1, 1, 30)).overlap < 0.1
    # What rounding makes of one value is one value.
    assert distance(np.array([0.1 + 0.2]), np.array([0.3])) == (1.0, 0.0)


# --- of songs -------------------------------------------------------------------------------------


def test_sets_side_by_side():
    apart = [tune(30, 90, 31, 91), tune(40, 80, 30, 99)]
    found = compare({"training": TUNES, "test": TUNES[:2], "made": apart})
    assert found.songs == {"training": 3, "test": 2, "made": 2}
    assert list(found.figures) == list(MEASURES)
    leaps = found.figures["leaps"]
    assert [leaps[name].mean for name in found.songs] == [0, 0, 1]
    assert leaps["training"].distance is None
    assert leaps["test"].distance == (1.0, 0.0)
    assert leaps["made"].distance is not None
    assert leaps["made"].distance.overlap == pytest.approx(0, abs=1e-3)
    ranges = [measure(passage)["pitch_range"] for passage in TUNES]
    assert found.figures["pitch_range"]["training"].mean == pytest.approx(np.mean(ranges))


def test_songs_of_one_kind_are_nearer_than_others():
    passages = [Passage.of_song(random_song(seed)) for seed in range(60)]
    others = [tune(*np.random.default_rng(seed).integers(30, 90, 60)) for seed in range(20)]
    found = compare({"training": passages[:40], "test": passages[40:], "made": others}).figures
    for name in ("scale_consistency", "pitch_range", "leaps", "pitch_class_entropy"):
        near, far = (found[name][each].distance for each in ("test", "made"))
        assert near.overlap > 0.65 > 0.1 > far.overlap, name
        assert near.divergence < 0.6 < 2 < far.divergence, name


def test_pieces_without_notes_are_left_out_where_nothing_can_be_said():
    found = compare({"training": TUNES, "made": [NOTHING, *TUNES]})
    assert found.figures["silence"]["made"].mean == pytest.approx(1 / 4)
    assert found.figures["leaps"]["made"].songs == 3
    assert found.figures["leaps"]["made"].distance == (1.0, 0.0)
    text = describe(found)
    assert "of 3 of the 4 songs of made alone: on_beat, off_eighths" in text
    assert "nan" not in text


@pytest.mark.parametrize("sets", [("some", "none"), ("none", "some"), ("none", "none")])
def test_no_notes_at_all(sets):
    passages = {"some": TUNES, "none": [NOTHING]}
    found = compare({f"{i} {name}": passages[name] for i, name in enumerate(sets)})
    text = describe(found)
    assert "nan" not in text
    assert all(len(line.split()) >= 5 for line in text.splitlines()[1:26])
    assert "of 0 of the 1 songs of" in text
    assert f"{'-':>9}{'-':>8}" in text


def test_a_set_without_songs_is_refused():
    with pytest.raises(InputError, match="no song is in the set 'test'; expected at least one"):
        compare({"training": TUNES, "test": []})


def test_the_table():
    found = compare({"training": TUNES, "a run with a long name": TUNES})
    head, *lines = describe(found).splitlines()
    rows, notes = lines[: len(MEASURES)], lines[len(MEASURES) :]
    assert head.lstrip() == "training (3)   a run with a long name (3)  overlap      KL"
    assert [row.split()[0] for row in rows] == list(MEASURES)
    assert {len(row) for row in rows} == {len(head)}
    ranges = rows[list(MEASURES).index("pitch_range")]
    assert ranges.split()[1:] == ["7.333", "7.333", "1.00", "0.00"]
    assert notes == [
        "of 1 of the 3 songs of training alone: groove_consistency, self_similarity",
        "training: distributions of 3 songs say little",
        "of 1 of the 3 songs of a run with a long name alone: groove_consistency, self_similarity",
        "a run with a long name: distributions of 3 songs say little",
    ]


def test_a_measure_of_ones_own_is_in_the_table(monkeypatch):
    monkeypatch.setitem(MEASURES._things, "first", None)  # taken away again after the test
    MEASURES.register("first", Measure(lambda p: int(p.notes[0, 2])))
    found = compare({"training": TUNES, "made": [tune(60), tune(60)]})
    assert found.figures["first"]["made"].mean == 60


# --- of a corpus ----------------------------------------------------------------------------------


def test_songs_of_a_corpus_come_through_its_encoding(corpus):
    passages = passages_of(corpus, "train")
    records = corpus.split("train")
    assert [passage.song.source for passage in passages] == [record.name for record in records]
    for passage, record in zip(passages, records, strict=True):
        assert len(passage.elements) == record.length
        assert passage.element == corpus.encoding.element
        assert passage.song.main_qpm == 100.0
        assert passage.ticks == corpus.encoding.length(passage.elements) >= passage.song.end_ticks
        (track,) = corpus.encoding.decode(passage.elements)
        np.testing.assert_array_equal(passage.song.notes()[:, :3], notes_of(track))
    found = [measure(passage) for passage in passages]
    # They are made of eighths, quarters and halves.
    assert {each["off_eighths"] for each in found} == {0.0}


def notes_of(track):
    return np.stack([track.onset_ticks, track.duration_ticks, track.pitch], axis=1)


def test_songs_are_cut_to_a_length(corpus):
    units = 4 * corpus.encoding.units_per_quarter
    whole, cut = passages_of(corpus, "test"), passages_of(corpus, "test", units=units)
    assert len(whole) == len(cut) > 0
    for long, short in zip(whole, cut, strict=True):
        assert long.ticks > units == short.ticks >= short.song.end_ticks
        np.testing.assert_array_equal(short.elements, long.elements[: len(short.elements)])
        begun = corpus.encoding.onsets(long.elements) < units
        assert len(short.elements) == begun.sum()
    longest = max(passage.ticks for passage in whole)
    again = passages_of(corpus, "test", units=longest)
    assert [passage.ticks for passage in again] == [passage.ticks for passage in whole]


def test_some_songs_of_many(corpus):
    names = [record.name for record in corpus.split("train")]
    some = [passage.song.source for passage in passages_of(corpus, "train", most=5)]
    assert len(some) == 5
    assert some[0] == names[0]
    assert len(set(some)) == 5
    assert len(passages_of(corpus, "train", most=1000)) == len(names)
