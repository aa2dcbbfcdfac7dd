"""Which songs are trusted, and what is left of them: the part asked for, without long silences, in
one key. `SongError.reason` says why a song is not wanted:

    other_year, unknown_year    not of data.decade, data.first_year .. data.last_year
    tempo, too_long             no tempo, or no length, of music
    no_track, few_notes         the song lacks the part, or it is next to empty

besides those of musicjax.corpora and musicjax.midi.
"""

import copy
import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from musicjax import corpora, key, part
from musicjax.corpora import SongFile
from musicjax.corpora.table import Table, read_table
from musicjax.errors import InputError, SongError
from musicjax.song import Meter, Song


class Read(NamedTuple):
    """A song of a source.

    Attributes:
        song: all of it.
        md5: of its file.
        told: artist, title, year, decade, as far as they are known.
    """

    song: Song
    md5: str
    told: dict


class Prepared(NamedTuple):
    """A song as the encoder wants it.

    Attributes:
        song: the chosen part; without tracks if the song has none.
        rule: that chose it, as in musicjax.part.
        key: it was found in, if it was transposed.
        semitones: it was moved by.
        bars_cut: of silence.
    """

    song: Song
    rule: str
    key: key.Key | None
    semitones: int
    bars_cut: int


def table_of(data) -> Table | None:
    """The table of `config.data`, if it names one.

    Raises:
        InputError: it cannot be read.
    """
    return read_table(Path(data.table).expanduser()) if data.table else None


def read_song(file: SongFile, data) -> Read:
    """Reads a song, if `config.data` wants it.

    Raises:
        SongError: why not.
    """
    if "refused" in file.metadata:
        raise SongError(file.path, *file.metadata["refused"])
    table = table_of(data)
    told = (table.find(file) if table else None) or {}
    if told or "md5" in file.metadata:
        _check_year(file, told, data)  # before the work of reading
    song, md5 = corpora.read_song(file, int(data.most_megabytes * 1e6), data.check_md5)
    if not told:
        told = (table.find(file, md5) if table else None) or {}
        _check_year(file, told, data)
    if not data.least_qpm <= song.main_qpm <= data.most_qpm:
        raise SongError(file.path, "tempo", f"{song.main_qpm:.4g} quarters a minute")
    minutes = song.seconds / 60
    if data.longest_minutes and minutes > data.longest_minutes:
        found = f"{minutes:.4g} minutes, at most {data.longest_minutes:g}"
        raise SongError(file.path, "too_long", found)
    known = {name: file.metadata[name] for name in ("artist", "title") if name in file.metadata}
    return Read(song, md5, known | {name: told[name] for name in told if name != "split"})


def _check_year(file: SongFile, told: dict, data) -> None:
    for name, low, high in (
        ("decade", data.decade, data.decade),
        ("year", data.first_year, data.last_year),
    ):
        if not low and not high:
            continue
        if name not in told:
            raise SongError(file.path, "unknown_year", f"no {name} in {data.table or 'data.table'}")
        if not low <= told[name] <= (high or told[name]):
            raise SongError(file.path, "other_year", f"its {name} is {told[name]}")


def with_track(data):
    """`config.data` with the track that "default" means for its source."""
    if data.track == "default":
        data = copy.deepcopy(data)
        data.track = corpora.default_track(data.source)
    return data


def prepare(song: Song, data, track: str | None = None) -> Prepared:
    """The part of a song that `config.data` asks for, or `track`, transposed if it says so."""
    chosen, rule = part.choose_part(song, track or with_track(data).track, drums=data.drums)
    bars_cut = 0
    if "longest_silence" in data and data.longest_silence:
        chosen, bars_cut = without_silence(chosen, data.longest_silence)
    found, semitones = None, 0
    if data.transpose:
        chosen, found, semitones = key.transpose_to_c(chosen)
    return Prepared(chosen, rule, found, semitones, bars_cut)


def track_names(song: Song) -> str:
    """The names of a song's tracks, each once, for messages."""
    return ", ".join(sorted({track.name or "(no name)" for track in song.tracks}))


def prepare_prime(song: Song, data, track: str | None = None) -> Prepared:
    """As `prepare`, of a song that music is to go on from.

    Raises:
        InputError: it has no such part.
    """
    track = track or with_track(data).track
    prepared = prepare(song, data, track)
    if not prepared.song.tracks:
        raise InputError(
            f"{song.source}: no track for {track!r}; its tracks are {track_names(song)}; choose by "
            "--prime_track, such as --prime_track=all"
        )
    return prepared


def without_silence(song: Song, longest: int) -> tuple[Song, int]:
    """The song with its silences cut to a length, by whole bars, so that the rest keeps its place
    in the bar. What follows the last note is no silence.

    Args:
        song: any.
        longest: bars of the meter at hand; bars shorter than four quarters are counted together
            until they are as long.
    Returns:
        the song, and how many bars were cut.
    """
    notes = song.notes().astype(np.int64)
    if not len(notes):
        return song, 0
    # Silence lies between the latest end so far and the next onset.
    ends = np.maximum.accumulate(np.append(0, notes[:, 0] + notes[:, 1]))[:-1]
    wide = np.flatnonzero(notes[:, 0] - ends > longest * 4 * song.ticks_per_quarter)
    changes = np.array([meter.tick for meter in song.meters])
    cuts, removed, bars_cut = [], [], 0
    for start, stop in zip(ends[wide].tolist(), notes[wide, 0].tolist(), strict=True):
        at_hand = int(np.searchsorted(changes, stop, side="right")) - 1
        bar = _bar_ticks(song.meters[at_hand] if at_hand >= 0 else Meter(0, 4, 4), song)
        surplus = (stop - start) // bar - longest
        if surplus > 0:
            cuts.append(stop - surplus * bar)
            removed.append(surplus * bar)
            bars_cut += surplus
    if not cuts:
        return song, 0
    starts, lengths = np.array(cuts), np.array(removed)
    before = np.append(0, np.cumsum(lengths))

    def moved(ticks):
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


def _bar_ticks(meter: Meter, song: Song) -> int:
    whole = 4 * song.ticks_per_quarter
    bar = max(meter.numerator * whole // meter.denominator, 1)
    return bar * -(-whole // bar)
