"""Generated pieces of music: made by the model of a work dir, written as files."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from musicjax.config import settings_of
from musicjax.corpus.store import Corpus, Manifest
from musicjax.encodings.base import Encoding
from musicjax.errors import InputError
from musicjax.evaluation import metrics, novelty
from musicjax.evaluation.metrics import Passage
from musicjax.generation import infill, particles
from musicjax.generation import primes as priming
from musicjax.generation.loop import continue_primes
from musicjax.generation.options import Options, rules_for
from musicjax.generation.primes import Prime
from musicjax.music import midi, notation
from musicjax.music.key import parse_key
from musicjax.music.midi import Music
from musicjax.music.song import Song, Tempo, Track
from musicjax.music.track_selection import parse_program
from musicjax.rendering.audio import AudioSettings, write_audio
from musicjax.rendering.piano_roll import COLOURS, plot_piano_roll
from musicjax.system import files
from musicjax.training import compilation_cache, workdir
from musicjax.training.dataset import Examples
from musicjax.training.settings import ExampleSettings
from musicjax.training.workdir import Trained

_MOST_DRAWS = 10  # of a piece, that it may copy less
_LENGTH_MULTIPLE = 64  # lengths are rounded up to one, so that few compile anew


class Piece(NamedTuple):
    """A generated piece.

    Attributes:
        song: the prime's tracks (if wanted) and the generated ones.
        seed: it was drawn by; the same seed and prime give the same piece.
        prime: what it goes on from.
        passage: the generated part alone, in the key of training.
        metrics: of the passage, by name, as in musicjax.evaluation.metrics.
        text: of its elements.
        draws: how many times it was drawn, until it shared no more than options.max_copy.
        ended: whether its model ended it, before it was as long as was asked for.
        place: of the music beside its prime, "after" or "in" it.
    """

    song: Song
    seed: int
    prime: Prime
    passage: Passage
    metrics: dict[str, float]
    text: str
    draws: int = 1
    ended: bool = False
    place: str = "after"


def generate(
    folder: str | Path, options: Options | None = None, *, prime: Music | None = None
) -> list[Piece]:
    """Generates pieces with the model of a work dir.

    Args:
        folder: of a run of musicjax.train.
        options: what to generate.
        prime: music whose end is continued, where it is no file (that is options.prime).
    Raises:
        InputError: no such work dir, or options or a prime that do not fit its model.
    """
    options = options or Options()
    files.expect_workdir(folder)
    song = prime if prime is not None else options.prime
    song = None if song is None else midi.as_song(song)
    compilation_cache.enable()
    trained = workdir.load_trained(folder, options.checkpoint)
    encoding = trained.model.encoding
    options.check_effect(encoding)
    if options.program and encoding.keeps_instruments:
        raise InputError(
            f"program is {options.program!r}, but the model gives each note its instrument; leave "
            "it out"
        )
    corpus = workdir.load_songs(folder)
    if options.asks:
        return fill_in(trained, corpus, song, options)
    if options.mode == "predict":
        return predict(trained, corpus, song, options)
    pieces = continue_songs(trained, corpus, song, options)
    if options.max_copy is None:
        return pieces
    index = novelty.index_of(corpus, Path(folder) / "novelty")

    def copies(piece: Piece) -> bool:
        return novelty.longest_match(index, piece.passage).distinct > (options.max_copy or 0)

    for draw in range(2, _MOST_DRAWS + 2):
        copied = list(map(copies, pieces))
        if not any(copied):
            return pieces
        if draw > _MOST_DRAWS:
            break
        again = continue_songs(trained, corpus, song, options, draw=draw)
        pieces = [
            new._replace(draws=draw) if is_copy else old
            for old, new, is_copy in zip(pieces, again, copied, strict=True)
        ]
    raise InputError(
        f"max_copy is {options.max_copy}, but after {_MOST_DRAWS} draws a piece still shares more "
        "with a training song; allow more, raise --temperature, or give another --prime"
    )


def continue_songs(
    trained: Trained, corpus: Corpus, song: Song | None, options: Options, *, draw: int = 1
) -> list[Piece]:
    """Pieces that go on from a song's end, or else from parts of test songs.

    Args:
        trained: a model; its class weights are taken out if the options say so.
        corpus: of its work dir.
        song: prime, or None.
        options: what to generate.
        draw: another number makes other pieces of the same primes.
    Raises:
        InputError: a prime or a length that does not fit the model.
    """
    model, encoding, seeds = trained.model, trained.model.encoding, _seeds(options)
    prime_length, length = model.plan(options.prime_length, options.length)
    if song:
        data = trained.config.data
        is_drum = corpus.manifest["is_drum"]
        prime = priming.prime_from_song(song, model, data, options, prime_length, is_drum)
        primes = [prime] * options.num
    else:
        settings = settings_of(ExampleSettings, trained.config.train, "train")
        primes = [
            priming.prime_from_corpus(corpus, model, settings, prime_length, seed, options)
            for seed in seeds
        ]
    qpm = [options.tempo or prime.qpm for prime in primes]
    units = [2**31 - 1] * options.num
    if options.seconds:
        units = [_units(options.seconds, each, encoding) for each in qpm]
        _, length = model.plan(prime_length, max(units) * encoding.most_per_unit)
    elements = priming.stack(primes, encoding)
    longest = -(-length // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE
    keys = jax.vmap(jax.random.key)(np.array(seeds))
    if draw > 1:
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, draw)
    made, count = continue_primes(
        model,
        model.unweighted(trained.params) if options.unweight else trained.params,
        elements,
        *priming.positions(primes, elements.shape[1], model),
        keys,
        options.sampling_settings(encoding, corpus.most_at_once),
        length,
        np.minimum(np.array(units, np.int64) * encoding.streams + encoding.lead, 2**31 - 1).astype(
            np.int32
        ),
        rules=rules_for(encoding.kind),
        length=longest,
    )
    return [
        _piece(
            _finished(np.asarray(made[i, : int(count)]), encoding),
            encoding,
            corpus.manifest,
            primes[i],
            seeds[i],
            options,
            units=units[i] if options.seconds else None,
            names=("prime", "generated"),
        )
        for i in range(options.num)
    ]


def fill_in(trained: Trained, corpus: Corpus, song: Song | None, options: Options) -> list[Piece]:
    """Pieces in which some of a song is given, and the rest is made.

    Args:
        trained: a model.
        corpus: of its work dir.
        song: prime.
        options: with `infill`, `keep` or both.
    Raises:
        InputError: no song, or as infill.task_of.
    """
    if song is None:
        raise InputError(f"{options.asks} needs a song to fill in; give it by --prime=FILE")
    model, encoding, manifest = trained.model, trained.model.encoding, corpus.manifest
    task = infill.task_of(song, model, trained.config.data, options, manifest["is_drum"])
    prime, gap = task
    pieces = []
    for seed in _seeds(options):
        elements = particles.fill(
            model,
            model.unweighted(trained.params) if options.unweight else trained.params,
            gap,
            jax.random.key(seed),
            options.sampling_settings(encoding, corpus.most_at_once),
            rules=rules_for(encoding.kind),
            particles=options.particles,
            sweeps=options.sweeps,
            voices=options.voices,
        )
        made = (gap.allowed.sum(-1) > 1) & (elements[..., 0] > gap.elements[..., 0])
        voice = _voice(prime, manifest, options)
        tracks = encoding.decode_apart(elements, made, ("given", "generated"), **voice)
        whole = _song(tracks, 0, elements, encoding, prime, options)
        kept = whole if options.include_prime else dataclasses.replace(whole, tracks=(tracks[1],))
        passage = Passage(whole, encoding.length(elements), elements, encoding.element)
        pieces.append(
            Piece(
                kept.transposed(_semitones(prime, options)),
                seed,
                prime,
                passage,
                metrics.measure(passage),
                encoding.text(elements),
                place="in",
            )
        )
    return pieces


def predict(trained: Trained, corpus: Corpus, song: Song | None, options: Options) -> list[Piece]:
    """The paper's output: each element of a song as the model expects it, knowing those before.

    Args and errors are those of `continue_songs`.
    """
    model, encoding, window = trained.model, trained.model.encoding, trained.model.window
    if song:
        data, is_drum = trained.config.data, corpus.manifest["is_drum"]
        whole = priming.prime_from_song(song, model, data, options, None, is_drum)
        start = whole.elements[:window]
        padding = [(1, window - len(start)), *[(0, 0)] * len(encoding.shape)]
        passages = [whole._replace(elements=start, heard=start, start=0)]
        batches = [
            {
                "elements": np.pad(start, padding)[None],
                "positions": encoding.positions(whole.layout, -1, window)[None],
            }
        ]
    else:
        settings = settings_of(ExampleSettings, trained.config.train, "train")
        examples = Examples(corpus, "test", model, settings, training=False)
        numbers = (options.seed + np.arange(options.num)) % len(examples)
        passages = [priming.passage_of(corpus, *examples.place(n)) for n in numbers.tolist()]
        batches = [
            examples.gather(examples.data, examples.locate(numbers[i : i + 1]))
            for i in range(len(numbers))
        ]
    expected = jax.jit(model.predict)
    return [
        _piece(
            np.asarray(expected(trained.params, batch)[0])[: len(passage.elements)],
            encoding,
            corpus.manifest,
            passage,
            options.seed + i,
            options,
            names=("song", "predicted"),
            together=True,
        )
        for i, (passage, batch) in enumerate(zip(passages, batches, strict=True))
    ]


def _seeds(options: Options) -> list[int]:
    return list(range(options.seed, options.seed + options.num))


def _finished(elements: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Elements until a song ends, or else until the last chord that is surely whole."""
    is_end = encoding.is_end(elements)
    return elements[: int(is_end.argmax()) + 1] if is_end.any() else encoding.whole(elements)


