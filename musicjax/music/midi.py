"""Reads and writes MIDI files with symusic; songs to and from symusic and pretty_midi.

Reading is forgiving where the music is plain (wrong key signatures, data bytes over 127, RIFF and
MacBinary wrappers) and refuses with a reason where it is not: `MidiError.reason` is one of

    missing     no such file, or not readable
    not_midi    no MThd header: an HTML page, a gzip or MP3 file, text, nothing at all
    corrupt     a MIDI header, but the parser cannot read what follows
    type_2      several independent songs in one file; overlaying them would make noise
    bad_ticks   no musical time: SMPTE or zero division, or ticks that overflow
    too_long    longer than `MAX_QUARTERS`: a broken delta time, not music
    too_big     larger than `MAX_BYTES`
    no_notes    read, but no note in it

A song that was written reads back with the same tracks, notes, meters and keys, and tempos to a
microsecond a quarter note. Differs: (1) tracks without notes are not read; (2) of overlapping notes
of one pitch in one track the first to start is the first to end, for MIDI has no other way to pair
them; (3) track names are UTF-8, where the standard knows ASCII.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import symusic

from musicjax.errors import InputError, SongError
from musicjax.music.song import KeySignature, Meter, Song, Tempo, Track

if TYPE_CHECKING:
    import pretty_midi

Score = Any  # symusic.Score, whose type stubs leave out its methods
Music = Any  # a Song, a pretty_midi.PrettyMIDI, a symusic.Score, or the path of a MIDI file

MAX_QUARTERS = 20_000  # 2.8 hours at 120 qpm
MAX_BYTES = 64_000_000  # of a file
_DENOMINATORS = (1, 2, 4, 8, 16, 32, 64)
_MAX_DELTA = 2**28 - 1  # ticks between two events of a MIDI track
_HEADER_WITHIN = 1024  # bytes in front of MThd that a wrapper may take
_NOT_MIDI = (
    (b"\x1f\x8b", "a gzip file"),
    (b"<", "an HTML or XML page"),
    (b"ID3", "an MP3 file"),
    (b"\xff\xfb", "an MP3 file"),
    (b"PK", "a zip file"),
    (b"\x30\x26\xb2\x75", "a WMA file"),
)


class MidiError(SongError):
    """A file that cannot be read as one song. `reason` is listed in the module's docstring."""


def as_song(music: Music) -> Song:
    """The song of what may be one, a file among it.

    Raises:
        MidiError: a file that cannot be read, or a score that is no music.
        InputError: it is nothing of the kind.
    """
    if isinstance(music, Song):
        return music
    if isinstance(music, str | Path):
        return read_song(music)
    if hasattr(music, "instruments"):
        return song_from_pretty_midi(music)
    if hasattr(music, "ticks_per_quarter"):
        return song_from_symusic(music)
    raise InputError(
        f"a {type(music).__name__} is no music; expected a path, a Song, a pretty_midi.PrettyMIDI "
        "or a symusic.Score"
    )


def read_song(path: str | Path) -> Song:
    """Reads one MIDI file, as `song_from_bytes`, with "missing" and "too_big" among the reasons."""
    # To open a pipe may wait forever, and a device may have no end.
    if os.path.exists(path) and not os.path.isfile(path):
        raise MidiError(path, "missing", "not a file")
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise MidiError(path, "missing", getattr(error, "strerror", None) or str(error)) from None
    if len(data) > MAX_BYTES:
        raise MidiError(path, "too_big", f"more than {MAX_BYTES / 1e6:g} MB")
    return song_from_bytes(data, path)


def song_from_bytes(data: bytes, path: str | Path) -> Song:
    """The song of a MIDI file's content; `path` is for messages and `Song.source`.

    Returns:
        a Song with at least one note, as of `song_from_symusic`.
    Raises:
        MidiError: see the module's docstring for the reasons.
    """
    start = data.find(b"MThd", 0, _HEADER_WITHIN)
    if start < 0 or len(data) < start + 14:
        kind = next((kind for magic, kind in _NOT_MIDI if data.lstrip().startswith(magic)), None)
        raise MidiError(path, "not_midi", kind or f"{len(data)} bytes without a MIDI header")
    if int.from_bytes(data[start + 8 : start + 10], "big") == 2:
        raise MidiError(path, "type_2", "holds independent songs; save each as a file of type 1")
    division = int.from_bytes(data[start + 12 : start + 14], "big")
    if not 0 < division < 0x8000:
        raise MidiError(path, "bad_ticks", f"division {division:#06x} is not ticks per quarter")
    try:
        score = symusic.Score.from_midi(data[start:], sanitize_data=True)
    except (RuntimeError, ValueError) as error:
        raise MidiError(path, "corrupt", str(error).splitlines()[0][:200]) from None
    song = song_from_symusic(score, str(path))
    if not song.tracks:
        raise MidiError(path, "no_notes", "a MIDI file without a note")
    return song


