r"""A user's table of songs: artist, title, year, split.

Tab- or comma-separated with a line of headings. A song is found by one of the columns

    md5, uuid                       the MD5 of the file, or of the Lakh file that it was made from
    track_id                        of the Million Song Dataset, in lmd_matched's folders
    path, file, id, track, name     the file's path or a tail of it, with its suffix or without

and its metadata is in artist, title, year, decade, split. The Million Song Dataset's own
tracks_per_year.txt (year<SEP>track_id<SEP>artist<SEP>title, no headings) is read as well.
"""

import csv
import functools
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from musicjax.errors import InputError
from musicjax.sources.base import SPLITS, SongFile

_KEYS = ("md5", "uuid", "track_id", "path", "file", "id", "track", "name")
_FIELDS = ("artist", "title", "year", "decade", "split")
_MSD_COLUMNS: Sequence[str] = ("year", "track_id", "artist", "title")


class Table:
    """Metadata of songs, by MD5, track id, path, or name."""

    def __init__(self, rows: Iterable[tuple[set[str], dict[str, Any]]]):
        """From the keys and the metadata of each row."""
        self._rows: dict[str, dict[str, Any]] = {}
        self._count = 0
        tails: dict[str, list[dict[str, Any]]] = {}
        for keys, metadata in rows:
            self._count += 1
            for key in keys:
                self._rows[key] = metadata
                for tail in _tails(key)[1:]:
                    tails.setdefault(tail, []).append(metadata)
        # The source may be below a folder of the table's paths; a tail of several rows is of none.
        self._tails = {tail: rows[0] for tail, rows in tails.items() if len(rows) == 1}

    def __len__(self) -> int:
        return self._count

    def find(self, file: SongFile, md5: str = "") -> dict[str, Any] | None:
        """The metadata of a file, by its name, its own metadata, or its content's MD5; or None."""
        name = file.name
        stem = str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).suffix else name
        keys = [md5, *(file.metadata.get(key, "") for key in ("md5", "uuid", "track_id"))]
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
    if path.exists() and not path.is_file():  # to open a pipe may wait forever
        raise InputError(f"{path}: not a table of songs (not a file); see data.table")
    try:
        return _read_table(path, path.stat().st_mtime_ns)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a table of songs ({error}); see data.table") from None


@functools.lru_cache(maxsize=2)
def _read_table(path: Path, mtime_ns: int) -> Table:
    text = path.read_text(encoding="utf-8-sig")
    heading = text.partition("\n")[0]
    # A title may hold other line breaks, such as U+2028, that str.splitlines would break it at.
    lines = io.StringIO(text, newline="")
    if heading.count("<SEP>") == 3:
        columns = _MSD_COLUMNS
        split = (line.strip().split("<SEP>") for line in lines)
        records = enumerate((dict(zip(columns, fields, strict=False)) for fields in split), 1)
    else:
        delimiter = next((mark for mark in "\t;," if mark in heading), ",")
        reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
        columns = reader.fieldnames or ()
        records = _numbered(reader, path)
    if not set(columns) & set(_KEYS) or not set(columns) & set(_FIELDS):
        raise InputError(
            f"{path}: its columns are {', '.join(sorted(columns)) or 'none'}; expected one of "
            f"{', '.join(_KEYS)} to find songs by, and some of {', '.join(_FIELDS)}"
        )
    return Table([_row(record, f"{path}, line {line}") for line, record in records])


def _numbered(reader: csv.DictReader, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The records, each with the number of its last line."""
    try:
        for record in reader:
            yield reader.line_num, record
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num + 1}: {error}; expected fields with a quote at "
            "both ends or at none"
        ) from None


def _row(record: dict[str, str], where: str) -> tuple[set[str], dict[str, Any]]:
    keys = {(record.get(key) or "").strip() for key in _KEYS} - {""}
    metadata: dict[str, Any] = {
        name: record[name].strip() for name in _FIELDS if (record.get(name) or "").strip()
    }
    for name in ("year", "decade"):
        if name in metadata:
            try:
                metadata[name] = int(metadata[name].removesuffix("s"))
            except ValueError:
                raise InputError(
                    f"{where}: {name} is {metadata[name]!r}; expected a number, or nothing"
                ) from None
    if metadata.get("year") == 0:  # the Million Song Dataset's unknown year
        del metadata["year"]
    if "year" in metadata:
        metadata["decade"] = metadata["year"] // 10 * 10
    if metadata.get("split", "train") not in SPLITS:
        raise InputError(
            f"{where}: split is {metadata['split']!r}; expected {', '.join(SPLITS)}, or nothing"
        )
    return keys, metadata
