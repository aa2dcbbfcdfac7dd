import dataclasses

import numpy as np
import pytest
from conftest import make_song, make_track

from musicjax.errors import InputError
from musicjax.music.track_selection import Voice, choose_part, voice_of


def named(*tracks):
    return make_song(
        *(
            make_track([(0, 1, 60)], name=name, program=program, is_drum=drum)
            for name, program, drum in tracks
        )
    )


@pytest.mark.parametrize(
    ("part", "tracks", "chosen", "rule"),
    [
        ("piano", [("MELODY", 0, 0), ("BRIDGE", 0, 0), ("PIANO", 0, 0)], ["PIANO"], "track name"),
        ("vocals", [("MELODY", 0, 0), ("PIANO", 0, 0)], ["MELODY"], "track name"),
        ("piano", [("", 0, 0), ("", 33, 0), ("", 4, 0)], ["", ""], "program"),
        ("piano", [("Piano", 33, 0)], [], "none"),  # the name lies: it sounds as a bass
        ("bass", [("Piano", 33, 0)], ["Piano"], "program"),
        ("bass", [("Fretless Bass", 0, 0), ("x", 35, 0)], ["Fretless Bass"], "track name"),
        ("guitar", [("Gitarre", 27, 0), ("", 25, 0)], ["Gitarre"], "track name"),
        ("vocals", [("a", 53, 0), ("b", 0, 0)], ["a"], "program"),
        ("drums", [("Piano", 0, 1), ("Drums", 0, 0)], ["Piano"], "drum channel"),
        ("all", [("a", 0, 0), ("b", 0, 1), ("c", 99, 0)], ["a", "c"], "all"),
        ("strings", [("Streicher", 0, 0), ("b", 41, 0)], ["Streicher"], "track name"),
        ("synth lead", [("Piano", 80, 0), ("b", 88, 0)], ["Piano"], "program"),
        ("piano", [("Violin", 0, 0)], [], "none"),  # left at program 0
        ("drum|perc", [("Drums", 0, 1), ("Bass", 33, 0)], ["Drums"], "track name"),
        ("drum|perc", [("Percussion", 0, 0), ("Drums", 0, 1)], ["Drums"], "track name"),
        ("drum|perc", [("Percussion", 47, 0)], ["Percussion"], "track name"),
        ("sopr|bass", [("Soprano", 0, 0), ("Bass Drum", 0, 1)], ["Soprano"], "track name"),
        ("bass|drum", [("Bass", 33, 0), ("Drums", 0, 1)], ["Bass"], "track name"),
        (
            "sopr|alt",
            [("Soprano", 0, 0), ("ALTO", 0, 0), ("Bass", 0, 0)],
            ["Soprano", "ALTO"],
            "track name",
        ),
    ],
)
def test_choice(part, tracks, chosen, rule):
    song, found = choose_part(named(*tracks), part)
    assert [track.name for track in song.tracks] == chosen
    assert found == rule


def test_what_the_corpus_says_is_believed_first():
    song = named(("Song", 0, 0), ("Song", 40, 0), ("Piano", 1, 0))
    classes = ("Bass", "Strings (continued)", "Guitar")
    tracks = [
        dataclasses.replace(track, inst_class=name)
        for track, name in zip(song.tracks, classes, strict=True)
    ]
    song = dataclasses.replace(song, tracks=tuple(tracks))
    for part, chosen in (("bass", 0), ("ensemble", 1), ("guitar", 2), ("bass|guit", (0, 2))):
        found, rule = choose_part(song, part)
        assert rule == "inst_class"
        assert found.tracks == tuple(np.array(tracks)[np.atleast_1d(chosen)])


def test_a_pattern_finds_drums_or_pitched_tracks_by_their_class():
    song = named(("Song", 0, 1), ("Song", 33, 0))
    tracks = [
        dataclasses.replace(track, inst_class=name)
        for track, name in zip(song.tracks, ("Drums", "Bass"), strict=True)
    ]
    song = dataclasses.replace(song, tracks=tuple(tracks))
    assert choose_part(song, "drum|perc")[0].tracks == (tracks[0],)
    assert choose_part(song, "bass|drum")[0].tracks == (tracks[1],)
    assert choose_part(song, "bass|drum", drums=True)[0].tracks == tuple(tracks)


@pytest.mark.parametrize(
    ("part", "drums", "voice"),
    [
        ("all", False, Voice(0, False)),
        ("bass", False, Voice(33, False)),
        ("bass", True, Voice(33, False)),
        ("drums", False, Voice(0, True)),
        ("kit|perc", False, Voice(0, True)),
        ("kit|perc", True, Voice(0, True)),
        ("fret", False, Voice(0, False)),
        ("vocals", False, Voice(53, False)),  # the song has none
    ],
)
def test_a_part_of_drums_stays_drums(part, drums, voice):
    song = named(("Fretless Bass", 35, 0), ("Kit", 0, 1), ("x", 0, 1))
    assert voice_of(choose_part(song, part, drums=drums)[0], part) == voice


def test_drums_come_along():
    song, rule = choose_part(named(("Piano", 0, 0), ("x", 0, 1)), "piano", drums=True)
    assert [track.is_drum for track in song.tracks] == [False, True]
    assert rule == "track name"
    assert choose_part(named(("x", 0, 1)), "piano", drums=True)[0].tracks == ()


def test_a_bad_pattern_is_one_clear_line():
    with pytest.raises(InputError, match=r"data.track is '\(': neither one of all, piano"):
        choose_part(named(("a", 0, 0)), "(")
