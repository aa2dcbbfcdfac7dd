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

from musicjax import cli, corpora, corpus, key, midi, note_state, part
from musicjax.corpora import SongFile, piano_rolls
from musicjax.corpus import Corpus
from musicjax.errors import InputError
from musicjax.note_state import Bars, EncodedStates, NoteStateError
from musicjax.song import Song
from musicjax.vocabulary import EncodedSong, Token, Vocabulary, song_to_tokens

ENCODER = 5  # raise it when the same file and settings would give other data


def encode_corpus(data) -> Corpus:
    """Reads, cleans, transposes and encodes the songs of a source, in memory.

    Args:
        data: `config.data`; its fields are explained in configs/vocab.py and configs/nsm.py.
    Returns:
        a Corpus, not yet saved.
    Raises:
        InputError: no source, no MIDI file, or no song left; or piano rolls that do not fit.
    """
    from tqdm import tqdm

    data = with_track(data)
    encoder = _ENCODERS[data.encoding](data)
    files = _files(data)
    if _is_rolls(data):
        return _corpus(data, encoder, files, _rolls(data, encoder), [])
    songs, skipped, names = [], [], Counter()
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
        try:
            encoded = encoder.add(in_c.song)
        except NoteStateError as error:
            skipped.append({"name": file.name, "reason": error.reason, "detail": error.detail})
            continue
        songs.append(
            {
                "name": file.name,
                "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
                "track": in_c.rule,
                "key": in_c.key.name if in_c.key else None,
                "transposed": in_c.semitones,
                "qpm": round(song.main_qpm, 3),
                "split": file.metadata.get("split"),
                **encoded,
            }
        )
    if not songs:
        raise InputError(_nothing_left(data, files, skipped, names))
    return _corpus(data, encoder, files, songs, skipped)


def _is_rolls(data) -> bool:
    return data.source.endswith(".npz")


def _files(data) -> list[SongFile]:
    """The source's files.

    Raises:
        InputError: there is none, or piano rolls are to become tokens.
    """
    if not _is_rolls(data):
        return corpora.find_songs(data.source, data.split_by)
    if data.encoding != "note_state":
        raise InputError(
            f"data.source is {data.source!r}: piano rolls have no tokens; train on them with "
            "configs/polyphonic.py"
        )
    return [piano_rolls.song_file(data.source)]


def _rolls(data, encoder: "_NoteStates") -> list[dict]:
    """A set of piano rolls, encoded, in the splits that it comes with."""
    songs = []
    for name, split, roll in piano_rolls.read_rolls(data.source):
        width, _ = note_state.step_shape(data)
        if roll.shape[1] != width:
            raise InputError(
                f"{data.source}: its rolls have {roll.shape[1]} notes; data.lowest={data.lowest} "
                f"to data.highest={data.highest} are {width}"
            )
        songs.append({"name": name, "split": split, **encoder.add_states(roll[..., None])})
    return songs


def _corpus(data, encoder, files, songs: list[dict], skipped: list[dict]) -> Corpus:
    """The corpus of encoded songs: their splits, places in `data`, and the manifest."""
    songs, spare = _assign_splits(songs, data)
    for song in spare:
        detail = f"more than data.songs={data.songs}"
        skipped.append({"name": song["name"], "reason": "spare", "detail": detail})
    stored, vocabulary, found = encoder.finish(songs)
    offset = 0
    for song in songs:
        del song["number"]
        song["offset"] = offset
        offset += song["length"]
    manifest = {
        "encoding": data.encoding,
        "encoder": ENCODER,
        "settings": data.to_dict(),
        "fingerprint": fingerprint(data, files),
        "program": part.PROGRAM_OF_PART.get(data.track, 0),
        "is_drum": data.track == "drums",
        "counts": {"files": len(files), "songs": len(songs), "skipped": len(skipped)},
    }
    manifest["counts"] |= found.pop("counts")
    return Corpus(manifest | found, songs, stored, vocabulary, skipped)


