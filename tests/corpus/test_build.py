import hashlib
import json
import os
import shutil

import numpy as np
import pytest
import symusic
from conftest import SHARED, encoded, load_config, make_song, make_track, random_song, settings

from musicjax.corpus import build
from musicjax.corpus.store import Corpus, Skipped
from musicjax.errors import InputError
from musicjax.music import midi
from musicjax.sources.folder import Folder

FILES = ("manifest.json", "songs.jsonl", "skipped.jsonl", "data.npy", "vocabulary.json")
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the files of ../shared/midi")


def encode(data, output, workers=0) -> Corpus:
    return build.encode_corpus(build.make_plan(data), output, number_of_workers=workers)


def reasons(corpus):
    return {row.name: row.reason for row in corpus.skipped}


# --- the plan --------------------------------------------------------------------------------


def test_the_default_track_is_that_of_the_source(folder, monkeypatch):
    data = settings(folder)
    assert load_config().data.track == data.track == "default"
    plan = build.make_plan(data)
    assert (plan.data.track, plan.job.settings.track, data.track) == ("all", "all", "default")
    monkeypatch.setattr(Folder, "default_track", "bass")
    assert build.make_plan(data).data.track == "bass"
    assert build.make_plan(settings(folder, track="piano")).data.track == "piano"


def test_a_corpus_folder_needs_no_plan(folder, tmp_path):
    corpus = encode(settings(folder), tmp_path / "corpus")
    data = settings(tmp_path / "corpus")
    assert build.make_plan(data) is None
    assert build.open_corpus(data).songs == corpus.songs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "/no/such/folder"}, "not there; expected 'chorales', a folder"),
        ({"encoding": "letters"}, "data.encoding is 'letters'; expected one of tokens, note_st"),
        ({"table": "/no/such/table"}, "/no/such/table: not a table of songs"),
        ({"versions": -1}, "data.versions is -1; expected at least 0"),
        ({"test_share": 1.0}, "data.test_share is 1.0"),
        ({"longest_rest": -1}, "data.longest_rest is -1"),
        ({"split_by": "index"}, "index.tsv: not a table of songs"),
        ({"drums": True}, "data.drums is True; expected False, as tokens cannot tell drums"),
    ],
)
def test_what_cannot_be_is_one_clear_line_before_a_song_is_read(folder, changes, message):
    with pytest.raises(InputError, match=message):
        build.make_plan(settings(**{"source": folder} | changes))


@pytest.mark.parametrize(
    ("config", "changes", "allowed"),
    [
        ("nsm", {"drums": True}, False),
        ("vocab", {"drums": True, "instruments": True}, True),
        ("nsm", {"drums": True, "track": "drums"}, True),
        ("vocab", {"drums": True, "track": "piano"}, False),
    ],
)
def test_drums_beside_a_part_need_an_encoding_that_keeps_instruments(config, changes, allowed):
    data = load_config("tiny", config).data
    data.update(changes)
    if allowed:
        build.parse_data(data)
    else:
        with pytest.raises(InputError, match=r"data\.drums is True; .* set data\.track=drums"):
            build.parse_data(data)


# --- many files, many workers ----------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """200 files, some of them bad: seven shards."""
    path = tmp_path_factory.mktemp("many")
    for seed in range(190):
        midi.write_song(random_song(seed, quarters=24), path / f"{seed:03d}.mid")
    for number in range(10):
        (path / f"{number * 20:03d}x.mid").write_bytes(b"<html>")
    return path


def test_the_same_bytes_with_any_number_of_workers(many, tmp_path):
    for workers in (0, 1, 3):
        corpus = encode(settings(many), tmp_path / str(workers), workers)
        assert len(corpus.songs) == 190
        assert corpus.manifest["counts"]["files"] == 200
    for name in FILES:
        contents = {(tmp_path / str(workers) / name).read_bytes() for workers in (0, 1, 3)}
        assert len(contents) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "3"]


def test_finished_shards_are_used_again_but_not_with_other_settings(many, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "_assemble", stopped)
    data = settings(many)
    with pytest.raises(KeyboardInterrupt):
        encode(data, tmp_path / "corpus")
    monkeypatch.undo()
    partial = tmp_path / ".corpus.partial"
    assert len(list(partial.glob("*.npz"))) == 7
    monkeypatch.setattr(build.shards, "write_shard", stopped)
    assert len(encode(data, tmp_path / "corpus").songs) == 190
    assert not partial.exists()
    # Shards of other settings are not used.
    shutil.copytree(tmp_path / "corpus", partial)
    (partial / "fingerprint").write_text("another")
    (partial / "0.npz").write_bytes(b"")
    data.transpose = False
    shutil.rmtree(tmp_path / "corpus")
    with pytest.raises(KeyboardInterrupt):
        encode(data, tmp_path / "corpus")
    assert list(partial.glob("*.npz")) == []


