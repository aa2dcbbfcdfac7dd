"""Batches of windows from a corpus, as a grain iterator that can save and restore its place.

A window is `window` tokens of one song and the token that follows: the model reads the first and
predicts the last. Windows never cross songs. grain streams whole batches: each is one gather from
the memory-mapped array by a permutation of the windows, drawn anew for each epoch from the seed.
"""

from collections.abc import Iterator

import grain
import numpy as np

from musicjax.corpus import Corpus
from musicjax.errors import InputError


class Windows:
    """All windows of a split, by number.

    Attributes:
        window: W, tokens read before the one predicted.
        short_songs: songs left out, because they have no window.
    """

    def __init__(self, corpus: Corpus, split: str, window: int, pad: bool):
        """Indexes the windows.

        Args:
            corpus: encoded songs.
            split: "train", "validation" or "test".
            window: W > 0.
            pad: windows may begin before their song; what is missing there is id 0. So every
                token of every song is predicted once. Without it a song of n tokens has n - W
                windows.
        Raises:
            InputError: the split has no song, or no window.
        """
        songs = corpus.split(split)
        if not songs:
            raise InputError(
                f"the {split} split is empty: the corpus has {len(corpus.songs)} songs; "
                f"add songs or raise data.{split}_share"
            )
        self.window = window
        self._data = corpus.data
        self._size = corpus.vocabulary.size
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


def batches_per_epoch(windows: Windows, batch_size: int, stride: int = 1) -> int:
    """Batches that hold every `stride`-th window once; the last may be part empty."""
    return -(-_windows_per_epoch(windows, stride) // batch_size)


def _windows_per_epoch(windows: Windows, stride: int) -> int:
    return max(len(windows) // stride, 1)


def training_batches(
    windows: Windows, *, batch_size: int, seed: int, epochs: int, stride: int = 1
) -> grain.DatasetIterator:
    """Shuffled batches of `epochs` epochs. With a stride, an epoch takes every `stride`-th window,
    and the next epoch those beside them.

    Each is a dict: tokens int32 [B, W + 1]; present float32 [B], 0 where the epoch's last batch
    had no window left. `get_state` and `set_state` keep the place; close() it at the end.
    """
    per_epoch = batches_per_epoch(windows, batch_size, stride)
    size = _windows_per_epoch(windows, stride)
    order: dict[int, np.ndarray] = {}  # of the epoch at hand alone

    def gather(number: int) -> dict[str, np.ndarray]:
        epoch, batch = divmod(number, per_epoch)
        if epoch not in order:
            numbers = (np.arange(size) * stride + epoch % stride) % len(windows)
            order.clear()
            order[epoch] = np.random.default_rng([seed, epoch]).permutation(numbers)
        return _batch(windows, order[epoch][batch * batch_size :][:batch_size], batch_size)

    dataset = grain.MapDataset.range(per_epoch * epochs).map(gather)
    # Threads would race for `order`, and a gather takes far less than a training step.
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=1)))


def ordered_batches(windows: Windows, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    """All windows once, in order, in batches like those of training_batches."""
    for start in range(0, len(windows), batch_size):
        numbers = np.arange(start, min(start + batch_size, len(windows)))
        yield _batch(windows, numbers, batch_size)


def _batch(windows: Windows, numbers: np.ndarray, batch_size: int) -> dict[str, np.ndarray]:
    missing = batch_size - len(numbers)
    tokens = np.pad(windows[numbers], ((0, missing), (0, 0)))
    present = np.pad(np.ones(len(numbers), np.float32), (0, missing))
    return {"tokens": tokens, "present": present}
