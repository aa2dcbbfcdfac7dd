"""Which tracks of a song make up a part: piano, vocals, drums, bass, guitar, or all of them.

Real files name their tracks in many languages or not at all, and leave program 0 (piano) on
everything. So a name is believed unless the program contradicts it, and the program is believed
unless the name says another part.
"""

import dataclasses
import re

from musicjax.errors import InputError
from musicjax.song import Song, Track

# General MIDI programs, and the names people give (English, German, French, Spanish, Portuguese,
# Italian, Chinese, Japanese). First match wins.
_PROGRAMS = {
    "piano": range(0, 8),
    "guitar": range(24, 32),
    "bass": range(32, 40),
    "vocals": range(52, 55),
}
_NAMES = {
    "drums": r"drum|percuss|schlagzeug|batter[iy]|bater[ií]a|batteria|鼓|ドラム",
    "vocals": r"voc|vox|voice|sing|melod|gesang|stimme|chant|voix|voz|canto|lyric|人声|主唱|旋律",
    "bass": r"bass|b[aá]jo|baixo|basso|贝斯|ベース",
    "guitar": r"guit|gtr|gitarre|chitarra|viol[aã]o|吉他|ギター",
    "piano": r"piano|klavier|pno|keyboard|钢琴|ピアノ",
}
PARTS = ("all", "piano", "vocals", "drums", "bass", "guitar")
# What a part sounds like when it is written back to MIDI.
PROGRAM_OF_PART = {"all": 0, "piano": 0, "guitar": 25, "bass": 33, "vocals": 53, "drums": 0}


def _named_part(track: Track) -> str | None:
    name = track.name.casefold()
    return next((part for part, names in _NAMES.items() if re.search(names, name)), None)


def choose_part(song: Song, part: str, *, drums: bool = False) -> tuple[Song, str]:
    """The song with only the tracks of one part.

    Args:
        song: any song.
        part: one of PARTS; anything else is a regular expression looked for in the track names,
            without regard to case. "all" is every pitched track.
        drums: the tracks on the percussion channel too, whatever the part.
    Returns:
        the song (without tracks, if none fits), and the rule that chose: "all", "drum channel",
        "track name", "program" or "none".
    Raises:
        InputError: `part` is no regular expression.
    """

    def keep(rule: str, chosen) -> tuple[Song, str]:
        tracks = tuple(t for t in song.tracks if chosen(t) or (drums and t.is_drum))
        return dataclasses.replace(song, tracks=tracks), rule if tracks else "none"

    if part == "all":
        return keep("all", lambda track: not track.is_drum)
    if part == "drums":
        return keep("drum channel", lambda track: track.is_drum)
    if part not in PARTS:
        try:
            pattern = re.compile(part, re.IGNORECASE)
        except re.error as error:
            raise InputError(
                f"data.track is {part!r}: neither one of {', '.join(PARTS)} nor a regular "
                f"expression for track names ({error})"
            ) from None
        return keep("track name", lambda track: pattern.search(track.name))
    programs = _PROGRAMS[part]
    by_name = keep(
        "track name",
        lambda track: (
            not track.is_drum
            and _named_part(track) == part
            and (track.program == 0 or track.program in programs)
        ),
    )
    if by_name[0].tracks:
        return by_name
    return keep(
        "program",
        lambda track: (
            not track.is_drum
            and track.program in programs
            and (track.program != 0 or _named_part(track) in (None, part))
        ),
    )
