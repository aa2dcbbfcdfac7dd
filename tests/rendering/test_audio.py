import io

import hypothesis.strategies as st
import numpy as np
import pytest
from conftest import make_song, make_track
from hypothesis import given

from musicjax.errors import InputError
from musicjax.music.song import Tempo
from musicjax.rendering import audio
from musicjax.rendering.audio import RATE, AudioSettings

A4, E5 = 69, 76
# At 60 quarters a minute: a second each, with a second of silence between.
TWO_NOTES = make_song(
    make_track([(0, 480, A4), (960, 480, E5)], program=73), tempos=(Tempo(0, 60.0),)
)


def hertz(pitch):
    return 440 * 2 ** ((pitch - 69) / 12)


def strongest(sound, start, stop):
    """The frequency in Hz that is strongest in a stretch of seconds."""
    part = sound[round(start * RATE) : round(stop * RATE)].mean(1)
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part))))
    return np.fft.rfftfreq(len(part), 1 / RATE)[spectrum.argmax()]


def sine(level, seconds=1.0, channels=2):
    """Of 1 kHz, whose mean square is `level` dB."""
    wave = np.sin(2 * np.pi * 1000 * np.arange(round(seconds * RATE)) / RATE)
    wave *= np.sqrt(2) * 10 ** (level / 20)
    return np.stack([wave] * channels, axis=1).astype(np.float32)


def level(sound):
    return 10 * np.log10(np.mean(np.square(sound, dtype=np.float64)))


def power(sound, start, stop):
    return np.square(sound[round(start * RATE) : round(stop * RATE)]).mean()


