"""The listening page: a folder with an index.html that any browser opens from disk, without a
network. Each piece has a player, its piano roll with a moving cursor, its measures beside those of
real songs, and files to take away; a second page mixes real and made pieces for blind rating.

    index.html            the pieces
    audio/ midi/ score/   their files
    picture/              where models are compared: one prime by all of them
    blind/                the blind page and its clips, named by numbers that tell nothing

What the pieces are comes from musicjax.generation.listening. The pages are the templates beside
this module; whatever text a song brings is escaped.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musicjax.config import CHECKPOINT, Rule, at_least, check_settings, one_of, setting
from musicjax.errors import InputError
from musicjax.evaluation import ratings
from musicjax.music import midi, notation
from musicjax.music.song import Song, Tempo, pitch_name
from musicjax.rendering import audio, template
from musicjax.rendering.audio import AudioSettings
from musicjax.rendering.piano_roll import COLOURS, grid_of, plot_piano_rolls
from musicjax.system import files, workers

_SHADES = (0.45, 0.7, 1.0)  # of soft, medium and loud notes
_MEDIUM, _LOUD = 50, 75  # velocities from which on they are
_PIXELS_A_SECOND = 8  # at least; a longer piece's roll scrolls
_MOST_PIXELS = 20_000
_MOST_NAMES = 40  # letters of a track's name
_GAP = 2  # hundredths of a second between notes that follow one another
_CLIP_FADE_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class PageSettings:
    """What is on the page. Each field is a flag of musicjax.listen, with its help.

    Raises:
        InputError: a value out of range.
    """

    checkpoints: str = setting(
        Rule(
            lambda names: not names or all(map(CHECKPOINT.holds, names.split(","))),
            f"each {CHECKPOINT.expected}",
        ),
        default="",
        help="Such as best,last or 1,50: side by side; default: --checkpoint alone.",
    )
    real: int = setting(at_least(0), default=2, help="Test songs beside the pieces.")
    audio: str | None = setting(
        one_of(None, *audio.FORMATS), default=None, help="wav, mp3, ogg or flac; default: mp3."
    )
    blind: bool = setting(default=True, help="A page for rating pieces blind, too.")
    blind_seconds: float = setting(
        Rule(lambda value: 3 <= value <= 120, "3 to 120"),
        default=15.0,
        help="Length of each piece there; real and made ones are cut to it.",
    )

    def __post_init__(self):
        check_settings(self)


class Judged(NamedTuple):
    """A measure of a piece beside real songs: their 10th and 90th percentile, least and most."""

    name: str
    value: float
    low: float
    high: float
    least: float
    most: float


class Exhibit(NamedTuple):
    """A piece to be shown.

    Attributes:
        title: any text.
        origin: what made it, or "real".
        song: to be heard and seen.
        score: the same to be read, such as a track for each voice; None: as it is heard.
        measures: beside real songs.
        novelty: a line about what it shares with training songs.
    """

    title: str
    origin: str
    song: Song
    score: Song | None = None
    measures: Sequence[Judged] = ()
    novelty: str = ""


class Section(NamedTuple):
    """Exhibits side by side; `picture`: also as one picture, one piano roll below the other."""

    title: str
    text: str
    exhibits: list[Exhibit]
    picture: bool = False


class Table(NamedTuple):
    """Text above, columns and rows of texts."""

    text: str
    columns: list[str]
    rows: list[list[str]]


class Clip(NamedTuple):
    """Music of the blind page. origin: ratings.REAL, or the model that made it."""

    song: Song
    origin: str


class Written(NamedTuple):
    """What was written.

    Attributes:
        path: of the page.
        blind: the blind page, if there are clips.
        problems: lines about what could not be rendered; the page has them too.
    """

    path: Path
    blind: Path | None
    problems: list[str]


def is_page(folder: Path) -> bool:
    """Whether a folder is one that write_page wrote."""
    try:
        return "musicjax.listen" in (folder / "index.html").read_text("utf-8", "replace")[:600]
    except OSError:
        return False


def write_page(
    folder: Path,
    *,
    title: str,
    text: str,
    sections: Sequence[Section],
    tables: Sequence[Table] = (),
    clips: Sequence[Clip] = (),
    clip_seconds: float = 20.0,
    audio_format: str = "wav",
    settings: AudioSettings | None = None,
) -> Written:
    """Writes the pages into an empty folder.

    What cannot be rendered of a piece, such as one without notes, leaves a line on its card.

    Args:
        folder: is there, and empty.
        title, text: of the page.
        sections: of pieces.
        tables: below them.
        clips: of the blind page; none: there is no such page.
        clip_seconds: to which clips are cut; those that are shorter are left out.
        audio_format: as audio.FORMATS.
        settings: how songs sound.
    Raises:
        InputError: the format cannot be written here.
    """
    audio.check_format(audio_format)
    settings = settings or AudioSettings()
    for name in ("audio", "midi", "score"):
        (folder / name).mkdir()
    exhibits = [exhibit for section in sections for exhibit in section.exhibits]

    names = [f"piece-{number + 1}" for number in range(len(exhibits))]

    def render(name: str, exhibit: Exhibit) -> str | None:
        try:
            audio.write_audio(exhibit.song, folder / f"audio/{name}.{audio_format}", settings)
        except InputError as error:
            return f"no sound: {error}"
        return None

    with ThreadPoolExecutor(workers.cores()) as threads:
        sounds = [threads.submit(render, *each) for each in zip(names, exhibits, strict=True)]
        # Each card's files are written while the next ones' sounds are made.
        cards = [
            _card(folder, name, exhibit, audio_format, settings, sound)
            for name, exhibit, sound in zip(names, exhibits, sounds, strict=True)
        ]
    left = iter(cards)
    shown = [
        {
            "title": each.title,
            "text": each.text,
            "cards": [next(left) for _ in each.exhibits],
            "picture": _picture(folder, f"picture/section-{number}.png", each),
        }
        for number, each in enumerate(sections, 1)
    ]
    blind = _write_blind(folder / "blind", clips, clip_seconds, audio_format, settings)
    page = template.render(
        "listen.html",
        scripts=("listen.js",),
        title=title,
        text=text,
        sections=shown,
        tables=[table._asdict() for table in tables],
        blind=blind is not None,
    )
    path = folder / "index.html"
    files.write_text(path, page)
    problems = [
        f"{card['title']}: {problem}"
        for section in shown
        for card in section["cards"]
        for problem in card["problems"]
    ]
    return Written(path, blind, problems)


def _picture(folder: Path, name: str, section: Section) -> str | None:
    if not section.picture:
        return None
    (folder / name).parent.mkdir(exist_ok=True)
    rolls = [(f"{each.title} ({each.origin})", each.song) for each in section.exhibits]
    try:
        plot_piano_rolls(rolls, folder / name)
    except InputError:  # the cards say why
        return None
    return name


# --- a piece --------------------------------------------------------------------------------------


def _card(
    folder: Path,
    name: str,
    exhibit: Exhibit,
    audio_format: str,
    settings: AudioSettings,
    rendering: Future[str | None],
) -> dict[str, Any]:
    """Writes a piece's files but its sound; what its card shows.

    Args:
        rendering: of its sound; the result is why there is none.
    """
    # Seen as it is heard.
    song = audio.without_long_silence(exhibit.song, settings.longest_silence)
    problems, downloads = [], []

    def attempt(text: str, path: str, write: Callable[[Path], None]) -> None:
        try:
            write(folder / path)
        except InputError as error:
            problems.append(f"no {text}: {error}")
        else:
            downloads.append((text, path))

    title = f"{exhibit.title} ({exhibit.origin})"
    attempt("MIDI", f"midi/{name}.mid", lambda path: midi.write_song(exhibit.song, path))
    for text, suffix in (("MusicXML", "musicxml"), ("ABC", "abc")):
        attempt(
            text,
            f"score/{name}.{suffix}",
            lambda path: notation.write_score(exhibit.score or song, path, title=title),
        )
    try:
        roll = _roll(song)
    except InputError as error:
        roll = None
        problems.append(f"no piano roll: {error}")
    silent, sound = rendering.result(), None
    if silent:
        problems.insert(0, silent)
    else:
        sound = f"audio/{name}.{audio_format}"
        downloads.insert(0, (audio_format.upper(), sound))
    return {
        "name": name,
        "title": exhibit.title,
        "origin": exhibit.origin,
        "seconds": song.seconds,
        "roll": roll,
        "audio": sound,
        "problems": problems,
        "downloads": downloads,
        "novelty": exhibit.novelty,
        "measures": [_row(each) for each in exhibit.measures],
        "outside": sum(_outside(each) for each in exhibit.measures),
    }


def _outside(each: Judged) -> bool:
    return not each.low <= each.value <= each.high


def _row(each: Judged) -> dict[str, Any]:
    """A line of a card's table; places are in per cent of what songs and the piece span."""
    least, most = min(each.least, each.value), max(each.most, each.value)
    span = (most - least) or 1.0

    def place(value: float) -> float:
        return round(100 * (value - least) / span, 1)

    return {
        "name": each.name.replace("_", " "),
        "value": _number(each.value),
        "low": _number(each.low),
        "high": _number(each.high),
        "from": place(each.low),
        "to": round(100 - place(each.high), 1),
        "at": place(each.value),
        "outside": _outside(each),
    }


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.3g}"


