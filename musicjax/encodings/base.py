"""Music as numbers: what an encoding is.

    Song -> encode -> elements, in shards -> fit, renumber -> rows of a corpus's data.npy
         <- decode <-                        elements <- unpack <- rows

An element is what a model predicts: a token, or a step of notes. Elements are of one of two kinds:

    "ids"       int32 [T], 0 for none; a model gives a probability to each of `size` ids
    "matrix"    0 or 1 [T, N, C], all 0 for none; a model gives one to each of N x C bits

Time is counted in units, `units_per_quarter` of them to a quarter note.

Axes: B batch, T element, N note, C bit.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self

import numpy as np

from musicjax.config import settings_of
from musicjax.errors import InputError
from musicjax.music.song import Meter, Song, Tempo, Track
from musicjax.system import files

Array = Any  # of numpy or jax
Sums = dict[str, np.ndarray]
MOST_COUNTED = 32  # notes at once; more are counted as so many
NO_VOICE = 999


class EncodedSong(NamedTuple):
    """What becomes of one song.

    Attributes:
        elements: as `Encoding.shard` takes them; it has a length.
        layout: what `positions` and `starts` must know of the song; JSON.
        sums: int [] or [...]: counts that are summed over a corpus, such as notes left out.
    """

    elements: Any
    layout: dict[str, Any]
    sums: dict[str, Any]


class EncodedPrime(NamedTuple):
    """The end of a song, to be continued.

    Attributes:
        elements: as a model reads them [P, ...].
        start: the unit of the song's time at which the first begins.
        layout: of the song.
        unknown: how many elements the model does not know, which were replaced or left out.
    """

    elements: np.ndarray
    start: int
    layout: dict[str, Any]
    unknown: int = 0


class Context(NamedTuple):
    """What is known of the music where the next id comes.

    Attributes:
        pitches: float32 [..., C, 128]: numbers of each MIDI pitch, such as whether it sounds.
        moves: int32 [..., 128]: semitones that a voice moves by, if it takes each pitch; NO_VOICE
            where it is none's.
        others: float32 [..., F].
    """

    pitches: Array
    moves: Array
    others: Array


class ShardSong(NamedTuple):
    """A song of a shard.

    Attributes:
        elements: its rows of the shard's data.
        symbols: of the shard, see `Encoding.shard`.
        training: whether it is in the training split.
    """

    elements: np.ndarray
    symbols: Sequence[str]
    training: bool


class Table(NamedTuple):
    """A table of a report: its rows are as long as its columns; shares are floats."""

    name: str
    title: str
    text: str
    columns: tuple[str, ...]
    rows: list[tuple]


class Plot(NamedTuple):
    """A picture of a report.

    Attributes:
        name: of its file.
        series: label -> (kind, x, y); kind is "line", "points" or "stems".
        log: both axes are logarithmic.
    """

    name: str
    title: str
    xlabel: str
    ylabel: str
    series: dict[str, tuple[Literal["line", "points", "stems"], np.ndarray, np.ndarray]]
    log: bool = False


class Encoding(Protocol):
    """One way to write music as numbers. Frozen and hashable: it is a static argument of jax.

    Its dataclass fields are settings, each read from the field of `config.data` of that name.

    Attributes:
        name: that data.encoding gives it.
        kind: of its elements.
        element: what people call one: "token", "step".
        units_per_quarter: of time.
        unit_elements: whether each element lasts one unit.
        usual_length: elements of a piece of which no length is asked.
        usual_temperature, usual_min_p: of Options, where neither is asked for.
        exact: whether a song on the grid can be decoded from its elements without a loss, so that
            nats of other such encodings can be compared with its own.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["ids", "matrix"]]
    element: ClassVar[str]
    units_per_quarter: ClassVar[int]
    unit_elements: ClassVar[bool] = False
    usual_length: ClassVar[int] = 200
    usual_temperature: ClassVar[float] = 1.0
    usual_min_p: ClassVar[float] = 0.0
    exact: ClassVar[bool] = False

    @classmethod
    def from_config(cls, data: Any) -> Self:
        """The encoding that `config.data` describes.

        Raises:
            InputError: a setting that cannot be.
        """
        return settings_of(cls, data, "data")

    # --- song -> elements -----------------------------------------------------------------------

    def encode(self, song: Song) -> EncodedSong:
        """A prepared song.

        Raises:
            SongError: it cannot be encoded; `reason` is counted.
        """
        ...

    def shard(self, songs: list[Any]) -> tuple[np.ndarray, list[str]]:
        """What a worker keeps of some songs: their elements end to end, and the texts of the
        symbols that the elements number, where an encoding does not know its ids beforehand.
        """
        return np.concatenate([self.rows(0), *songs]), []

    def rows(self, count: int) -> np.ndarray:
        """`count` rows of a corpus's data, of zeros."""
        return np.zeros(count, np.int32)

    def fit(self, songs: Iterable[ShardSong]) -> Self:
        """This encoding, knowing the ids of a corpus. It need not iterate the songs."""
        return self

    def renumber(self, elements: np.ndarray, symbols: Sequence[str]) -> np.ndarray:
        """A shard's elements as rows of a corpus."""
        return elements

    def save(self, folder: Path) -> None:
        """Writes what `fit` found, if it finds anything, to a corpus folder or a work dir."""

    def load(self, folder: Path) -> Self:
        """This encoding, knowing what `save` wrote.

        Raises:
            InputError: missing or damaged.
        """
        return self

    # --- rows -> elements -> music --------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an element: () or (N, C)."""
        return ()

    @property
    def size(self) -> int:
        """Ids that a model predicts, 0 among them; of kind "ids"."""
        raise NotImplementedError

    @property
    def num_ids(self) -> int:
        """Ids that a corpus's rows may have, those that no model predicts among them; of kind
        "ids".
        """
        return self.size

    @property
    def counts(self) -> tuple[int, ...]:
        """How often each id comes in the training songs; of kind "ids"."""
        raise NotImplementedError

    def unpack(self, rows: Array) -> Array:
        """Elements [...] or [..., N, C] of a corpus's rows, of numpy or jax. Rows of zeros are
        elements of zeros.
        """
        return rows

    def all_elements(self, rows: Array) -> Array:
        """As `unpack`, also those that a model does not know; `decode` takes them."""
        return self.unpack(rows)

    def transposed(self, elements: Array, semitones: Array) -> Array:
        """Elements [B, T, ...] moved by int [B], at most an octave, of numpy or jax. What the
        encoding does not hold becomes zeros: ids that a loss leaves out, notes that are silent.

        Raises:
            InputError: elements of this encoding cannot be transposed.
        """
        raise InputError(
            f"train.transpose_range is set, but {self.name} cannot be transposed while training; "
            "expected (0, 0)"
        )

    def decode(
        self, elements: np.ndarray, *, start: int = 0, units: int | None = None, **track: Any
    ) -> list[Track]:
        """The tracks of elements, at `units_per_quarter` ticks to a quarter note.

        Args:
            elements: [T, ...].
            start: onset of the first, in ticks.
            units: what comes later than so many ticks after it is cut off.
            **track: name, program, is_drum and velocity of the tracks, as far as the elements do
                not determine them.
        """
        ...

    def text(self, elements: np.ndarray) -> str:
        """Elements as people read them, with blanks between."""
        ...

    def units(self, elements: Array) -> Array:
        """int [...]: how far each element moves time on; of numpy or jax."""
        ...

    def onsets(self, elements: np.ndarray) -> np.ndarray:
        """int [T]: the unit at which each element begins, the first at 0."""
        units = self.units(elements)
        return np.cumsum(units) - units

    def length(self, elements: np.ndarray) -> int:
        """Units until the last element has ended."""
        return int((self.onsets(elements) + self.units(elements)).max(initial=0))

    def rests(self, elements: Array) -> Array:
        """bool [...]: where no note sounds; of numpy or jax."""
        ...

    def is_end(self, elements: Array) -> Array:
        """bool [...]: what comes where a song has ended, and nowhere else; of numpy or jax."""
        return elements[(..., *[0] * len(self.shape))] < 0

    def whole(self, elements: np.ndarray) -> np.ndarray:
        """Elements [T, ...] of a piece that was cut, but for a last time of which not all may have
        been said, such as a chord's lower notes alone. Where nothing else was said, all of them.
        """
        return elements

    def resumed(self, elements: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, int]:
        """Elements that go on from others, with what they need to stand alone.

        Args:
            elements: [T, ...].
            after: [...], those before them.
        Returns:
            the elements, and the unit of `after`'s time at which they begin.
        """
        return elements, self.length(after)

    # --- which ids may follow, of kind "ids"; used in the compiled sampling loop ------------------

    def grammar(self, batch: int) -> np.ndarray:
        """int32 [batch, K]: what of the past decides which ids may follow, before the first."""
        return np.zeros((batch, 0), np.int32)

    def read(self, state: Array, ids: Array) -> Array:
        """[B, K]: as `grammar`, after ids [B] more; of jax. Id 0 changes nothing."""
        return state

    def may_follow(self, state: Array) -> Array | None:
        """bool [B, V], of jax; None where any may."""
        return None

    def crowds(self, state: Array, most: Any) -> Array | None:
        """bool [B, V], of jax: the ids by which more than `most` notes, int [], would sound at
        once; None where ids do not tell.
        """
        return None

    def context(self, state: Array) -> Context | None:
        """Of states [..., K], of numpy or jax; None where they say nothing of the music."""
        return None

    @property
    def id_pitches(self) -> np.ndarray:
        """int32 [V]: the MIDI pitch that each id alone stands for; -1 of others."""
        return np.full(self.size, -1, np.int32)

    @property
    def keeps_instruments(self) -> bool:
        """Whether elements distinguish instruments; else all tracks are merged."""
        return False

    @property
    def streams(self) -> int:
        """Instruments whose elements each move on a time of their own."""
        return 1

    @property
    def most_per_unit(self) -> int:
        """Elements that come in a unit of time, at most, as far as music goes."""
        return self.streams

    @property
    def lead(self) -> int:
        """Units by which the sum of `units` may run ahead of time."""
        return 0

    # --- places in time -------------------------------------------------------------------------

    def positions(self, layout: Mapping[str, Any], start: int, stop: int) -> np.ndarray:
        """int32 [stop - start]: the place in the bar of each unit of a song's time, from 0; before
        the song its first bar goes on backwards.
        """
        return np.zeros(stop - start, np.int32)

    def last_change(self, layout: Mapping[str, Any]) -> int:
        """The unit of a song's time at which its meter changes last."""
        return 0

    def cycle(self, layout: Mapping[str, Any]) -> int:
        """Units after which the places in the bar come again where a song ends."""
        return 1

    def bar_lines(self, layout: Mapping[str, Any], length: int, window: int) -> np.ndarray:
        """int [...]: elements at which a bar begins and `window` elements follow in a song of
        `length`; the first of all if they never do.

        Raises:
            InputError: a song's layout does not tell.
        """
        raise InputError(
            f"train.starts is 'bars', but a {self.element} does not tell where a bar begins; "
            "expected 'tiles', 'all' or 'beginning'"
        )

    def features(self) -> list[np.ndarray]:
        """float32 [size, F] each: what ids are made of, such as pitches and a duration, so that
        models can let ids share strength; of kind "ids".
        """
        return []

    def meters(
        self, layout: Mapping[str, Any], start: int, elements: np.ndarray
    ) -> tuple[Meter, ...]:
        """The meters of music that begins at unit `start` of a song's time, which is tick 0, and
        has these elements; () if not known.
        """
        return ()

    def tempos_of(self, elements: np.ndarray) -> tuple[Tempo, ...]:
        """The tempos that elements say, the first at tick 0; () if they say none."""
        return ()

    def prime(self, song: Song, length: int | None, unknown: str) -> EncodedPrime:
        """The end of a prepared song, without what says that it has ended; as it is here, where no
        element is unknown to a model.

        Args:
            song: as `encode` takes it.
            length: elements at most; None: all.
            unknown: what becomes of elements that the model does not know: "nearest" (the most
                similar known), "drop", or "error".
        Raises:
            InputError: a model does not know an element, if `unknown` is "error".
            SongError: as `encode`.
        """
        elements, layout, _ = self.encode(song)
        rows = self.renumber(*self.shard([elements]))
        rows = rows[~self.is_end(self.unpack(rows))]
        start = 0 if length is None else max(len(rows) - length, 0)
        begins = self.length(self.unpack(rows[:start]))
        return EncodedPrime(self.unpack(rows[start:]), begins, layout)

    # --- notes that are given, of kind "matrix" ---------------------------------------------------

    def only(self, elements: np.ndarray) -> np.ndarray:
        """bool [..., N, 1 + C], what each note may do where elements [..., N, C] are given. In this
        order: be silent; play, its other bits 0; play, one of its other bits 1. One alone is True.
        """
        raise NotImplementedError

    def beside(
        self, kept: np.ndarray, *, highest: bool = False, lowest: bool = False
    ) -> np.ndarray:
        """bool [T, N, 1 + C], as `only`: what notes may do beside those of a voice that stays as it
        is: none goes on where one of the voice has ended.

        Args:
            kept: elements [T, N, C] of the voice alone.
            highest, lowest: whether nothing is to play above, or below, where the voice does.
        """
        raise NotImplementedError

    def bar_starts(self, layout: Mapping[str, Any], length: int) -> np.ndarray:
        """int [bars]: the elements of a song of `length` at which its bars begin; negative of a
        pick-up, which is the end of a bar.
        """
        raise NotImplementedError

    def decode_apart(
        self, elements: np.ndarray, made: np.ndarray, names: tuple[str, str], **track: Any
    ) -> list[Track]:
        """As `decode`, given and made notes in two tracks.

        Args:
            elements: [T, N, C].
            made: bool [T, N]; a note belongs to where it begins.
            names: of the tracks.
            **track: as of `decode`.
        """
        raise NotImplementedError

    # --- in a browser -----------------------------------------------------------------------------

    def live(self) -> dict[str, Any]:
        """What a live page must know to read elements; JSON. "name" is that of a reader of
        rendering/templates/live_readers.js, the rest are its tables.

        Raises:
            InputError: the page does not play them.
        """
        raise InputError(f"the live page does not play {self.name}")

    # --- what a corpus is like ------------------------------------------------------------------

    def statistics(self, total: Sums, training: Sums) -> dict[str, Any]:
        """For a corpus's manifest: "counts" (int by name) and what baselines need.

        Args:
            total: the sums of all songs, "length" among them.
            training: of the training songs.
        """
        statistics: dict[str, Any] = {"counts": {f"{self.element}s": int(total["length"])}}
        if "at_once" in training:
            statistics["most_at_once"] = _most_at_once(training["at_once"])
        return statistics

    def describe(self, statistics: Mapping[str, Any]) -> list[str]:
        """Lines for people about a corpus; the first goes on from "100 songs of 120 files, "."""
        name = f"{self.element}s"
        return [f"{statistics['counts'][name]} {name}"]

    def report(self, songs: Sequence[np.ndarray]) -> tuple[list[Table], list[Plot]]:
        """Tables and pictures about a corpus, of the rows of its songs."""
        return [], []


