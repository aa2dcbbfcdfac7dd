"""Songs as sound, offline: WAV, MP3, OGG and FLAC files.

A song is played by midirenderer with a SoundFont (the one that pretty_midi ships, unless another is
named), and mastered as the paper's samples were, here by functions of arrays:

    compression     what is loud is made less loud
    saturation      peaks are bent, which adds odd harmonics
    loudness        the whole is brought to a loudness (ITU-R BS.1770-4, by pyloudnorm)
    limiting        no sample is beyond the ceiling

midirenderer, and soundfile for all formats but WAV, are the extra `audio`. Without it pretty_midi's
synthesiser plays, sine waves and no drums, into WAV files.

Source: paper section 4.2 ("Compression, Saturation, Limiting", in Logic Pro X, without numbers).
Differs: (1) the numbers are ours, `AudioSettings`; (2) loudness is normalised; (3) long silences
are cut by whole bars, before the music is played.

Axes: S sample, C channel. Arrays are float32 [S, C], full scale is 1; levels are in dB of it.
"""

import dataclasses
import functools
import importlib.util
import io
import wave
from pathlib import Path

import numpy as np

from musicjax.config import Rule, at_least, check_settings, setting
from musicjax.corpus.preprocess import without_silence
from musicjax.errors import InputError
from musicjax.music import midi
from musicjax.music.song import Song
from musicjax.system import files

FORMATS = ("wav", "mp3", "ogg", "flac")
INSTALL = "pip install 'musicjax[audio]'"
LONGEST_MINUTES = 30
RATE = 48_000  # samples a second, midirenderer's

_TAIL_SECONDS = 1.5  # after the last note, for its release and reverberation
_FADE_SECONDS = 0.5  # of the tail's end
_BLOCK = 64  # samples, of one gain of the compressor
_SILENT = -70.0  # dB; BS.1770's absolute gate
_CONTROL_CHANGE = 3  # that means nothing
_LEVEL = -20.0  # dB, root mean square that the compressor is fed with


def _between(low: float, high: float) -> Rule:
    return Rule(lambda value: low <= value <= high, f"{low:g} to {high:g}")


@dataclasses.dataclass(frozen=True)
class AudioSettings:
    """How songs sound. Each field is a flag of the command line, with its help.

    Raises:
        InputError: a value out of range.
    """

    soundfont: str | None = setting(
        default=None, help="SoundFont (.sf2) of the instruments; default: pretty_midi's TimGM6mb."
    )
    longest_silence: int = setting(
        at_least(0), default=0, help="Bars that a silence may last; longer ones are cut; 0: none."
    )
    loudness: float = setting(
        _between(-60, -5), default=-16.0, help="Loudness of audio, in LUFS (ITU-R BS.1770)."
    )
    ceiling: float = setting(
        _between(-20, 0), default=-1.0, help="Highest sample of audio, in dB of full scale."
    )
    compression_threshold: float = setting(
        _between(-40, 40),
        default=3.0,
        help="Level above which audio is compressed, in dB above its mean level.",
    )
    compression_ratio: float = setting(
        at_least(1), default=2.0, help="dB above the threshold that become one; 1: no compression."
    )
    compression_attack: float = setting(
        _between(0.001, 1), default=0.02, help="Seconds over which the compressor measures a level."
    )
    compression_release: float = setting(
        _between(1, 1000), default=60.0, help="dB a second by which the compressor lets go."
    )
    saturation: float = setting(
        _between(0, 40), default=6.0, help="dB by which audio is driven into saturation; 0: none."
    )
    limiter_window: float = setting(
        _between(0.0005, 0.5), default=0.02, help="Seconds over which the limiter turns down."
    )

    def __post_init__(self):
        check_settings(self)


def synthesiser() -> str:
    """Which one plays here, in a line for people."""
    if _has("midirenderer"):
        return "played by midirenderer"
    return f"played by pretty_midi's sine waves; for instruments: {INSTALL}"


def check_format(name: str) -> None:
    """Checks that files of a format can be written here.

    Raises:
        InputError: no such format, or soundfile is missing.
    """
    if name not in FORMATS:
        raise InputError(f"audio is {name!r}; expected one of {', '.join(FORMATS)}")
    if name != "wav" and not _has("soundfile"):
        raise InputError(f"audio is {name!r}, which needs soundfile: {INSTALL}; or choose wav")


def usual_format() -> str:
    """What every browser plays: mp3 if it can be written here, else wav."""
    return "mp3" if _has("soundfile") else "wav"


def write_audio(song: Song, path: str | Path, settings: AudioSettings | None = None) -> None:
    """Renders a song to a file, whole or not at all; its suffix is the format.

    Raises:
        InputError: as check_format and render.
    """
    path = Path(path)
    name = path.suffix.removeprefix(".").lower()
    check_format(name)
    content = encoded(render(song, settings), name)
    with files.new_file(path) as file:
        file.write(content)


