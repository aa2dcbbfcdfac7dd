import dataclasses

import numpy as np
import pytest
from conftest import encoded, make_song, make_track, model_of, random_song
from runs import config_of, write_songs_of

from musicjax.config import settings_of
from musicjax.errors import InputError
from musicjax.generation import primes as priming
from musicjax.generation.options import Options
from musicjax.music import midi
from musicjax.music.key import estimate_key
from musicjax.music.song import Meter
from musicjax.training.settings import ExampleSettings


@pytest.fixture(scope="module")
def tokens(folder):
    """A config, its corpus, and a model of eight tokens."""
    return opened(config_of(folder))


@pytest.fixture(scope="module")
def steps(folder):
    """The same of note states."""
    return opened(config_of(folder, "nsm", "tiny_best"))


def opened(config):
    corpus = encoded(config.data)
    config.data.update(corpus.manifest["settings"])  # as a work dir has them
    return config, corpus, model_of(config, corpus.encoding)


def from_song(song, config, model, length, *, is_drum=False, **options):
    return priming.prime_from_song(song, model, config.data, Options(**options), length, is_drum)


def from_corpus(config, corpus, model, length, seed, *, key=None, meter=None, **changes):
    config = config.copy_and_resolve_references()
    config.train.update(changes)
    settings = settings_of(ExampleSettings, config.train, "train")
    options = Options(key=key, meter=meter)
    return priming.prime_from_corpus(corpus, model, settings, length, seed, options)


# --- of a song ------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["tiny", "tiny_best"])
def test_the_end_of_a_song_in_the_key_of_training(folder, variant):
    """Of the model with weights of its own for each step too."""
    config = config_of(folder, "nsm", variant)
    model = model_of(config)
    song = random_song(5).transposed(4)
    prime = from_song(song, config, model, 32)
    whole = from_song(song, config, model, None)
    np.testing.assert_array_equal(prime.elements, whole.elements[-32:])
    np.testing.assert_array_equal(prime.heard, prime.elements)
    assert (whole.start, prime.start) == (0, len(whole.elements) - 32)
    assert prime.semitones == (-4 if config.data.transpose else 0)
    assert prime.qpm == pytest.approx(100)
    in_c = from_song(random_song(5), config, model, 32)
    assert np.array_equal(prime.elements, in_c.elements) == config.data.transpose


def test_the_last_tokens_of_a_song(tokens):
    config, _, model = tokens
    song = random_song(5)
    prime = from_song(song, config, model, 8, unknown_tokens="nearest")
    sequence = model.encoding.sequence(song).tokens
    assert len(prime.elements) == 8
    assert prime.start == sum(token.duration for token in sequence[:-8])
    known = from_song(song, config, model, None, unknown_tokens="nearest")
    np.testing.assert_array_equal(prime.elements, known.elements[-8:])


def test_a_prime_of_nothing(tokens, steps):
    for config, _, model in (tokens, steps):
        if not model.min_prime:
            prime = from_song(random_song(5), config, model, 0, unknown_tokens="drop")
            assert prime.elements.shape == (0, *model.encoding.shape)


def test_tokens_that_the_model_does_not_know(tokens):
    config, _, model = tokens
    song = make_song(make_track([(i * 480, 480, 100) for i in range(100)]), source="strange.mid")
    expected = r"strange.mid: 8 of the prime's last 8 tokens are unknown .*=error"
    with pytest.raises(InputError, match=expected):
        from_song(song, config, model, 8, unknown_tokens="error")
    with pytest.raises(InputError, match="the prime has 0 tokens; the model reads"):
        from_song(song, config, model, 8, unknown_tokens="drop")
    prime = from_song(song, config, model, 8)
    assert len(prime.elements) == 8
    assert prime.elements.all()
    assert prime.remarks == (
        "strange.mid: 8 of its last 8 tokens are unknown to the model, and replaced by the most "
        "similar",
    )


