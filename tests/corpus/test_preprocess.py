import dataclasses

import numpy as np
import pytest
from conftest import encoded, make_song, make_track, random_song, settings
from hypothesis import given
from hypothesis import strategies as st

from configs import events, nsm, vocab
from musicjax.corpus import preprocess
from musicjax.corpus.preprocess import Preprocessing
from musicjax.errors import InputError, SongError
from musicjax.music import midi
from musicjax.music.song import KeySignature, Meter, Tempo
from musicjax.sources import SongFile
from musicjax.sources.folder import Folder


def preprocessing(**changes) -> Preprocessing:
    return Preprocessing.from_config(settings("", **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"least_notes": -1}, "data.least_notes is -1; expected at least 0"),
        ({"longest_silence": -1}, r"data.longest_silence is -1; expected at least 0 \(bars"),
        ({"most_megabytes": 0.0}, "data.most_megabytes is 0.0; expected more than 0"),
        ({"most_qpm": 20.0}, "data.most_qpm is 20.0; expected more than 20.0"),
        ({"decade": 1970}, "data.decade is 1970; expected 0, or data.table"),
        ({"last_year": 1970}, "data.last_year is 1970; expected 0, or data.table"),
        ({"decade": 1975, "table": "t"}, "data.decade is 1975; expected such as 1970, or 0"),
    ],
)
def test_settings_that_cannot_be_are_one_clear_line(changes, message):
    with pytest.raises(InputError, match=message):
        preprocessing(**changes)


# --- which songs are trusted -----------------------------------------------------------------


def skipped(data):
    """Reason by name."""
    return {row.name: row.reason for row in encoded(data).skipped}


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
    assert skipped(settings(tmp_path)) == {
        "fast.mid": "tempo",
        "slow.mid": "tempo",
        "long.mid": "too_long",
        "short.mid": "few_notes",
        "big.mid": "too_big",
    }
    off = {"least_qpm": 0.0, "most_qpm": 1e9, "longest_minutes": 0.0, "least_notes": 0}
    # The two tempos' notes are the same; the large file's are the good one's.
    assert skipped(settings(tmp_path, most_megabytes=6.0, **off)) == {
        "good.mid": "same_notes",
        "slow.mid": "same_notes",
    }
    assert skipped(settings(tmp_path, most_megabytes=6.0, dedupe_notes=False, **off)) == {}


def read(file, tmp_path, **changes):
    return preprocess.read_song(Folder(tmp_path), file, preprocessing(**changes))


def test_a_song_has_the_artist_and_year_of_the_table(tmp_path):
    midi.write_song(random_song(1), tmp_path / "a.mid")
    (tmp_path / "t.csv").write_text("id,artist,title,year,split\na,Someone,A Song,1975,test\n")
    (file,) = Folder(tmp_path).find()
    song = read(file, tmp_path, table=str(tmp_path / "t.csv"), decade=1970)
    known = {"artist": "Someone", "title": "A Song", "year": 1975, "decade": 1970}
    assert song.metadata == known
    # What the table says has priority over the source.
    named = file.with_metadata(artist="Somebody", title="Song", md5=song.md5)
    assert read(named, tmp_path, table=str(tmp_path / "t.csv")).metadata == known
    assert read(named, tmp_path).metadata == {"artist": "Somebody", "title": "Song"}
    assert song.song.num_notes == random_song(1).num_notes


@pytest.mark.parametrize(
    ("years", "reason"),
    [
        ({"decade": 1970}, None),
        ({"first_year": 1975}, None),
        ({"first_year": 1976}, "other_year"),
        ({"last_year": 1975}, None),
        ({"last_year": 1974}, "other_year"),
        ({"decade": 1980}, "other_year"),
    ],
)
def test_songs_of_other_years_are_not_read(tmp_path, years, reason):
    midi.write_song(random_song(1), tmp_path / "a.mid")
    (tmp_path / "t.csv").write_text("id,year\na,1975\nb,\n")
    (file,) = Folder(tmp_path).find()
    if not reason:
        read(file, tmp_path, table=str(tmp_path / "t.csv"), **years)
        return
    file.path.unlink()
    with pytest.raises(SongError) as caught:
        read(file, tmp_path, table=str(tmp_path / "t.csv"), **years)
    assert caught.value.reason == reason


