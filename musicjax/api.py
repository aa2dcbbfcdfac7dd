"""The Python API: what `import musicjax` gives.

    import musicjax

    config = musicjax.get_config("vocab:quick", **{"data.source": "/my/midi", "train.epochs": 5})
    run = musicjax.train(config, "runs/mine")
    pieces = run.generate(num=4, temperature=0.9)
    musicjax.write_song(pieces[0].song, "piece.mid")

The command lines call the same functions.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from musicjax import readymade
from musicjax.config import CHECKPOINT, Config, expect
from musicjax.config_file import get_config
from musicjax.corpus import build, preprocess
from musicjax.corpus.preprocess import Preprocessing
from musicjax.corpus.store import Corpus, SongRecord
from musicjax.encodings import make_encoding
from musicjax.encodings.base import EncodedPrime, Encoding, ShardSong
from musicjax.errors import InputError, SongError
from musicjax.generation.options import Options, options_class
from musicjax.music.midi import (
    Music,
    as_song,
    read_song,
    song_from_pretty_midi,
    song_from_symusic,
    song_to_pretty_midi,
    song_to_symusic,
    write_song,
)
from musicjax.music.song import KeySignature, Meter, Song, Tempo, Track
from musicjax.sources import Source
from musicjax.training.run import train_and_evaluate

if TYPE_CHECKING:  # they import jax, which takes seconds
    from musicjax.evaluation.scores import Results
    from musicjax.generation.piece import Piece
    from musicjax.models.base import Model, Params
    from musicjax.training.trainer import Callback
    from musicjax.training.workdir import Trained

__all__ = [
    "Corpus",
    "Encoding",
    "InputError",
    "KeySignature",
    "Meter",
    "Options",
    "Run",
    "Song",
    "SongError",
    "SongRecord",
    "Tempo",
    "Track",
    "decode_song",
    "encode",
    "encode_song",
    "get_config",
    "get_encoding",
    "load",
    "load_corpus",
    "prepare_song",
    "read_song",
    "song_from_pretty_midi",
    "song_from_symusic",
    "song_to_pretty_midi",
    "song_to_symusic",
    "train",
    "write_pieces",
    "write_song",
]


# --- songs and arrays --------------------------------------------------------------------------


def prepare_song(song: Music, config: Config) -> Song:
    """What training would make of a song: the part that `config.data` asks for, on the grid, in one
    key. Without notes if the song lacks the part.

    Args:
        song: a Song, a pretty_midi.PrettyMIDI, a symusic.Score, or the path of a MIDI file.
        config: of get_config.
    Raises:
        InputError: a file that cannot be read, or a setting that is not allowed.
    """
    data = dict(config.data)
    if data["track"] == "default":  # what it means, a source says; a song alone has none
        data["track"] = Source.default_track
    return preprocess.prepare(as_song(song), Preprocessing.from_config(data)).song


def get_encoding(config: Config, songs: Iterable[Music] = ()) -> Encoding:
    """The encoding of a config, such as `get_encoding(get_config("events"))`.

    Args:
        config: of get_config; `config.data` says which encoding, and its settings.
        songs: that make its vocabulary, if it needs one, as tokens do. The encoding of a corpus or
            of a run has that of its songs.
    Raises:
        InputError: a song that cannot be encoded, or a setting that is not allowed.
    """
    encoding = make_encoding(config.data)
    encoded = [encoding.encode(as_song(song)).elements for song in songs]
    if not encoded:
        return encoding
    rows, symbols = encoding.shard(encoded)
    stops = np.cumsum([len(elements) for elements in encoded])
    return encoding.fit(ShardSong(part, symbols, True) for part in np.split(rows, stops[:-1]))


def encode_song(song: Music, encoding: Encoding, *, unknown: str = "error") -> EncodedPrime:
    """A song as an array.

    Args:
        song: as for prepare_song. All of its tracks are encoded, merged unless the encoding keeps
            instruments apart; choose a part by prepare_song.
        encoding: of get_encoding, a corpus or a run.
        unknown: what becomes of tokens that are not in the vocabulary: "error", "nearest" (the most
            similar known), or "drop".
    Returns:
        an EncodedPrime: `elements` are int32 [T] of encodings of kind "ids", uint8 [T, N, C] of
        kind "matrix" (T elements, N notes, C bits); `layout` is where the song's bars are.
    Raises:
        InputError: the song cannot be read or encoded.
    """
    return encoding.prime(as_song(song), None, unknown)


def decode_song(
    elements: np.ndarray,
    encoding: Encoding,
    *,
    layout: Mapping[str, Any] | None = None,
    tempo: float = 120.0,
) -> Song:
    """The song of an array.

    Args:
        elements: as of encode_song.
        encoding: by which it was encoded.
        layout: where the bars are, as of encode_song, or of a corpus's song; None: not known.
        tempo: in quarter notes a minute, where the elements do not say it.
    Returns:
        a Song of `encoding.units_per_quarter` ticks to a quarter note.
    """
    return Song(
        tuple(track for track in encoding.decode(elements) if len(track)),
        encoding.units_per_quarter,
        meters=() if layout is None else encoding.meters(layout, 0, elements),
        tempos=encoding.tempos_of(elements) or (Tempo(0, tempo),),
    )


# --- collections -------------------------------------------------------------------------------


def encode(config: Config, folder: str | Path, *, workers: int | None = None) -> Corpus:
    """Encodes the songs of `config.data.source` as a corpus folder. Stopped, it goes on when it is
    called again. What comes out does not depend on the workers.

    Args:
        config: of get_config.
        folder: to write; must not exist.
        workers: processes; by default one a core; 0: none but this.
    Returns:
        the corpus, its data on disk. `corpus.songs` are SongRecords; `corpus.rows(song)` is a
        song's part of `corpus.data`, and `corpus.encoding.unpack` makes elements of it.
    Raises:
        InputError: no songs, a setting that is not allowed, or the folder exists.
    """
    plan = build.make_plan(config.data)
    if plan is None:
        raise InputError(
            f"data.source is {config.data.source!r}, a corpus folder: train on it as it is"
        )
    return build.encode_corpus(plan, folder, number_of_workers=workers)


def load_corpus(folder: str | Path) -> Corpus:
    """Opens a corpus folder, as of encode.

    Raises:
        InputError: not a corpus folder, of another version, or damaged.
    """
    return Corpus.load(folder)


# --- runs --------------------------------------------------------------------------------------


class Run:
    """A trained run: what a work dir holds. What takes time to load is loaded when it is asked for.

    Attributes:
        workdir: its folder.
        checkpoint: which of its checkpoints is used: "best", "last", or an epoch's.
        config: it was trained by.
    """

    def __init__(self, workdir: str | Path, checkpoint: str = "best"):
        """Opens a work dir.

        Raises:
            InputError: no work dir, or of another version.
        """
        from musicjax.training.workdir import load_config

        expect(CHECKPOINT.holds(checkpoint), "checkpoint", checkpoint, CHECKPOINT.expected)
        self.workdir, self.checkpoint = Path(workdir), checkpoint
        self.config: Config = load_config(workdir)[0]

    def __repr__(self) -> str:
        return f"Run({str(self.workdir)!r}, checkpoint={self.checkpoint!r})"

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The epochs so far, as in metrics.jsonl: epoch, train_loss, validation_loss, ..."""
        from musicjax.training.workdir import load_metrics

        return load_metrics(self.workdir)

    @property
    def step_losses(self) -> np.ndarray:
        """The training loss of each step so far, float32 [steps]."""
        from musicjax.training.workdir import load_step_losses

        return load_step_losses(self.workdir)

    @property
    def model(self) -> "Model":
        """The model; its functions take `params`."""
        return self._trained.model

    @property
    def params(self) -> "Params":
        """The model's parameters at the checkpoint: a pytree of jax arrays."""
        return self._trained.params

    @property
    def encoding(self) -> Encoding:
        """The encoding of its songs, with their vocabulary."""
        return self.model.encoding

    @functools.cached_property
    def corpus(self) -> Corpus:
        """The songs that it was trained on, and those that were held out."""
        from musicjax.training.workdir import load_songs

        return load_songs(self.workdir)

    @functools.cached_property
    def _trained(self) -> "Trained":
        from musicjax.training.workdir import load_trained

        return load_trained(self.workdir, self.checkpoint)

    def generate(self, *, prime: Music | None = None, **options: Any) -> "list[Piece]":
        """Makes music.

        Args:
            prime: music whose end is continued: a Song, a pretty_midi.PrettyMIDI, a symusic.Score
                or the path of a MIDI file; default: parts of test songs.
            **options: fields of Options, such as num=4, seconds=60, seed=0, temperature=0.9.
        Returns:
            Pieces; `piece.song` is a Song, `piece.metrics` says what it is like. write_pieces
            writes them as files.
        Raises:
            InputError: options or a prime that do not fit the model.
        """
        from musicjax.generation.piece import generate

        chosen = options_class()(checkpoint=self.checkpoint, **options)
        return generate(self.workdir, chosen, prime=prime)

    def evaluate(self, *, window: int | None = None) -> "Results":
        """The test songs' metrics of the model and of baselines, by name.

        Args:
            window: elements of an example; default: as trained.
        Raises:
            InputError: a window that does not fit the model.
        """
        from musicjax.evaluation.scores import evaluate

        return evaluate(self.workdir, checkpoint=self.checkpoint, window=window)

    def export(self, output: str | Path, **settings: Any) -> Path:
        """Writes it as a folder to share: weights, StableHLO programs, a model card. `load` opens
        that, too.

        Args:
            output: folder to write; must not exist.
            **settings: fields of ExportSettings, such as dtype="float16", songs=8.
        Returns:
            the folder.
        Raises:
            InputError: the output exists, or settings that do not fit.
        """
        from musicjax.training.exported import export
        from musicjax.training.settings import ExportSettings

        return export(self.workdir, output, ExportSettings(**settings), checkpoint=self.checkpoint)


