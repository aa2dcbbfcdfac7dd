import dataclasses
import itertools
import json
from fractions import Fraction

import numpy as np
import pytest
from conftest import encoded, load_config, make_song, make_track, random_song

from musicjax.errors import InputError
from musicjax.evaluation import novelty
from musicjax.evaluation.metrics import Passage
from musicjax.evaluation.novelty import (
    MOST_BY_CHANCE,
    VIEWS,
    Match,
    build_index,
    describe,
    index_of,
    longest_match,
    open_index,
    shared_ngrams,
    suffix_array,
)
from musicjax.music import midi
from musicjax.music.song import Song

ENCODINGS = {"tokens": "vocab", "note_states": "nsm", "events": "events"}
QUARTERS = (12,) * 100


def corpus_of(songs, folder, encoding="tokens"):
    """All of them training songs."""
    folder.mkdir(exist_ok=True)
    for i, song in enumerate(songs):
        midi.write_song(song, folder / f"{i:04d}.mid")
    data = load_config("tiny", ENCODINGS[encoding]).data
    data.source = str(folder)
    data.update({"validation_share": 0.0, "test_share": 0.0, "transpose": False, "least_notes": 1})
    data.update({"dedupe_notes": False, "dedupe_files": False, "check_md5": False})
    return encoded(data)


def decoded(corpus, record) -> Song:
    """A song of a corpus, as it was encoded."""
    elements = corpus.encoding.all_elements(corpus.rows(record))
    tracks = corpus.encoding.decode(elements)
    return make_song(*tracks, ticks_per_quarter=corpus.encoding.units_per_quarter)


@pytest.fixture(scope="module", params=ENCODINGS)
def corpus(request, tmp_path_factory):
    songs = [random_song(seed) for seed in range(30)]
    return corpus_of(songs, tmp_path_factory.mktemp("songs") / "midi", request.param)


@pytest.fixture(scope="module")
def index(corpus, tmp_path_factory):
    return build_index(corpus, tmp_path_factory.mktemp("index") / "index")


def small_index(tmp_path, *songs):
    """An index of songs of (onset, duration, pitch) rows, in twelfths of a quarter note."""
    made = [make_song(make_track(rows), ticks_per_quarter=12) for rows in songs]
    return build_index(corpus_of(made, tmp_path / "midi"), tmp_path / "index")


def passage(*tracks, ticks_per_quarter=12) -> Passage:
    """Of rows as in small_index."""
    tracks = [make_track(rows) if isinstance(rows, list) else rows for rows in tracks]
    return Passage.of_song(make_song(*tracks, ticks_per_quarter=ticks_per_quarter))


def tune(pitches, lengths=QUARTERS, start=0) -> list[tuple[int, int, int]]:
    """Rows of notes that follow one another."""
    rows = []
    for pitch, length in zip(pitches, lengths, strict=False):
        rows.append((start, length, pitch))
        start += length
    return rows


TUNE = tune([60, 62, 64, 65, 64, 60, 67, 69, 67, 62], [12, 6, 6, 24, 12, 12, 18, 6, 12, 24])
NOISE = np.array([1, 11, 3, 13, 5, 17, 2, 19])  # lengths that no tune has


def noise(start: int, seed: int) -> list[tuple[int, int, int]]:
    """Eight notes of other music."""
    pitches = np.random.default_rng(seed).integers(30, 100, 8).tolist()
    return tune(pitches, (12 * NOISE).tolist(), start)


# --- a planted copy -----------------------------------------------------------------------------