@dataclasses.dataclass(frozen=True)
class FixedIds(Encoding):
    """A start for encodings of kind "ids" that know their ids beforehand: no song has others.

    Attributes:
        id_counts: how often each comes in the training songs, found by `fit`.
    """

    kind: ClassVar[Literal["ids", "matrix"]] = "ids"
    id_counts: tuple[int, ...] = ()

    @property
    def counts(self) -> tuple[int, ...]:
        """See Encoding."""
        return self.id_counts or (0,) * self.size

    def fit(self, songs: Iterable[ShardSong]) -> Self:
        """Counts the ids of the training songs."""
        counts = np.zeros(self.size, np.int64)
        for song in songs:
            if song.training:
                counts += np.bincount(song.elements, minlength=self.size)
        return dataclasses.replace(self, id_counts=tuple(counts.tolist()))

    def save(self, folder: Path) -> None:
        """Writes counts.json."""
        files.write_text(folder / "counts.json", json.dumps(self.id_counts))

    def load(self, folder: Path) -> Self:
        """See Encoding."""
        path = folder / "counts.json"
        try:
            counts = tuple(json.loads(path.read_text(encoding="utf-8")))
            if not all(type(count) is int and count >= 0 for count in counts):
                raise ValueError("expected numbers, none of them negative")
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise InputError(f"{path}: not counts ({error}); encode the songs again") from None
        if len(counts) != self.size:
            raise InputError(
                f"{path}: {len(counts)} counts, expected {self.size}; encode the songs again"
            )
        return dataclasses.replace(self, id_counts=counts)

    def statistics(self, total: Sums, training: Sums) -> dict[str, Any]:
        """See Encoding; needs the sum "repeats" of elements that equal the one before."""
        following = max(int(training["length"] - training["songs"]), 1)
        repeats = int(training["repeats"])
        return {**super().statistics(total, training), "repeat_share": repeats / following}


def _most_at_once(times: np.ndarray) -> int:
    """How many notes sound together in music, at most, but for a hundredth of the time in which any
    does. times: int [n], how long so many sound, from 0 on.
    """
    sounding = np.cumsum(times[1:])
    return 1 + int(np.searchsorted(sounding, 0.99 * sounding[-1]))


def shares_of_notes(durations: Mapping[float, int], polyphony: Mapping[int, int]) -> list[Plot]:
    """Pictures of how often each duration in quarters occurs, and each number of notes at once."""

    def shares(name: str, title: str, xlabel: str, times: Mapping[Any, int]) -> Plot:
        value, number = np.array(sorted(times.items())).T
        shown = number / number.sum() >= 1e-3
        share = number / number.sum()
        return Plot(name, title, xlabel, "share", {"": ("stems", value[shown], share[shown])})

    return [
        shares("durations", "Durations", "quarters", durations),
        shares("polyphony", "Notes at once", "notes; 0: silence", polyphony),
    ]
