import csv
import re
import shutil

import pytest
from browser import CHROMIUM, Browser
from conftest import make_song, make_track, random_song

from musicjax.errors import InputError
from musicjax.evaluation import ratings
from musicjax.music import midi
from musicjax.music.song import Tempo
from musicjax.rendering import page
from musicjax.rendering.page import Clip, Exhibit, Judged, Section, Table, write_page

HTML = "<script>alert(1)</script>\x1b"
MODEL = "model <b>"
PRIME = make_track([(i * 480, 480, 60 + i) for i in range(4)], name="prime")
MADE = make_track([(1920 + i * 480, 480, 64 + i) for i in range(4)], name=HTML)
PIECE = make_song(PRIME, MADE, tempos=(Tempo(0, 120.0),), source="a.mid")
MEASURES = [
    Judged("on_beat", 0.9, 0.5, 0.8, 0.2, 1.0),
    Judged("pitches", 7, 5, 9, 1, 12),
    Judged("repetition", 0, 0, 0, 0, 0),
]


def write(folder, exhibits, **options):
    folder.mkdir()
    section = Section(HTML, "", exhibits, picture=options.pop("picture", False))
    options = {"audio_format": "wav", "clip_seconds": 3} | options
    return write_page(folder, title=HTML, text=HTML, sections=[section], **options)


def clips():
    made = [Clip(random_song(seed, quarters=12), MODEL) for seed in range(2)]
    return [*made, *[Clip(random_song(seed, quarters=12), ratings.REAL) for seed in (2, 3)]]


def test_a_page_has_its_pieces_and_files(tmp_path):
    exhibits = [
        Exhibit("Seed 0", "run, best", PIECE, measures=MEASURES, novelty="3 onsets"),
        Exhibit(HTML, "run, last", random_song(0, quarters=8)),
    ]
    tables = [Table("Means", ["measure", HTML], [["on beat", HTML]])]
    written = write(tmp_path / "page", exhibits, tables=tables, picture=True)
    assert written.problems == []
    assert written.blind is None
    assert page.is_page(tmp_path / "page")
    assert not page.is_page(tmp_path)
    text = written.path.read_text()
    assert not re.search(r"(src|href)=.?(http|//|file|/)", text)  # wherever it is moved
    links = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert len(links) == 1 + 2 * 5  # the picture; the player and four files of each
    for link in links:
        assert (tmp_path / "page" / link).stat().st_size > 100
    assert midi.read_song(tmp_path / "page/midi/piece-1.mid").num_notes == 8
    assert "alert(1)</script>" not in text
    assert "\x1b" not in text
    assert "1 of 3 measures outside" in text
    assert text.count("<article") == 2
    # Two colours for prime and continuation; four notes each.
    first = text.split("<article")[1]
    for colour in (0, 1):
        [path] = re.findall(rf'<path class="t{colour}"[^>]* d="([^"]+)"', first)
        assert path.count("z") == 4
    assert 'data-seconds="4.000"' in first


def test_a_piece_without_sound_leaves_a_line_and_the_page_opens(tmp_path):
    hours = make_song(make_track([(0, 480, 60), (480 * 40_000, 480, 60)]), source="hours")
    exhibits = [
        Exhibit("empty", "a", make_song(source="empty")),
        Exhibit("hours", "a", hours),
        Exhibit("one note", "a", make_song(make_track([(0, 1, 0)]))),
        Exhibit("drums", "a", make_song(make_track([(0, 480, 36)], is_drum=True))),
    ]
    written = write(tmp_path / "page", exhibits, clips=[Clip(make_song(), "a")])
    assert written.blind is None
    text = written.path.read_text()
    assert text.count("<article") == 4
    assert text.count("<audio") == 2
    for problem in (
        "no sound: empty: no note",
        "no MusicXML: empty: no pitched note",
        "no sound: hours: it lasts 333 minutes",
        "no piano roll: hours: more than 5000 bars",
    ):
        assert problem in text
        assert any(problem in line for line in written.problems)


def test_a_format_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(InputError, match="audio is 'aiff'"):
        write(tmp_path / "page", [], audio_format="aiff")


def test_the_roll_follows_the_tempos():
    song = make_song(
        make_track([(0, 960, 60), (960, 960, 62)]), tempos=(Tempo(0, 60.0), Tempo(960, 120.0))
    )
    assert page.seconds_of(song, song.tracks[0].onset_ticks).tolist() == [0, 2]
    assert page.seconds_of(song, [1920]).tolist() == [song.seconds] == [3]


