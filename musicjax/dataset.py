"""Batches of examples from a corpus, as a grain iterator that can save and restore its place.

An example never crosses songs. Of tokens it is a window: W tokens and the one that follows. Of note
states it is a segment: W steps and the one before. grain streams whole batches: each is one gather
from the memory-mapped array, in an order drawn anew for each epoch from the seed.
"""

from collections.abc import Iterator

import grain
import numpy as np

from musicjax import note_state
from musicjax.corpus import Corpus
from musicjax.errors import InputError
from musicjax.note_state import Bars


class Windows:
    """All windows of tokens of a split, by number: W tokens read and the one to predict.

    Attributes:
        window: W.
        per_epoch: how many of them an epoch takes.
        short_songs: songs left out, because they have no window.
    """

    def __init__(self, corpus: Corpus, split: str, window: int, pad: bool, stride: int = 1):
        """Indexes the windows.

        Args:
            corpus: encoded songs.
            split: "train", "validation" or "test".
            window: W > 0.
            pad: windows may begin before their song; what is missing there is id 0. So every
                token of every song is predicted once. Without it a song of n tokens has n - W
                windows.
            stride: an epoch takes every stride-th window, and the next epoch those beside them.
        Raises:
            InputError: the split has no song, or no window.
        """
        songs = _songs(corpus, split)
        self.window = window
        self._stride = stride
        self._data = corpus.data
        self._size = corpus.vocabulary.size if corpus.vocabulary else 0
        offsets = np.array([song["offset"] for song in songs], np.int64)
        lengths = np.array([song["length"] for song in songs], np.int64)
        counts = lengths if pad else np.maximum(lengths - window, 0)
        self.short_songs = int((counts == 0).sum())
        if not counts.sum():
            raise InputError(
                f"no window in the {split} split: its longest song has {lengths.max()} tokens, a "
                f"window and the next token take {window + 1}; lower train.window or set train.pad"
            )
        self._ends = np.cumsum(counts)
        self._song_start = offsets
        # Position in `data` of the token that the song's first window predicts.
        self._first_target = offsets if pad else offsets + window
        self._first_number = self._ends - counts
        self.per_epoch = max(len(self) // stride, 1)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        """int32 [windows, W + 1]: ids; 0 for tokens unseen in training and before the song."""
        song = np.searchsorted(self._ends, numbers, side="right")
        target = self._first_target[song] + numbers - self._first_number[song]
        positions = target[:, None] + np.arange(-self.window, 1)
        inside = positions >= self._song_start[song][:, None]
        ids = self._data[np.where(inside, positions, 0)]
        return np.where(inside & (ids < self._size), ids, 0).astype(np.int32)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """int [per_epoch]: the windows that an epoch takes, shuffled."""
        numbers = (np.arange(self.per_epoch) * self._stride + epoch % self._stride) % len(self)
        return np.random.default_rng([seed, epoch]).permutation(numbers)

    def batch(self, numbers: np.ndarray, rng: np.random.Generator | None) -> dict[str, np.ndarray]:
        """tokens: int32 [B, W + 1]."""
        return {"tokens": self[numbers]}


class Segments:
    """All segments of note states of a split, by number: W steps, and the one before them.

    Attributes:
        window: W.
        per_epoch: how many of them an epoch takes.
        short_songs: songs shorter than W: left out, or padded.
    """

    def __init__(self, corpus: Corpus, split: str, train, *, training: bool):
        """Indexes the segments.

        Args:
            corpus: encoded songs.
            split: "train", "validation" or "test".
            train: `config.train`; its fields window, starts, per_song, shuffle, short_songs and
                transpose_range are explained in configs/nsm.py.
            training: an epoch takes train.per_song segments of each song, from starts drawn for
                it. Otherwise all are as they come: a song's first segment if train.starts is
                "beginning", else its segments one after another, the last one padded.
        Raises:
            InputError: the split has no song, or none as long as a segment.
        """
        self.window = window = train.window
        self._data = corpus.data
        self._step = note_state.step_shape(corpus.manifest["settings"])
        self._shuffle = train.shuffle
        self._transpose_range = tuple(train.transpose_range) if training else (0, 0)
        songs = _songs(corpus, split)
        short = [song for song in songs if song["length"] < window]
        self.short_songs = len(short)
        if train.short_songs == "leave_out":
            songs = [song for song in songs if song["length"] >= window]
        if not songs:
            longest = max(song["length"] for song in short)
            raise InputError(
                f"no segment in the {split} split: its longest song has {longest} steps, a segment "
                f"takes {window}; lower train.window or set train.short_songs=pad"
            )
        starts = [_starts(song, window, train.starts, training) for song in songs]
        self._songs = songs
        self._song = np.repeat(np.arange(len(songs)), [len(s) for s in starts])
        self._start = np.concatenate(starts)
        self._counts = np.array([len(s) for s in starts])
        self._first = np.cumsum(self._counts) - self._counts
        self._per_song = train.per_song
        self.per_epoch = len(songs) * train.per_song if training else len(self)

    def __len__(self) -> int:
        return len(self._start)

    def place(self, number: int) -> tuple[dict, int, int]:
        """A segment's song, its first step there, and the one after its last."""
        song, start = self._songs[self._song[number]], int(self._start[number])
        return song, start, min(start + self.window, song["length"])

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """int [per_epoch]: segments of each song; shuffled if train.shuffle is set."""
        rng = np.random.default_rng([seed, epoch])
        first, counts = (np.repeat(x, self._per_song) for x in (self._first, self._counts))
        numbers = first + rng.integers(counts)
        return rng.permutation(numbers) if self._shuffle else numbers

    def batch(self, numbers: np.ndarray, rng: np.random.Generator | None) -> dict[str, np.ndarray]:
        """Segments.

        Args:
            numbers: int [B].
            rng: for the transpositions.
        Returns:
            states: uint8 [B, W + 1, N, C], the first step the one before the segment, silence
            before and after the song; beat: int32 [B, W + 1], positions in the bar; length: int32
            [B], steps of the segment that are the song's.
        """
        states = np.zeros((len(numbers), self.window + 1, *self._step), np.uint8)
        beat = np.zeros(states.shape[:2], np.int32)
        length = np.zeros(len(numbers), np.int32)
        for row, number in enumerate(numbers):
            song, start, stop = self.place(number)
            before = max(start - 1, 0)
            packed = self._data[song["offset"] + before : song["offset"] + stop]
            steps = note_state.unpack(np.asarray(packed), *self._step)
            place = 1 - (start - before)
            states[row, place : place + len(steps)] = steps
            beat[row] = note_state.beat_positions(bars_of(song), start - 1, start + self.window)
            length[row] = stop - start
        low, high = self._transpose_range
        if rng is not None and (low, high) != (0, 0):
            for row, semitones in enumerate(rng.integers(low, high + 1, len(numbers))):
                states[row] = _transposed(states[row], int(semitones))
        return {"states": states, "beat": beat, "length": length}


def _starts(song: dict, window: int, starts: str, training: bool) -> np.ndarray:
    """Steps at which a song's segments may begin."""
    if starts == "beginning":
        return np.zeros(1, np.int64)
    return bar_lines(song, window) if training else np.arange(0, song["length"], window)


def bars_of(song: dict) -> list[Bars]:
    """The stretches of one meter of a corpus's song."""
    return [Bars(*bar) for bar in song["bars"]]


def bar_lines(song: dict, window: int) -> np.ndarray:
    """Steps at which a song's bars begin (or four quarters, of shorter ones), if `window` steps
    follow; the first of all if they never do.
    """
    bars = bars_of(song)
    ends = [*(bar.step for bar in bars[1:]), song["length"]]
    lines = [
        np.arange(bar.step, end, note_state.phrase_length(bar))
        for bar, end in zip(bars, ends, strict=True)
    ]
    lines = np.concatenate(lines)
    fitting = lines[lines + window <= song["length"]]
    return fitting if len(fitting) else lines[:1]


def _transposed(states: np.ndarray, semitones: int) -> np.ndarray:
    """Moved along the notes; silence comes in, what leaves the matrix is lost. [T, N, C]."""
    moved, n = np.zeros_like(states), states.shape[1]
    up, down = max(semitones, 0), max(-semitones, 0)
    moved[:, up : n - down] = states[:, down : n - up]
    return moved


def _songs(corpus: Corpus, split: str) -> list[dict]:
    songs = corpus.split(split)
    if not songs:
        raise InputError(
            f"the {split} split is empty: the corpus has {len(corpus.songs)} songs; "
            f"add songs or raise data.{split}_share"
        )
    return songs


Examples = Windows | Segments


def examples(corpus: Corpus, split: str, train, *, training: bool = False) -> Examples:
    """The windows or segments of a split, as the corpus is encoded.

    Args:
        corpus: encoded songs.
        split: "train", "validation" or "test".
        train: `config.train`.
        training: to train on, rather than to measure.
    Raises:
        InputError: there is none.
    """
    if corpus.vocabulary:
        return Windows(corpus, split, train.window, train.pad, train.stride)
    return Segments(corpus, split, train, training=training)


def batches_per_epoch(source: Examples, batch_size: int) -> int:
    """Batches of an epoch; the last may be part empty."""
    return -(-source.per_epoch // batch_size)


def training_batches(
    source: Examples, *, batch_size: int, seed: int, epochs: int
) -> grain.DatasetIterator:
    """The batches of `epochs` epochs, each in its own order.

    Each is what `source.batch` gives, with present: float32 [B], 0 where the epoch's last batch had
    no example left. `get_state` and `set_state` keep the place; close() it at the end.
    """
    per_epoch = batches_per_epoch(source, batch_size)
    order: dict[int, np.ndarray] = {}  # of the epoch at hand alone

    def gather(number: int) -> dict[str, np.ndarray]:
        epoch, batch = divmod(number, per_epoch)
        if epoch not in order:
            order.clear()
            order[epoch] = source.order(seed, epoch)
        numbers = order[epoch][batch * batch_size :][:batch_size]
        return _batch(source, numbers, batch_size, np.random.default_rng([seed, epoch, batch]))

    dataset = grain.MapDataset.range(per_epoch * epochs).map(gather)
    # Threads would race for `order`, and a gather takes far less than a training step.
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=1)))


def ordered_batches(source: Examples, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """All examples once, in order, in batches like those of training_batches."""
    for start in range(0, len(source), batch_size):
        numbers = np.arange(start, min(start + batch_size, len(source)))
        yield _batch(source, numbers, batch_size, None)


def _batch(
    source: Examples, numbers: np.ndarray, batch_size: int, rng: np.random.Generator | None
) -> dict[str, np.ndarray]:
    missing = batch_size - len(numbers)
    batch = source.batch(numbers, rng) | {"present": np.ones(len(numbers), np.float32)}
    if not missing:  # np.pad takes as long as the rest
        return batch
    return {
        name: np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
        for name, array in batch.items()
    }
