"""Batches of examples from a corpus, as a grain iterator that can save and restore its place.

An example is a window of W elements of one song, and the one before them: W + 1 in all; what would
be before or after the song is zeros. grain streams whole batches, in an order drawn anew for each
epoch from the seed. Each is one gather from the encoded songs: from the memory-mapped file; or,
where they fit on the devices, grain streams the examples' indices alone, and the compiled step
gathers. `gather` does either, by numpy or jax.
"""

from collections.abc import Iterator
from typing import Any

import grain
import numpy as np

from musicjax.corpus.store import Corpus, SongRecord
from musicjax.errors import InputError
from musicjax.models.base import Model
from musicjax.training.settings import ExampleSettings

Arrays = dict[str, Any]  # of numpy or jax
_MOST_MOVED = 256  # examples that are looked at, of what transposing loses


class Examples:
    """The examples of a split, by number.

    Attributes:
        data: rows of the corpus.
        per_epoch: how many an epoch takes.
        transpose_range: semitones down and up that examples are moved by.
        short_songs: songs without an example, or shorter than a window.
    """

    def __init__(
        self, corpus: Corpus, split: str, model: Model, settings: ExampleSettings, *, training: bool
    ):
        """Indexes the examples.

        Args:
            corpus: encoded songs.
            split: "train", "validation" or "test".
            model: for its window, and whether it may begin before the song.
            settings: which examples.
            training: to train on: what an epoch takes is drawn from the song's starts. Otherwise
                each is taken once: with starts "bars" or "tiles" the windows follow one another.
        Raises:
            InputError: the split has no song, or no example; or it cannot be transposed.
        """
        self.data = corpus.data
        self.window = window = (not training and settings.eval_window) or model.window
        if window != model.window and not model.any_window:
            raise InputError(
                f"examples of {window} are asked for, but the model has weights for {model.window} "
                f"and cannot be measured on others; expected {model.window} (train.eval_window=0)"
            )
        self._encoding, self._settings = corpus.encoding, settings
        self._reads_positions = model.reads_positions
        self.transpose_range = settings.transpose_range if training else (0, 0)
        if self.transpose_range != (0, 0):
            if corpus.manifest["is_drum"]:
                raise InputError(
                    f"train.transpose_range is {settings.transpose_range}; expected (0, 0) for "
                    "drums, whose pitches name instruments"
                )
            # An encoding that cannot be transposed says so now, before a work dir is made.
            no_elements = corpus.encoding.unpack(corpus.encoding.rows(0))[None]
            corpus.encoding.transposed(no_elements, np.zeros(1, np.int32))
        songs = corpus.split(split)
        if not songs:
            raise InputError(
                f"the {split} split is empty: the corpus has {len(corpus.songs)} songs; add songs, "
                "or change data.validation_share and data.test_share"
            )
        element = corpus.encoding.element
        lengths = np.array([song.length for song in songs], np.int64)
        self._starts = None  # of each example, where they are not computed
        self._tiled = settings.starts == "tiles" and training
        if settings.starts == "all":
            # Without padding the first example predicts the song's last of W + 1 elements.
            counts = lengths if model.pad else np.maximum(lengths - window, 0)
            self.short_songs = int((counts == 0).sum())
            self._first_start = 1 - window if model.pad else 1
        elif self._tiled:
            counts = np.maximum(lengths - window, 0) + 1
            self.short_songs = 0
            self._first_start = 0
        else:
            self.short_songs = int((lengths < window).sum())
            if settings.short_songs == "leave_out":
                songs = [song for song in songs if song.length >= window]
            starts = [self.starts(corpus, song, window, settings, training) for song in songs]
            counts = np.array([len(each) for each in starts], np.int64)
            self._starts = np.concatenate(starts) if starts else np.zeros(0, np.int64)
        if not counts.sum():
            raise InputError(
                f"no example in the {split} split: its longest song has {lengths.max()} "
                f"{element}s, an example takes {window + (settings.starts == 'all')}; lower "
                "model.window, or let examples be padded (model.pad, train.short_songs)"
            )
        self._songs = songs
        self._begins = np.array([song.offset for song in songs], np.int64)
        self._lengths = np.array([song.length for song in songs], np.int64)
        self._counts = counts
        self._ends = np.cumsum(counts)
        if not training:
            self.per_epoch = len(self)
        elif settings.starts == "all":
            self.per_epoch = max(len(self) // settings.stride, 1)
        elif self._tiled:
            self.per_epoch = int(-(-np.maximum(lengths, window).sum() // window))
        else:
            self.per_epoch = len(songs) * settings.per_song

    def __len__(self) -> int:
        return int(self._ends[-1])

    @staticmethod
    def starts(
        corpus: Corpus, song: SongRecord, window: int, settings: ExampleSettings, training: bool
    ) -> np.ndarray:
        """Elements of a song at which examples of `window` may begin."""
        if settings.starts == "beginning":
            return np.zeros(1, np.int64)
        if settings.starts == "all" or (settings.starts == "tiles" and training):
            return np.arange(max(song.length - window, 0) + 1)
        if settings.starts == "bars" and training:
            return corpus.encoding.bar_lines(song.layout, song.length, window)
        return np.arange(0, song.length, window)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """int [per_epoch]: the examples that an epoch takes. With starts "all" every stride-th, and
        the next epoch those beside them; with "tiles" what `_tiles` lays; else `per_song` of each
        song, drawn.
        """
        settings, rng = self._settings, np.random.default_rng([seed, epoch])
        if settings.starts == "all":
            stride = settings.stride
            numbers = (np.arange(self.per_epoch) * stride + epoch % stride) % len(self)
        elif self._tiled:
            numbers = self._tiles(rng)
        else:
            first = np.repeat(self._ends - self._counts, settings.per_song)
            numbers = first + rng.integers(np.repeat(self._counts, settings.per_song))
        return rng.permutation(numbers) if settings.shuffle else numbers

    def _tiles(self, rng: np.random.Generator) -> np.ndarray:
        """int [per_epoch]: windows laid one after another over all songs, from a drawn place on.

        Each belongs to the song in which its middle is, and is moved to lie inside, so that none is
        spent on what is before or after a song. One that is shorter takes the room of a window.
        """
        room = np.maximum(self._lengths, self.window)
        songs = rng.permutation(len(room)) if self._settings.shuffle else np.arange(len(room))
        ends = np.cumsum(room[songs])
        middles = (rng.random() + np.arange(self.per_epoch)) * ends[-1] / self.per_epoch
        at = np.searchsorted(ends, middles, side="right")
        song = songs[at]
        starts = (middles - (ends - room[songs])[at]).astype(np.int64) - self.window // 2
        return (self._ends - self._counts)[song] + np.clip(starts, 0, self._counts[song] - 1)

    def place(self, number: int) -> tuple[SongRecord, int, int]:
        """An example's song, its first element there, and the one after its last."""
        song, start = (int(x[0]) for x in self._place(np.array([number])))
        record = self._songs[song]
        return record, start, min(start + self.window, record.length)

    def _place(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The songs' indices, and the examples' first elements there."""
        song = np.searchsorted(self._ends, numbers, side="right")
        if self._starts is not None:
            return song, self._starts[numbers]
        return song, self._first_start + numbers - (self._ends - self._counts)[song]

    def locate(self, numbers: np.ndarray, rng: np.random.Generator | None = None) -> Arrays:
        """Where examples are.

        Args:
            numbers: int [B].
            rng: for the transpositions; without it there are none.
        Returns:
            first: int [B], the row of `data` before the example's first, which may be another
            song's; begin and end: int [B], rows of its song; before and length: int32 [B], elements
            of the window before the song, and before its end; where the model reads them
            positions: int32 [B, W + 1], places in the bar, from the element before on; and
            semitones: int32 [B], up, if train.transpose_range is set.
        """
        song, start = self._place(numbers)
        begin, length = self._begins[song], self._lengths[song]
        located = {
            "first": begin + start - 1,
            "begin": begin,
            "end": begin + length,
            "before": np.maximum(-start, 0).astype(np.int32),
            "length": np.clip(length - start, 0, self.window).astype(np.int32),
        }
        if self._reads_positions:
            pairs = zip(song.tolist(), start.tolist(), strict=True)
            located["positions"] = np.stack([self._positions(i, at - 1) for i, at in pairs])
        low, high = self.transpose_range
        if rng is not None and (low, high) != (0, 0):
            located["semitones"] = rng.integers(low, high + 1, len(numbers)).astype(np.int32)
        return located

    def lost_by_transposing(self) -> float:
        """The share of the elements' ids or notes that train.transpose_range moves to where the
        encoding has none, over some examples and all its semitones.
        """
        low, high = self.transpose_range
        numbers = np.unique(np.linspace(0, len(self) - 1, _MOST_MOVED).astype(np.int64))
        elements = self.gather(self.data, self.locate(numbers))["elements"]
        moved = sum(
            np.count_nonzero(
                self._encoding.transposed(elements, np.full(len(elements), semitones, np.int32))
            )
            for semitones in range(low, high + 1)
        )
        return 1 - moved / max(np.count_nonzero(elements) * (high - low + 1), 1)

    def _positions(self, song: int, first: int) -> np.ndarray:
        """int32 [W + 1]: the places in the bar of a song's elements from `first` on."""
        layout, stop = self._songs[song].layout, first + self.window + 1
        if self._encoding.unit_elements:
            return self._encoding.positions(layout, first, stop)
        begin, length = int(self._begins[song]), int(self._lengths[song])
        rows = np.asarray(self.data[begin : begin + min(stop, length)])
        units = self._encoding.units(self._encoding.all_elements(rows))
        onsets = np.concatenate([[0], np.cumsum(units)])
        places = self._encoding.positions(layout, 0, int(onsets[-1]) + 1)[onsets]
        return places[np.clip(np.arange(first, stop), 0, len(places) - 1)]

    def gather(self, data: Any, located: Arrays) -> Arrays:
        """Examples.

        Args:
            data: rows of the corpus, of numpy or jax.
            located: what `locate` returns. Any other entry is returned as it is.
        Returns:
            elements: [B, W + 1, ...], zeros before and after the song; before, length, and
            positions if they were located.
        """
        xp, rest = data.__array_namespace__(), dict(located)
        index = rest.pop("first")[:, None] + xp.arange(self.window + 1)
        inside = (index >= rest.pop("begin")[:, None]) & (index < rest.pop("end")[:, None])
        rows = data[xp.where(inside, index, 0)]
        inside = inside.reshape(inside.shape + (1,) * (rows.ndim - 2))
        elements = self._encoding.unpack(xp.where(inside, rows, xp.zeros_like(rows)))
        if "semitones" in rest:
            elements = self._encoding.transposed(elements, rest.pop("semitones"))
        return {"elements": elements, **rest}


def batches_per_epoch(examples: Examples, batch_size: int) -> int:
    """Batches of an epoch; the last may be partly empty."""
    return -(-examples.per_epoch // batch_size)


def training_batches(
    examples: Examples, *, batch_size: int, seed: int, epochs: int, indices_only: bool = False
) -> grain.DatasetIterator:
    """The batches of `epochs` epochs, each in its own order.

    Each is what `examples.gather` returns, with present: float32 [B], 0 where the epoch's last
    batch had no example left; or, with `indices_only`, what `examples.gather` takes, with the same.
    `get_state` and `set_state` keep the place; close() it at the end.
    """
    per_epoch = batches_per_epoch(examples, batch_size)
    order: dict[int, np.ndarray] = {}  # of the current epoch alone

    def load(number: int) -> dict[str, np.ndarray]:
        epoch, batch = divmod(number, per_epoch)
        if epoch not in order:
            order.clear()
            order[epoch] = examples.order(seed, epoch)
        numbers = order[epoch][batch * batch_size :][:batch_size]
        rng = np.random.default_rng([seed, epoch, batch])
        return _batch(examples, numbers, batch_size, rng, indices_only)

    dataset = grain.MapDataset.range(per_epoch * epochs).map(load)
    # Threads would race for `order`, and a gather takes far less than a training step.
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=1)))


def ordered_batches(examples: Examples, batch_size: int) -> Iterator[Arrays]:
    """All examples once, in order, in batches like those of training_batches."""
    for start in range(0, len(examples), batch_size):
        numbers = np.arange(start, min(start + batch_size, len(examples)))
        yield _batch(examples, numbers, batch_size)


def _batch(
    examples: Examples,
    numbers: np.ndarray,
    batch_size: int,
    rng: np.random.Generator | None = None,
    indices_only: bool = False,
) -> Arrays:
    missing = batch_size - len(numbers)
    located = examples.locate(numbers, rng) | {"present": np.ones(len(numbers), np.float32)}
    if missing:  # np.pad takes as long as the rest
        located = {
            name: np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
            for name, array in located.items()
        }
    if not indices_only:
        return examples.gather(examples.data, located)
    # int32, as jax counts: enough for all that fits on a device.
    return {name: x.astype(np.int32) if x.dtype == np.int64 else x for name, x in located.items()}