def test_a_song_without_a_year_is_not_wanted_where_years_are(tmp_path):
    midi.write_song(random_song(1), tmp_path / "a.mid")
    (tmp_path / "t.csv").write_text("id,year\nb,1975\n")
    (file,) = Folder(tmp_path).find()
    assert read(file, tmp_path, table=str(tmp_path / "t.csv")).metadata == {}
    for years in ({"decade": 1970}, {"last_year": 1990}):
        with pytest.raises(SongError, match=r"unknown_year: no (decade|year) in .*t\.csv"):
            read(file, tmp_path, table=str(tmp_path / "t.csv"), **years)


def test_a_refused_file_is_not_read(tmp_path):
    file = SongFile(tmp_path / "none.mid", "none.mid", {"refused": ("omitted", "a copy")})
    with pytest.raises(SongError, match=r"none\.mid: omitted: a copy"):
        read(file, tmp_path)


def test_a_table_that_cannot_be_is_one_clear_line(tmp_path):
    (tmp_path / "t.csv").write_text("md5,year\nx,nineteen\n")
    with pytest.raises(InputError, match="line 2: year is 'nineteen'; expected a number"):
        preprocessing(table=str(tmp_path / "t.csv")).read_table()
    assert preprocessing().read_table() is None


# --- what is left of them --------------------------------------------------------------------


def test_a_part_is_chosen_then_moved_to_c_by_the_key_of_the_whole_song():
    tune = [(t * 480, 480, 62 + (0, 4, 7, 12, 2, 5, 7, 11)[t % 8]) for t in range(32)]  # D major
    one_note = [(t * 480, 120, 40) for t in range(32)]  # alone it would seem to be in E
    song = make_song(make_track(tune), make_track(one_note, name="Bass", program=33))
    prepared = preprocess.prepare(song, preprocessing(track="bass"))
    assert (prepared.rule, prepared.semitones, prepared.key.name) == ("track name", -2, "D:maj")
    assert set(prepared.song.tracks[0].pitch.tolist()) == {38}
    plain = preprocess.prepare(song, preprocessing(track="bass", transpose=False))
    assert (plain.semitones, plain.key) == (0, prepared.key)
    assert set(plain.song.tracks[0].pitch.tolist()) == {40}
    none = preprocess.prepare(song, preprocessing(track="drums"))
    assert (none.song.tracks, none.rule) == ((), "none")
    assert preprocess.track_names(song) == "Bass, Piano"


def test_drums_come_in_by_a_setting():
    drums = make_track([(t * 480, 120, 36) for t in range(9)], is_drum=True)
    song = make_song(random_song(1).tracks[0], drums)
    for flag in (False, True):
        settings_with = preprocessing(track="all", drums=flag, instruments=True)
        prepared = preprocess.prepare(song, settings_with)
        assert [track.is_drum for track in prepared.song.tracks] == [False, True][: 1 + flag]


def test_the_voice_is_found_by_its_shape():
    tune = [(t * 480, 400, 64 + t % 7) for t in range(40)]
    chords = [(t * 960, 900, p) for t in range(20) for p in (60, 64, 67)]
    bass = [(t * 480, 400, 36 + t % 5) for t in range(40)]
    flute = [(t * 480, 400, 90 + t % 5) for t in range(40)]
    song = make_song(*(make_track(rows, name="") for rows in (chords, bass, tune, flute)))
    prepared = preprocess.prepare(song, preprocessing(track="vocals"))
    assert prepared.rule == "melody"
    assert len(prepared.song.tracks) == 1
    assert np.median(prepared.song.transposed(-prepared.semitones).tracks[0].pitch) == 67
    only_chords = make_song(make_track(chords, name=""))
    assert preprocess.prepare(only_chords, preprocessing(track="vocals")).rule == "none"


# --- on the grid -----------------------------------------------------------------------------


def later(song, ticks):
    rows = [(onset + ticks, length, pitch) for onset, length, pitch, _ in song.notes().tolist()]
    return make_song(make_track(rows), meters=song.meters, tempos=song.tempos)


def on_beats(seed=0):
    """Most notes begin on beats, the first after a bar of silence."""
    rng = np.random.default_rng(seed)
    onsets = 1920 + 480 * np.arange(60) + rng.choice([0, 0, 0, 240, 120], 60)
    return make_song(make_track([(t, 110, 60 + i % 12) for i, t in enumerate(onsets.tolist())]))


