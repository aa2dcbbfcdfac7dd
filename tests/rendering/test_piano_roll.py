import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, make_song, make_track

from musicjax.errors import InputError
from musicjax.music import midi
from musicjax.music.song import Meter
from musicjax.rendering import piano_roll
from musicjax.rendering.piano_roll import grid_of, plot_piano_roll, plot_piano_rolls

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
NAMES = [
    "100 $",
    "$\\frac{$",
    "_",
    "_hidden",
    "歌",
    "caf\udce9 \udcff",
    "two\nlines",
    "a\x00b\x1b",
    "long " * 200,
    "<b>&amp;",
]


@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "png") for name in SONGS), ("empty", "svg"), ("meters", "svg")]
)
def test_a_picture_of_any_song(name, kind, tmp_path):
    plot_piano_roll(SONGS[name], tmp_path / f"roll.{kind}", title=name)
    content = (tmp_path / f"roll.{kind}").read_bytes()
    assert content.startswith(b"\x89PNG" if kind == "png" else b"<?xml")
    assert len(content) > 1000


@pytest.mark.parametrize("name", NAMES)
def test_any_name_can_be_shown(name, tmp_path):
    song = make_song(make_track([(0, 480, 60)], name=name))
    plot_piano_roll(song, tmp_path / "roll.png", title=name)
    assert (tmp_path / "roll.png").stat().st_size > 1000


def test_what_no_font_has_is_escaped_and_what_is_long_is_cut():
    assert piano_roll._plain("A$B\nC \udce9", 60) == r"A$B C \udce9"
    assert piano_roll._plain("a\U000f0000", 60) == r"a\U000f0000"  # of no font: for private use
    lines = piano_roll._plain("long " * 50, 40, lines=2).splitlines()
    assert len(lines) == 2
    assert lines[1].endswith("…")


def test_bars_and_beats_are_where_the_meters_say():
    grid = grid_of(SONGS["meters"])
    assert grid.bars.tolist() == [0, 1440, 2880, 4320, 6000, 7680, 9360]
    assert grid.numbers == [1, 2, 3, 4, 5, 6, 7]
    assert grid.beats[:4].tolist() == [480, 960, 1920, 2400]
    assert grid_of(SONGS["empty"]).bars.tolist() == [0]
    pick_up = make_song(
        make_track([(0, 6000, 60)]), meters=(Meter(0, 3, 8), Meter(720, 4, 4))
    )  # an eighth, and then beat 4
    grid = grid_of(pick_up)
    assert grid.numbers[:2] == [0, 1]
    assert grid.bars[:3].tolist() == [0, 720, 2640]
    assert grid.beats[0] == 240
    compound = make_song(make_track([(0, 1440, 60)]), meters=(Meter(0, 6, 8),))
    assert grid_of(compound).beats.tolist() == [720]


def colours_of(path):
    from matplotlib.image import imread

    return imread(path)[..., :3].reshape(-1, 3)


def test_loud_notes_are_darker_and_tracks_have_their_colours(tmp_path):
    track = make_track([(0, 960, 60)])
    found = []
    for velocity in (1, 127):
        loud = type(track)(
            "",
            0,
            False,
            *(getattr(track, n) for n in ("onset_ticks", "duration_ticks", "pitch")),
            np.array([velocity]),
        )
        plot_piano_roll(make_song(loud), tmp_path / "a.png", colours=("#000000",))
        middle = colours_of(tmp_path / "a.png")
        # Text is as dark, but the note covers far more.
        values, counts = np.unique(np.round(middle[:, 0], 2), return_counts=True)
        found.append(values[values < 0.8][counts[values < 0.8].argmax()])
    assert found[1] < 0.05 < 0.4 < found[0]
    two = make_song(make_track([(0, 960, 60)]), make_track([(960, 960, 64)]))
    plot_piano_roll(two, tmp_path / "b.png", colours=("#ff0000", "#0000ff"))
    pixels = colours_of(tmp_path / "b.png")
    for colour in ((1, 0, 0), (0, 0, 1)):
        assert (np.abs(pixels - colour).max(1) < 0.02).sum() > 500


def test_several_in_one_picture_share_their_scale(tmp_path):
    rolls = [(name, SONGS[name]) for name in ("one", "meters", "empty")]
    plot_piano_rolls(rolls, tmp_path / "a.svg", title="one prime")
    plot_piano_rolls(rolls, tmp_path / "b.svg", title="one prime")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_bad_input_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"\.png or \.svg"):
        plot_piano_roll(SONGS["one"], tmp_path / "roll.pdf")
    hours = make_song(make_track([(0, 480, 60), (480 * 50_000, 480, 60)]))
    with pytest.raises(InputError, match="more than 5000 bars"):
        plot_piano_roll(hours, tmp_path / "roll.png")
    assert not list(tmp_path.iterdir())


def test_the_command_draws_any_midi_file(tmp_path):
    for name in ("a", "b"):
        midi.write_song(SONGS["meters"], tmp_path / f"{name}.mid")

    def run(*words):
        command = [sys.executable, "-m", "musicjax.rendering.piano_roll", *words]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment
        )

    done = run("a.mid", "b.mid", "--together", "--output=both.svg")
    assert (done.returncode, done.stdout, done.stderr) == (0, "both.svg\n", "")
    assert (tmp_path / "both.svg").exists()
    done = run("nothing.mid")
    assert done.returncode == 2
    assert done.stderr.startswith("error: nothing.mid: missing")
