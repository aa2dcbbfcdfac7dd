"""Which songs are trusted, and what is left of them: the part asked for, without long silences, in
one key; and digests by which the same music is known. `SongError.reason` says why a song is not
wanted:

    other_year, unknown_year    not of data.decade, data.first_year .. data.last_year
    tempo, too_long             no tempo, or no length, of music
    no_track, few_notes         the song lacks the part, or it is next to empty

besides those of musicjax.sources and musicjax.music.midi.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musicjax.config import ANY, Rule, at_least, expect, more_than, setting, settings_of
from musicjax.errors import SongError
from musicjax.music import key, track_selection
from musicjax.music.song import Song, Track
from musicjax.sources import SongFile, Source
from musicjax.sources.metadata import Table, read_table

_DIGEST_UNITS = 12  # of a quarter, in which digests count time
_CLEARLY = 1.15  # times as many onsets on the beats, for a song to be moved to them


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The settings of `config.data` by which songs are chosen and prepared, explained in
    configs/collection.py.
    """

    track: str = setting(ANY)
    drums: bool = setting(ANY)
    transpose: bool = setting(ANY)
    align: bool = setting(ANY)
    table: str = setting(ANY)
    decade: int = setting(Rule(lambda decade: decade % 10 == 0, "such as 1970, or 0 for all"))
    first_year: int = setting(at_least(0))
    last_year: int = setting(at_least(0))
    check_md5: bool = setting(ANY)
    least_notes: int = setting(at_least(0))
    longest_silence: int = setting(at_least(0, "bars; 0: keep all"))
    longest_minutes: float = setting(at_least(0))
    least_qpm: float = setting(at_least(0))
    most_qpm: float = setting(at_least(0))
    most_megabytes: float = setting(more_than(0))
    seconds_per_file: float = setting(more_than(0))

    @classmethod
    def from_config(cls, data: Any) -> "Preprocessing":
        """The settings of `config.data`.

        Raises:
            InputError: a value that is not allowed.
        """
        settings = settings_of(cls, data, "data")
        bound = settings.least_qpm
        expect(settings.most_qpm > bound, "data.most_qpm", settings.most_qpm, f"more than {bound}")
        for name in ("decade", "first_year", "last_year"):
            value = getattr(settings, name)
            expect(
                not value or bool(settings.table),
                f"data.{name}",
                value,
                "0, or data.table with the songs' years",
            )
        return settings

    def read_table(self) -> Table | None:
        """The table of artists and years, if there is one.

        Raises:
            InputError: it cannot be read.
        """
        return read_table(Path(self.table).expanduser()) if self.table else None


class ReadSong(NamedTuple):
    """A song of a source.

    Attributes:
        song: all of it.
        md5: of its file.
        metadata: artist, title, year, decade, as far as they are known.
    """

    song: Song
    md5: str
    metadata: dict[str, Any]


class Prepared(NamedTuple):
    """A song as an encoding takes it.

    Attributes:
        song: the chosen part; without tracks if the song has none.
        rule: that chose it, as in musicjax.music.track_selection.
        key: of the whole song, for a bass line alone often seems to be in another; None of drums.
        semitones: it was moved by.
        bars_cut: of silence.
        moved: by how many sixteenths later its notes are, to meet the grid.
    """

    song: Song
    rule: str
    key: key.Key | None
    semitones: int
    bars_cut: int
    moved: float