class _Tokens:
    """Encodes songs as tokens, and numbers them at the end."""

    def __init__(self, data):
        self._data = data
        self._ids: dict[Token, int] = {}  # provisional, in order of appearance
        self._pieces: list[np.ndarray] = []
        self._totals = Counter()

    def add(self, song: Song) -> dict:
        """A song's fields: number, length, content."""
        encoded = tokens_of(song, self._data)
        self._totals.update(
            note_units=encoded.note_units,
            clipped_units=encoded.clipped_units,
            rests_cut=encoded.rests_cut,
        )
        ids = [self._ids.setdefault(token, len(self._ids)) for token in encoded.tokens]
        self._pieces.append(np.array(ids, np.int32))
        return {
            "number": len(self._pieces) - 1,
            "length": len(ids),
            "content": _content_of_tokens(encoded.tokens),
        }

    def finish(self, songs: list[dict]) -> tuple[np.ndarray, Vocabulary, dict]:
        """The songs' data end to end, the vocabulary, and what the manifest tells of them."""
        pieces = [self._pieces[song["number"]] for song in songs]
        training = [p for p, s in zip(pieces, songs, strict=True) if s["split"] == "train"]
        vocabulary, stored = _number(list(self._ids), pieces, training)
        repeats = sum(int((piece[1:] == piece[:-1]).sum()) for piece in training)
        totals = self._totals
        return (
            stored,
            vocabulary,
            {
                "counts": {
                    "tokens": len(stored),
                    "types": len(vocabulary.tokens) - 1,
                    "types_in_training": vocabulary.size - 1,
                    "rests_cut": totals["rests_cut"],
                },
                "clipped_share": totals["clipped_units"] / max(totals["note_units"], 1),
                # How many of the training songs' tokens are the same as the one before.
                "repeat_share": repeats / max(sum(len(piece) - 1 for piece in training), 1),
            },
        )


class _NoteStates:
    """Encodes songs as note state matrices, packed."""

    def __init__(self, data):
        self._data = data
        self._pieces: list[np.ndarray] = []
        self._notes = self._outside = 0

    def add(self, song: Song) -> dict:
        """A song's fields: number, length, content, bars, moved.

        Raises:
            NoteStateError: there is no matrix for it.
        """
        encoded = states_of(song, self._data)
        self._notes += encoded.notes
        self._outside += encoded.outside
        fields = self.add_states(encoded.states, encoded.bars)
        return fields | {"moved": round(encoded.moved, 3)}

    def add_states(self, states: np.ndarray, bars: tuple[Bars, ...] = (Bars(0, 16),)) -> dict:
        """As `add`, of a matrix [T, N, C]."""
        self._pieces.append(note_state.pack(states))
        return {
            "number": len(self._pieces) - 1,
            "length": len(states),
            "content": _content_of_states(states),
            "bars": [list(bar) for bar in bars],
        }

    def finish(self, songs: list[dict]) -> tuple[np.ndarray, None, dict]:
        """The songs' data end to end, no vocabulary, and what the manifest tells of them."""
        pieces = [self._pieces[song["number"]] for song in songs]
        totals = np.zeros(8, np.int64)
        for piece, song in zip(pieces, songs, strict=True):
            if song["split"] == "train":
                totals += _transitions(note_state.unpack(piece, *note_state.step_shape(self._data)))
        stored = np.concatenate(pieces)
        return (
            stored,
            None,
            {
                "counts": {"steps": len(stored), "notes": self._notes, "outside": self._outside},
                "transitions": totals.tolist(),
            },
        )


_ENCODERS = {"vocabulary": _Tokens, "note_state": _NoteStates}


def _transitions(states: np.ndarray) -> np.ndarray:
    """int [8]: how often a cell [play, articulate] follows one that played, or not: index
    4 played before + 2 play + articulate. What a baseline needs that repeats the last step.
    """
    states = states.astype(np.int64)
    play, articulate = states[..., 0], states[..., 1:].sum(-1)
    before = np.pad(play, ((1, 0), (0, 0)))[:-1]
    return np.bincount((4 * before + 2 * play + articulate).ravel(), minlength=8)


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
    drums = data.get("drums", False)
    chosen, rule = part.choose_part(song, track or with_track(data).track, drums=drums)
    if not data.transpose:
        return Prepared(chosen, rule, None, 0)
    chosen, found, semitones = key.transpose_to_c(chosen)
    return Prepared(chosen, rule, found, semitones)


def prepare_prime(song: Song, data, track: str | None = None) -> Prepared:
    """As `prepare`, of a song that music is to go on from.

    Raises:
        InputError: it has no such part.
    """
    track = track or with_track(data).track
    prepared = prepare(song, data, track)
    if not prepared.song.tracks:
        names = ", ".join(sorted({track.name or "(no name)" for track in song.tracks}))
        raise InputError(
            f"{song.source}: no track for {track!r}; its tracks are {names}; choose by "
            "--prime_track, such as --prime_track=all"
        )
    return prepared