def test_a_part_is_chosen_by_the_option_or_as_in_training(steps):
    config, _, model = steps
    piano = make_track([(i * 480, 480, 60) for i in range(40)], name="Piano")
    flute = make_track([(i * 480, 480, 72) for i in range(40)], name="Flute", program=73)
    song = make_song(piano, flute)
    both = from_song(song, config, model, 16).elements
    alone = from_song(song, config, model, 16, prime_track="flute").elements
    assert both[..., 0].sum() == 2 * alone[..., 0].sum() == 2 * 16


def test_parts_that_are_not_there_or_of_the_other_kind(tokens):
    config, _, model = tokens
    kit = make_track([(i * 480, 480, 60 + i % 3) for i in range(40)], name="Kit", is_drum=True)
    song = make_song(kit, source="kit.mid")
    with pytest.raises(
        InputError, match=r"kit.mid: no pitched track, which the model .* tracks are Kit; give"
    ):
        from_song(song, config, model, 8)
    with pytest.raises(InputError, match="its part 'kit' is percussion, the model was trained on"):
        from_song(song, config, model, 8, prime_track="kit")
    drums = from_song(
        song, config, model, 8, prime_track="kit", is_drum=True, unknown_tokens="nearest"
    )
    assert len(drums.elements) == 8
    pitched = make_song(make_track([(0, 480, 60)]), source="a.mid")
    with pytest.raises(InputError, match=r"a.mid: no percussion track, which the model was"):
        from_song(pitched, config, model, 8, is_drum=True)


def test_a_song_without_the_part_is_read_whole_and_that_is_said(tokens):
    config, _, model = tokens
    flute = make_track([(i * 480, 480, 72) for i in range(40)], name="Flute", program=73)
    kit = make_track([(i * 480, 480, 60) for i in range(40)], name="Kit", is_drum=True)
    song = make_song(flute, kit, source="flute.mid")
    for part in ("soprano|bass", "kit"):
        config.data.track = part
        prime = from_song(song, config, model, 8)
        whole = from_song(song, config, model, 8, prime_track="all")
        np.testing.assert_array_equal(prime.elements, whole.elements)
        remark = f"flute.mid: no part '{part}'; all of its pitched tracks are read (--prime_track)"
        assert remark in prime.remarks
        assert remark not in whole.remarks
    config.data.track = "all"


def test_a_prime_has_its_songs_key_meter_and_loudness(tokens):
    config, _, model = tokens
    rows = [(i * 480, 480, 62 + (0, 3, 7, 12, 2, 5, 7, 11)[i % 8]) for i in range(36)]  # D minor
    soft = dataclasses.replace(make_track(rows), velocity=np.full(36, 30))
    song = make_song(soft, meters=(Meter(0, 3, 4),), source="waltz.mid")
    prime = from_song(song, config, model, 8)
    assert prime.velocity == 30
    found = estimate_key(song)
    assert prime.key.moved(-prime.semitones) == (found.tonic, found.minor) == (2, True)
    for options in ({"key": "Gm", "meter": "3/4"}, {"key": "c minor"}):
        again = from_song(song, config, model, 8, **options)
        np.testing.assert_array_equal(again.elements, prime.elements)
    with pytest.raises(InputError, match=r"key is 'G', but waltz.mid is in D:min; expected one of"):
        from_song(song, config, model, 8, key="G")
    with pytest.raises(InputError, match=r"meter is 4/4, but waltz.mid ends in 3/4, and a piece"):
        from_song(song, config, model, 8, meter="4/4")


def test_test_songs_of_a_mode_and_a_meter_are_chosen(tokens):
    config, corpus, model = tokens
    songs = [
        dataclasses.replace(song, key=f"F:{('maj', 'min')[number % 2]}")
        for number, song in enumerate(corpus.songs)
    ]
    corpus = dataclasses.replace(corpus, songs=songs)
    keys = {song.name: song.key for song in corpus.split("test")}
    for asked, mode in (("Eb", "maj"), ("Ebm", "min")):
        drawn = {from_corpus(config, corpus, model, 8, seed, key=asked).name for seed in range(20)}
        assert drawn
        assert all(keys[name].endswith(mode) for name in drawn)
    assert from_corpus(config, corpus, model, 8, 0, meter="4/4").name in keys
    with pytest.raises(
        InputError, match=r"meter is 5/4, but no test song is in 5/4 \(4/4 in \d+\)"
    ):
        from_corpus(config, corpus, model, 8, 0, meter="5/4")


