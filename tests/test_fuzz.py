"""Files that are damaged at random, by a fixed seed: whatever is read back is refused in one line,
or is what a song or a corpus must be. SOAK=N tries N times as many, as scripts/soak.sh does.
"""

import contextlib
import os
import random
import re
import resource
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    ROOT,
    encoded,
    load_config,
    make_song,
    make_track,
    random_song,
    settings,
    spoil,
)

from musicjax.corpus import build, preprocess, shards
from musicjax.corpus.preprocess import Preprocessing
from musicjax.corpus.store import Corpus
from musicjax.encodings import make_encoding
from musicjax.encodings.base import ShardSong
from musicjax.errors import InputError, SongError
from musicjax.music import midi
from musicjax.music.song import KeySignature, Meter, Tempo
from musicjax.sources import SongFile
from musicjax.sources.metadata import read_table
from musicjax.sources.piano_rolls import PianoRolls
from musicjax.sources.slakh import Slakh
from musicjax.system import checksums, workers

SOAK = int(os.environ.get("SOAK", "1"))
MIDI_FILES = 800
_CONFIGS = ("vocab", "nsm", "events")
_SECONDS, _MEGABYTES = 10, 1200  # of one file, all encodings; of a worker, its imports included


def mutant(content: bytes, rng: random.Random) -> bytes:
    """The content with some bytes changed, left out, put in, or with its end cut off."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(len(made) + 1)
        match rng.randrange(6):
            case 0 | 1 if place < len(made):
                made[place] ^= 1 << rng.randrange(8)
            case 2 if place < len(made):
                made[place] = rng.randrange(256)
            case 3:
                del made[place : place + rng.randrange(9)]
            case 4:
                made[place:place] = rng.choices((0, 1, 0x7F, 0x80, 0x90, 0xFF), k=rng.randrange(5))
            case 5 if rng.random() < 0.1:
                del made[place:]
    return bytes(made)


# --- MIDI ----------------------------------------------------------------------------------------


def _originals() -> list[bytes]:
    drums = make_track([(t * 240, 120, 36 + t % 3) for t in range(16)], name="Kit", is_drum=True)
    events = {
        "meters": (Meter(0, 3, 4), Meter(1440, 6, 8)),
        "tempos": (Tempo(0, 90.0), Tempo(960, 140.0)),
        "keys": (KeySignature(0, -3, True),),
    }
    tunes = [random_song(seed, 12).tracks for seed in (1, 2)]
    songs = [make_song(*tunes[0], **events), make_song(*tunes[0], *tunes[1], drums, **events)]
    return [midi.song_to_symusic(song).dumps_midi() for song in songs]


def read_mutants(seeds: range) -> tuple[int, float, int]:
    """Reads mutated MIDI files and encodes them by all encodings and back.

    Returns:
        how many were songs; the most seconds that one took; megabytes of this process at most.
    """
    originals, songs, slowest = _originals(), 0, 0.0
    encodings = []
    for name in _CONFIGS:
        data = load_config("", name).data
        data.track = "all"
        encodings.append((make_encoding(data), Preprocessing.from_config(data)))
    for seed in seeds:
        rng, started = random.Random(seed), time.perf_counter()
        with contextlib.suppress(midi.MidiError):
            song = midi.song_from_bytes(mutant(rng.choice(originals), rng), "mutant.mid")
            songs += 1
            for encoding, preprocessing in encodings:
                _there_and_back(song, encoding, preprocessing, seed)
        slowest = max(slowest, time.perf_counter() - started)
    return songs, slowest, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _there_and_back(song, encoding, preprocessing, seed):
    prepared = preprocess.prepare(song, preprocessing)
    preprocess.digests(prepared.song)
    if not prepared.song.tracks:
        return
    try:
        elements, layout, _ = encoding.encode(prepared.song)
    except SongError:
        return
    data, symbols = encoding.shard([elements])
    encoding = encoding.fit([ShardSong(data, symbols, True)])
    rows = encoding.renumber(data, symbols)
    assert len(rows) == len(elements), seed
    if encoding.kind == "ids" and len(rows):
        assert 0 <= rows.min() <= rows.max() < encoding.num_ids, seed
    encoding.positions(layout, 0, 32)
    decoded = encoding.decode(encoding.unpack(rows), name="a", program=0, velocity=80)
    back = make_song(*decoded, ticks_per_quarter=encoding.units_per_quarter)
    assert midi.song_to_symusic(back).note_num() == back.num_notes, seed


def test_a_mutated_midi_file_is_refused_or_becomes_a_song_in_time():
    count = MIDI_FILES * SOAK
    tasks = [(range(i, min(i + 100, count)),) for i in range(0, count, 100)]
    songs = 0
    for index, result in workers.run(read_mutants, tasks, workers=2, seconds=100 * _SECONDS):
        assert not isinstance(result, workers.Failure), (tasks[index], result)
        found, slowest, megabytes = result
        assert slowest < _SECONDS, tasks[index]
        assert megabytes < _MEGABYTES, tasks[index]
        songs += found
    assert songs > count / 10


def test_few_bytes_do_not_become_much_music():
    # A note at either end of the longest song that is read.
    for last in (midi.MAX_QUARTERS * 480 - 480, midi.MAX_QUARTERS * 480):
        song = make_song(make_track([(0, 480, 60), (last, 480, 72)]))
        content = midi.song_to_symusic(song).dumps_midi()
        if last < midi.MAX_QUARTERS * 480 - 479:
            assert midi.song_from_bytes(content, "a").num_notes == 2
        else:
            with pytest.raises(midi.MidiError, match="too_long"):
                midi.song_from_bytes(content, "a")


# --- corpus folders ------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=_CONFIGS)
def corpus(request, folder, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("fuzz") / "corpus"
    data = load_config("tiny", request.param).data
    data.source, data.songs = str(folder), 6
    encoded(data).save(path)
    return path


@pytest.mark.parametrize("forged", [False, True])
def test_a_mutated_corpus_is_refused_or_as_it_was(corpus, tmp_path, forged):
    """Forged: its checksums are those of the mutated files."""
    rng, original = random.Random(0), Corpus.load(corpus)
    path = tmp_path / "corpus"
    names = sorted(file.name for file in corpus.iterdir())
    for number in range(60 * SOAK):
        shutil.copytree(corpus, path)
        name = rng.choice(names)
        (path / name).write_bytes(mutant((path / name).read_bytes(), rng))
        if forged:
            checksums.write(path)
        with contextlib.suppress(InputError):
            loaded = Corpus.load(path)
            if not forged:
                assert loaded.songs == original.songs, number
                assert loaded.manifest == original.manifest, number
                np.testing.assert_array_equal(loaded.data, original.data)
            elif loaded.encoding.kind == "ids":
                assert 0 <= loaded.data.min() <= loaded.data.max() < loaded.encoding.num_ids
            assert sum(len(loaded.rows(song)) for song in loaded.songs) == len(loaded.data)
        shutil.rmtree(path)


def test_a_mutated_shard_is_known(tmp_path):
    path, rng = tmp_path / "0.npz", random.Random(0)
    shard = shards.Shard([shards.Skipped("a.mid", "corrupt", "b")], np.arange(50), ["C4:1"])
    shard.save(path)
    content = path.read_bytes()
    assert shards.is_whole(path)
    for number in range(300 * SOAK):
        path.write_bytes(mutant(content, rng))
        if shards.is_whole(path):
            back = shards.Shard.load(path)
            assert (back.rows, back.symbols) == (shard.rows, shard.symbols), number
            np.testing.assert_array_equal(back.data, shard.data)


# --- tables, piano rolls, Slakh ------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        'id\ttitle\tyear\tsplit\na\t"A, B"\t1999\ttrain\nb\tB\t1971\ttest\n',
        "1999<SEP>TR1<SEP>Someone<SEP>A\n1971<SEP>TR2<SEP>Another<SEP>B\n",
    ],
)
def test_a_mutated_table_is_refused_or_read(tmp_path, text):
    path, rng = tmp_path / "table", random.Random(0)
    for number in range(300 * SOAK):
        path.write_bytes(mutant(text.encode(), rng))
        os.utime(path, ns=(0, number))  # which tells that it has changed
        with contextlib.suppress(InputError):
            found = read_table(path).find(SongFile(path, "a.mid"))
            assert found is None or found.get("split", "train") in ("train", "test", "validation")


def test_a_mutated_set_of_rolls_is_refused_or_as_it_was(tmp_path):
    path, rng = tmp_path / "a.npz", random.Random(0)
    arrays = {}
    for split in ("train", "valid", "test"):
        arrays[f"{split}_rolls"] = np.eye(8, 88, dtype=np.uint8)
        arrays[f"{split}_lengths"] = np.array([5, 3])
    np.savez_compressed(path, **arrays)
    content = path.read_bytes()
    expected = PianoRolls(path).read(PianoRolls(path).find()[0], max_bytes=1)[1]
    for number in range(200 * SOAK):
        path.write_bytes(mutant(content, rng))
        os.utime(path, ns=(0, number))
        source = PianoRolls(path)
        with contextlib.suppress(InputError):
            assert source.read(source.find()[0], max_bytes=1)[1] == expected, number


def test_mutated_metadata_of_slakh_costs_its_track_alone(tmp_path):
    track = tmp_path / "Track1"
    (track / "MIDI").mkdir(parents=True)
    midi.write_song(random_song(1, 8), track / "MIDI" / "S00.mid")
    text = (
        f"UUID: {'a' * 32}\nstems:\n  S00:\n    inst_class: Piano\n    program_num: 0\n"
        "    is_drum: false\n    midi_saved: true\n"
    )
    path, rng = track / "metadata.yaml", random.Random(0)
    path.write_text(text)
    source = Slakh(tmp_path)
    (file,) = source.find()
    assert source.read(file, max_bytes=10**6)[0].num_notes
    for _ in range(200 * SOAK):
        path.write_bytes(mutant(text.encode(), rng))
        with contextlib.suppress(SongError):
            assert source.read(file, max_bytes=10**6)[0].num_notes


# --- what stands in the way of a song ------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_not_opened(tmp_path, kind):
    path = tmp_path / "a.mid"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
    with pytest.raises(midi.MidiError, match="missing: not a file"):
        midi.read_song(path)
    with pytest.raises(InputError, match="not a table of songs"):
        read_table(path)


def test_a_shard_that_was_damaged_is_made_again(folder, tmp_path):
    plan = build.make_plan(settings(folder))
    partial = tmp_path / ".corpus.partial"
    partial.mkdir()
    (partial / "fingerprint").write_text(plan.fingerprint)
    shards.write_shard(partial / "0.npz", plan.songs, plan.job, {})
    spoil(partial / "0.npz", "flipped")
    corpus = build.encode_corpus(plan, tmp_path / "corpus", number_of_workers=0)
    np.testing.assert_array_equal(corpus.data, encoded(settings(folder)).data)


def test_no_data_is_run_as_a_program():
    """Configs are Python, and are run; nothing else is."""
    forbidden = re.compile(
        r"\bpickle\b|allow_pickle=True|\bmarshal\b|\bshelve\b|joblib|\bdill\b"
        r"|(?<![.\w])eval\(|(?<![.\w])exec\(|yaml\.(?:unsafe_|full_)?load\((?!.*Loader)"
        r"|os\.system|shell=True"
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted((ROOT / "musicjax").rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if forbidden.search(line.partition("#")[0])
    ]
    assert found == []