def test_nothing_is_left_where_no_file_becomes_a_song(folder, tmp_path):
    with pytest.raises(InputError, match=r"none of its 30 files .*'drums'.* named 'Piano' in 30"):
        encode(settings(folder, track="drums"), tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_not_written_to(folder, tmp_path):
    with pytest.raises(InputError, match="already exists; give another folder or delete it"):
        encode(settings(folder), tmp_path)


def test_a_file_that_takes_too_long_costs_itself_alone(folder, tmp_path):
    source = tmp_path / "songs"
    source.mkdir()
    for path in sorted(folder.iterdir())[:8]:
        shutil.copy(path, source)
    score = symusic.Score(480)
    score.tracks.append(symusic.Track())
    onset = np.arange(1_500_000, dtype=np.int32) * 6
    score.tracks[0].notes = symusic.Note.from_numpy(
        onset, np.ones_like(onset), (60 + onset % 12).astype(np.int8), np.full(len(onset), 80, "i1")
    )
    score.dump_midi(source / "05 long.mid")
    data = settings(source, seconds_per_file=0.5, most_megabytes=100.0, longest_minutes=0.0)
    corpus = encode(data, tmp_path / "corpus", workers=2)
    assert reasons(corpus) == {"05 long.mid": "too_slow"}
    assert len(corpus.songs) == 8


# --- what is left out ------------------------------------------------------------------------


def test_bad_files_among_many_are_skipped_and_counted(folder, tmp_path):
    source = tmp_path / "midi"
    shutil.copytree(folder, source)
    (source / "bad.mid").write_bytes(b"<html>")
    (source / "empty.mid").write_bytes(b"")
    (source / "link.mid").symlink_to(source / "gone.mid")
    midi.write_song(
        make_song(make_track([(0, 480, 36)], name="Kit", is_drum=True)), source / "drums.mid"
    )
    corpus = encoded(settings(source))
    assert reasons(corpus) == {
        "bad.mid": "not_midi",
        "empty.mid": "not_midi",
        "link.mid": "unreadable",
        "drums.mid": "no_track",
    }
    counts = corpus.manifest["counts"]
    assert counts["files"] == 34 == counts["songs"] + counts["skipped"]
    assert corpus.manifest["skipped"] == {"not_midi": 2, "unreadable": 1, "no_track": 1}
    text = build.describe(corpus)
    assert text.startswith("30 songs of 34 files (")
    assert "skipped 4 files" in text
    assert "2  not_midi" in text


def test_names_that_bite(tmp_path):
    source = tmp_path / "songs"
    source.mkdir()
    names = [
        "<img src=x onerror=alert(1)>.mid",
        "line\nbreak\u2028\x1b[31m.mid",
        "..\\..\\up.mid",
        "-rf *.mid",
    ]
    for seed, name in enumerate(names):
        midi.write_song(random_song(seed), source / name)
    bytes_name = os.fsencode(source) + b"/\xff\xfe.mid"
    (source / names[0]).rename(os.fsdecode(bytes_name))
    (source / names[0]).write_bytes(b"MThd")
    corpus = encode(settings(source), tmp_path / "corpus")
    shown = ["line\\nbreak\\u2028\\x1b[31m.mid", *names[2:]]
    assert {song.name for song in corpus.songs} == {"\\xff\\xfe.mid", *shown}
    assert [row.name for row in corpus.skipped] == [names[0]]
    assert sorted(os.listdir(tmp_path)) == ["corpus", "songs"]
    assert Corpus.load(tmp_path / "corpus").songs == corpus.songs


@pytest.mark.parametrize("config", ["vocab", "nsm"])
def test_copies_in_any_key_are_found_and_the_first_stays(tmp_path, config):
    data = load_config("tiny", config).data
    data.source, data.transpose = str(tmp_path), False
    for seed in range(3):
        midi.write_song(random_song(seed), tmp_path / f"{seed}.mid")
    (tmp_path / "copy.mid").write_bytes((tmp_path / "1.mid").read_bytes())
    midi.write_song(random_song(2).transposed(5), tmp_path / "higher.mid")
    midi.write_song(random_song(2).transposed(-12), tmp_path / "octave.mid")
    assert encoded(data).skipped == [
        Skipped("copy.mid", "copy", "of 1.mid"),
        Skipped("higher.mid", "same_notes", "of 2.mid"),
        Skipped("octave.mid", "same_notes", "of 2.mid"),
    ]
    data.dedupe_files = data.dedupe_notes = False
    assert len(encoded(data).songs) == 6


def test_songs_without_a_matrix_are_skipped_with_a_reason(tmp_path):
    midi.write_song(random_song(1), tmp_path / "good.mid")
    midi.write_song(make_song(make_track([(0, 480, 5)])), tmp_path / "low.mid")
    data = load_config("tiny", "nsm").data
    data.source, data.transpose, data.least_notes = str(tmp_path), False, 1
    assert reasons(encoded(data)) == {"low.mid": "no_note_in_range"}
    (tmp_path / "good.mid").unlink()
    with pytest.raises(InputError, match=r"none of its 1 files .* \(no_note_in_range: 1"):
        encoded(data)


def write_beats(path, kinds):
    """Files with a track named "Beat": percussion for d, pitched for p."""
    path.mkdir()
    for i, kind in enumerate(kinds):
        notes = [(t * 480, 240, 36 + (t * (i + 2)) % 12) for t in range(20)]
        beat = make_track(notes, name="Beat", is_drum=kind == "d")
        midi.write_song(make_song(beat, random_song(i).tracks[0]), path / f"{i}{kind}.mid")
    return path


@pytest.mark.parametrize(
    ("kinds", "is_drum", "left_out", "detail"),
    [
        ("ddp", True, ["2p.mid"], "its part is pitched, that of most songs is percussion"),
        ("ppd", False, ["2d.mid"], "its part is percussion, that of most songs is pitched"),
        ("dp", False, ["0d.mid"], "its part is percussion, that of most songs is pitched"),
        ("dd", True, [], ""),
    ],
)
def test_a_pattern_finds_pitched_parts_or_percussion_but_not_both(
    tmp_path, kinds, is_drum, left_out, detail
):
    corpus = encoded(settings(write_beats(tmp_path / "songs", kinds), track="beat"))
    assert corpus.manifest["is_drum"] == is_drum
    assert {song.is_drum for song in corpus.songs} == {is_drum}
    assert corpus.skipped == [Skipped(name, "other_kind", detail) for name in left_out]
    # Drums have no key, so they are not transposed.
    assert not is_drum or {song.semitones for song in corpus.songs} == {0}


def test_the_manifest_has_the_program_of_the_part(tmp_path):
    midi.write_song(
        make_song(make_track([(t * 480, 480, 36 + t % 5) for t in range(9)], program=38)),
        tmp_path / "a.mid",
    )
    for track, program in (("bass", 33), ("all", 0)):
        manifest = encoded(settings(tmp_path, track=track)).manifest
        assert (manifest["program"], manifest["is_drum"]) == (program, False)
        assert manifest["rules"] == {"program" if track == "bass" else "all": 1}


# --- sources ---------------------------------------------------------------------------------


def test_lakh_songs_are_found_in_tables_by_md5_and_track_id(tmp_path):
    root, md5s = tmp_path / "lmd_matched", []
    for seed in range(4):
        midi.write_song(random_song(seed), tmp_path / "song.mid")
        content = (tmp_path / "song.mid").read_bytes()
        md5s.append(hashlib.md5(content, usedforsecurity=False).hexdigest())
        path = root / "A" / "B" / "C" / f"TRABC{seed:013d}" / f"{md5s[-1]}.mid"
        path.parent.mkdir(parents=True)
        path.write_bytes(content if seed else content[:-1] + b"\x01")  # damaged on its way
    (row,) = encoded(settings(root)).skipped
    assert (row.name.split("/")[-1], row.reason) == (f"{md5s[0]}.mid", "wrong_md5")
    unchecked = encoded(settings(root, check_md5=False))
    assert unchecked.manifest["skipped"] == {"corrupt": 1}
    table = tmp_path / "years.csv"
    rows = [f"{md5},Artist {i},{1970 + 5 * i}" for i, md5 in enumerate(md5s)]
    table.write_text("\n".join(["md5,artist,year", *rows]))
    of_decade = encoded(settings(root, table=str(table), decade=1980))
    assert [(song.artist, song.year, song.decade) for song in of_decade.songs] == [
        ("Artist 2", 1980, 1980),
        ("Artist 3", 1985, 1980),
    ]
    assert of_decade.manifest["skipped"] == {"other_year": 2}
    # In the Million Song Dataset's own file.
    table.write_text("1985<SEP>TRABC0000000000003<SEP>Someone<SEP>A Song\n0<SEP>TRX<SEP>a<SEP>b\n")
    of_year = encoded(settings(root, table=str(table), first_year=1985, last_year=1985))
    assert [(song.artist, song.title) for song in of_year.songs] == [("Someone", "A Song")]
    assert of_year.manifest["skipped"] == {"unknown_year": 3}


def test_of_the_versions_of_a_title_so_many_stay(tmp_path):
    root = tmp_path / "clean_midi"
    for seed, name in enumerate(["ABBA/Waterloo.mid", "ABBA/Waterloo.1.mid", "Queen/Waterloo.mid"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        midi.write_song(random_song(seed), root / name)
    corpus = encoded(settings(root))
    assert [(song.artist, song.title) for song in corpus.songs] == [
        ("ABBA", "Waterloo"),
        ("Queen", "Waterloo"),
    ]
    assert corpus.skipped == [
        Skipped("ABBA/Waterloo.mid", "version", "of ABBA/Waterloo.1.mid"),
    ]
    assert len(encoded(settings(root, versions=2)).songs) == 3
    assert len(encoded(settings(root, versions=0)).songs) == 3


def write_slakh(root, name, uuid, *tracks):
    """A Slakh track of stems (inst_class, Track)."""
    (root / name / "MIDI").mkdir(parents=True)
    stems = []
    for i, (kind, track) in enumerate(tracks):
        fields = f"inst_class: {kind}, program_num: 0, is_drum: {str(track.is_drum).lower()}"
        stems.append(f"S{i:02d}: {{{fields}}}")
        midi.write_song(make_song(track), root / name / "MIDI" / f"S{i:02d}.mid")
    text = f"UUID: {uuid * 32}\nstems: {{{', '.join(stems)}}}\n"
    (root / name / "metadata.yaml").write_text(text)


def test_slakh_tracks_by_class_in_their_own_splits_and_by_uuid(tmp_path):
    root = tmp_path / "slakh"
    for seed, split in enumerate(("train", "validation", "test", "omitted")):
        piano, guitar = random_song(seed).tracks[0], random_song(9).tracks[0]
        stems = ("Piano", piano), ("Guitar", guitar)
        write_slakh(root, f"{split}/Track{seed}", "abcd"[seed], *stems)
    corpus = encoded(settings(root, track="piano"))
    assert {song.name: song.split for song in corpus.songs} == {
        "train/Track0": "train",
        "validation/Track1": "validation",
        "test/Track2": "test",
    }
    assert {song.rule for song in corpus.songs} == {"inst_class"}
    assert reasons(corpus) == {"omitted/Track3": "omitted"}
    (tmp_path / "t.csv").write_text(f"uuid,artist,year\n{'b' * 32},Someone,1975\n")
    corpus = encoded(settings(root, table=str(tmp_path / "t.csv"), decade=1970))
    assert [(song.name, song.artist) for song in corpus.songs] == [("validation/Track1", "Someone")]
    assert corpus.manifest["skipped"] == {"unknown_year": 2, "omitted": 1}


def test_piano_rolls_are_songs_in_their_own_splits(tmp_path):
    rng, arrays = np.random.default_rng(0), {}
    for split, lengths in (("train", [10, 12, 9]), ("valid", [16]), ("test", [8, 8])):
        rolls = (rng.random((sum(lengths), 88)) < 0.1).astype(np.uint8)
        rolls[-1, 40] = 1  # the last piece ends with a note
        arrays |= {f"{split}_rolls": rolls, f"{split}_lengths": np.array(lengths)}
    arrays["train_rolls"][:10, :] = arrays["train_rolls"][9, 40] = 1
    arrays["test_rolls"][:8] = arrays["test_rolls"][8:]  # a copy
    np.savez(tmp_path / "rolls.npz", **arrays)
    data = load_config("tiny", "polyphonic").data
    data.source = str(tmp_path / "rolls.npz")
    corpus = encoded(data)
    assert [(song.name, song.split) for song in corpus.songs] == [
        ("train/0", "train"),
        ("train/1", "train"),
        ("train/2", "train"),
        ("valid/0", "validation"),
        ("test/0", "test"),
        ("test/1", "test"),
    ]
    assert corpus.skipped == []
    piece = corpus.songs[3]
    roll = corpus.encoding.unpack(corpus.rows(piece))[..., 0]
    np.testing.assert_array_equal(roll, arrays["valid_rolls"])
    # With fewer keys than the rolls have, notes are left out and counted.
    data.highest = 100
    assert encoded(data).manifest["counts"]["outside"] > 0
    data.dedupe_notes = True
    assert reasons(encoded(data)) == {"test/1": "same_notes"}


# --- the cache -------------------------------------------------------------------------------


def test_a_corpus_is_cached_until_a_setting_or_a_file_changes(
    folder, tmp_path, capsys, monkeypatch
):
    source, cache = tmp_path / "midi", tmp_path / "musicjax" / "corpora"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shutil.copytree(folder, source)
    data = settings(source)
    first = build.open_corpus(data)
    assert "30 songs of 30 files" in capsys.readouterr().out
    plan = build.make_plan(data)
    assert build.open_corpus(data, plan).manifest == first.manifest
    assert capsys.readouterr().out == ""
    assert [path.name for path in cache.iterdir()] == [plan.fingerprint[:24]]
    data.transpose = False
    assert len(build.open_corpus(data).songs) == 30
    assert len(list(cache.iterdir())) == 2
    midi.write_song(random_song(99), source / "99.mid")
    assert len(build.open_corpus(data).songs) == 31
    midi.write_song(random_song(100, quarters=40), source / "99.mid")
    changed = build.open_corpus(data)
    assert len(list(cache.iterdir())) == 4
    assert len(changed.songs) == 31
    # A corpus folder is a source as well.
    data.source = str(next(cache.iterdir()))
    assert len(build.open_corpus(data).songs) in (30, 31)


def test_another_process_that_was_first_has_made_the_corpus(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plan = build.make_plan(settings(folder))
    real = build.encode_corpus

    def second(plan, path, **_):
        real(plan, path, number_of_workers=0)
        return real(plan, path, number_of_workers=0)  # finds that it exists

    monkeypatch.setattr(build, "encode_corpus", second)
    assert len(build.open_corpus(plan.data, plan).songs) == 30


@pytest.mark.parametrize("change", ["name", "content", "metadata", "table", "setting"])
def test_a_fingerprint_is_of_all_that_decides_a_corpus(folder, tmp_path, change):
    source = tmp_path / "clean_midi" / "Artist"
    source.parent.mkdir()
    shutil.copytree(folder, source)
    (tmp_path / "t.csv").write_text("id,year\n00,1975\n")
    data = settings(source.parent, table=str(tmp_path / "t.csv"))
    before = build.make_plan(data).fingerprint
    assert build.make_plan(data).fingerprint == before
    match change:
        case "name":
            (source / "00.mid").rename(source / "000.mid")
        case "content":
            os.utime(source / "00.mid", ns=(0, 0))
        case "metadata":
            source.rename(source.with_name("Somebody"))
        case "table":
            (tmp_path / "t.csv").write_text("id,year\n00,1976\n01,1977\n")
        case "setting":
            data.least_notes = 9
    assert build.make_plan(data).fingerprint != before


# --- real files ------------------------------------------------------------------------------


@needs_shared
def test_every_shared_file_becomes_a_song_or_is_skipped(tmp_path):
    corpus = encode(settings(SHARED, track="piano"), tmp_path / "corpus", workers=2)
    songs = [song.name for song in corpus.songs]
    skipped = [row.name for row in corpus.skipped]
    assert len(songs) + len(skipped) == len({*songs, *skipped}) == 1423
    assert "failed" not in corpus.manifest["skipped"]
    assert sum(corpus.manifest["skipped"].values()) == len(skipped)
    manifest = json.loads((tmp_path / "corpus" / "manifest.json").read_text())
    assert manifest["counts"]["files"] == 1423
    # What other ids would give is another ENCODER.
    data = hashlib.sha256((tmp_path / "corpus" / "data.npy").read_bytes()).hexdigest()
    assert data.startswith("a777166a8ab1bd40")


@needs_shared
def test_broken_files_become_songs_or_are_skipped():
    corpus = encoded(settings(SHARED / "broken"))
    counts = corpus.manifest["counts"]
    assert counts["files"] == 90 == counts["songs"] + counts["skipped"]
    assert set(reasons(corpus)).isdisjoint(song.name for song in corpus.songs)
    # 300 bars of silence do not become one long rest.
    tokens = corpus.encoding.vocabulary.tokens
    assert max(token.duration for token in tokens if not token.pitches) <= 4 * 12


@needs_shared
@pytest.mark.parametrize("track", ["piano", "bass", "drums", "guitar"])
def test_the_slakh_folders_by_decade(track):
    table = SHARED / "slakh" / "derived" / "index.tsv"
    data = settings(SHARED / "slakh", track=track, table=str(table), decade=2020)
    corpus = encoded(data)
    rows = [line.split("\t") for line in table.read_text().splitlines()[1:]]
    of_decade = {f"derived/{row[0]}" for row in rows if row[5] == "2020"}
    copies = {name for name, reason in reasons(corpus).items() if reason == "same_notes"}
    assert {song.name for song in corpus.songs} | copies == of_decade
    assert len(corpus.songs) >= 15
