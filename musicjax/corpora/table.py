r"""A user's table of songs: artist, title, year, split.

Tab- or comma-separated with a line of headings. A song is found by one of the columns

    md5, uuid                       the MD5 of the file, or of the Lakh file that it was made from
    track_id                        of the Million Song Dataset, in lmd_matched's folders
    path, file, id, track, name     the file's path or a tail of it, with its suffix or without

and what is told of it is in artist, title, year, decade, split. The Million Song Dataset's own
tracks_per_year.txt (year<SEP>track_id<SEP>artist<SEP>title, no headings) is read as well.
"""

import csv
import functools
from pathlib import Path, PurePosixPath

from musicjax.corpora import SPLITS, SongFile
from musicjax.errors import InputError

_KEYS = ("md5", "uuid", "track_id", "path", "file", "id", "track", "name")
_FIELDS = ("artist", "title", "year", "decade", "split")


class Table:
    """Rows of a table, by what they are found by."""

    def __init__(self, rows: list[tuple[set[str], dict]]):
        """From each row's keys, and what it tells."""
        self._rows: dict[str, dict] = {}
        tails: dict[str, list[dict]] = {}
        for keys, told in rows:
            for key in keys:
                self._rows[key] = told
                for tail in _tails(key)[1:]:
                    tails.setdefault(tail, []).append(told)
        # The song may lie below a folder that the table names; but not in any of several.
        self._tails = {tail: told[0] for tail, told in tails.items() if len(told) == 1}

    def find(self, file: SongFile, md5: str = "") -> dict | None:
        """What it tells of a file, by its name, its metadata, or its content's MD5; or None."""
        metadata = file.metadata
        name = file.name
        stem = str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).suffix else name
        keys = [md5, *(metadata.get(key, "") for key in ("md5", "uuid", "track_id"))]
        for key in [*keys, *_tails(name), *_tails(stem)]:
            if key in self._rows:
                return self._rows[key]
        return self._tails.get(name, self._tails.get(stem))


def _tails(path: str) -> list[str]:
    """A path, and what is left of it without its first folders."""
    parts = path.split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]


def read_table(path: Path) -> Table:
    """Reads a table; again only if the file has changed.

    Raises:
        InputError: no such file, not such a table, or a value that cannot be.
    """
    try:
        return _read_table(path, path.stat().st_mtime_ns)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a table of songs ({error}); see data.table") from None


@functools.lru_cache(maxsize=2)
def _read_table(path: Path, changed: int) -> Table:
    text = path.read_text(encoding="utf-8-sig")
    lines = text.splitlines()
    heading = lines[0] if lines else ""
    if heading.count("<SEP>") == 3:
        names = ("year", "track_id", "artist", "title")
        records = [dict(zip(names, line.split("<SEP>"), strict=False)) for line in lines if line]
        first = 1
    else:
        delimiter = next((mark for mark in "\t;," if mark in heading), ",")
        records = list(csv.DictReader(lines, delimiter=delimiter))
        first = 2
    columns = set(records[0]) if records else set(heading.split())
    if not columns & set(_KEYS) or not columns & set(_FIELDS):
        raise InputError(
            f"{path}: its columns are {', '.join(sorted(map(str, columns))) or 'none'}; expected "
            f"one of {', '.join(_KEYS)} to find songs by, and some of {', '.join(_FIELDS)}"
        )
    rows = [_row(record, f"{path}, line {i}") for i, record in enumerate(records, first)]
    return Table(rows)


def _row(record: dict, where: str) -> tuple[set[str], dict]:
    keys = {(record.get(key) or "").strip() for key in _KEYS} - {""}
    told = {name: record[name].strip() for name in _FIELDS if (record.get(name) or "").strip()}
    for name in ("year", "decade"):
        if name in told:
            try:
                told[name] = int(told[name].removesuffix("s"))
            except ValueError:
                raise InputError(
                    f"{where}: {name} is {told[name]!r}; expected a number, or nothing"
                ) from None
    if told.get("year") == 0:  # the Million Song Dataset's unknown year
        del told["year"]
    if "year" in told:
        told["decade"] = told["year"] // 10 * 10
    if told.get("split", "train") not in SPLITS:
        raise InputError(
            f"{where}: split is {told['split']!r}; expected {', '.join(SPLITS)}, or nothing"
        )
    return keys, told