def _units(seconds: float, qpm: float, encoding: Encoding) -> int:
    return int(np.ceil(seconds / 60 * qpm * encoding.units_per_quarter))


def _piece(
    elements: np.ndarray,
    encoding: Encoding,
    manifest: Manifest,
    prime: Prime,
    seed: int,
    options: Options,
    *,
    names: tuple[str, str],
    units: int | None = None,
    together: bool = False,
) -> Piece:
    """A piece of generated elements; `together` puts them beside the prime, not after it."""
    voice = _voice(prime, manifest, options)
    both, heard = elements, 0
    if not together:
        both = np.concatenate([prime.heard, elements])
        elements, heard = encoding.resumed(elements, prime.heard)
    if units is not None:
        elements = elements[encoding.onsets(elements) < units]
    length = encoding.length(elements)
    length = length if units is None else min(length, units)

    def song(tracks: list[Track], start: int, elements: np.ndarray) -> Song:
        return _song(tracks, start, elements, encoding, prime, options)

    alone = song(encoding.decode(elements, units=units, name=names[1], **voice), heard, elements)
    whole = alone
    if options.include_prime:
        before = encoding.decode(prime.heard, name=names[0], **voice)
        after = encoding.decode(elements, start=heard, units=units, name=names[1], **voice)
        whole = song(before + after, 0, both)
    passage = Passage(alone, length, elements, encoding.element)
    return Piece(
        whole.transposed(_semitones(prime, options)),
        seed,
        prime,
        passage,
        metrics.measure(passage),
        encoding.text(elements),
        ended=bool(encoding.is_end(elements).any()),
    )