def render(song: Song, settings: AudioSettings | None = None) -> np.ndarray:
    """A song as sound, mastered.

    Args:
        song: with a note.
        settings: how it sounds.
    Returns:
        float32 [S, 2] at RATE, within the ceiling; 1.5 s longer than the song.
    Raises:
        InputError: no note, too long, or no such SoundFont.
    """
    settings = settings or AudioSettings()
    song = without_long_silence(song, settings.longest_silence)
    name = song.source or "the song"
    if not song.num_notes:
        raise InputError(f"{name}: no note in it, so there is nothing to hear")
    if song.seconds > 60 * LONGEST_MINUTES:
        raise InputError(
            f"{name}: it lasts {song.seconds / 60:.0f} minutes, as sound expected at most "
            f"{LONGEST_MINUTES}; if it is mostly silent, set longest_silence to some bars"
        )
    return master(synthesise(song, settings.soundfont), RATE, settings)


def without_long_silence(song: Song, bars: int) -> Song:
    """A song whose silences last so many bars at most; 0: as it is."""
    return without_silence(song, bars)[0] if bars else song


def synthesise(song: Song, soundfont: str | None = None) -> np.ndarray:
    """A song as it is played, before mastering.

    Args:
        song: with a note.
        soundfont: path of an .sf2 file; None: pretty_midi's. Notes and programs that it lacks are
            silent or played by its default.
    Returns:
        float32 [S, 2] at RATE.
    Raises:
        InputError: no such SoundFont, or one is named and midirenderer is missing.
    """
    if not _has("midirenderer"):
        if soundfont:
            raise InputError(f"soundfont is {soundfont!r}, which needs midirenderer: {INSTALL}")
        mono = midi.song_to_pretty_midi(song).synthesize(RATE)
        mono.resize(round((song.seconds + _TAIL_SECONDS) * RATE), refcheck=False)
        return _faded(np.stack([mono, mono], axis=1).astype(np.float32))
    import midirenderer

    score = midi.song_to_symusic(song)
    # The renderer stops at the last event, so there must be one where the sound has died away.
    end = song.end_ticks + _TAIL_SECONDS * _qpm_at_end(song) / 60 * song.ticks_per_quarter
    score.tracks[0].controls.append(_control(round(end)))
    try:
        content = midirenderer.render_wave_from(_soundfont(soundfont), score.dumps_midi())
    except RuntimeError as error:
        raise InputError(f"{soundfont or song.source}: not rendered ({error})") from None
    with wave.open(io.BytesIO(content)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    return _faded(samples.astype(np.float32) / 2**15)


def _qpm_at_end(song: Song) -> float:
    return song.tempos[-1].qpm if song.tempos else 120.0


def _control(tick: int):
    import symusic

    return symusic.ControlChange(tick, _CONTROL_CHANGE, 0)


def _faded(sound: np.ndarray) -> np.ndarray:
    """The end of the tail, faded out."""
    length = min(round(_FADE_SECONDS * RATE), len(sound))
    sound[len(sound) - length :] *= np.linspace(1, 0, length, dtype=np.float32)[:, None]
    return sound


@functools.lru_cache(maxsize=2)
def _soundfont(path: str | None) -> bytes:
    if path is None:
        # Not imported, which would take a third of a second.
        spec = importlib.util.find_spec("pretty_midi")
        path = str(Path(spec.origin).with_name("TimGM6mb.sf2")) if spec and spec.origin else ""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"soundfont is {path!r}: {error.strerror}; expected an .sf2 file"
        ) from None


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


# --- mastering ------------------------------------------------------------------------------------


def master(sound: np.ndarray, rate: int, settings: AudioSettings) -> np.ndarray:
    """The whole chain; silence stays silence.

    Args:
        sound: float32 [S, C].
        rate: samples a second.
        settings: of the chain.
    """
    sound = at_level(sound, rate, _LEVEL)
    sound = compress(
        sound,
        rate,
        threshold=_LEVEL + settings.compression_threshold,
        ratio=settings.compression_ratio,
        attack=settings.compression_attack,
        release=settings.compression_release,
    )
    sound = saturate(sound, settings.saturation)
    sound = normalise(sound, rate, settings.loudness)
    return limit(sound, rate, settings.ceiling, settings.limiter_window)