@pytest.mark.parametrize("semitones", [0, 5, -12, 24])
@pytest.mark.parametrize("factor", [1, 2, 3, Fraction(1, 2)])
def test_a_planted_copy_is_found_where_it_is(corpus, index, semitones, factor):
    record = corpus.songs[17]
    notes = decoded(corpus, record).notes()
    times = np.unique(notes[:, 0])
    begin, end = times[[9, 28]]
    planted = notes[(notes[:, 0] >= begin) & (notes[:, 0] <= end)]
    ticks = 2 * corpus.encoding.units_per_quarter  # so that half a unit is a whole tick
    rows = noise(0, seed=1)
    start = rows[-1][0] + rows[-1][1]
    for onset, length, pitch, _ in planted.tolist():
        at, last = start + 2 * factor * (onset - begin), max(int(2 * factor * length), 1)
        rows.append((int(at), last, pitch + semitones))
    rows += noise(rows[-1][0] + rows[-1][1], seed=2)

    match = longest_match(index, passage(rows, ticks_per_quarter=ticks))
    assert (match.song, match.onsets) == (record.name, 20)
    assert match.distinct > MOST_BY_CHANCE["notes"]
    units = corpus.encoding.units_per_quarter
    assert match.song_quarter == begin / units
    assert match.quarters == factor * (end - begin) / units
    assert match.piece_quarter == start / ticks


def test_a_training_song_is_all_shared(corpus, index):
    record = corpus.songs[4]
    song = decoded(corpus, record).transposed(3)
    found = Passage.of_song(song)
    for view in VIEWS:
        match = longest_match(index, found, view)
        assert (match.song, match.song_quarter) == (record.name, match.piece_quarter)
        assert shared_ngrams(index, found, 16, view) == 1.0
    assert longest_match(index, found).onsets == len(np.unique(song.notes()[:, 0]))


def test_different_tunes_raise_no_alarm(corpus, index):
    for seed in range(100, 140):
        song = random_song(seed)
        for view in VIEWS:
            match = longest_match(index, Passage.of_song(song), view)
            assert 3 <= match.distinct <= MOST_BY_CHANCE[view]
            assert shared_ngrams(index, Passage.of_song(song), 20, view) == 0.0


def test_songs_that_are_held_out_are_not_in_the_index(corpus, tmp_path):
    split = [
        dataclasses.replace(record, split="test" if i == 3 else "train")
        for i, record in enumerate(corpus.songs)
    ]
    index = build_index(dataclasses.replace(corpus, songs=split), tmp_path / "index")
    assert split[3].name not in index.songs
    held_out = Passage.of_song(decoded(corpus, split[3]))
    assert longest_match(index, held_out).distinct <= MOST_BY_CHANCE["notes"]


# --- what is a run ------------------------------------------------------------------------------


def by_definition(piece: Song, song: Song) -> np.ndarray:
    """int [onsets of the piece]: the longest run that begins there, found by trying all."""

    def chords(song):
        onset, _, pitch, _ = song.notes().T
        times = np.unique(onset).tolist()
        return times, [set(pitch[onset == time].tolist()) for time in times]

    def alike(i, j, length):
        by = max(b[j]) - max(a[i])
        first, second = ta[i : i + length], tb[j : j + length]
        between, others = np.diff(first).tolist(), np.diff(second).tolist()
        return all(
            {p + by for p in x} == y
            for x, y in zip(a[i : i + length], b[j : j + length], strict=True)
        ) and (len({Fraction(x, y) for x, y in zip(between, others, strict=True)}) <= 1)

    (ta, a), (tb, b) = chords(piece), chords(song)
    longest = np.zeros(len(a), int)
    for i, j in itertools.product(range(len(a)), range(len(b))):
        length = 3
        while i + length <= len(a) and j + length <= len(b) and alike(i, j, length):
            longest[i] = max(longest[i], length)
            length += 1
    return longest


