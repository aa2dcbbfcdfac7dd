import html.parser
import json
import re
import shutil
import subprocess

import pytest
from conftest import load_config, make_song, make_track, random_song

from musicjax.corpus import build
from musicjax.corpus.report import write_report
from musicjax.music import midi
from musicjax.music.song import KeySignature

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


class Tables(html.parser.HTMLParser):
    """The numbers of a page: {section: {first cell: [values]}}."""

    def __init__(self, page):
        super().__init__()
        self.tables, self.section, self.cell, self.row = {}, None, None, None
        self.images = 0
        self.scripts = 0
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "section":
            self.section = self.tables.setdefault(attributes["id"], {})
        elif tag == "tr":
            self.row = None
        elif tag == "td":
            self.cell = attributes.get("data-value", "")
            if self.row is not None and self.cell:
                self.row.append(float(self.cell))
        elif tag == "img":
            self.images += attributes["src"].startswith("data:image/png;base64,")
        elif tag == "script":
            self.scripts += 1

    def handle_data(self, text):
        if self.cell == "" and self.row is None:
            self.row = self.section.setdefault(text, [])
        self.cell = None


def in_chromium(path, tmp_path):
    """The page as the browser has it, and a picture of it."""
    picture = tmp_path / "page.png"
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1000,3000",
    ]
    for option in ("--dump-dom", f"--screenshot={picture}"):
        result = subprocess.run(
            [*command, option, path.as_uri()], capture_output=True, text=True, timeout=120
        )
        assert result.returncode == 0, result.stderr
        if option == "--dump-dom":
            page = result.stdout
    assert picture.stat().st_size > 10_000
    return page


def make_songs(source):
    source.mkdir()
    for seed in range(12):
        song = random_song(seed).transposed(seed % 5)
        drums = make_track([(t * 480, 120, 36) for t in range(40)], name="Kit", is_drum=True)
        tracks = (*song.tracks, drums) if seed % 2 else song.tracks
        midi.write_song(
            make_song(*tracks, keys=(KeySignature(0, seed % 3, False),)), source / f"{seed}.mid"
        )
    (source / "<img src=x onerror=alert(1)>.mid").write_bytes(b"<html>")
    (source / "copy.mid").write_bytes((source / "1.mid").read_bytes())
    name = "<script>alert(1)</script>\x1b[31m"
    midi.write_song(
        make_song(make_track([(0, 480, 36)] * 9, name=name, is_drum=True)), source / "z.mid"
    )


@pytest.mark.parametrize(
    ("config", "browser"),
    [
        ("vocab", False),
        ("nsm", False),
        pytest.param(
            "vocab", True, marks=pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")
        ),
    ],
)
def test_the_page_has_the_numbers_of_the_manifest(tmp_path, config, browser):
    make_songs(tmp_path / "songs")
    (tmp_path / "years.tsv").write_text("id\tyear\n1\t1985\n2\t1987\n3\t1990\n")
    data = load_config("tiny", config).data
    data.source, data.table = str(tmp_path / "songs"), str(tmp_path / "years.tsv")
    corpus = build.encode_corpus(build.make_plan(data), tmp_path / "corpus", number_of_workers=0)
    path = write_report(corpus, tmp_path / "corpus" / "report")
    text = path.read_text()
    assert not re.search(r"(src|href)=.?(http|//|file)", text)  # one file, wherever it is moved
    assert "Note states" in text if config == "nsm" else "Tokens" in text
    page = Tables(in_chromium(path, tmp_path) if browser else text)
    manifest = json.loads((tmp_path / "corpus" / "manifest.json").read_text())
    tables = page.tables
    assert tables["counts"] == {
        name.replace("_", " "): [number] for name, number in manifest["counts"].items()
    }
    assert tables["skipped"] == {reason: [n] for reason, n in manifest["skipped"].items()}
    assert manifest["skipped"] == {"not_midi": 1, "no_track": 1, "copy": 1}
    assert tables["rules"] == {rule: [n] for rule, n in manifest["rules"].items()}
    assert tables["decades"] == {"1980s": [2], "1990s": [1]}
    assert tables["parts"]["piano"][0] == 12
    assert tables["parts"]["drums"][0] == 6
    signed = tables["keys"]["C:maj"][0] + tables["keys"]["others"][0]
    assert signed == 12
    assert page.scripts == 0
    pictures = {picture.stem for picture in path.parent.glob("*.png")}
    of_encoding = {"vocab": {"growth", "frequencies"}, "nsm": set()}[config]
    common = {"decades", "keys", "lengths", "silence", "durations", "polyphony"}
    assert pictures == common | of_encoding
    assert page.images == len(pictures)
    assert "\x1b" not in text
    if config == "vocab":
        encoding = corpus.encoding
        most = max(range(1, encoding.size), key=encoding.counts.__getitem__)
        token, count = str(encoding.vocabulary.tokens[most]), encoding.counts[most]
        assert tables["tokens"][token] == [count, count / sum(encoding.counts)]


def test_what_a_corpus_does_not_have_is_left_out_of_the_page(tmp_path):
    midi.write_song(random_song(1), tmp_path / "a.mid")
    data = load_config("tiny").data
    data.source, data.transpose = str(tmp_path), False
    corpus = build.encode_corpus(build.make_plan(data), tmp_path / "corpus", number_of_workers=0)
    path = write_report(corpus, tmp_path / "report")
    tables = Tables(path.read_text()).tables
    assert set(tables) == {"counts", "skipped", "parts", "rules", "tokens"}
    assert tables["skipped"] == {}
    assert not (tmp_path / "report" / "decades.png").exists()