@pytest.mark.parametrize("shift", [0, 37, 60, -50, 119, 240, -200, 300, 479])
def test_a_song_that_begins_anywhere_in_a_beat_is_moved_to_its_beats(shift):
    song = on_beats()
    aligned, moved = preprocess.aligned(later(song, shift))
    onsets = aligned.tracks[0].onset_ticks
    assert not (onsets % 120).any()
    assert ((onsets % 480) == 0).mean() > 0.5
    by = onsets - song.tracks[0].onset_ticks
    assert len(set(by.tolist())) == 1
    assert by[0] == shift + moved * 120
    assert -2.5 <= moved <= 1.5
    assert aligned.tracks[0].duration_ticks.tolist() == song.tracks[0].duration_ticks.tolist()


def test_a_song_without_clear_beats_is_moved_to_the_nearest_sixteenth():
    rows = [(1920 + 120 * i, 100, 60 + i % 7) for i in range(64)]
    song = make_song(make_track(rows))
    for shift, moved in ((0, 0), (50, -50 / 120), (-50, 50 / 120), (120, 0), (240 + 10, -10 / 120)):
        found, by = preprocess.aligned(later(song, shift))
        assert by == pytest.approx(moved, abs=1e-3)
        assert not (found.tracks[0].onset_ticks % 120).any()


def test_a_song_on_its_grid_is_left_as_it_is():
    for song in (on_beats(), make_song(), make_song(make_track([]))):
        assert preprocess.aligned(song) == (song, 0.0)


def test_a_song_that_begins_at_once_is_moved_to_the_next_beat():
    rows = [(0, 100, 60), *((480 * i + 240, 100, 62) for i in range(20))]
    aligned, moved = preprocess.aligned(make_song(make_track(rows)))
    assert moved == 2
    assert aligned.tracks[0].onset_ticks[:3].tolist() == [240, 480, 960]


def test_notes_that_would_begin_before_the_song_begin_with_it():
    song = make_song(make_track([(50, 480, 60), *((480 * i + 50, 240, 62) for i in range(1, 9))]))
    early = make_song(make_track([(0, 60, 59), *map(tuple, song.notes()[:, :3].tolist())]))
    aligned, moved = preprocess.aligned(early)
    assert moved < 0
    assert aligned.tracks[0].onset_ticks[:2].tolist() == [0, round(50 + moved * 120)]
    assert aligned.tracks[0].duration_ticks[0] == 60 + round(moved * 120)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(0, 479), st.integers(0, 20))
def test_aligning_twice_is_aligning_once(seed, notes, shift, jitter):
    rng = np.random.default_rng(seed)
    onsets = 1920 + 120 * rng.integers(0, 99, notes) + rng.integers(-jitter, jitter + 1, notes)
    song = make_song(make_track([(t + shift, 90, 60) for t in onsets.tolist()]))
    once, moved = preprocess.aligned(song)
    assert -2.5 <= moved <= 1.5
    again, moved_again = preprocess.aligned(once)
    # But for half a tick that rounds up.
    assert abs(moved_again) * 120 <= (1.01 if jitter else 0)
    assert abs(again.notes() - once.notes()).max() <= bool(jitter)


def test_aligned_songs_have_tokens_on_the_grid_and_say_how_far_they_were_moved(tmp_path):
    midi.write_song(later(on_beats(), 50), tmp_path / "late.mid")
    durations = {}
    for align in (False, True):
        corpus = encoded(settings(tmp_path, align=align, test_share=0.0, validation_share=0.0))
        (song,) = corpus.songs
        ids = corpus.encoding.all_elements(np.asarray(corpus.rows(song)))
        durations[align] = corpus.encoding.units(ids)
        assert song.moved == (-0.417 if align else 0)
    assert not (durations[True] % 3).any()  # of a twelfth of a quarter
    assert (durations[False] % 3).any()  # or this test shows nothing


# --- silence ---------------------------------------------------------------------------------


def test_silence_is_cut_where_the_chosen_part_is_silent():
    rows = [(0, 480, 60), (480 * 100, 480, 62)]
    tune = [(t * 480, 480, 72) for t in range(101)]
    song = make_song(make_track(rows), make_track(tune, name="Bass", program=33))
    prepared = preprocess.prepare(song, preprocessing(track="piano", longest_silence=2))
    assert prepared.bars_cut == 22  # 99 quarters of silence are 24 bars and 3 quarters
    assert prepared.song.tracks[0].onset_ticks.tolist() == [0, 480 * (100 - 4 * 22)]
    assert preprocess.prepare(song, preprocessing(track="piano")).bars_cut == 0
    assert preprocess.prepare(song, preprocessing(track="all", longest_silence=2)).bars_cut == 0