def seconds_of(song: Song, ticks: np.ndarray) -> np.ndarray:
    """float64 [...]: when ticks [...] are, by the song's tempos."""
    tempos = song.tempos or (Tempo(0, 120.0),)
    starts = np.array([0, *(tempo.tick for tempo in tempos[1:])], np.float64)
    a_tick = np.array([60 / tempo.qpm / song.ticks_per_quarter for tempo in tempos])
    before = np.append(0, np.cumsum(np.diff(starts) * a_tick[:-1]))
    which = np.maximum(np.searchsorted(starts, ticks, side="right") - 1, 0)
    return before[which] + (ticks - starts[which]) * a_tick[which]


def _roll(song: Song) -> dict[str, Any]:
    """A piano roll: paths in hundredths of a second and tenths of a row, labels in per cent."""
    grid, end = grid_of(song), max(song.seconds, 0.01)
    rows = grid.high - grid.low + 1

    def paths(lines: np.ndarray) -> str:
        at = np.round(100 * seconds_of(song, lines)).astype(int)
        return "".join(f"M{x} 0V{10 * rows}" for x in at.tolist())

    def down(pitch: int) -> float:
        return round(100 * (grid.high - pitch + 0.5) / rows, 2)

    shades, tracks = [], []
    for number, track in enumerate(song.tracks):
        colour = number % len(COLOURS)
        ends = track.onset_ticks + track.duration_ticks
        start = np.round(100 * seconds_of(song, track.onset_ticks)).astype(int)
        stop = np.round(100 * seconds_of(song, ends)).astype(int)
        width = np.maximum(stop - start - _GAP, 1)
        top = 10 * (grid.high - track.pitch.astype(int))
        shade = np.digitize(track.velocity, (_MEDIUM, _LOUD))
        for which, opacity in enumerate(_SHADES):
            mine = np.flatnonzero(shade == which).tolist()
            path = "".join(f"M{start[i]} {top[i]}h{width[i]}v10h-{width[i]}z" for i in mine)
            if path:
                shades.append({"colour": colour, "opacity": opacity, "path": path})
        name = track.name if len(track.name) <= _MOST_NAMES else f"{track.name[:_MOST_NAMES]}…"
        tracks.append({"colour": colour, "text": name or f"track {number + 1}"})
    black = [p for p in range(grid.low, grid.high + 1) if p % 12 in (1, 3, 6, 8, 10)]
    every = max(1, len(grid.bars) // 12)
    at = seconds_of(song, grid.bars[::every]) / end
    shown = zip(at.tolist(), grid.numbers[::every], strict=True)
    return {
        "ends": round(100 * end),
        "rows": rows,
        "notes": song.num_notes,
        "width": int(min(end * _PIXELS_A_SECOND, _MOST_PIXELS)),
        "height": int(np.clip(4.5 * rows, 110, 260)),
        "black": "".join(
            f"M0 {10 * (grid.high - p)}h{round(100 * end)}v10h-{round(100 * end)}z" for p in black
        ),
        "bars": paths(grid.bars),
        "beats": paths(grid.beats if len(grid.bars) < 200 else grid.beats[:0]),
        "shades": shades,
        "tracks": tracks,
        "pitches": [{"at": down(p), "text": pitch_name(p)} for p in grid.named if p % 12 == 0],
        "numbers": [{"at": round(100 * x, 2), "text": n} for x, n in shown],
    }


# --- the blind page -------------------------------------------------------------------------------


def _write_blind(
    folder: Path,
    clips: Sequence[Clip],
    seconds: float,
    audio_format: str,
    settings: AudioSettings,
) -> Path | None:
    """Writes the blind page, if there are clips long enough; returns its path."""
    usable = [clip for clip in clips if long_enough(clip.song, seconds)]
    if not usable:
        return None
    (folder / "audio").mkdir(parents=True)
    samples = round(seconds * audio.RATE)
    names = [_name_of(clip, number) for number, clip in enumerate(usable)]

    def write(item: tuple[str, Clip]) -> None:
        name, clip = item
        sound = audio.render(clip.song, settings)[:samples]
        fade = round(_CLIP_FADE_SECONDS * audio.RATE)
        sound[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)[:, None]
        content = audio.encoded(sound, audio_format)
        (folder / "audio" / f"{name}.{audio_format}").write_bytes(content)

    with ThreadPoolExecutor(workers.cores()) as threads:
        list(threads.map(write, zip(names, usable, strict=True)))
    rows = [
        {
            "piece": name,
            "audio": f"audio/{name}.{audio_format}",
            "code": ratings.encode_origin(clip.origin, name),
        }
        for name, clip in zip(names, usable, strict=True)
    ]
    rows.sort(key=lambda row: row["piece"])  # by numbers that tell nothing
    page = hashlib.sha256("".join(names).encode()).hexdigest()[:8]
    text = (
        f"{len(usable)} pieces of {seconds:g} seconds, some by people and some made by a model, in "
        "an order of their own for you. Listen, say how good each is, and which kind."
    )
    index = folder / "index.html"
    html = template.render(
        "blind.html",
        scripts=("blind.js",),
        data={"page": page, "clips": rows},
        title="Real or made?",
        text=text,
        clips=rows,
    )
    files.write_text(index, html)
    return index


def long_enough(song: Song, seconds: float) -> bool:
    """Whether a song can be a clip: its last second may be silent."""
    return song.num_notes > 0 and song.seconds >= seconds - 1


def _name_of(clip: Clip, number: int) -> str:
    """A number of a clip that depends on its notes."""
    content = clip.song.notes().tobytes() + number.to_bytes(4, "little")
    return hashlib.sha256(content).hexdigest()[:8]
