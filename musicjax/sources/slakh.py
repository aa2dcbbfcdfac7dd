"""Slakh2100 (Manilow et al. 2019): songs of Lakh, split into a MIDI file for each instrument.

    [train|validation|test|omitted/]Track00001/metadata.yaml   UUID, and each stem's inst_class
                                               MIDI/S00.mid    the stems
                                               all_src.mid     the song that they were split from

A song is its stems. Real data has its traps: `midi_saved` is false of stems whose files exist;
stems are listed without a file; a stem's track is named after the song; drums have program 128. A
stem without a file is taken from all_src.mid if only one track there has its program; else it is
named in `Song.repairs`. The UUID is the MD5 of the Lakh file, by which a table may have its year.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any, Self

from musicjax.errors import InputError, SongError
from musicjax.music import midi
from musicjax.music.song import Song, Track
from musicjax.sources.base import SPLITS, SongFile, read_bytes
from musicjax.sources.folder import Folder, printable

_METADATA = "metadata.yaml"
_STEM = re.compile(r"S\d{1,3}")
_UUID = re.compile(r"[0-9a-f]{32}")
_MAX_METADATA_BYTES = 1_000_000


@dataclasses.dataclass(frozen=True)
class Slakh(Folder):
    """A folder in which every MIDI file belongs to a track of Slakh."""

    @classmethod
    def open(cls, source: str) -> Self | None:
        """A folder of Slakh's layout."""
        opened = super().open(source)
        return opened if opened and opened._track_folders() else None

    def find(self) -> list[SongFile]:
        """The tracks, sorted by name, in the splits whose folders they are in.

        Raises:
            InputError: there is none.
        """
        tracks = []
        for path in self._track_folders():
            metadata: dict[str, Any] = {}
            above = path.parent.name
            if above in SPLITS:
                metadata["split"] = above
            elif above == "omitted":
                metadata["refused"] = ("omitted", "Slakh leaves it out, as a copy in another split")
            name = printable(path.relative_to(self.root).as_posix())
            tracks.append(SongFile(path / _METADATA, name, metadata))
        if not tracks:
            raise InputError(f"data.source is {str(self.root)!r}: not a Slakh root any more")
        return sorted(tracks, key=lambda track: track.name)

    def _track_folders(self) -> set[Path]:
        """Of all tracks; empty if a MIDI file belongs to none."""
        folders = set()
        for file in self.walk():
            above = file.path.parent
            track = above.parent if above.name == "MIDI" else above
            if track not in folders and not (track / _METADATA).is_file():
                return set()
            folders.add(track)
        return folders

    def files_of(self, file: SongFile) -> list[Path]:
        """The metadata and the MIDI files that a track may be read from."""
        track = file.path.parent
        return [file.path, *sorted([*track.glob("MIDI/*.mid"), *track.glob("all_src.mid")])]

    def read(self, file: SongFile, *, max_bytes: int, check_md5: bool = True) -> tuple[Song, str]:
        """A track's song, and its UUID. Stems that are missing are named in `Song.repairs`.

        Args:
            file: of `find`.
            max_bytes: a track with a larger MIDI file is not read.
            check_md5: not used: Slakh's files are not named by their MD5.
        Raises:
            SongError: "corrupt": metadata that cannot be; "missing_stems": none can be read;
                "outside_link"; or as musicjax.music.midi lists.
        """
        uuid, stems = _parse_metadata(file.path, self._read_inside(file.path, _MAX_METADATA_BYTES))
        songs: dict[str, Song] = {}
        for stem in stems:
            path = file.path.parent / "MIDI" / f"{stem}.mid"
            if path.is_file():
                songs[stem] = midi.song_from_bytes(self._read_inside(path, max_bytes), path)
        missing = [stem for stem in stems if stem not in songs]
        path = file.path.parent / "all_src.mid"
        whole = None
        if missing and path.is_file():
            whole = midi.song_from_bytes(self._read_inside(path, max_bytes), path)
        first = next(iter(songs.values()), whole)
        if first is None:
            found = f"none of {len(stems)} stems has a MIDI file"
            raise SongError(file.path, "missing_stems", found)
        tracks, lost = [], []
        for stem, fields in stems.items():
            found = songs[stem].tracks if stem in songs else _only_like(fields, stems, whole)
            if not found:
                lost.append(f"stem {stem}")
            tracks += [dataclasses.replace(track, **fields) for track in found]
        for stem, song in songs.items():
            if song.ticks_per_quarter != first.ticks_per_quarter:
                found = f"{stem} has {song.ticks_per_quarter} ticks a quarter"
                raise SongError(
                    file.path, "bad_ticks", f"{found}, the first {first.ticks_per_quarter}"
                )
        if not tracks:
            raise SongError(file.path, "missing_stems", f"none of {len(stems)} stems can be read")
        song = dataclasses.replace(
            first,
            tracks=tuple(tracks),
            source=str(file.path),
            repairs=tuple(sorted({*first.repairs, *lost})),
        )
        return song, uuid

    def _read_inside(self, path: Path, max_bytes: int) -> bytes:
        """A file's content, unless links lead to it from outside of the source."""
        refused = self.outside_link(path)
        if refused:
            raise SongError(path, *refused)
        return read_bytes(path, max_bytes)


def _parse_metadata(path: Path, content: bytes) -> tuple[str, dict[str, dict[str, Any]]]:
    """The UUID, and by each stem the fields of its Track that the metadata knows."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent, index):
            if self.check_event(yaml.AliasEvent):  # nested ones grow without bound
                raise yaml.YAMLError("an alias")
            return super().compose_node(parent, index)

    try:
        metadata = yaml.load(content, Loader)
        uuid = str(metadata["UUID"])
        stems = {}
        for stem, fields in metadata["stems"].items():
            if not _STEM.fullmatch(stem):
                raise ValueError(f"a stem named {stem!r}")
            is_drum = bool(fields["is_drum"])
            program = 0 if is_drum else min(max(int(fields["program_num"]), 0), 127)
            stems[stem] = {
                "inst_class": str(fields["inst_class"]),
                "is_drum": is_drum,
                "program": program,
            }
        if not _UUID.fullmatch(uuid) or not stems:
            raise ValueError(f"UUID {uuid!r}, {len(stems)} stems")
    except (
        yaml.YAMLError,
        RecursionError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())
        raise SongError(path, "corrupt", f"not the metadata of a track ({line[:200]})") from None
    return uuid, dict(sorted(stems.items()))


def _only_like(
    fields: dict[str, Any], stems: dict[str, dict[str, Any]], whole: Song | None
) -> tuple[Track, ...]:
    """The track of the whole song that a stem was, if only one can be."""

    def like(other: dict[str, Any]) -> bool:
        return (other["is_drum"], other["program"]) == (fields["is_drum"], fields["program"])

    if whole is None or sum(map(like, stems.values())) > 1:
        return ()
    found = [track for track in whole.tracks if like(vars(track))]
    return tuple(found) if len(found) == 1 else ()