def _voice(prime: Prime, manifest: Manifest, options: Options) -> dict[str, Any]:
    """What notes are played by."""
    return {
        "program": parse_program(options.program) if options.program else manifest["program"],
        "is_drum": manifest["is_drum"],
        "velocity": options.velocity or prime.velocity,
    }


def _semitones(prime: Prime, options: Options) -> int:
    """By which what is written is moved."""
    if options.key and prime.key:
        return prime.key.semitones_to(parse_key(options.key))
    return -prime.semitones


def _song(
    tracks: list[Track],
    start: int,
    elements: np.ndarray,
    encoding: Encoding,
    prime: Prime,
    options: Options,
) -> Song:
    """Of tracks whose tick 0 is unit `start` of the prime, and of their elements."""
    return Song(
        tuple(track for track in tracks if len(track)),
        encoding.units_per_quarter,
        meters=encoding.meters(prime.layout, prime.start + start, elements),
        tempos=encoding.tempos_of(elements) or (Tempo(0, options.tempo or prime.qpm),),
        keys=(prime.key.signature,) if prime.key else (),
    )


def describe(piece: Piece) -> str:
    """A line about a piece."""
    figures = metrics.describe(piece.metrics, piece.passage.element)
    more = "; ends by itself" if piece.ended else ""
    more += f"; drawn {piece.draws} times" if piece.draws > 1 else ""
    return f"seed {piece.seed}: {figures}; {piece.place} {piece.prime.name}{more}"


def write_pieces(
    pieces: list[Piece],
    output: str | Path,
    *,
    text: bool = False,
    audio: str | None = None,
    score: str | None = None,
    sound: AudioSettings | None = None,
) -> list[Path]:
    """Writes seed_<n>.mid and .png for each piece; what is there from an earlier call stays, and
    the new gets another name, such as seed_0-2.mid.

    Args:
        pieces: as generate returns them.
        output: folder.
        text: write the elements too, as .txt.
        audio: write sound too: "wav", "mp3", "ogg" or "flac"; of silent pieces there is none.
        score: write a score too: "musicxml" or "abc"; of silent pieces there is none.
        sound: how audio sounds.
    Returns:
        the MIDI files' paths.
    Raises:
        InputError: a format that is not known, or cannot be written here.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    paths = []
    for piece in pieces:
        path = _new_path(output, f"seed_{piece.seed}")
        midi.write_song(piece.song, path)
        title = f"seed {piece.seed}, {piece.place} {piece.prime.name}"
        colours = COLOURS[:2][-len(piece.song.tracks) :]  # the same for the music, prime or not
        plot_piano_roll(piece.song, path.with_suffix(".png"), title=title, colours=colours)
        if text:
            files.write_text(path.with_suffix(".txt"), piece.text + "\n")
        if audio and piece.song.num_notes:
            write_audio(piece.song, path.with_suffix(f".{audio}"), sound)
        if score and piece.song.num_notes:
            voices = notation.in_voices(piece.song)  # prime and continuation as one
            notation.write_score(voices, path.with_suffix(f".{score}"), title=title)
        paths.append(path)
    return paths


def _new_path(folder: Path, name: str) -> Path:
    """A path of a MIDI file that is not there, nor others of its name."""
    names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    taken = {path.stem for path in folder.iterdir()}
    return folder / f"{next(name for name in names if name not in taken)}.mid"
