import pytest

from musicjax.errors import InputError
from musicjax.sources import SongFile
from musicjax.sources.metadata import read_table


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ("path\tyear\na/b/x.mid\t1999", "b/x.mid"),  # the source lies below the table's root
        ("path\tyear\nx.mid\t1999", "b/x.mid"),  # and above it
        ("id\tyear\nx\t1999", "b/x.mid"),
        ("track;year\nTrack00001;1999", "train/Track00001"),
        ("file,decade\nx.mid,1990s", "x.mid"),
    ],
)
def test_a_song_is_found_by_a_tail_of_its_path(tmp_path, row, name):
    (tmp_path / "t").write_text(row)
    found = read_table(tmp_path / "t").find(SongFile(tmp_path, name))
    assert found["decade"] == 1990


def test_a_tail_that_two_rows_share_finds_neither(tmp_path):
    (tmp_path / "t").write_text("path\tyear\na/x.mid\t1999\nb/x.mid\t1971\n")
    table = read_table(tmp_path / "t")
    assert table.find(SongFile(tmp_path, "x.mid")) is None
    assert table.find(SongFile(tmp_path, "c/x.mid")) is None
    assert table.find(SongFile(tmp_path, "b/x.mid"))["year"] == 1971


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\n1\t2\n", "its columns are a, b; expected one of md5"),
        ("md5,year\nx,nineteen\n", "line 2: year is 'nineteen'; expected a number"),
        ("md5,split\nx,dev\n", "line 2: split is 'dev'; expected train, validation, test"),
        ("", "its columns are none"),
        (b"\xff\xfe\x00", "not a table of songs"),
        (
            'id,title,year\na,"A,1999\nb,B,1998\n',
            "line 2: .*; expected fields with a quote at both",
        ),
        ('id,title,year\na,"A"A,1999\n', "line 2: .*; expected fields with a quote at both"),
    ],
)
def test_a_table_that_cannot_be_is_one_clear_line(tmp_path, text, message):
    path = tmp_path / "table"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        read_table(path)


def test_a_missing_table_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="not a table of songs"):
        read_table(tmp_path / "none")


@pytest.mark.parametrize("separator", ["\u2028", "\x0b", "\x0c", "\x85"])
@pytest.mark.parametrize(
    "text", ["track_id\ttitle\nTR1\tA{}B\n", "1999<SEP>TR1<SEP>Someone<SEP>A{}B\n"]
)
def test_a_title_may_hold_any_separator_of_lines(tmp_path, separator, text):
    (tmp_path / "t").write_text(text.format(separator), encoding="utf-8")
    found = read_table(tmp_path / "t").find(SongFile(tmp_path, "x.mid", {"track_id": "TR1"}))
    assert found["title"] == f"A{separator}B"


def test_songs_are_found_by_md5_uuid_or_track_id(tmp_path):
    (tmp_path / "t").write_text("md5,uuid,track_id,year\na,,,1971\n,b,,1982\n,,c,1993\n")
    table = read_table(tmp_path / "t")
    found = [
        table.find(SongFile(tmp_path, "x.mid"), "a"),
        table.find(SongFile(tmp_path, "x.mid", {"md5": "a"})),
        table.find(SongFile(tmp_path, "x.mid", {"uuid": "b"})),
        table.find(SongFile(tmp_path, "x.mid", {"track_id": "c"})),
    ]
    assert [row["decade"] for row in found] == [1970, 1970, 1980, 1990]
    assert table.find(SongFile(tmp_path, "x.mid"), "d") is None


def test_the_million_song_dataset_has_unknown_years(tmp_path):
    (tmp_path / "t").write_text("1985<SEP>TR1<SEP>Someone<SEP>A Song\n0<SEP>TR2<SEP>a<SEP>b\n")
    table = read_table(tmp_path / "t")
    assert table.find(SongFile(tmp_path, "x.mid", {"track_id": "TR1"})) == {
        "artist": "Someone",
        "title": "A Song",
        "year": 1985,
        "decade": 1980,
    }
    assert table.find(SongFile(tmp_path, "x.mid", {"track_id": "TR2"})) == {
        "artist": "a",
        "title": "b",
    }
