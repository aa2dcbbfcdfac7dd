"""Batches of examples from a corpus, as a grain iterator that can save and restore its place.

An example never crosses songs. Of tokens it is a window: W tokens and the one that follows. Of note
states it is a segment: W steps and the one before. grain streams whole batches, in an order drawn
anew for each epoch from the seed. Each is one gather from the encoded songs: from the memory-mapped
file; or, where they fit on the devices, grain streams the batches' places alone, and the compiled
step gathers. `read` does either, by numpy or jax.
"""

from collections.abc import Iterator
from typing import Any

import grain
import numpy as np

from musicjax import note_state
from musicjax.corpus import Corpus
from musicjax.errors import InputError
from musicjax.note_state import Bars

Arrays = dict[str, Any]  # of numpy or jax


class Windows:
    """All windows of tokens of a split, by number: W tokens read and the one to predict.

    Attributes:
        data: of the corpus.
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
        self.data = corpus.data
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

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """int [per_epoch]: the windows that an epoch takes, shuffled."""
        numbers = (np.arange(self.per_epoch) * self._stride + epoch % self._stride) % len(self)
        return np.random.default_rng([seed, epoch]).permutation(numbers)

    def places(self, numbers: np.ndarray, rng: np.random.Generator | None = None) -> Arrays:
        """Where windows lie in `data`: target and first, int [B], of the last token and the song's
        first.
        """
        song = np.searchsorted(self._ends, numbers, side="right")
        target = self._first_target[song] + numbers - self._first_number[song]
        return {"target": target, "first": self._song_start[song]}

    def read(self, data, places: Arrays) -> Arrays:
        """Windows.

        Args:
            data: of the corpus, of numpy or jax.
            places: what `places` gives. What else is there is given back as it is.
        Returns:
            tokens: int32 [B, W + 1], ids; 0 for tokens unseen in training and before the song.
        """
        xp, rest = data.__array_namespace__(), dict(places)
        positions = rest.pop("target")[:, None] + xp.arange(-self.window, 1)
        inside = positions >= rest.pop("first")[:, None]
        ids = data[xp.where(inside, positions, 0)]
        return {"tokens": xp.where(inside & (ids < self._size), ids, 0).astype(xp.int32), **rest}


class Segments:
    """All segments of note states of a split, by number: W steps, and the one before them.

    Attributes:
        data: of the corpus.
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
        self.data = corpus.data
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

    def places(self, numbers: np.ndarray, rng: np.random.Generator | None = None) -> Arrays:
        """Where segments lie.

        Args:
            numbers: int [B].
            rng: for the transpositions.
        Returns:
            first: int [B], the segment's first step in `data`; begins: bool [B], whether it is the
            song's; length: int32 [B], steps of the segment that are the song's; beat: int32
            [B, W + 1], positions in the bar, from the step before on; semitones: int32 [B], up, if
            train.transpose_range is set.
        """
        at = [self.place(number) for number in numbers]
        places = {
            "first": np.array([song["offset"] + start for song, start, _ in at]),
            "begins": np.array([start == 0 for _, start, _ in at]),
            "length": np.array([stop - start for _, start, stop in at], np.int32),
            "beat": np.stack(
                [
                    note_state.beat_positions(bars_of(song), start - 1, start + self.window)
                    for song, start, _ in at
                ]
            ),
        }
        low, high = self._transpose_range
        if rng is not None and (low, high) != (0, 0):
            places["semitones"] = rng.integers(low, high + 1, len(numbers)).astype(np.int32)
        return places

    def read(self, data, places: Arrays) -> Arrays:
        """Segments.

        Args:
            data: of the corpus, of numpy or jax.
            places: what `places` gives. What else is there is given back as it is.
        Returns:
            states: uint8 [B, W + 1, N, C], the first step the one before the segment, silence
            before and after the song; beat and length, as in `places`.
        """
        xp, rest = data.__array_namespace__(), dict(places)
        steps = xp.arange(-1, self.window)
        inside = steps < rest["length"][:, None]
        inside &= (steps >= 0) | ~rest.pop("begins")[:, None]
        packed = data[xp.where(inside, rest.pop("first")[:, None] + steps, 0)]
        packed = xp.where(inside[..., None], packed, xp.zeros_like(packed))
        states = note_state.unpack(packed, *self._step)
        if "semitones" in rest:
            states = _transposed(states, rest.pop("semitones"), xp)
        return {"states": states, **rest}


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


def _transposed(states, semitones, xp):
    """Moved along the notes; silence comes in, what leaves the matrix is lost. [B, T, N, C]."""
    notes = states.shape[2]
    source = xp.arange(notes) - semitones[:, None]
    there = ((source >= 0) & (source < notes))[:, None, :, None]
    moved = xp.take_along_axis(states, xp.clip(source, 0, notes - 1)[:, None, :, None], axis=2)
    return xp.where(there, moved, xp.zeros_like(moved))


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
    source: Examples, *, batch_size: int, seed: int, epochs: int, unread: bool = False
) -> grain.DatasetIterator:
    """The batches of `epochs` epochs, each in its own order.

    Each is what `source.read` gives, with present: float32 [B], 0 where the epoch's last batch had
    no example left; or, `unread`, what `source.read` takes, with the same. `get_state` and
    `set_state` keep the place; close() it at the end.
    """
    per_epoch = batches_per_epoch(source, batch_size)
    order: dict[int, np.ndarray] = {}  # of the epoch at hand alone

    def gather(number: int) -> dict[str, np.ndarray]:
        epoch, batch = divmod(number, per_epoch)
        if epoch not in order:
            order.clear()
            order[epoch] = source.order(seed, epoch)
        numbers = order[epoch][batch * batch_size :][:batch_size]
        rng = np.random.default_rng([seed, epoch, batch])
        return _batch(source, numbers, batch_size, rng, unread)

    dataset = grain.MapDataset.range(per_epoch * epochs).map(gather)
    # Threads would race for `order`, and a gather takes far less than a training step.
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=1)))


def ordered_batches(source: Examples, batch_size: int, unread: bool = False) -> Iterator[Arrays]:
    """All examples once, in order, in batches like those of training_batches."""
    for start in range(0, len(source), batch_size):
        numbers = np.arange(start, min(start + batch_size, len(source)))
        yield _batch(source, numbers, batch_size, None, unread)


def _batch(
    source: Examples,
    numbers: np.ndarray,
    batch_size: int,
    rng: np.random.Generator | None,
    unread: bool,
) -> Arrays:
    missing = batch_size - len(numbers)
    places = source.places(numbers, rng) | {"present": np.ones(len(numbers), np.float32)}
    if missing:  # np.pad takes as long as the rest
        places = {
            name: np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
            for name, array in places.items()
        }
    if not unread:
        return source.read(source.data, places)
    # As jax counts, which is enough for all that fits on a device.
    return {name: x.astype(np.int32) if x.dtype == np.int64 else x for name, x in places.items()}
