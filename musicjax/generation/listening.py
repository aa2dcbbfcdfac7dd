"""What there is to listen to: pieces of one or several models, beside real test songs, written as
the page of musicjax.rendering.page.
"""

import dataclasses
import functools
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from musicjax.corpus.store import Corpus
from musicjax.errors import InputError
from musicjax.evaluation import distance, metrics, novelty, ratings
from musicjax.evaluation.metrics import MEASURES, Passage
from musicjax.generation.options import Options
from musicjax.generation.piece import Piece, generate
from musicjax.generation.review import inner
from musicjax.music import notation
from musicjax.music.song import Song
from musicjax.rendering import audio, page
from musicjax.rendering.audio import AudioSettings
from musicjax.rendering.page import Clip, Exhibit, Judged, PageSettings, Section, Table, Written
from musicjax.system import files
from musicjax.training import workdir

_SECONDS = 30.0  # of a piece, if no length is asked for
_VERY_LONG = 1_000_000  # elements; a model that can make them has no bound
_MOST_SONGS = 300  # that pieces are measured beside


@dataclasses.dataclass(frozen=True)
class _Run:
    """Pieces of one checkpoint, and the corpus that it was trained on; `index` is of its training
    songs, if they are there.
    """

    label: str
    corpus: Corpus
    index: novelty.Index | None
    pieces: list[Piece]

    @property
    def fingerprint(self) -> str:
        """Of the corpus."""
        return self.corpus.manifest["fingerprint"]

    @functools.cached_property
    def measured(self) -> list[Passage]:
        """What of each piece is measured."""
        return [inner(piece, self.corpus.encoding) for piece in self.pieces]


