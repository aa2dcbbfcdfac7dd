"""Which tracks of a song make up a part: piano, vocals, drums, ..., or all of them.

Real files name their tracks in many languages or not at all, and leave program 0 (piano) on
everything. So a name is trusted unless the program contradicts it, and the program is trusted
unless the name is of another part. A corpus's own metadata (Slakh's inst_class) comes before both.
A vocal melody that neither name nor program shows is looked for by its shape.

A part is either pitched or drums, for most encodings merge its tracks into one, where a drum's
pitch would become a note. Drums join a pitched part only where it is asked for.
"""

import dataclasses
import difflib
import functools
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from musicjax.errors import InputError
from musicjax.music.song import Song, Track

# General MIDI's program families (General MIDI 1, RP-003), eight programs each.
FAMILIES = (
    "piano",
    "chromatic percussion",
    "organ",
    "guitar",
    "bass",
    "strings",
    "ensemble",
    "brass",
    "reed",
    "pipe",
    "synth lead",
    "synth pad",
    "synth effects",
    "ethnic",
    "percussive",
    "sound effects",
)
_PROGRAMS = {name: range(8 * i, 8 * i + 8) for i, name in enumerate(FAMILIES)}
_PROGRAMS["vocals"] = range(52, 55)
# The names people give (English, German, French, Spanish, Portuguese, Italian, Chinese, Japanese).
# First match wins.
_NAMES = {
    "drums": r"drum|percuss|schlagzeug|batter[iy]|bater[ií]a|batteria|鼓|ドラム",
    "vocals": r"voc|vox|voice|sing|melod|gesang|stimme|chant|voix|voz|canto|lyric|人声|主唱|旋律",
    "bass": r"bass|b[aá]jo|baixo|basso|贝斯|ベース",
    "guitar": r"guit|gtr|gitarre|chitarra|viol[aã]o|吉他|ギター",
    "piano": r"piano|klavier|pno|keyboard|钢琴|ピアノ",
    "organ": r"organ|orgel|orgue|órgano|órgão|organo|管风琴|オルガン",
    "strings": r"string|violin|viola|cello|streicher|geige|cordes|cuerdas|cordas|\barchi\b|弦|提琴",
    "brass": r"brass|trump|tromb|tuba|horn|bläser|cuivre|metais|ottoni|铜管|トランペット",
    "reed": r"sax|clarinet|oboe|fagott|bassoon|klarinette|萨克斯|サックス",
    "pipe": r"flute|flöte|flûte|flauta|flauto|piccolo|recorder|笛|フルート",
}
# Slakh's classes are the families, but for this one.
_CLASSES = {"ensemble": "strings (continued)"}
# What a part sounds like when it is written back to MIDI.
PROGRAM_OF_PART = {name: programs[0] for name, programs in _PROGRAMS.items()}
PROGRAM_OF_PART |= {"all": 0, "drums": 0, "guitar": 25, "bass": 33, "vocals": 53}
COMMON = ("piano", "vocals", "drums", "bass", "guitar")  # the parts that reports compare
PARTS = ("all", *COMMON, *(name for name in FAMILIES if name not in COMMON))

# A melody has one voice, in the range that people sing, for a good part of the song.
_ONE_VOICE = 0.95  # of its notes do not meet the next
_SUNG = (55, 84)  # MIDI pitches that its median lies in
_PRESENT = 0.3  # of the song's beats


def parse_program(text: str) -> int:
    """A program of General MIDI from its number, 0..127, a part of PARTS, or an instrument's name.

    Raises:
        InputError: it is none.
    """
    name = text.strip().casefold()
    if name.isdecimal() and int(name) < 128:
        return int(name)
    if name in PROGRAM_OF_PART:
        return PROGRAM_OF_PART[name]
    from pretty_midi.constants import INSTRUMENT_MAP

    names = [instrument.casefold() for instrument in INSTRUMENT_MAP]
    if name in names:
        return names.index(name)
    close = difflib.get_close_matches(name, [*names, *PROGRAM_OF_PART], 1)
    hint = f"did you mean {close[0]!r}?" if close else "such as 19, strings or 'church organ'"
    raise InputError(f"program is {text!r}, which General MIDI does not have; {hint}")


@functools.lru_cache(maxsize=10_000)
def _named_part(name: str) -> str | None:
    """The part that a track's name is of, in whatever case."""
    name = name.casefold()
    return next((part for part, names in _NAMES.items() if re.search(names, name)), None)