def at_level(sound: np.ndarray, rate: int, level: float) -> np.ndarray:
    """Sound whose root mean square, of the tenths of a second in which there is any, is `level` dB.

    Args:
        sound: float32 [S, C].
        rate: samples a second.
        level: in dB.
    """
    power = _power(sound, max(rate // 10, 1))
    heard = power[power > 10 ** (_SILENT / 10)]
    if not len(heard):
        return sound
    return sound * np.float32(10 ** (level / 20) / np.sqrt(heard.mean()))


def compress(
    sound: np.ndarray,
    rate: int,
    *,
    threshold: float,
    ratio: float,
    attack: float,
    release: float,
) -> np.ndarray:
    """Sound whose level above a threshold is divided: with a ratio of 2, 6 dB become 3.

    The level is the mean power of all channels over `attack` seconds around; where it falls faster
    than `release` dB a second, the compressor lets go at that rate.

    Args:
        sound: float32 [S, C].
        rate: samples a second.
        threshold: in dB.
        ratio: 1: nothing is changed.
        attack: in seconds.
        release: in dB a second.
    """
    from scipy.ndimage import uniform_filter1d

    if ratio == 1 or not len(sound):
        return sound
    power = _power(sound, _BLOCK)
    power = uniform_filter1d(power, max(round(attack * rate / _BLOCK), 1), mode="nearest")
    level = 10 * np.log10(np.maximum(power, 1e-10))
    fall = release * _BLOCK / rate * np.arange(len(level))
    held = np.maximum.accumulate(level + fall) - fall
    gain = 10 ** (-np.maximum(held - threshold, 0) * (1 - 1 / ratio) / 20)
    # In straight lines from one block's beginning to the next one's.
    steps = np.append(gain, gain[-1:]).astype(np.float32)
    ramp = np.arange(_BLOCK, dtype=np.float32) / _BLOCK
    each = (steps[:-1, None] + np.diff(steps)[:, None] * ramp).ravel()[: len(sound)]
    return sound * each[:, None]


def saturate(sound: np.ndarray, drive: float) -> np.ndarray:
    """Sound bent by a hyperbolic tangent: what is soft stays as it is, and nothing goes beyond
    -`drive` dB. Only odd harmonics are added, for the curve is odd.

    Args:
        sound: float32 [S, C].
        drive: in dB; 0: nothing is changed.
    """
    if drive == 0:
        return sound
    gain = np.float32(10 ** (drive / 20))
    return np.tanh(sound * gain) / gain


def loudness(sound: np.ndarray, rate: int) -> float:
    """In LUFS, of sound float32 [S, C] at `rate`; -inf for silence. What is shorter than a block of
    0.4 s is measured as if silence followed.

    Source: ITU-R BS.1770-4.
    """
    import pyloudnorm

    meter = pyloudnorm.Meter(rate)
    short = max(round(meter.block_size * rate) + 1 - len(sound), 0)
    if not np.any(sound):
        return -np.inf
    with np.errstate(divide="ignore"):  # of blocks of silence
        return float(meter.integrated_loudness(np.pad(sound, [(0, short), (0, 0)])))


def normalise(sound: np.ndarray, rate: int, target: float) -> np.ndarray:
    """Sound float32 [S, C] of a loudness of `target` LUFS; silence stays silence."""
    found = loudness(sound, rate)
    return sound * np.float32(10 ** ((target - found) / 20)) if np.isfinite(found) else sound


def limit(sound: np.ndarray, rate: int, ceiling: float, window: float) -> np.ndarray:
    """Sound of which no sample is beyond the ceiling.

    All channels are turned down together, smoothly, from `window / 2` seconds before a peak until
    as long after it: the gain is the mean, over the window, of the least gain that any sample of
    the window around needs, so that no sample gets more than it may.

    Args:
        sound: float32 [S, C].
        rate: samples a second.
        ceiling: in dB.
        window: in seconds.
    """
    from scipy.ndimage import minimum_filter1d, uniform_filter1d

    top = 10 ** (ceiling / 20)
    if max(sound.max(initial=0), -sound.min(initial=0)) <= top:
        return sound
    peaks = functools.reduce(np.maximum, np.abs(sound).T)  # faster than max(axis=1)
    needed = np.minimum(top / np.maximum(peaks, top), 1)
    width = 2 * round(window * rate / 2) + 1
    gain = uniform_filter1d(minimum_filter1d(needed, width), width)
    return np.clip(sound * gain.astype(np.float32)[:, None], -top, top)  # for what rounding adds


def _power(sound: np.ndarray, block: int) -> np.ndarray:
    """float64 [blocks]: mean square of all channels; the last block is filled with silence."""
    square = np.einsum("sc,sc->s", sound, sound) / sound.shape[1]
    square = np.pad(square, (0, -len(square) % block))
    return square.reshape(-1, block).mean(1, dtype=np.float64)


# --- files ----------------------------------------------------------------------------------------


def encoded(sound: np.ndarray, name: str) -> bytes:
    """Sound float32 [S, C] at RATE as a file of a format; WAV and FLAC of 16 bits.

    Raises:
        InputError: as check_format.
    """
    check_format(name)
    content = io.BytesIO()
    if name == "wav":
        with wave.open(content, "wb") as file:
            file.setnchannels(sound.shape[1])
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(np.round(np.clip(sound, -1, 1) * (2**15 - 1)).astype("<i2").tobytes())
        return content.getvalue()
    import soundfile

    with soundfile.SoundFile(content, "w", RATE, sound.shape[1], format=name.upper()) as file:
        # A second at a time: libvorbis overflows the stack where it is given minutes at once.
        for start in range(0, len(sound), RATE):
            file.write(sound[start : start + RATE])
    return content.getvalue()