def train(
    config: Config,
    workdir: str | Path,
    *,
    callbacks: "Sequence[Callback]" = (),
    coordinator: str = "",
    processes: int | None = None,
    process: int | None = None,
) -> Run:
    """Trains a model, and measures it beside the strongest simple baseline. The songs are encoded
    first, if that was not done before.

    Args:
        config: of get_config.
        workdir: folder of the run. If it holds a run of the same config, that goes on.
        callbacks: each is called as callback(metrics, params) after each epoch, when its line of
            metrics.jsonl and its checkpoint are saved. What it raises ends the training, and the
            same call goes on from there. The parameters are given to the next step: copy what is to
            be kept.
        coordinator: to train together with other processes, as musicjax.training.peers.joined
            takes it: the address of process 0, or "auto".
        processes: how many they are.
        process: the number of this one.
    Returns:
        the run, of which the best checkpoint is used.
    Raises:
        InputError: a config, songs, or a work dir that do not fit; or the loss became NaN.
        KeyboardInterrupt: stopped by SIGINT or SIGTERM; a checkpoint was saved.
    """
    train_and_evaluate(config, workdir, coordinator, processes, process, callbacks)
    from musicjax.evaluation import scores
    from musicjax.training import devices

    standing = scores.stand(workdir)
    if devices.is_first():
        print(standing.warning or standing)
    return Run(workdir)


def load(
    workdir: str | Path | None = None, checkpoint: str = "best", *, model: str | None = None
) -> Run:
    """Opens the work dir of a run.

    Args:
        workdir: of train, or of the command musicjax.train; or a folder of Run.export.
        checkpoint: "best" (lowest validation loss), "last", or one of train.keep_epochs, "10".
        model: in place of workdir, a model that comes with musicjax: "chorales".
    Raises:
        InputError: no work dir, or of another version; or no such model.
    """
    if (workdir is None) == (model is None):
        raise InputError(f"workdir is {workdir!r} and model is {model!r}; give one of the two")
    return Run(readymade.find(model) if model else Path(workdir or ""), checkpoint)


def write_pieces(
    pieces: "Sequence[Piece]", folder: str | Path, *, text: bool = False
) -> list[Path]:
    """Writes pieces as files: a MIDI file and a picture of each.

    Args:
        pieces: of Run.generate.
        folder: made if it does not exist.
        text: write their tokens or steps as text too.
    Returns:
        the MIDI files.
    """
    from musicjax.generation import piece

    return piece.write_pieces(list(pieces), folder, text=text)
