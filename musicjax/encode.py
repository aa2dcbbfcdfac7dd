r"""Encodes songs as a corpus folder, and says what was left out and why.

    python -m musicjax.encode --config=configs/vocab.py --output=corpora/mine \
        --config.data.source=/my/midi --config.data.track=piano

Training does this by itself and keeps the result in the user's cache folder; it is used again only
while every setting of `config.data` and every source file is the same.
"""

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from musicjax import cli, corpora, corpus, key, midi, part
from musicjax.corpora import SongFile
from musicjax.corpus import Corpus
from musicjax.errors import InputError
from musicjax.song import Song
from musicjax.vocabulary import EncodedSong, Token, Vocabulary, song_to_tokens

ENCODER = 4  # raise it when the same file and settings would give other tokens


def encode_corpus(data) -> Corpus:
    """Reads, cleans, transposes and encodes the songs of a source, in memory.

    Args:
        data: `config.data`; its fields are explained in configs/vocab.py.
    Returns:
        a Corpus, not yet saved.
    Raises:
        InputError: no source, no MIDI file, or no song left.
    """
    from tqdm import tqdm

    data = with_track(data)
    files = corpora.find_songs(data.source)
    songs, skipped, pieces, names = [], [], [], Counter()
    ids: dict[Token, int] = {}  # provisional, in order of appearance
    totals = Counter()
    for file in tqdm(files, desc=f"encoding {data.source}", unit="file", delay=1):
        try:
            content = file.path.read_bytes()
            song = midi.song_from_bytes(content, file.path)
        except (midi.MidiError, OSError) as error:
            reason = error.reason if isinstance(error, midi.MidiError) else "unreadable"
            detail = error.detail if isinstance(error, midi.MidiError) else str(error.strerror)
            skipped.append({"name": file.name, "reason": reason, "detail": detail})
            continue
        in_c = prepare(song, data)
        if not in_c.song.tracks:
            tracks = {track.name or "(no name)" for track in song.tracks}
            names.update(tracks)
            detail = f"has {', '.join(sorted(tracks))}"
            skipped.append({"name": file.name, "reason": "no_track", "detail": detail})
            continue
        encoded = tokens_of(in_c.song, data)
        totals.update(
            note_units=encoded.note_units,
            clipped_units=encoded.clipped_units,
            rests_cut=encoded.rests_cut,
        )
        songs.append(
            {
                "name": file.name,
                "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
                "content": _content_hash(encoded.tokens),
                "track": in_c.rule,
                "key": in_c.key.name if in_c.key else None,
                "transposed": in_c.semitones,
                "qpm": round(song.main_qpm, 3),
                "split": file.metadata.get("split"),
                "offset": songs[-1]["offset"] + songs[-1]["length"] if songs else 0,
                "length": len(encoded.tokens),
            }
        )
        pieces.append(
            np.array([ids.setdefault(token, len(ids)) for token in encoded.tokens], np.int32)
        )
    if not songs:
        raise InputError(_nothing_left(data, files, skipped, names))
    _assign_splits(songs, data.validation_share, data.test_share)
    vocabulary, stored = _number(list(ids), pieces, [song["split"] for song in songs])
    manifest = {
        "encoding": "vocabulary",
        "encoder": ENCODER,
        "settings": data.to_dict(),
        "fingerprint": fingerprint(data, files),
        "program": part.PROGRAM_OF_PART.get(data.track, 0),
        "is_drum": data.track == "drums",
        "counts": {
            "files": len(files),
            "songs": len(songs),
            "skipped": len(skipped),
            "tokens": len(stored),
            "types": len(vocabulary.tokens) - 1,
            "types_in_training": vocabulary.size - 1,
            "rests_cut": totals["rests_cut"],
        },
        "clipped_share": totals["clipped_units"] / max(totals["note_units"], 1),
        "repeat_share": _repeat_share(pieces, [song["split"] for song in songs]),
    }
    return Corpus(manifest, songs, stored, vocabulary, skipped)


def with_track(data):
    """`config.data` with the track that "default" means for its source."""
    if data.track == "default":
        data = copy.deepcopy(data)
        data.track = corpora.default_track(data.source)
    return data


class Prepared(NamedTuple):
    """A song as the encoder wants it.

    Attributes:
        song: the chosen part; without tracks if the song has none.
        rule: that chose it, as in musicjax.part.
        key: it was found in, if it was transposed.
        semitones: it was moved by.
    """

    song: Song
    rule: str
    key: key.Key | None
    semitones: int


def prepare(song: Song, data, track: str | None = None) -> Prepared:
    """The part of a song that `config.data` asks for, or `track`, transposed if it says so."""
    chosen, rule = part.choose_part(song, track or with_track(data).track)
    if not data.transpose:
        return Prepared(chosen, rule, None, 0)
    chosen, found, semitones = key.transpose_to_c(chosen)
    return Prepared(chosen, rule, found, semitones)


def tokens_of(song: Song, data) -> EncodedSong:
    """A prepared song's tokens, by the limits of `config.data`."""
    return song_to_tokens(
        song, longest_rest=data.longest_rest or None, longest_note=data.longest_note or None
    )


def _nothing_left(data, files: list[SongFile], skipped: list[dict], names: Counter) -> str:
    reasons = ", ".join(f"{r}: {n}" for r, n in Counter(s["reason"] for s in skipped).most_common())
    line = f"data.source is {data.source!r}: none of its {len(files)} files gave a song ({reasons})"
    if names:
        seen = ", ".join(f"{name!r} in {n}" for name, n in names.most_common(8))
        line += f"; data.track is {data.track!r}, the tracks are named {seen}"
    return line