def test_silence_is_cut_by_whole_bars():
    # 3/4: a bar is counted as two, six quarters. Ten quarters, 100 of silence, then on.
    before = [(t * 480, 480, 60) for t in range(10)]
    after = [((110 + t) * 480, 480, 62) for t in range(4)]
    song = make_song(make_track([*before, *after]), meters=(Meter(0, 3, 4),))
    cut, bars = preprocess.without_silence(song, 4)
    onset = cut.tracks[0].onset_ticks // 480
    assert onset[:10].tolist() == list(range(10))
    # 100 quarters are 16 bars of six and four quarters: 12 bars go.
    assert bars == 12
    assert onset[10:].tolist() == [110 - 72 + t for t in range(4)]
    assert preprocess.without_silence(cut, 4) == (cut, 0)
    empty = make_song()
    assert preprocess.without_silence(empty, 4) == (empty, 0)


def test_meters_tempos_and_keys_move_with_the_notes():
    song = make_song(
        make_track([(0, 480, 60), (480 * 44, 480, 62)]),
        meters=(Meter(0, 4, 4), Meter(480 * 44, 3, 4)),
        tempos=(Tempo(0, 100.0), Tempo(480 * 24, 90.0), Tempo(480 * 48, 80.0)),
        keys=(KeySignature(480 * 4, 1, False),),
    )
    cut, bars = preprocess.without_silence(song, 2)
    assert bars == 5  # 43 quarters are seven bars of 3/4, counted as six quarters, and one more
    assert cut.tracks[0].onset_ticks.tolist() == [0, 480 * 14]
    assert [meter.tick for meter in cut.meters] == [0, 480 * 14]
    # A tempo inside of what is cut comes to where that was.
    assert [tempo.tick for tempo in cut.tempos] == [0, 480 * 14, 480 * 18]
    assert [key.tick for key in cut.keys] == [480 * 4]


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 30)), min_size=1, max_size=20),
    st.sampled_from([(4, 4), (3, 4), (7, 8), (1, 4), (2, 2)]),
    st.integers(1, 4),
)
def test_cutting_silence_keeps_the_notes_and_their_places_in_the_bar(places, meter, longest):
    rows = [(12 * onset, 12 * length, 60 + i) for i, (onset, length) in enumerate(places)]
    song = make_song(make_track(rows), ticks_per_quarter=24, meters=(Meter(0, *meter),))
    cut, bars = preprocess.without_silence(song, longest)
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


# --- by what a song is known again ------------------------------------------------------------


def test_digests_know_the_same_music():
    song = make_song(*random_song(1).tracks, make_track([(0, 480, 36)], is_drum=True))
    first = preprocess.digests(song)
    # By these songs are held out: another digest would move them to other splits.
    assert first == (
        "a87c3f474b3d8c40a83eae172fd6b30f",
        "b4a37c988866b27ab654edcadbe2eba5",
    )
    for semitones in (12, -12):  # songs in C may still be an octave apart
        assert preprocess.digests(song.transposed(semitones)) == first
    moved = preprocess.digests(song.transposed(5))
    assert moved.same_notes == first.same_notes
    assert moved.content != first.content
    louder = [dataclasses.replace(t, velocity=np.full(len(t), 20)) for t in song.tracks]
    later = [dataclasses.replace(t, onset_ticks=t.onset_ticks + 960) for t in song.tracks]
    for tracks in (louder, later, song.tracks[::-1]):
        assert preprocess.digests(dataclasses.replace(song, tracks=tuple(tracks))) == first
    other_drum = make_song(*random_song(1).tracks, make_track([(0, 480, 38)], is_drum=True))
    for other in (random_song(2), other_drum):
        assert preprocess.digests(other).same_notes != first.same_notes


def test_all_encodings_hold_out_the_same_songs(tmp_path):
    for seed in range(30):
        midi.write_song(random_song(seed), tmp_path / f"{seed}.mid")
    splits = []
    for config in (vocab, nsm, events):
        data = config.get_config("tiny").data
        data.source, data.track, data.songs = str(tmp_path), "all", 0
        data.validation_share, data.test_share = 0.1, 0.2
        splits.append({song.name: song.split for song in encoded(data).songs})
    assert splits[0] == splits[1] == splits[2]
    assert set(splits[0].values()) == {"train", "validation", "test"}