def few_chords(seed: int, onsets: int) -> list[tuple[int, int, int]]:
    """Music of two chords and two lengths, which repeats itself a lot."""
    rng = np.random.default_rng(seed)
    rows, start = [], 0
    for _ in range(onsets):
        pitches = [60] if rng.random() < 0.8 else [62, 65]
        rows += [(start, 3, pitch) for pitch in pitches]
        start += 3 if rng.random() < 0.8 else 6
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_matches_are_those_of_the_definition(tmp_path, seed):
    songs = [few_chords(10 * seed + i, onsets=int(20 + 10 * i)) for i in range(4)]
    corpus = corpus_of(
        [make_song(make_track(rows), ticks_per_quarter=12) for rows in songs], tmp_path / "midi"
    )
    index = build_index(corpus, tmp_path / "index")
    piece = make_song(make_track(few_chords(99 + seed, 40)), ticks_per_quarter=24)
    runs = [by_definition(piece, decoded(corpus, record)) for record in corpus.songs]
    longest = np.max(runs, axis=0)
    assert longest.max() > 6
    found = Passage.of_song(piece)
    for n in range(3, int(longest.max()) + 2):
        expected = (longest[: len(longest) - n + 1] >= n).mean()
        assert shared_ngrams(index, found, n) == pytest.approx(expected)
    match = longest_match(index, found)
    times = np.unique(piece.notes()[:, 0])
    begins = int(np.flatnonzero(times == match.piece_quarter * 24)[0])
    assert match.onsets == longest[begins]
    # Of the songs that have it, the first.
    have_it = [
        r.name
        for r, of_song in zip(corpus.songs, runs, strict=True)
        if of_song[begins] == match.onsets
    ]
    assert match.song == have_it[0]


def test_how_long_notes_are_held_and_who_plays_them_does_not_matter(tmp_path):
    index = small_index(tmp_path, TUNE)
    short = [(onset, 1, pitch + 7) for onset, _, pitch in TUNE]
    tracks = [make_track(short[::2], program=40), make_track(short[1::2], program=8)]
    twice = make_track(short[3:5])  # the same notes once more
    drums = make_track([(7, 3, 40), (20, 3, 90)], is_drum=True)
    match = longest_match(index, passage(*tracks, twice, drums))
    assert match == Match(10, 10, 9.0, "0000.mid", 0.0, 0.0)


def test_drums_alone_are_compared(tmp_path):
    index = small_index(tmp_path, TUNE)
    match = longest_match(index, passage(make_track(TUNE, is_drum=True)))
    assert match.onsets == 10


def test_another_interval_time_or_voice_ends_a_run(tmp_path):
    index = small_index(tmp_path, TUNE)
    for change in ((0, 0, 1), (2, 0, 0)):
        onset, length, pitch = (a + b for a, b in zip(TUNE[6], change, strict=True))
        match = longest_match(index, passage([*TUNE[:6], (onset, length, pitch), *TUNE[7:]]))
        assert (match.onsets, match.piece_quarter) == (6, 0.0)
    onset, length, pitch = TUNE[6]
    with_bass = passage([*TUNE, (onset, length, pitch - 12)])
    assert longest_match(index, with_bass).onsets == 6
    assert longest_match(index, with_bass, "melody").onsets == 10


def test_the_chords_of_a_run_are_the_same(tmp_path):
    """Their highest notes are not enough, nor their lowest, nor how many notes they have."""

    def chord(*intervals):
        onset, length, top = TUNE[6]
        return [*TUNE, *((onset, length, top - interval) for interval in intervals)]

    index = small_index(tmp_path, chord(5, 12))
    for intervals, onsets in (((5, 12), 10), ((4, 12), 6), ((5, 11), 6), ((5,), 6)):
        assert longest_match(index, passage(chord(*intervals))).onsets == onsets


def test_of_several_songs_and_places_the_first_is_named(tmp_path):
    others = [noise(0, seed) for seed in range(6)]
    songs = [others[0], *([*TUNE, *tune([60 - i, 61], start=200)] for i in range(5)), others[1]]
    match = longest_match(small_index(tmp_path, *songs), passage(TUNE))
    assert (match.song, match.onsets) == ("0001.mid", 10)


def test_a_run_is_of_one_song(tmp_path):
    """What is first in one song and then in another is no run, though they are neighbours."""
    a, b = TUNE, tune([70, 59, 61, 55, 54, 66, 48], [6, 18, 12, 12, 30, 6, 24])
    index = small_index(tmp_path, a, b)
    after = a[-1][0] + a[-1][1]
    match = longest_match(index, passage([*a, *((after + t, d, p) for t, d, p in b)]))
    assert (match.song, match.onsets, match.piece_quarter) == ("0000.mid", 10, 0.0)