def write_song(song: Song, path: str | Path) -> None:
    """Writes a MIDI file of type 1: a track for the tempos, meters and keys, and one for each of
    the song's tracks. The same song gives the same bytes.

    Drums are on channel 10. Pitched tracks take the other channels in turn; from the sixteenth on
    they share them, and a player may then give a channel's tracks one program.

    Raises:
        InputError: as song_to_symusic.
    """
    Path(path).write_bytes(song_to_symusic(song).dumps_midi())


def song_from_symusic(score: Score, source: str = "") -> Song:
    """The Song of a symusic.Score.

    Tracks without notes are dropped. Notes of no length are given one tick. Meters, tempos and keys
    that cannot be (0/4, 4/2^255, 0 microseconds a quarter, 20 flats) are left out.

    Args:
        score: in whatever time unit; quarters and seconds become the nearest tick.
        source: for messages and `Song.source`.
    Raises:
        MidiError: "bad_ticks" or "too_long".
    """
    if not isinstance(score, symusic.core.ScoreTick):
        score = score.to("tick")
    ticks_per_quarter = score.tpq
    tracks, repairs = [], set()
    for track in score.tracks:
        notes = track.notes.numpy()
        if not len(notes["time"]):
            continue
        onset = notes["time"].astype(np.int64)
        end = onset + notes["duration"]
        if onset.min() < 0 or end.min() < 0 or end.max() >= 2**31:
            raise MidiError(source, "bad_ticks", "delta times overflow 31 bits")
        if end.max() > MAX_QUARTERS * ticks_per_quarter:
            quarters = int(end.max()) // ticks_per_quarter
            raise MidiError(source, "too_long", f"{quarters} quarters, at most {MAX_QUARTERS}")
        if notes["duration"].min() < 1:
            repairs.add("note_length")
        tracks.append(
            Track(
                name=track.name,
                program=int(track.program),
                is_drum=bool(track.is_drum),
                onset_ticks=onset,
                duration_ticks=np.maximum(notes["duration"], 1),
                pitch=np.clip(notes["pitch"], 0, 127),
                velocity=np.clip(notes["velocity"], 1, 127),
            )
        )
    meters = tuple(
        Meter(m.time, m.numerator, m.denominator)
        for m in score.time_signatures
        if m.time >= 0 and 0 < m.numerator < 100 and m.denominator in _DENOMINATORS
    )
    tempos = tuple(Tempo(t.time, 6e7 / t.mspq) for t in score.tempos if t.time >= 0 and t.mspq > 0)
    keys = tuple(
        KeySignature(k.time, k.key, bool(k.tonality))
        for k in score.key_signatures
        if k.time >= 0 and -7 <= k.key <= 7 and k.tonality in (0, 1)
    )
    for name, kept, given in (
        ("meter", meters, score.time_signatures),
        ("tempo", tempos, score.tempos),
        ("key_signature", keys, score.key_signatures),
    ):
        if len(kept) < len(given):
            repairs.add(name)
    return Song(
        tracks=tuple(tracks),
        ticks_per_quarter=ticks_per_quarter,
        meters=meters,
        tempos=tempos,
        keys=keys,
        source=source,
        repairs=tuple(sorted(repairs)),
    )


def song_to_symusic(song: Song) -> Score:
    """A symusic.Score of the same notes, in ticks. Tempos are rounded to microseconds a quarter.

    Raises:
        InputError: what symusic and MIDI files cannot hold: over 32,767 ticks a quarter, tempos
            below 3.58 qpm, a meter of 300/4 or 4/3, over 7 sharps, 2^28 ticks without an event.
    """
    problem = next(_beyond_midi(song), None)
    if problem:
        raise InputError(f"{song.source or 'the song'} cannot be a MIDI file: it has {problem}")
    score: Score = symusic.Score(song.ticks_per_quarter)
    for track in song.tracks:
        # Lone surrogates, which stand for bytes of file names, would be refused.
        name = track.name.encode("utf-8", "replace").decode()
        converted: Any = symusic.Track(name, track.program, track.is_drum)
        converted.notes = symusic.Note.from_numpy(
            track.onset_ticks.copy(),  # symusic refuses read-only arrays
            track.duration_ticks.copy(),
            track.pitch.astype(np.int8),
            track.velocity.astype(np.int8),
        )
        score.tracks.append(converted)
    for tempo in song.tempos:
        score.tempos.append(symusic.Tempo(tempo.tick, mspq=_microseconds(tempo)))
    for meter in song.meters:
        score.time_signatures.append(symusic.TimeSignature(*meter))
    for key in song.keys:
        score.key_signatures.append(symusic.KeySignature(key.tick, key.fifths, int(key.minor)))
    return score


def _beyond_midi(song: Song) -> Iterator[str]:
    """What a MIDI file cannot hold of a song, and what it can."""
    if song.ticks_per_quarter >= 2**15:
        yield f"{song.ticks_per_quarter} ticks a quarter note; expected at most 32767"
    for tempo in song.tempos:
        if not 0 < _microseconds(tempo) < 2**24:
            yield f"a tempo of {tempo.qpm:g} qpm; expected 3.58 to 6e7"
    for meter in song.meters:
        if not (0 < meter.numerator < 256 and meter.denominator in _DENOMINATORS):
            yield (
                f"a meter of {meter.numerator}/{meter.denominator}; expected 1 to 255 over one of "
                f"{', '.join(map(str, _DENOMINATORS))}"
            )
    for key in song.keys:
        if not -7 <= key.fifths <= 7:
            yield f"a key of {key.fifths} fifths; expected -7 to 7"
    if _longest_gap(song) > _MAX_DELTA:
        yield f"{_longest_gap(song)} ticks without an event; expected at most {_MAX_DELTA}"


