import pytest
from conftest import make_song, make_track

from musicjax.music.song import Meter
from musicjax.rendering import piano_roll
from musicjax.rendering.piano_roll import plot_piano_roll

SONGS = {
    "empty": make_song(),
    "one": make_song(make_track([(0, 1, 0)])),
    "meters": make_song(
        make_track([(0, 480, 60), (9000, 480, 127)], name="a"),
        make_track([(480, 960, 64)], name="b"),
        meters=(Meter(0, 3, 4), Meter(4320, 7, 8)),
    ),
    "long": make_song(make_track([(i * 1920, 1920, 60 + i % 5) for i in range(2000)])),
    "more tracks than colours": make_song(*[make_track([(0, 480, 60 + i)]) for i in range(9)]),
}


@pytest.mark.parametrize("name", SONGS)
def test_a_picture_of_any_song(name, tmp_path):
    plot_piano_roll(SONGS[name], tmp_path / "roll.png", title=name)
    content = (tmp_path / "roll.png").read_bytes()
    assert content[:4] == b"\x89PNG"
    assert len(content) > 1000


@pytest.mark.parametrize("name", ["100 $", "$\\frac{$", "_", "_hidden", "歌"])
def test_any_name_can_be_shown(name, tmp_path):
    song = make_song(make_track([(0, 480, 60)], name=name))
    plot_piano_roll(song, tmp_path / "roll.png", title=name)
    assert (tmp_path / "roll.png").stat().st_size > 1000


def test_measures_begin_where_the_meters_say():
    ticks = piano_roll._measure_ticks(SONGS["meters"])
    assert ticks == [0, 1440, 2880, 4320, 6000, 7680, 9360]
    assert piano_roll._measure_ticks(SONGS["empty"]) == [0]
