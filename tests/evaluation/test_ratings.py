import csv
import math

import numpy as np
import pytest

from musicjax.errors import InputError
from musicjax.evaluation import ratings
from musicjax.evaluation.ratings import REAL, Rating


def write(path, rows, columns=ratings.COLUMNS):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def row(listener, piece, origin, rating, guess):
    return [listener, piece, ratings.encode_origin(origin, piece), rating, guess]


def test_an_origin_is_hidden_and_found_again():
    codes = set()
    for piece in ("0a1b2c3d", "ffffffff"):
        for origin in (REAL, "runs, best", "модель"):
            code = ratings.encode_origin(origin, piece)
            assert ratings.decode_origin(code, piece) == origin
            codes.add(code)
    assert len(codes) == 6
    assert len({len(code) for code in codes}) == 1  # the length does not tell


def test_ratings_are_counted(tmp_path):
    first = write(
        tmp_path / "a.csv",
        [
            row("Ann", "01", REAL, 5, "real"),
            row("Ann", "02", "run", 3, "real"),
            row("Ann", "03", "run", 1, "made"),
            row("Ann", "03", "run", 2, "made"),  # she thought again
        ],
    )
    second = write(tmp_path / "b.csv", [row("=Bob", "01", REAL, 4, "made")])
    found, problems = ratings.read_ratings([first, second])
    assert problems == []
    assert len(found) == 4
    real, made = ratings.tally(found)
    assert (real.origin, real.ratings, real.pieces) == (REAL, 2, 1)
    assert (made.origin, made.ratings, made.pieces) == ("run", 2, 2)
    assert (real.mean.value, made.mean.value) == (4.5, 2.5)
    assert made.taken_for_real.value == 0.5
    said = ratings.describe(found)
    assert "fooled: 1 of 2 times" in said
    assert "2 listeners: right 2 of 4 times, 50%" in said


def test_intervals_are_the_textbooks():
    mean = ratings.mean_of([1, 2, 3, 4, 5])
    assert mean.value == 3
    assert mean.high - 3 == pytest.approx(2.776 * math.sqrt(2.5 / 5), abs=1e-3)
    assert ratings.mean_of([4]) == (4, -math.inf, math.inf)
    share = ratings.share_of(8, 10)
    assert share == pytest.approx((0.8, 0.490, 0.943), abs=1e-3)  # Wilson
    assert ratings.share_of(0, 5).low == 0
    rng = np.random.default_rng(0)
    inside = [
        (found := ratings.mean_of(rng.normal(3, 1, 8))).low < 3 < found.high for _ in range(400)
    ]
    assert 0.9 < np.mean(inside) < 0.99


def test_nonsense_is_left_out_with_its_reason(tmp_path):
    path = write(
        tmp_path / "a.csv",
        [
            row("Ann", "01", REAL, 9, "real"),
            row("Ann", "02", REAL, 3, "perhaps"),
            ["Ann", "03", "zz", 3, "real"],
            ["Ann", "04", "00ff00ff", 3, "real"],
            ["Ann"],
            row("Ann", "05", REAL, 3, "real"),
        ],
    )
    found, problems = ratings.read_ratings([path])
    assert found == [Rating("Ann", "05", REAL, 3, True)]
    assert len(problems) == 5
    assert problems[0].endswith("row 2: rating is '9'; expected 1 to 5")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no column 'listener'"),
        (b"\xff\xfe\x00", "not read as CSV"),
        (b"a,b\n1,2\n", "no column 'listener'"),
        (b"listener,piece,code,rating,guess\n", "no rating in it"),
        (b"listener,piece,code,rating,guess\nx,1,2,3\n", r"no rating in it \(.*row 2"),
        (b'listener,piece,code,rating,guess\n"' + b"x" * 200_000, "not read as CSV"),
    ],
)
def test_a_file_of_nonsense_is_one_line(content, message, tmp_path):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        ratings.read_ratings([tmp_path / "a.csv"])
    with pytest.raises(InputError, match="No such file"):
        ratings.read_ratings([tmp_path / "b.csv"])