def _number(
    tokens: list[Token], pieces: list[np.ndarray], splits: list[str]
) -> tuple[Vocabulary, np.ndarray]:
    """The vocabulary, and all songs' final ids end to end, from provisional ids."""
    counts = np.zeros(len(tokens), np.int64)
    for piece, split in zip(pieces, splits, strict=True):
        if split == "train":
            counts += np.bincount(piece, minlength=len(tokens))
    training = {token: int(n) for token, n in zip(tokens, counts, strict=True) if n}
    vocabulary = Vocabulary.build(training, tokens)
    final = vocabulary.encode(tokens)
    return vocabulary, final[np.concatenate(pieces)]


def _content_hash(tokens: list[Token]) -> str:
    """Hex digest of the music in whatever octave: transposing may leave copies an octave apart."""
    lowest = min(token.pitches[0] for token in tokens if token.pitches) // 12 * 12
    same = [[duration, *(pitch - lowest for pitch in pitches)] for pitches, duration in tokens]
    return hashlib.sha256(json.dumps(same).encode()).hexdigest()


def _repeat_share(pieces: list[np.ndarray], splits: list[str]) -> float:
    """How many of the training songs' tokens are the same as the one before."""
    training = [p for p, split in zip(pieces, splits, strict=True) if split == "train"]
    repeats = sum(int((piece[1:] == piece[:-1]).sum()) for piece in training)
    return repeats / max(sum(len(piece) - 1 for piece in training), 1)


def _assign_splits(songs: list[dict], validation_share: float, test_share: float) -> None:
    """Sets each song's split by the hash of its content, where its source has not.

    So adding files moves none, and copies stay together. If that leaves a split empty, as it may
    in a corpus of a few songs, the training songs nearest to it by hash are moved there.
    """
    position = {song["content"]: int(song["content"][:12], 16) / 16**12 for song in songs}
    by_hash = [song for song in songs if song["split"] is None]
    for song in by_hash:
        u = position[song["content"]]
        if u < test_share:
            song["split"] = "test"
        elif u < test_share + validation_share:
            song["split"] = "validation"
        else:
            song["split"] = "train"
    for split, share in (("test", test_share), ("validation", validation_share)):
        training = [song for song in by_hash if song["split"] == "train"]
        empty = not any(song["split"] == split for song in songs)
        if share > 0 and empty and len({song["content"] for song in training}) > 1:
            nearest = min(training, key=lambda song: position[song["content"]])["content"]
            for song in training:
                if song["content"] == nearest:
                    song["split"] = split


def fingerprint(data, files: Iterable[SongFile]) -> str:
    """Hex digest of all that decides a corpus: encoder, settings, and each file's name, size and
    time of change.
    """

    def state(path: Path) -> tuple[int, int]:
        try:
            stat = path.stat()
        except OSError:  # a broken link, say: encoding will tell
            return -1, -1
        return stat.st_size, stat.st_mtime_ns

    parts = {
        "format": corpus.FORMAT,
        "encoder": ENCODER,
        "settings": data.to_dict(),
        "files": [(file.name, *state(file.path)) for file in files],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def open_corpus(data, cache: str | Path | None = None) -> Corpus:
    """The corpus of `config.data`: a corpus folder as it is, any other source encoded, or cached.

    Args:
        data: `config.data`.
        cache: folder of encoded corpora; the user's cache folder by default.
    Raises:
        InputError: as encode_corpus; or a corpus folder that cannot be read.
    """
    import platformdirs

    data = with_track(data)
    source = Path(data.source).expanduser()
    if (source / "manifest.json").is_file():
        return Corpus.load(source)
    root = Path(cache) if cache else platformdirs.user_cache_path("musicjax") / "corpora"
    path = root / fingerprint(data, corpora.find_songs(data.source))[:24]
    if not path.is_dir():
        encoded = encode_corpus(data)
        print(describe(encoded))
        encoded.save(path)
    return Corpus.load(path)


def describe(encoded: Corpus) -> str:
    """Lines for people: what came in, what was left out, what is there."""
    counts = encoded.manifest["counts"]
    splits = ", ".join(f"{len(encoded.split(split))} {split}" for split in corpus.SPLITS)
    lines = [
        f"{counts['songs']} songs of {counts['files']} files ({splits}), {counts['tokens']} tokens "
        f"of {counts['types']} types ({counts['types_in_training']} in the training songs)",
        f"clipped by the next onset: {encoded.manifest['clipped_share']:.1%} of the notes' time; "
        f"rests cut: {counts['rests_cut']}",
    ]
    reasons = Counter(row["reason"] for row in encoded.skipped)
    if reasons:
        lines.append(f"skipped {counts['skipped']} files:")
        lines += [f"  {n:7d}  {reason}" for reason, n in reasons.most_common()]
    return "\n".join(lines)


def _define_flags() -> None:
    from absl import flags

    cli.define_config()
    flags.DEFINE_string("output", None, "Corpus folder to write; must not exist.", required=True)


def _main(flags) -> None:
    if Path(flags.output).exists():
        raise InputError(f"{flags.output} already exists; give another --output or delete it")
    encoded = encode_corpus(flags.config.data)
    encoded.save(flags.output)
    print(describe(encoded))
    print(f"wrote {flags.output}; files left out are listed in {flags.output}/skipped.jsonl")


if __name__ == "__main__":
    cli.run(_main, _define_flags)
