r"""Writes pieces as a page to listen to, with a blind test; and counts what listeners thought.

    python -m musicjax.listen --workdir=runs/vocab --output=page

opens from disk in any browser, without a network: page/index.html has the pieces with sound, piano
rolls, measures beside real songs and files to take away; page/blind/index.html mixes them with real
songs, for listeners to rate and guess. Several work dirs, with commas between or the flag several
times, stand side by side. All flags of musicjax.generate that say what to make hold here too.

    python -m musicjax.listen --model=chorales --live

writes live.html instead, in which the model plays without end: all of it runs in the browser.

    python -m musicjax.listen --tally=ratings.csv

counts the ratings that the blind page exports.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from musicjax import cli, readymade
from musicjax.errors import InputError
from musicjax.generation.options import Options, options_class
from musicjax.rendering.audio import AudioSettings, synthesiser
from musicjax.rendering.page import PageSettings
from musicjax.system import files


def _define_flags() -> None:
    from absl import flags

    flags.DEFINE_multi_string("workdir", [], "Work dir of musicjax.train; several: side by side.")
    cli.define_readymade()
    flags.DEFINE_string(
        "output", None, "Folder to write to; default: WORKDIR/page; of --live WORKDIR."
    )
    flags.DEFINE_bool("live", False, "Write a page in which the model plays without end, instead.")
    flags.DEFINE_list("tally", [], "CSV files of ratings, with commas between, to be counted.")
    cli.define_options(PageSettings)
    cli.define_options(AudioSettings)
    cli.define_options(options_class())


def _main(flags: Any) -> None:
    folders = [name for given in flags.workdir for name in given.split(",") if name]
    default = Path(folders[0] if folders else flags.model or "") / "page"
    if flags.model:
        folders.append(readymade.find(flags.model))
    if bool(folders) == bool(flags.tally):
        raise InputError(
            "expected --workdir=RUN or --model=chorales to write a page, or --tally=ratings.csv to "
            "count ratings"
        )
    if flags.tally:
        _tally(flags.tally)
        return
    options = cli.parsed_options(options_class(), flags)
    if flags.live:
        _live(folders, flags.output or default.parent, options)
        return
    settings = cli.parsed_options(PageSettings, flags)
    sound = cli.parsed_options(AudioSettings, flags)
    output = Path(flags.output or default)
    from musicjax.generation import listening

    written = listening.write_page(folders, output, options, settings, sound)
    for problem in written.problems:
        print(problem)
    if written.blind:
        print(f"{written.blind}: rate pieces blind; it can be sent to others with its folder")
    elif settings.blind:
        print(f"no blind page: no piece lasts --blind_seconds={settings.blind_seconds:g}")
    print(f"{written.path}: open it in a browser; {synthesiser()}")


def _live(folders: Sequence[str | Path], output: str | Path, options: Options) -> None:
    if len(folders) > 1:
        raise InputError(f"--live is of one model, and {len(folders)} are given")
    if options.keep or options.infill:
        raise InputError(
            "--live plays on and on, and can neither keep nor fill in; leave out --live, for a "
            "page of pieces, or --keep and --infill"
        )
    files.expect_workdir(folders[0])
    files.expect_writable(Path(output))
    from musicjax.generation import live

    print(f"{live.write_page(folders[0], output, options)}: open it in a browser, and press Play")


def _tally(paths: list[str]) -> None:
    from musicjax.evaluation import ratings

    found, problems = ratings.read_ratings(paths)
    for problem in problems[:5]:
        print(f"left out: {problem}")
    if len(problems) > 5:
        print(f"left out: {len(problems) - 5} rows more")
    print(ratings.describe(found))


if __name__ == "__main__":
    cli.run(_main, _define_flags)