def _longest_gap(song: Song) -> int:
    """Ticks between two events of a track that is to be written."""
    events = [np.array([event.tick for event in (*song.tempos, *song.meters, *song.keys)], int)]
    for track in song.tracks:
        onset = track.onset_ticks.astype(np.int64)
        events.append(np.concatenate([onset, onset + track.duration_ticks]))
    return max(int(np.diff(np.sort(ticks), prepend=0).max(initial=0)) for ticks in events)


def _microseconds(tempo: Tempo) -> int:
    """Of a quarter note."""
    return round(6e7 / tempo.qpm)


def song_to_pretty_midi(song: Song) -> "pretty_midi.PrettyMIDI":
    """A pretty_midi.PrettyMIDI of the same notes, with times in seconds by the song's tempos.

    Raises:
        InputError: the song is longer than pretty_midi's 10,000,000 ticks.
    """
    import pretty_midi  # 0.3 s to import: only those who use it pay for it

    tempos = song.tempos or (Tempo(0, 120.0),)
    last_tick = max([song.end_ticks, *(e.tick for e in (*tempos, *song.meters, *song.keys))])
    if last_tick >= pretty_midi.pretty_midi.MAX_TICK:
        raise InputError(
            f"{song.source or 'the song'} has {last_tick} ticks; pretty_midi holds fewer than "
            f"{pretty_midi.pretty_midi.MAX_TICK:.0f}: use song_to_symusic"
        )
    pm = pretty_midi.PrettyMIDI(resolution=song.ticks_per_quarter, initial_tempo=tempos[0].qpm)
    # pretty_midi has no public way to set a tempo map; this is how its own reader does it.
    pm._tick_scales = [
        (tempo.tick if i else 0, 60.0 / (tempo.qpm * song.ticks_per_quarter))
        for i, tempo in enumerate(tempos)
    ]
    pm._update_tick_to_time(last_tick)
    seconds = pm.tick_to_time
    for meter in song.meters:
        pm.time_signature_changes.append(
            pretty_midi.TimeSignature(meter.numerator, meter.denominator, seconds(meter.tick))
        )
    for key in song.keys:
        pm.key_signature_changes.append(
            pretty_midi.KeySignature(key.tonic + 12 * key.minor, seconds(key.tick))
        )
    for track in song.tracks:
        instrument = pretty_midi.Instrument(track.program, track.is_drum, track.name)
        for onset, duration, pitch, velocity in zip(
            track.onset_ticks.tolist(),
            track.duration_ticks.tolist(),
            track.pitch.tolist(),
            track.velocity.tolist(),
            strict=True,
        ):
            instrument.notes.append(
                pretty_midi.Note(velocity, pitch, seconds(onset), seconds(onset + duration))
            )
        pm.instruments.append(instrument)
    return pm


def song_from_pretty_midi(pm: "pretty_midi.PrettyMIDI", source: str = "") -> Song:
    """The Song of a pretty_midi.PrettyMIDI. Seconds become the nearest tick of its resolution."""

    def ticks(seconds: float) -> int:
        return int(pm.time_to_tick(seconds))

    times, qpms = pm.get_tempo_changes()
    tracks = []
    for instrument in pm.instruments:
        onset = np.array([ticks(note.start) for note in instrument.notes], np.int64)
        end = np.array([ticks(note.end) for note in instrument.notes], np.int64)
        tracks.append(
            Track(
                name=instrument.name,
                program=instrument.program,
                is_drum=instrument.is_drum,
                onset_ticks=onset,
                duration_ticks=np.maximum(end - onset, 1),
                pitch=np.array([note.pitch for note in instrument.notes], np.int64),
                velocity=np.clip([note.velocity for note in instrument.notes], 1, 127),
            )
        )
    return Song(
        tracks=tuple(tracks),
        ticks_per_quarter=pm.resolution,
        meters=tuple(
            Meter(ticks(m.time), m.numerator, m.denominator) for m in pm.time_signature_changes
        ),
        tempos=tuple(Tempo(ticks(time), float(qpm)) for time, qpm in zip(times, qpms, strict=True)),
        keys=tuple(_key_signature(ticks(k.time), k.key_number) for k in pm.key_signature_changes),
        source=source,
    )


def _key_signature(tick: int, key_number: int) -> KeySignature:
    """From pretty_midi's numbering: 0..11 C..B major, 12..23 C..B minor."""
    minor = key_number >= 12
    relative_major = (key_number + (3 if minor else 0)) % 12
    return KeySignature(tick, (7 * relative_major + 5) % 12 - 5, minor)