def test_songs_that_cannot_be_encoded(steps):
    config, _, model = steps
    low = make_song(make_track([(0, 480, 5)]), source="low.mid")
    with pytest.raises(InputError, match=r"low.mid: no_note_in_range"):
        from_song(low, config, model, 8)


# --- of the test songs ----------------------------------------------------------------------------


def test_the_seed_chooses_a_test_song_and_a_place(tokens, steps):
    for config, corpus, model in (tokens, steps):
        drawn = [from_corpus(config, corpus, model, 8, seed) for seed in range(12)]
        again = from_corpus(config, corpus, model, 8, 3)
        np.testing.assert_array_equal(drawn[3].elements, again.elements)
        assert len({(prime.name, prime.start) for prime in drawn}) > 3
        for prime in drawn:
            [song] = [song for song in corpus.songs if song.name == prime.name]
            rows = np.asarray(corpus.rows(song))
            onsets = corpus.encoding.onsets(corpus.encoding.all_elements(rows))
            first = onsets.tolist().index(prime.start)
            here = corpus.encoding.unpack(rows)[first : first + 8]
            np.testing.assert_array_equal(prime.elements, here)
            assert prime.qpm == pytest.approx(100)


def test_a_prime_has_not_ended(folder):
    config, corpus, model = opened(config_of(folder, "events"))
    encoding = corpus.encoding
    for seed in range(20):
        prime = from_corpus(config, corpus, model, 200, seed)
        assert not encoding.is_end(prime.elements).any()
        np.testing.assert_array_equal(prime.heard, prime.elements)
    song = next(song for song in corpus.split("test") if song.name == prime.name)
    assert encoding.is_end(corpus.rows(song)[-1])
    midi_song = random_song(5)
    prime = from_song(midi_song, config, model, None)
    whole = encoding.encode(midi_song.transposed(prime.semitones)).elements
    np.testing.assert_array_equal(prime.elements, whole[:-1])


def test_places_are_those_where_examples_begin(steps):
    config, corpus, model = steps
    at_bars = {from_corpus(config, corpus, model, 8, seed).start % 16 for seed in range(12)}
    assert at_bars == {0}
    at_the_beginning = {
        from_corpus(config, corpus, model, 8, seed, starts="beginning").start for seed in range(12)
    }
    assert at_the_beginning == {0}


def test_what_training_never_saw_is_heard_all_the_same(folder):
    config, corpus, model = opened(config_of(folder, test_share=0.7, validation_share=0.0))
    primes = [from_corpus(config, corpus, model, 8, seed) for seed in range(30)]
    unknown = [prime for prime in primes if (prime.elements == 0).any()]
    assert unknown
    for prime in unknown:
        assert (prime.heard >= corpus.encoding.size).sum() == (prime.elements == 0).sum()
        assert len(corpus.encoding.decode(prime.heard)[0])


def test_no_test_song_is_long_enough(steps):
    with pytest.raises(InputError, match=r"none of the \d+ test songs has 9999 steps"):
        from_corpus(*steps, 9999, 0)


# --- as a model reads them ------------------------------------------------------------------------


def test_shorter_primes_have_zeros_before_them_and_positions_that_go_back(tmp_path):
    write_songs_of(tmp_path, 3, 20)
    config = config_of(tmp_path, "nsm", "tiny_best", test_share=0.0, validation_share=0.0)
    corpus = encoded(config.data)
    model = model_of(config, corpus.encoding)
    long, short = (
        priming.passage_of(corpus, song, 4, 4 + n)
        for song, n in zip(corpus.songs[::-1], (12, 5), strict=True)
    )
    elements = priming.stack([long, short], model.encoding)
    assert elements.shape == (2, 12, *model.encoding.shape)
    np.testing.assert_array_equal(elements[0], long.elements)
    assert not elements[1, :7].any()
    np.testing.assert_array_equal(elements[1, 7:], short.elements)
    positions, cycles = priming.positions([long, short], 12, model)
    assert positions.dtype == cycles.dtype == np.int32
    assert cycles.tolist() == [16, 16]
    # From the step before the prime on, through what is to come.
    length = positions.shape[1]
    assert length >= 1 + 12 + 16
    assert positions[0].tolist() == [step % 16 for step in range(3, 3 + length)]
    assert positions[1].tolist() == [step % 16 for step in range(3 - 7, 3 - 7 + length)]