def read_song(source: Source, file: SongFile, settings: Preprocessing) -> ReadSong:
    """Reads a song, if the settings want it.

    Raises:
        SongError: why not.
    """
    if "refused" in file.metadata:
        raise SongError(file.path, *file.metadata["refused"])
    table = settings.read_table()
    metadata = (table.find(file) if table else None) or {}
    if metadata or "md5" in file.metadata:
        _check_year(file, metadata, settings)  # before the work of reading
    song, md5 = source.read(
        file, max_bytes=int(settings.most_megabytes * 1e6), check_md5=settings.check_md5
    )
    if not metadata:
        metadata = (table.find(file, md5) if table else None) or {}
        _check_year(file, metadata, settings)
    if not settings.least_qpm <= song.main_qpm <= settings.most_qpm:
        raise SongError(file.path, "tempo", f"{song.main_qpm:.4g} quarters a minute")
    minutes = song.seconds / 60
    if settings.longest_minutes and minutes > settings.longest_minutes:
        found = f"{minutes:.4g} minutes, at most {settings.longest_minutes:g}"
        raise SongError(file.path, "too_long", found)
    known = {name: file.metadata[name] for name in ("artist", "title") if name in file.metadata}
    return ReadSong(song, md5, known | {n: metadata[n] for n in metadata if n != "split"})


def _check_year(file: SongFile, metadata: dict[str, Any], settings: Preprocessing) -> None:
    for name, low, high in (
        ("decade", settings.decade, settings.decade),
        ("year", settings.first_year, settings.last_year),
    ):
        if not low and not high:
            continue
        if name not in metadata:
            raise SongError(file.path, "unknown_year", f"no {name} in {settings.table}")
        if not low <= metadata[name] <= (high or metadata[name]):
            raise SongError(file.path, "other_year", f"its {name} is {metadata[name]}")


def prepare(song: Song, settings: Preprocessing) -> Prepared:
    """The part of a song that is asked for, on the grid, without long silences, in C major or A
    minor.

    Source of the transposition: paper section 2.3.
    """
    moved = 0.0
    if settings.align:
        song, moved = aligned(song)
    chosen, rule = track_selection.choose_part(song, settings.track, drums=settings.drums)
    bars_cut = 0
    if settings.longest_silence:
        chosen, bars_cut = without_silence(chosen, settings.longest_silence)
    found, semitones = key.estimate_key(song), 0
    if settings.transpose and found:
        semitones = found.semitones_to_c
        chosen = chosen.transposed(semitones)
    return Prepared(chosen, rule, found, semitones, bars_cut, moved)


def aligned(song: Song) -> tuple[Song, float]:
    """The song, moved onto the grid of its file: by the part of a sixteenth that its onsets have in
    common, and by whole sixteenths, if far more onsets are on beats then. Many files of real music
    begin anywhere in a beat; in POP909 all four sixteenths are as common.

    Returns:
        the song, and by how many sixteenths it is later, from -2.5 to 3.5.
    """
    meters = np.array([meter.tick for meter in song.meters_from_start])
    onsets = song.notes()[:, 0].astype(np.int64)
    if not len(onsets):
        return song, 0.0
    since = onsets - meters[np.searchsorted(meters, onsets, side="right") - 1]
    sixteenths = since * 4 / song.ticks_per_quarter
    # The mean direction of the onsets, a sixteenth being a whole turn.
    part = float(np.angle(np.exp(2j * np.pi * sixteenths).mean())) / (2 * np.pi)
    on_each = np.bincount(np.round(sixteenths - part).astype(np.int64) % 4, minlength=4)
    score = on_each + 0.5 * np.roll(on_each, -2)  # of each sixteenth as the beat
    beat = int(score.argmax())
    if score[beat] < _CLEARLY * score[0]:
        beat = 0
    later = -part - (beat if beat <= 2 else beat - 4)
    if sixteenths[0] + later < -0.5:
        later += 4  # rather a beat later than to lose the beginning
    shift = round(later * song.ticks_per_quarter / 4)
    if not shift:
        return song, 0.0

    def moved(track: Track) -> Track:
        onset = track.onset_ticks.astype(np.int64) + shift
        end = np.maximum(onset + track.duration_ticks, 1)
        onset = np.maximum(onset, 0)
        return dataclasses.replace(
            track, onset_ticks=onset, duration_ticks=np.maximum(end - onset, 1)
        )

    tracks = tuple(map(moved, song.tracks))
    return dataclasses.replace(song, tracks=tracks), shift * 4 / song.ticks_per_quarter


