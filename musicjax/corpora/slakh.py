"""Slakh2100 (Manilow et al. 2019): songs of Lakh, split into a MIDI file for each instrument.

    [train|validation|test|omitted/]Track00001/metadata.yaml   UUID, and each stem's inst_class
                                               MIDI/S00.mid    the stems
                                               all_src.mid     the song that they were split from

A song is its stems. The layout has its traps: `midi_saved` is false of stems whose files are there;
stems are listed without a file; a stem's track is named after the song; drums have program 128. A
stem without a file is taken from all_src.mid where only one track there has its program; else it is
told of. The UUID is the MD5 of the Lakh file, by which a table may tell its year.
"""

import dataclasses
import re
from pathlib import Path

from musicjax import midi
from musicjax.corpora import SPLITS, SongFile, folder, read_bytes
from musicjax.errors import SongError
from musicjax.song import Song, Track

_METADATA = "metadata.yaml"
_STEM = re.compile(r"S\d{1,3}")
_UUID = re.compile(r"[0-9a-f]{32}")
_MOST_METADATA = 1_000_000  # bytes


def find_songs(root: Path, files: list[SongFile]) -> list[SongFile]:
    """The tracks of a Slakh root, or none if it is no such root.

    Args:
        root: a folder.
        files: all MIDI files below it; of a Slakh root each belongs to a track.
    """
    folders = set()
    for file in files:
        above = file.path.parent
        track = above.parent if above.name == "MIDI" else above
        if track not in folders and not (track / _METADATA).is_file():
            return []
        folders.add(track)
    tracks = []
    for path in folders:
        name = folder.writable(path.relative_to(root).as_posix())
        metadata, above = {}, path.parent.name
        if above in SPLITS:
            metadata["split"] = above
        elif above == "omitted":
            metadata["refused"] = ("omitted", "Slakh leaves it out, as a copy in another split")
        tracks.append(SongFile(path / _METADATA, name, metadata))
    return sorted(tracks, key=lambda track: track.name)


def is_track(file: SongFile) -> bool:
    """Whether a file is a track of Slakh."""
    return file.path.name == _METADATA


def stem_paths(file: SongFile) -> list[Path]:
    """The MIDI files that a track may be read from; none of what is no track."""
    if not is_track(file):
        return []
    return sorted([*file.path.parent.glob("MIDI/*.mid"), *file.path.parent.glob("all_src.mid")])


def read_song(file: SongFile, most_bytes: int) -> tuple[Song, str]:
    """A track's song, and its UUID. Stems that are missing are named in `Song.repairs`.

    Raises:
        SongError: "corrupt": metadata that cannot be; "missing_stems": none can be read; or as
            musicjax.midi tells.
    """
    uuid, stems = _metadata(file.path)
    songs: dict[str, Song] = {}
    for stem in stems:
        path = file.path.parent / "MIDI" / f"{stem}.mid"
        if path.is_file():
            songs[stem] = midi.song_from_bytes(read_bytes(path, most_bytes), path)
    missing = [stem for stem in stems if stem not in songs]
    source = file.path.parent / "all_src.mid"
    whole = None
    if missing and source.is_file():
        whole = midi.song_from_bytes(read_bytes(source, most_bytes), source)
    first = next(iter(songs.values()), whole)
    if first is None:
        raise SongError(file.path, "missing_stems", f"none of {len(stems)} stems has a MIDI file")
    tracks, lost = [], []
    for stem, told in stems.items():
        found = songs[stem].tracks if stem in songs else _only_like(told, stems, whole)
        if not found:
            lost.append(f"stem {stem}")
        tracks += [dataclasses.replace(track, **told) for track in found]
    for stem, song in songs.items():
        if song.ticks_per_quarter != first.ticks_per_quarter:
            found = f"{song.ticks_per_quarter} ticks a quarter, others {first.ticks_per_quarter}"
            raise SongError(file.path, "bad_ticks", f"{stem} has {found}")
    if not tracks:
        raise SongError(file.path, "missing_stems", f"none of {len(stems)} stems can be read")
    repairs = tuple(sorted({*first.repairs, *lost}))
    song = dataclasses.replace(first, tracks=tuple(tracks), source=str(file.path), repairs=repairs)
    return song, uuid


def _metadata(path: Path) -> tuple[str, dict[str, dict]]:
    """The UUID, and of each stem the fields of its Track that the metadata knows."""
    import yaml

    content = read_bytes(path, _MOST_METADATA)
    try:
        metadata = yaml.safe_load(content)
        uuid = str(metadata["UUID"])
        stems = {}
        for stem, told in metadata["stems"].items():
            if not _STEM.fullmatch(stem):
                raise ValueError(f"a stem named {stem!r}")
            is_drum = bool(told["is_drum"])
            program = 0 if is_drum else min(max(int(told["program_num"]), 0), 127)
            stems[stem] = {
                "inst_class": str(told["inst_class"]),
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
        raise SongError(path, "corrupt", f"metadata of no Slakh track ({line[:200]})") from None
    return uuid, dict(sorted(stems.items()))


def _only_like(told: dict, stems: dict[str, dict], whole: Song | None) -> tuple[Track, ...]:
    """The track of the whole song that a stem was, if only one can be."""

    def like(other) -> bool:
        return (other["is_drum"], other["program"]) == (told["is_drum"], told["program"])

    if whole is None or sum(map(like, stems.values())) > 1:
        return ()
    found = [track for track in whole.tracks if like(vars(track))]
    return tuple(found) if len(found) == 1 else ()