def family(track: Track) -> str:
    """The family of a track's program, one of FAMILIES, or "drums"."""
    return "drums" if track.is_drum else FAMILIES[track.program // 8]


class Voice(NamedTuple):
    """What generated notes of a part are played by: `program` of General MIDI, or the drum kit."""

    program: int
    is_drum: bool


def voice_of(song: Song, part: str) -> Voice:
    """The voice of a part, as choose_part gives it; is_drum if it has no pitched track."""
    is_drum = bool(song.tracks) and all(track.is_drum for track in song.tracks)
    return Voice(PROGRAM_OF_PART.get(part, 0), is_drum)


def choose_part(song: Song, part: str, *, drums: bool = False) -> tuple[Song, str]:
    """The song with only the tracks of one part.

    Args:
        song: any song.
        part: one of PARTS; anything else is a regular expression looked for in the track names,
            without regard to case. "all" is every pitched track. Of an expression that finds both
            pitched tracks and drums, only one kind is taken: the pitched tracks, unless each of
            them is named as drums are ("drum|perc" finds drums, and a pitched "Percussion").
        drums: all drum tracks besides a pitched part. Only encodings that keep instruments apart
            can hold both.
    Returns:
        the song (without tracks, if none fits), and the rule that chose: "all", "drum channel",
        "inst_class", "track name", "program", "melody" or "none".
    Raises:
        InputError: `part` is no regular expression.
    """
    tracks, rule = _choose_tracks(song, part)
    if tracks and drums:
        tracks = tuple(track for track in song.tracks if track in tracks or track.is_drum)
    return dataclasses.replace(song, tracks=tracks), rule


def _choose_tracks(song: Song, part: str) -> tuple[tuple[Track, ...], str]:
    for rule, chosen in _rules(song, part):
        tracks = tuple(track for track in song.tracks if chosen(track))
        if tracks:
            return _one_kind(tracks), rule
    return (), "none"


def _one_kind(tracks: tuple[Track, ...]) -> tuple[Track, ...]:
    """The pitched tracks, or the drums if no pitched track is named otherwise."""
    if len({track.is_drum for track in tracks}) < 2:
        return tracks
    pitched = [track for track in tracks if not track.is_drum]
    drums = all(_named_part(track.inst_class or track.name) == "drums" for track in pitched)
    return tuple(track for track in tracks if track.is_drum == drums)


def _rules(song: Song, part: str) -> list[tuple[str, Callable[[Track], object]]]:
    """The rules by which a part is chosen, the most trusted first."""
    if part == "all":
        return [("all", lambda track: not track.is_drum)]
    if part == "drums":
        return [("drum channel", lambda track: track.is_drum)]
    if part not in PARTS:
        try:
            pattern = re.compile(part, re.IGNORECASE)
        except re.error as error:
            raise InputError(
                f"data.track is {part!r}: neither one of {', '.join(PARTS)} nor a regular "
                f"expression for track names ({error})"
            ) from None
        return [
            ("inst_class", lambda track: track.inst_class and pattern.search(track.inst_class)),
            ("track name", lambda track: pattern.search(track.name)),
        ]
    programs, label = _PROGRAMS[part], _CLASSES.get(part, part)
    rules = [
        ("inst_class", lambda track: track.inst_class.casefold() == label),
        (
            "track name",
            lambda track: (
                not track.is_drum
                and not track.inst_class
                and _named_part(track.name) == part
                and (track.program == 0 or track.program in programs)
            ),
        ),
        (
            "program",
            lambda track: (
                not track.is_drum
                and track.program in programs
                and (track.program != 0 or _named_part(track.name) in (None, part))
            ),
        ),
    ]
    if part == "vocals":
        melody = _melody(song)
        rules.append(("melody", lambda track: track is melody))
    return rules


def _melody(song: Song) -> Track | None:
    """The track most like a sung melody: of those with one voice in a singer's range, that sound
    in enough of the song's beats, the highest; None if there is none.
    """
    candidates = []
    for track in song.tracks:
        if track.is_drum or track.inst_class or len(track) < 2:
            continue
        if _named_part(track.name) not in (None, "vocals"):
            continue
        median = float(np.median(track.pitch))
        if not _SUNG[0] <= median <= _SUNG[1]:
            continue
        end = track.onset_ticks + track.duration_ticks
        alone = np.mean(end[:-1] <= track.onset_ticks[1:] + song.ticks_per_quarter // 8)
        if alone >= _ONE_VOICE and 1 - _silent_share([track], song) >= _PRESENT:
            candidates.append((median, track))
    return max(candidates, key=lambda found: found[0], default=(0, None))[1]


def silent_shares(song: Song) -> dict[str, dict[str, float]]:
    """For each of the COMMON parts that the song has: `notes`, and the `silent` share of the song's
    beats (0..1), in which none of them sounds.
    """
    shares = {}
    for part in COMMON:
        tracks, _ = _choose_tracks(song, part)
        if tracks:
            silent = round(_silent_share(tracks, song), 4)
            shares[part] = {"notes": sum(map(len, tracks)), "silent": silent}
    return shares


def _silent_share(tracks: Iterable[Track], song: Song) -> float:
    beats = -(-song.end_ticks // song.ticks_per_quarter)
    changes = np.zeros(beats + 1, np.int64)
    for track in tracks:
        first = track.onset_ticks // song.ticks_per_quarter
        last = (track.onset_ticks + track.duration_ticks - 1) // song.ticks_per_quarter
        changes += np.bincount(first, minlength=beats + 1)
        changes -= np.bincount(last + 1, minlength=beats + 1)
    return float((np.cumsum(changes[:-1]) == 0).mean())