class Digests(NamedTuple):
    """By what a song is known again, however it is encoded.

    Attributes:
        content: the same for the same notes in the same key, in whatever octave. By it songs are
            held out, so copies stay in one split, and so do two encodings of one collection.
        same_notes: the same for the same notes in whatever key.
    """

    content: str
    same_notes: str


def digests(song: Song) -> Digests:
    """Digests of a prepared song's onsets, from the first on, and its pitches; an onset is counted
    in twelfths of a quarter.
    """
    columns = [
        np.column_stack([track.onset_ticks, track.pitch, np.full(len(track), track.is_drum)])
        for track in song.tracks
    ]
    notes = np.concatenate([np.zeros((0, 3), np.int64), *columns])
    ticks = notes[:, 0] - notes[:, 0].min(initial=2**31)
    notes[:, 0] = np.round(ticks * (_DIGEST_UNITS / song.ticks_per_quarter))
    onset, pitch, is_drum = np.unique(notes, axis=0).T
    lowest = int(pitch[is_drum == 0].min(initial=127))

    def digest_from(lowest: int) -> str:
        above = np.where(is_drum, pitch, pitch - lowest)
        content = np.column_stack([onset, above, is_drum]).astype("<i8").tobytes()
        return hashlib.sha256(content).hexdigest()[:32]

    # Songs that are moved to one key may still be an octave apart.
    return Digests(digest_from(lowest // 12 * 12), digest_from(lowest))


def track_names(song: Song) -> str:
    """The names of a song's tracks, each once, for messages."""
    return ", ".join(sorted({track.name or "(no name)" for track in song.tracks}))


def without_silence(song: Song, longest: int) -> tuple[Song, int]:
    """The song with its silences cut to a length, by whole bars, so that the rest keeps its place
    in the bar. What follows the last note is no silence.

    Args:
        song: any.
        longest: bars of the current meter; bars shorter than four quarters are counted together
            until they are as long.
    Returns:
        the song, and how many bars were cut.
    """
    notes = song.notes().astype(np.int64)
    if not len(notes):
        return song, 0
    # Silence is from the latest end so far to the next onset.
    ends = np.maximum.accumulate(np.append(0, notes[:, 0] + notes[:, 1]))[:-1]
    wide = np.flatnonzero(notes[:, 0] - ends > longest * 4 * song.ticks_per_quarter)
    meters = song.meters_from_start
    changes = np.array([meter.tick for meter in meters])
    cuts, removed, bars_cut = [], [], 0
    for start, stop in zip(ends[wide].tolist(), notes[wide, 0].tolist(), strict=True):
        meter = meters[int(np.searchsorted(changes, stop, side="right")) - 1]
        bar = meter.ticks(song.ticks_per_quarter)
        whole = 4 * song.ticks_per_quarter
        bar *= -(-whole // bar)  # shorter ones are counted together
        surplus = (stop - start) // bar - longest
        if surplus > 0:
            cuts.append(stop - surplus * bar)
            removed.append(surplus * bar)
            bars_cut += surplus
    if not cuts:
        return song, 0
    starts, lengths = np.array(cuts), np.array(removed)
    before = np.append(0, np.cumsum(lengths))

    def moved(ticks: np.ndarray | int) -> np.ndarray:
        """Ticks after the cuts; those inside of one come to where it was."""
        ticks = np.asarray(ticks, np.int64)
        number = np.searchsorted(starts, ticks, side="right")
        last = np.maximum(number - 1, 0)
        inside = np.where(number > 0, np.minimum(ticks - starts[last], lengths[last]), 0)
        return ticks - before[last] - inside

    def events(rows):
        return tuple(row._replace(tick=int(moved(row.tick))) for row in rows)

    tracks = tuple(
        dataclasses.replace(track, onset_ticks=moved(track.onset_ticks)) for track in song.tracks
    )
    song = dataclasses.replace(
        song,
        tracks=tracks,
        meters=events(song.meters),
        tempos=events(song.tempos),
        keys=events(song.keys),
    )
    return song, bars_cut