def test_the_blind_page_does_not_tell(tmp_path):
    written = write(tmp_path / "page", [], clips=clips())
    assert written.blind
    text = written.blind.read_text()
    assert "model <" not in text
    assert "model &" not in text
    data = text.split('id="data">')[1].split("<")[0]
    assert '"real"' not in data
    found = re.findall(r'"piece": "(\w+)", "audio": "([^"]+)", "code": "(\w+)"', data)
    assert len(found) == 4
    origins = [ratings.decode_origin(code, piece) for piece, _, code in found]
    assert origins.count(ratings.REAL) == 2
    sizes = {(tmp_path / "page/blind" / path).stat().st_size for _, path, _ in found}
    assert len(sizes) == 1  # all as long
    assert {path for _, path, _ in found} == {f"audio/{piece}.wav" for piece, _, _ in found}
    assert len({code[:4] for _, _, code in found}) == 4


@pytest.fixture
def browser(tmp_path):
    if not CHROMIUM:
        pytest.skip("no Chromium is installed")
    made = Browser(tmp_path)
    yield made
    made.close()


def test_in_a_browser_from_disk(tmp_path, browser):
    exhibits = [
        Exhibit(f"Seed {seed} {HTML}", "run", PIECE, measures=MEASURES) for seed in range(3)
    ]
    write(tmp_path / "page", exhibits, clips=clips())
    moved = shutil.move(tmp_path / "page", tmp_path / "elsewhere")
    browser.open(moved / "index.html")

    # --- it plays, and the cursor moves; by keyboard -------------------------------------------
    cursor = "parseFloat(document.querySelectorAll('.cursor')[{}].style.left || 0)"
    browser.press("j")
    browser.press("j")
    assert browser.run("document.activeElement.closest('article').id") == "piece-2"
    browser.press("p")
    browser.wait(f"{cursor.format(1)} > 2")
    assert browser.run("document.querySelectorAll('audio')[1].currentTime") > 0
    # A click into another piece's roll plays it from there, and stops the first.
    browser.run(
        "(() => { const roll = document.querySelectorAll('.music')[2];"
        "const box = roll.getBoundingClientRect();"
        "roll.dispatchEvent(new MouseEvent('click', {clientX: box.left + box.width / 2})); })()"
    )
    browser.wait(f"{cursor.format(2)} > 50")
    assert browser.run("document.querySelectorAll('audio')[1].paused")
    # --- wide and narrow, nothing sticks out ----------------------------------------------------
    for width in (1280, 360):
        browser.picture(tmp_path / "picture.png", width=width, height=800, dark=width < 500)
        assert browser.run("document.documentElement.scrollWidth") <= width
    assert (tmp_path / "picture.png").stat().st_size > 10_000

    # --- blind: rate, reload, export ------------------------------------------------------------
    browser.open(moved / "blind" / "index.html")
    assert browser.run("document.querySelectorAll('article').length") == 4
    browser.run("document.querySelector('audio').play()")
    browser.wait("document.querySelector('audio').currentTime > 0.05")
    assert browser.run("document.getElementById('export').disabled")
    browser.run(
        "document.getElementById('listener').value = '=Ann, \"A\"';"
        "document.getElementById('listener').dispatchEvent(new Event('input'))"
    )
    # The first piece by keyboard: to its ratings, and two to the right of the first choice.
    browser.run("document.querySelector('article input').focus()")
    browser.press(" ")
    browser.press("ArrowRight")
    browser.press("ArrowRight")
    assert browser.run("document.querySelector('article input:checked').value") == "3"
    browser.run(
        "document.querySelectorAll('article').forEach((card, i) => {"
        " if (i) card.querySelectorAll('[name^=rating]')[i].click();"
        " card.querySelectorAll('[name^=guess]')[i % 2].click(); })"
    )
    browser.open(moved / "index.html")
    browser.open(moved / "blind" / "index.html")  # what was rated is still there
    assert browser.run("document.getElementById('count').textContent") == "4 of 4 rated"
    assert "made pieces for real" in browser.run("document.getElementById('result').textContent")
    browser.run("document.getElementById('reveal').click()")
    shown = browser.run("[...document.querySelectorAll('.answer')].map((x) => x.textContent)")
    assert sorted(shown) == sorted([MODEL, MODEL, "real", "real"])
    browser.run("document.getElementById('export').click()")
    exported = browser.downloads / "ratings.csv"
    browser.until(exported.exists)
    with exported.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["place"], row["rating"], row["guess"]) for row in rows] == [
        ("1", "3", "real"),
        ("2", "2", "made"),
        ("3", "3", "real"),
        ("4", "4", "made"),
    ]
    assert browser.errors == []

    # --- tally ----------------------------------------------------------------------------------
    found, problems = ratings.read_ratings([exported])
    assert problems == []
    assert {each.listener for each in found} == {'\'=Ann, "A"'}  # no formula in a spreadsheet
    assert [each.rating for each in found] == [3, 2, 3, 4]
    assert [each.taken_for_real for each in found] == [True, False, True, False]
    assert {row.origin: row.ratings for row in ratings.tally(found)} == {ratings.REAL: 2, MODEL: 2}