def test_an_ostinato_is_no_copy(tmp_path):
    bass = tune([36] * 64, [3] * 64)
    index = small_index(tmp_path, [*bass, *tune([60, 65, 64, 70, 61], start=64 * 3)])
    match = longest_match(index, passage(bass))
    assert (match.distinct, match.onsets) == (3, 64)
    again = [(t + 500, d, p) for t, d, p in bass]
    assert longest_match(index, passage([*bass, *again])).piece_quarter == 0.0
    # Five notes of something else are more.
    end = bass[-1][0] + 100
    other = tune([48, 53, 52, 58, 49], start=end)
    match = longest_match(index, passage([*bass, *other]))
    assert (match.distinct, match.onsets, match.piece_quarter) == (5, 5, end / 12)


def test_the_melody_goes_on_while_lower_voices_move(tmp_path):
    """The upper line of a chorale: its long notes are not broken by the bass."""
    upper = [(t, d, p + 12) for t, d, p in TUNE]
    index = build_index(
        corpus_of(
            [
                make_song(
                    make_track([*upper, *tune([48, 50, 47, 43] * 9, [3] * 36)]),
                    ticks_per_quarter=12,
                )
            ],
            tmp_path / "midi",
            "note_states",
        ),
        tmp_path / "index",
    )
    other_bass = tune([40, 41, 45] * 7, [6] * 21)
    match = longest_match(index, passage([*upper, *other_bass]), "melody")
    assert (match.onsets, match.quarters) == (10, 9.0)
    assert longest_match(index, passage([*upper, *other_bass])).onsets < 5


@pytest.mark.parametrize(("held", "onsets"), [(59, 10), (67, 3), (90, 0)])
def test_a_note_below_one_that_is_held_is_not_the_melody(tmp_path, held, onsets):
    """The tune goes up to 67, 69, 67 once; its other notes are between 60 and 65."""
    index = small_index(tmp_path, TUNE)
    found = passage([(0, 200, held), *((12 + t, d, p) for t, d, p in TUNE)])
    assert longest_match(index, found, "melody").onsets == onsets
    assert longest_match(index, found).onsets == 10


def test_what_begins_after_the_passage_does_not_count(tmp_path):
    index = small_index(tmp_path, TUNE)
    whole = passage(TUNE)
    cut = dataclasses.replace(whole, ticks=TUNE[5][0])
    assert longest_match(index, cut).onsets == 5
    assert shared_ngrams(index, cut, 5) == 1.0
    assert shared_ngrams(index, cut, 6) == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_the_suffix_array_is_sorted(seed):
    rng = np.random.default_rng(seed)
    songs = [rng.integers(1, 3, int(rng.integers(40))).tolist() for _ in range(6)]
    symbols = [symbol for song in [*songs, songs[0]] for symbol in (*song, 0, 0)]
    order = suffix_array(np.array(symbols, np.uint32)).tolist()
    assert sorted(order) == np.flatnonzero(symbols).tolist()
    upto = [symbols[i : symbols.index(0, i) + 1] for i in order]
    assert upto == sorted(upto)


# --- little music -------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [[], [(0, 12, 60)], tune([60, 62])])
def test_pieces_too_short_to_share_anything(index, rows):
    for view in VIEWS:
        assert longest_match(index, passage(rows), view) == Match()
        assert shared_ngrams(index, passage(rows), 3, view) == 0.0
    assert longest_match(index, passage()) == Match()


@pytest.mark.parametrize("rows", [[(0, 12, 60)], tune([60, 62])])
def test_a_corpus_with_nothing_to_share(tmp_path, rows):
    index = small_index(tmp_path, rows)
    assert longest_match(index, passage(TUNE)) == Match()
    assert describe(Match()) == "no three onsets as in a training song"


def test_a_corpus_without_training_songs(corpus, tmp_path):
    held_out = [dataclasses.replace(record, split="test") for record in corpus.songs]
    index = build_index(dataclasses.replace(corpus, songs=held_out), tmp_path / "index")
    assert index.songs == []
    assert longest_match(index, passage(TUNE)) == Match()