def write_page(
    workdirs: Sequence[str | Path],
    output: str | Path,
    options: Options,
    settings: PageSettings | None = None,
    sound: AudioSettings | None = None,
) -> Written:
    """Generates pieces and writes them as a page.

    Args:
        workdirs: of runs of musicjax.train; those of the first's corpus go on from the same primes.
        output: folder of the page; a page that is there is replaced.
        options: what to generate; without a length each piece lasts 30 s, if the model can.
        settings: what is on the page.
        sound: how it sounds.
    Raises:
        InputError: as generate; the folder is not writable, or holds something else.
    """
    settings, sound = settings or PageSettings(), sound or AudioSettings()
    format_name = settings.audio or audio.usual_format()
    audio.check_format(format_name)
    output = Path(output)
    for each in workdirs:
        files.expect_workdir(each)
    _expect_free(output)
    runs = _runs(workdirs, (settings.checkpoints or options.checkpoint).split(","), options)
    judges = {run.fingerprint: _Judge(run.corpus, _units(run)) for run in reversed(runs)}
    temporary = output.with_name(f".{output.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    with files.new_folder(temporary) as folder:
        written = page.write_page(
            folder,
            title="Music to listen to",
            text=_text(runs, options),
            sections=_sections(runs, judges, settings.real),
            tables=_tables(runs, judges),
            clips=_clips(runs, settings.blind_seconds, options.seed) if settings.blind else [],
            clip_seconds=settings.blind_seconds,
            audio_format=format_name,
            settings=sound,
        )
    if output.exists():
        shutil.rmtree(output)
    temporary.rename(output)
    return Written(
        output / "index.html",
        output / "blind" / "index.html" if written.blind else None,
        written.problems,
    )


def _expect_free(output: Path) -> None:
    files.writable_folder(output.absolute().parent)
    if output.exists() and not output.is_dir():
        raise InputError(f"output is {str(output)!r}, which is a file; expected a folder")
    if output.is_dir() and any(output.iterdir()) and not page.is_page(output):
        raise InputError(
            f"{output} holds something else than a page of musicjax.listen; give another --output"
        )


def _runs(
    workdirs: Sequence[str | Path], checkpoints: Sequence[str], options: Options
) -> list[_Run]:
    paths = [Path(each) for each in workdirs]
    names = [path.name or str(path.absolute().name) for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    runs = []
    for path, name in zip(paths, names, strict=True):
        asked = _with_length(path, options)
        for checkpoint in checkpoints:
            pieces = generate(path, dataclasses.replace(asked, checkpoint=checkpoint))
            corpus = workdir.load_songs(path)
            known = bool(corpus.split("train"))
            index = novelty.index_of(corpus, path / "novelty") if known else None
            label = f"{name}, {checkpoint}" if len(checkpoints) > 1 else name
            runs.append(_Run(label, corpus, index, pieces))
    return runs


def _with_length(path: Path, options: Options) -> Options:
    """The options, with a length if none is asked for, unless the model's own is all it can."""
    if options.asks or options.length is not None or options.seconds is not None:
        return options
    model, _ = workdir.load_model(path)
    try:
        model.plan(options.prime_length, _VERY_LONG)
    except InputError:
        return options
    return dataclasses.replace(options, seconds=_SECONDS)


def _text(runs: Sequence[_Run], options: Options) -> str:
    models = {run.label for run in runs}
    given = "in what was given" if options.asks else "after its prime"
    heat = "" if options.temperature is None else f"temperature {options.temperature:g}, "
    return (
        f"{sum(len(run.pieces) for run in runs)} pieces by {len(models)} "
        f"model{'s' * (len(models) != 1)}, each {given}, which is shown in grey; "
        f"{heat}{audio.synthesiser()}."
    )


# --- sections -------------------------------------------------------------------------------------


def _sections(runs: Sequence[_Run], judges: dict[str, "_Judge"], real: int) -> list[Section]:
    made = [
        [
            _exhibit(run, piece, judges[run.fingerprint].rows(metrics.measure(passage)))
            for piece, passage in zip(run.pieces, run.measured, strict=True)
        ]
        for run in runs
    ]
    if len(runs) == 1:
        sections = [Section("Made by the model", "", made[0])]
    else:
        sections = [
            Section(f"Seed {pieces[0].seed}", "", [row[i] for row in made], picture=True)
            for i, pieces in enumerate(zip(*(run.pieces for run in runs), strict=True))
        ]
    songs = _real_songs(runs[0], real, judges[runs[0].fingerprint])
    if songs:
        text = "Test songs, which no model was trained on, as the encoding gives them back."
        sections.append(Section("Real songs", text, songs))
    return sections


def _exhibit(run: _Run, piece: Piece, judged: list[Judged]) -> Exhibit:
    return Exhibit(
        f"Seed {piece.seed}, {piece.place} {piece.prime.name}",
        run.label,
        piece.song,
        notation.in_voices(piece.song),  # prime and continuation as one
        judged,
        _novelty(run, piece.passage),
    )


def _novelty(run: _Run, passage: Passage) -> str:
    if run.index is None:
        return ""
    notes, melody = (
        novelty.describe(novelty.longest_match(run.index, passage, view)) for view in novelty.VIEWS
    )
    return f"All notes: {notes}. Upper line: {melody}."


def _real_songs(run: _Run, number: int, judge: "_Judge") -> list[Exhibit]:
    passages = distance.passages_of(run.corpus, "test", most=number) if number else []
    exhibits = []
    for passage in passages:
        song = _as_pieces_are(passage.song, run)
        cut = next(p for p in judge.test if p.song.source == passage.song.source)
        exhibits.append(
            Exhibit(
                passage.song.source,
                "real",
                song,
                notation.in_voices(song),
                judge.rows(metrics.measure(cut)),
                _novelty(run, cut),
            )
        )
    return exhibits


def _as_pieces_are(song: Song, run: _Run) -> Song:
    """A real song with the instrument of the pieces, so that the notes alone differ."""
    if run.corpus.encoding.keeps_instruments:
        return song
    used = [track.program for piece in run.pieces for track in piece.song.tracks]
    program = used[0] if used else run.corpus.manifest["program"]
    tracks = [dataclasses.replace(track, program=program, name="song") for track in song.tracks]
    return dataclasses.replace(song, tracks=tuple(tracks))


def _units(run: _Run) -> int:
    """Length to which real songs are cut, as of a piece: some measures grow with it."""
    return max(int(np.median([passage.ticks for passage in run.measured])), 1)


class _Judge:
    """Measures of real songs, to compare pieces with."""

    def __init__(self, corpus: Corpus, units: int):
        self.training = distance.passages_of(corpus, "train", units=units, most=_MOST_SONGS)
        self.test = distance.passages_of(corpus, "test", units=units)
        measured = [metrics.measure(passage) for passage in (*self.training, *self.test)]
        self.values = {
            name: values
            for name in MEASURES
            if (values := [float(song[name]) for song in measured if name in song])
        }

    def rows(self, found: dict[str, float]) -> list[Judged]:
        """The measures of a passage beside those of the songs."""
        rows = []
        for name, value in found.items():
            if name in self.values and name not in ("elements", "seconds", "bars"):
                songs = np.array(self.values[name])
                low, high = np.quantile(songs, (0.1, 0.9)).tolist()
                least, most = float(songs.min()), float(songs.max())
                rows.append(Judged(name, float(value), low, high, least, most))
        return rows


# --- all pieces together --------------------------------------------------------------------------


def _tables(runs: Sequence[_Run], judges: dict[str, "_Judge"]) -> list[Table]:
    """Measures of the songs and of each model's pieces; a table for each corpus."""
    tables = []
    for fingerprint, judge in judges.items():
        sets = {"training songs": judge.training, "test songs": judge.test}
        sets |= {run.label: run.measured for run in runs if run.fingerprint == fingerprint}
        comparison = distance.compare({name: some for name, some in sets.items() if some})
        first = next(iter(comparison.songs))
        columns = ["measure", *(f"{name} ({n})" for name, n in comparison.songs.items())]
        rows = []
        for name, figures in comparison.figures.items():
            cells = [name.replace("_", " ")]
            for each in comparison.songs:
                figure = figures.get(each)
                text = "-" if figure is None else f"{figure.mean:.3g}"
                if figure and figure.distance:
                    text += f" ({figure.distance.overlap:.2f})"
                cells.append(text)
            rows.append(cells)
        text = (
            f"Means; in brackets how far the distribution overlaps that of the {first}, 1 being "
            "the same. A handful of pieces says little."
        )
        tables.append(Table(text, columns, rows))
    return tables


# --- the blind page -------------------------------------------------------------------------------


def _clips(runs: Sequence[_Run], seconds: float, seed: int) -> list[Clip]:
    """Pieces without their primes, and as many stretches of test songs; all from a bar line on. Of
    those that are long enough; none if one kind has none.
    """
    pieces = [(run.label, piece.passage.song) for run in runs for piece in run.pieces]
    made = [Clip(_from_a_bar(song, seconds, 0.0), label) for label, song in pieces]
    made = [clip for clip in made if page.long_enough(clip.song, seconds)]
    first, rng, real = runs[0], np.random.default_rng(seed), []
    passages = distance.passages_of(first.corpus, "test")
    for number in rng.permutation(len(passages)).tolist():
        song = _as_pieces_are(passages[number].song, first)
        clip = _from_a_bar(song, seconds, float(rng.random()))
        if page.long_enough(clip, seconds) and len(real) < len(made):
            real.append(Clip(clip, ratings.REAL))
    return [*made, *real] if real else []


def _from_a_bar(song: Song, seconds: float, share: float) -> Song:
    """What follows a bar line of a song: of those after which `seconds` are left, by a share the
    first (0) to the last (1); of none the first.
    """
    if not song.num_notes:
        return song
    starts = [
        round(bar.start * song.ticks_per_quarter) for bar in notation.bars(song) if bar.number
    ]
    need = seconds * song.main_qpm / 60 * song.ticks_per_quarter
    fit = [start for start in starts if song.end_ticks - start >= need] or starts[:1] or [0]
    start = fit[round(share * (len(fit) - 1))]
    return song.stretch(start, start + round(need) + 1)