def places_to_come(prime, model, count):
    """The place of each unit after a prime, as the loop finds them."""
    positions, cycles = priming.positions([prime], len(prime.elements), model)
    given, cycle = positions[0, 1 + len(prime.elements) :].tolist(), int(cycles[0])
    while len(given) < count:
        given += given[-cycle:]
    return given[:count]


@pytest.mark.parametrize("name", ["vocab", "nsm"])
def test_a_piece_longer_than_its_song_keeps_the_places(tmp_path, name):
    """Of songs whose meter changes after the prime, long after, or not at all."""
    bar = {"3/4": 3, "4/4": 4}
    for i, changes in enumerate(
        [("4/4",), ("3/4",), ("4/4", "3/4"), ("3/4", "4/4", "3/4"), ("4/4", *["3/4", "4/4"] * 30)]
    ):
        meters, tick = [], 0
        for meter in changes:
            meters.append(Meter(tick, bar[meter], 4))
            tick += 480 * bar[meter] * 4
        notes = [(480 * t, 480, 40 + t * (i + 3) % 40) for t in range(max(tick // 480, 24))]
        song = make_song(make_track(notes), meters=tuple(meters))
        midi.write_song(song, tmp_path / f"{i}.mid")
    variant = "tiny_causal" if name == "vocab" else "tiny_best"
    config = config_of(tmp_path, name, variant, test_share=0.0, validation_share=0.0)
    corpus = encoded(config.data)
    model = model_of(config, corpus.encoding)
    for song in corpus.songs:
        for start, stop in ((0, 8), (5, 16), (0, 24)):
            prime = priming.passage_of(corpus, song, start, stop)
            end = prime.start + corpus.encoding.length(prime.heard)
            # Bars of the song, and on in its last meter.
            expected = corpus.encoding.positions(song.layout, end, end + 3000)
            assert places_to_come(prime, model, 3000) == expected.tolist()
    # Together they are as alone.
    primes = [priming.passage_of(corpus, song, 0, 8) for song in corpus.songs]
    positions, cycles = priming.positions(primes, 8, model)
    for prime, row, cycle in zip(primes, positions, cycles, strict=True):
        alone, own = priming.positions([prime], 8, model)
        assert own[0] == cycle
        np.testing.assert_array_equal(row[: alone.shape[1]], alone[0])


def test_elements_of_a_prime_are_at_the_places_of_their_onsets(tmp_path):
    rows = [(0, 480, 60), (480, 240, 62), (720, 1200, 64), (1920, 480, 65), (2400, 480, 67)]
    meters = (Meter(0, 1, 4), Meter(480, 3, 4))
    midi.write_song(make_song(make_track(rows), meters=meters), tmp_path / "0.mid")
    config = config_of(
        tmp_path, "vocab", "tiny_causal", test_share=0.0, validation_share=0.0, align=False
    )
    corpus = encoded(config.data)
    model = model_of(config, corpus.encoding)
    prime = priming.passage_of(corpus, corpus.songs[0], 1, 4)
    positions, cycles = priming.positions([prime], 3, model)
    assert cycles.tolist() == [36]
    # Its notes, then what follows.
    assert positions[0, 1 : 1 + 3].tolist() == [0, 6, 0]
    assert positions[0, 4 : 4 + 36].tolist() == [*range(12, 36), *range(12)]


def test_a_model_that_reads_no_positions_gets_zeros(tokens):
    config, corpus, model = tokens
    primes = [from_corpus(config, corpus, model, 8, seed) for seed in range(3)]
    positions, cycles = priming.positions(primes, 8, model)
    assert positions.shape == (3, 1 + 8 + 1)
    assert not positions.any()
    assert cycles.tolist() == [1, 1, 1]