def test_runs_of_two_onsets_are_refused(index):
    with pytest.raises(ValueError, match="n is 2, expected at least 3"):
        shared_ngrams(index, passage(TUNE), 2)


def test_a_line_for_people(tmp_path):
    index = small_index(tmp_path, tune([50, 70], start=0), [(t + 30, d, p) for t, d, p in TUNE])
    line = describe(longest_match(index, passage(TUNE)))
    assert line == (
        "10 onsets (10 distinct) in 9 quarters, from quarter 0, are in 0001.mid from quarter 2.5"
    )


# --- the folder ---------------------------------------------------------------------------------


def test_the_index_is_opened_as_it_was_built(index, corpus, tmp_path):
    built = build_index(corpus, tmp_path / "index")
    opened = open_index(tmp_path / "index")
    assert opened.songs == [record.name for record in corpus.songs]
    assert opened.fingerprint == corpus.manifest["fingerprint"]
    for view in VIEWS:
        for one, other, first in zip(
            built.views[view], opened.views[view], index.views[view], strict=True
        ):
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(one, first)
    assert not opened.views["notes"].symbols.flags.writeable


def test_workers_build_the_same_index(index, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(novelty, "_SONGS_PER_TASK", 7)
    monkeypatch.setattr(novelty, "_SONGS_AT_ONCE", 3)
    built = build_index(corpus, tmp_path / "index", number_of_workers=1)
    for view in VIEWS:
        for one, other in zip(built.views[view], index.views[view], strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_index_is_built_once_a_corpus(corpus, tmp_path, monkeypatch):
    folder = tmp_path / "index"
    assert index_of(corpus, folder).songs == [record.name for record in corpus.songs]
    with monkeypatch.context() as patch:
        patch.delattr(novelty, "build_index")
        assert index_of(corpus, folder).fingerprint == corpus.manifest["fingerprint"]
    other = dataclasses.replace(
        corpus, songs=corpus.songs[:5], manifest={**corpus.manifest, "fingerprint": "other"}
    )
    assert len(index_of(other, folder).songs) == 5
    (folder / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"not an index .* delete it$"):
        index_of(corpus, folder)  # it may be something else: nothing is deleted
    assert (folder / "songs.json").exists()


def test_two_processes_may_build_an_index_at_once(corpus, tmp_path, monkeypatch):
    def overtaken(*arguments):
        build_index(*arguments)  # by the other
        return build_index(*arguments)

    monkeypatch.setattr(novelty, "build_index", overtaken)
    assert len(index_of(corpus, tmp_path / "index").songs) == len(corpus.songs)


def test_an_index_is_not_written_over(corpus, tmp_path):
    (tmp_path / "index").mkdir()
    with pytest.raises(InputError, match="already exists"):
        build_index(corpus, tmp_path / "index")


def test_what_is_no_index_is_refused(tmp_path):
    with pytest.raises(InputError, match="not an index"):
        open_index(tmp_path)
    small_index(tmp_path, TUNE)
    folder = tmp_path / "index"
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 0}))
    with pytest.raises(InputError, match=r"an index of format 0; .*: delete it$"):
        open_index(folder)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    symbols = np.load(folder / "notes_symbols.npy")
    np.save(folder / "notes_symbols.npy", symbols[:-1])
    with pytest.raises(InputError, match="not as long as they were"):
        open_index(folder)
    (folder / "notes_symbols.npy").write_bytes(b"")
    with pytest.raises(InputError, match="not an index"):
        open_index(folder)


def test_nothing_is_left_of_an_index_that_was_not_finished(corpus, tmp_path, monkeypatch):
    def stop(symbols):
        raise KeyboardInterrupt

    monkeypatch.setattr(novelty, "suffix_array", stop)
    with pytest.raises(KeyboardInterrupt):
        build_index(corpus, tmp_path / "index")
    assert list(tmp_path.iterdir()) == []