def states_of(song: Song, data) -> EncodedStates:
    """A prepared song's note state matrix, by the pitches of `config.data`.

    Raises:
        NoteStateError: there is none.
    """
    encoded = note_state.song_to_note_state(
        song, lowest=data.lowest, highest=data.highest, align=data.align
    )
    return encoded if data.articulate else encoded._replace(states=encoded.states[..., :1])


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
    tokens: list[Token], pieces: list[np.ndarray], training: list[np.ndarray]
) -> tuple[Vocabulary, np.ndarray]:
    """The vocabulary of the training pieces and all pieces' final ids end to end, from provisional
    ids.
    """
    counts = np.zeros(len(tokens), np.int64)
    for piece in training:
        counts += np.bincount(piece, minlength=len(tokens))
    heard = set(np.unique(np.concatenate(pieces)).tolist())
    others = [token for number, token in enumerate(tokens) if number in heard]
    known = {token: int(n) for token, n in zip(tokens, counts, strict=True) if n}
    vocabulary = Vocabulary.build(known, others)
    final = vocabulary.encode(tokens)
    return vocabulary, final[np.concatenate(pieces)]


def _content_of_tokens(tokens: list[Token]) -> str:
    """Hex digest of the music in whatever octave: transposing may leave copies an octave apart."""
    lowest = min(token.pitches[0] for token in tokens if token.pitches) // 12 * 12
    same = [[duration, *(pitch - lowest for pitch in pitches)] for pitches, duration in tokens]
    return hashlib.sha256(json.dumps(same).encode()).hexdigest()


def _content_of_states(states: np.ndarray) -> str:
    """Hex digest of the music in whatever octave."""
    lowest = int(np.flatnonzero(states.any((0, 2)))[0]) // 12 * 12 if states.any() else 0
    return hashlib.sha256(note_state.pack(states[:, lowest:]).tobytes()).hexdigest()


def _assign_splits(songs: list[dict], data) -> tuple[list[dict], list[dict]]:
    """Sets each song's split by the hash of its content, where its source has not.

    So adding files moves none, and copies stay together. If that leaves a split empty, as it may
    in a corpus of a few songs, the training songs nearest to it by hash are moved there. With
    `data.songs` the songs are ranked by their hash instead: the splits get their shares exactly,
    and what is over is spare. Where the source names the splits, only validation songs are taken
    from the training songs, and only if it names none.

    Returns:
        the songs used, and the spare ones.
    """
    position = {song["content"]: int(song["content"][:12], 16) / 16**12 for song in songs}
    spare = []
    if data.songs:
        ranked = sorted(position, key=position.__getitem__)
        used = min(len(ranked), data.songs)
        position = {content: rank / used for rank, content in enumerate(ranked)}
        spare = [song for song in songs if position[song["content"]] >= 1]
        songs = [song for song in songs if position[song["content"]] < 1]
    named = {song["split"] for song in songs} - {None}
    shares = {"test": 0.0 if named else data.test_share, "validation": data.validation_share}
    if "validation" in named:
        shares["validation"] = 0.0
    movable = [song for song in songs if song["split"] in (None, "train")]
    for song in movable:
        u = position[song["content"]]
        if u < shares["test"]:
            song["split"] = "test"
        elif u < shares["test"] + shares["validation"]:
            song["split"] = "validation"
        else:
            song["split"] = "train"
    for split, share in shares.items():
        training = [song for song in movable if song["split"] == "train"]
        empty = not any(song["split"] == split for song in songs)
        if share > 0 and empty and len({song["content"] for song in training}) > 1:
            nearest = min(training, key=lambda song: position[song["content"]])["content"]
            for song in training:
                if song["content"] == nearest:
                    song["split"] = split
    return songs, spare


def fingerprint(data, files: Iterable[SongFile]) -> str:
    """Hex digest of all that decides a corpus: encoder, settings, and each file's name, size, time
    of change, and split if its source gives one.
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
        "files": [(f.name, *state(f.path), f.metadata.get("split")) for f in files],
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
    path = root / fingerprint(data, _files(data))[:24]
    if not path.is_dir():
        encoded = encode_corpus(data)
        print(describe(encoded))
        encoded.save(path)
    return Corpus.load(path)


def describe(encoded: Corpus) -> str:
    """Lines for people: what came in, what was left out, what is there."""
    counts = encoded.manifest["counts"]
    splits = ", ".join(f"{len(encoded.split(split))} {split}" for split in corpus.SPLITS)
    songs = f"{counts['songs']} songs of {counts['files']} files ({splits})"
    if encoded.vocabulary:
        lines = [
            f"{songs}, {counts['tokens']} tokens of {counts['types']} types "
            f"({counts['types_in_training']} in the training songs)",
            f"clipped by the next onset: {encoded.manifest['clipped_share']:.1%} of the notes' "
            f"time; rests cut: {counts['rests_cut']}",
        ]
    else:
        lines = [f"{songs}, {counts['steps']} steps"]
        if counts["outside"]:
            lines.append(
                f"{counts['outside']} of {counts['notes']} notes are lower or higher than the "
                "matrix and left out"
            )
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