# --- songs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("player", ["midirenderer", "pretty_midi"])
def test_notes_are_where_they_should_be(player, monkeypatch):
    if player == "midirenderer":
        pytest.importorskip("midirenderer", reason="needs midirenderer (extra `audio`)")
    else:
        monkeypatch.setattr(audio, "_has", lambda package: package != "midirenderer")
    assert player in audio.synthesiser()
    sound = audio.render(TWO_NOTES)
    assert sound.dtype == np.float32
    assert sound.shape == (pytest.approx(round(4.5 * RATE), abs=RATE // 100), 2)
    for pitch, start in ((A4, 0.1), (E5, 2.1)):
        # The fundamental, or of some instruments an octave above.
        octaves = np.log2(strongest(sound, start, start + 0.8) / hertz(pitch))
        assert abs(octaves - round(octaves)) < 0.01
    assert power(sound, 1.7, 1.95) < 0.05 * min(power(sound, 0.2, 0.8), power(sound, 2.2, 2.8))
    assert np.abs(sound).max() <= 10 ** (-1 / 20) + 1e-6
    assert abs(sound[-1]).max() < 1e-6  # it has died away


@pytest.mark.parametrize("name", audio.FORMATS)
def test_a_file_of_each_format_holds_the_song_and_does_not_clip(name, tmp_path):
    soundfile = pytest.importorskip("soundfile", reason="needs soundfile (extra `audio`)")
    loud = AudioSettings(loudness=-8)
    audio.write_audio(TWO_NOTES, tmp_path / f"song.{name}", loud)
    sound, rate = soundfile.read(tmp_path / f"song.{name}")
    expected = audio.render(TWO_NOTES, loud)
    assert rate == RATE
    assert len(sound) == pytest.approx(len(expected), abs=RATE // 10)
    assert np.abs(sound).max() < 1
    length = min(len(sound), len(expected)) - RATE // 10
    assert np.corrcoef(sound[:length, 0], expected[:length, 0])[0, 1] > 0.9


def test_minutes_of_ogg_do_not_overflow_the_stack():
    soundfile = pytest.importorskip("soundfile", reason="needs soundfile (extra `audio`)")
    noise = np.random.default_rng(0).normal(scale=0.1, size=(100 * RATE, 1)).astype(np.float32)
    content = audio.encoded(noise, "ogg")
    assert soundfile.info(io.BytesIO(content)).frames == len(noise)


def test_extreme_notes_and_programs_are_rendered():
    tracks = [
        make_track([(0, 240, 0), (0, 240, 127), (240, 1, 60)], program=127),
        make_track([(0, 480, 0), (0, 480, 127)], is_drum=True),
        *[make_track([(0, 480, 40 + i)], program=i) for i in range(20)],
    ]
    sound = audio.render(make_song(*tracks))
    assert np.isfinite(sound).all()
    assert np.abs(sound).max() > 0.01


def test_long_silences_are_cut_and_the_notes_are_untouched():
    hours = make_song(make_track([(0, 480, A4), (480 * 20_000, 480, E5)]), source="a.mid")
    with pytest.raises(InputError, match=r"a\.mid: it lasts 167 minutes.*longest_silence"):
        audio.render(hours)
    sound = audio.render(hours, AudioSettings(longest_silence=1))
    assert len(sound) < 12 * RATE
    begins = np.abs(sound).max(1) > 0.05
    assert strongest(sound, 0.05, 0.45) == pytest.approx(hertz(A4), rel=0.02)
    last = np.flatnonzero(begins & (np.arange(len(sound)) > 2 * RATE))[0] / RATE
    assert strongest(sound, last, last + 0.4) == pytest.approx(hertz(E5), rel=0.02)


@pytest.mark.parametrize(
    ("song", "settings", "message"),
    [
        (make_song(source="a.mid"), {}, "a.mid: no note"),
        (make_song(make_track([(0, 1, 60)])), {"soundfont": "/no/such.sf2"}, "No such file"),
        (make_song(make_track([(0, 1, 60)])), {"soundfont": __file__}, "RIFF"),
    ],
)
def test_what_cannot_be_heard_is_one_line(song, settings, message):
    pytest.importorskip("midirenderer", reason="needs midirenderer (extra `audio`)")
    with pytest.raises(InputError, match=message):
        audio.render(song, AudioSettings(**settings))


def test_one_short_note_is_heard():
    assert np.abs(audio.render(make_song(make_track([(0, 1, 60)])))).max() > 0


def test_without_the_extra_there_are_wav_files_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(audio, "_has", lambda package: False)
    assert audio.usual_format() == "wav"
    audio.write_audio(TWO_NOTES, tmp_path / "a.wav")
    with pytest.raises(InputError, match=r"mp3.*pip install 'musicjax\[audio\]'"):
        audio.write_audio(TWO_NOTES, tmp_path / "a.mp3")
    with pytest.raises(InputError, match="needs midirenderer"):
        audio.render(TWO_NOTES, AudioSettings(soundfont="a.sf2"))
    with pytest.raises(InputError, match="audio is 'aiff'"):
        audio.write_audio(TWO_NOTES, tmp_path / "a.aiff")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    with pytest.raises(InputError, match="compression_ratio is"):
        AudioSettings(compression_ratio=0.5)


# --- the chain ------------------------------------------------------------------------------------


def test_compression_divides_what_is_above_the_threshold():
    settings = {"threshold": -20.0, "ratio": 4.0, "attack": 0.02, "release": 100.0}
    assert level(audio.compress(sine(-8), RATE, **settings)) == pytest.approx(-17, abs=0.05)
    np.testing.assert_array_equal(audio.compress(sine(-21), RATE, **settings), sine(-21))
    settings["ratio"] = 1.0
    np.testing.assert_array_equal(audio.compress(sine(-3), RATE, **settings), sine(-3))


def test_the_compressor_lets_go_at_its_rate():
    quiet, loud = sine(-20), sine(-4)
    sound = np.concatenate([loud, quiet, quiet])
    settings = {"threshold": -20.0, "ratio": 2.0, "attack": 0.01, "release": 20.0}
    gain = audio.compress(sound, RATE, **settings)[::48] / np.where(sound, sound, np.nan)[::48]
    gain = 20 * np.log10(np.nanmedian(gain.reshape(-1, 100, 2), axis=(1, 2)))  # each 0.1 s
    assert gain[5] == pytest.approx(-8, abs=0.1)
    # 16 dB above, of which half is taken: gone after 0.8 s.
    assert gain[14] == pytest.approx(-8 + 10 * 0.45, abs=0.3)
    assert gain[19] == pytest.approx(0, abs=0.05)


def test_saturation_is_odd_keeps_what_is_soft_and_bounds_what_is_loud():
    values = np.linspace(-2, 2, 401, dtype=np.float32)[:, None]
    bent = audio.saturate(values, 6)
    np.testing.assert_allclose(bent, -bent[::-1], atol=1e-7)
    assert (np.diff(bent[:, 0]) > 0).all()
    assert np.abs(bent).max() <= 10 ** (-6 / 20)
    soft = np.float32([[1e-3], [-1e-3]])
    np.testing.assert_allclose(audio.saturate(soft, 6), soft, rtol=1e-4)
    np.testing.assert_array_equal(audio.saturate(values, 0), values)
    spectrum = np.abs(np.fft.rfft(audio.saturate(sine(-6), 12)[:, 0]))
    second, third = spectrum[2000], spectrum[3000]  # of 1 kHz in one second
    assert third > 100 * second


@given(
    st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=200),
    st.floats(-12, 0),
    st.sampled_from([0.0005, 0.001, 0.01]),
)
def test_no_sample_is_beyond_the_ceiling(values, ceiling, window):
    sound = np.array(values, np.float32)[:, None] * np.float32([1, -0.5])
    limited = audio.limit(sound, 8000, ceiling, window)
    assert np.abs(limited).max() <= 10 ** (ceiling / 20) * (1 + 1e-6)
    assert (np.sign(limited) * np.sign(sound) >= 0).all()
    assert (np.abs(limited) <= np.abs(sound) * (1 + 1e-6)).all()


def test_the_limiter_leaves_alone_what_is_below_the_ceiling():
    np.testing.assert_array_equal(audio.limit(sine(-6), RATE, -1, 0.02), sine(-6))
    sound = sine(-20)
    sound[RATE // 2] = 1.0
    limited = audio.limit(sound, RATE, -6, 0.02)
    far = np.abs(np.arange(RATE) - RATE // 2) > 0.03 * RATE
    np.testing.assert_allclose(limited[far], sound[far], rtol=1e-6)


def test_loudness_is_what_is_asked_for():
    # BS.1770-4: a sine of 997 Hz at full scale in one channel has -3.01 LUFS.
    one = np.sin(2 * np.pi * 997 * np.arange(2 * RATE) / RATE).astype(np.float32)[:, None]
    assert audio.loudness(one, RATE) == pytest.approx(-3.01, abs=0.1)
    assert audio.loudness(audio.normalise(sine(-40), RATE, -16), RATE) == pytest.approx(
        -16, abs=0.1
    )
    short = audio.normalise(sine(-10, seconds=0.05), RATE, -16)
    assert np.isfinite(short).all()
    silence = np.zeros((RATE, 2), np.float32)
    for stage in (
        audio.normalise(silence, RATE, -16),
        audio.at_level(silence, RATE, -20),
        audio.master(silence, RATE, AudioSettings()),
    ):
        np.testing.assert_array_equal(stage, silence)


def test_the_level_is_of_what_sounds():
    sound = np.concatenate([sine(-33), np.zeros((3 * RATE, 2), np.float32)])
    assert level(audio.at_level(sound, RATE, -20)[:RATE]) == pytest.approx(-20, abs=0.01)
