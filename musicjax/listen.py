r"""Writes pieces as a page to listen to, with a blind test; and counts what listeners thought.

    python -m musicjax.listen --workdir=runs/vocab --output=page

opens from disk in any browser, without a network: page/index.html has the pieces with sound, piano
rolls, measures beside real songs and files to take away; page/blind/index.html mixes them with real
songs, for listeners to rate and guess. Several work dirs, with commas between or the flag several
times, stand side by side. All flags of musicjax.generate that say what to make hold here too.

    python -m musicjax.listen --tally=ratings.csv

counts the ratings that the blind page exports.
"""

from pathlib import Path
from typing import Any

from musicjax import cli
from musicjax.errors import InputError
from musicjax.generation.options import options_class
from musicjax.rendering.audio import AudioSettings, synthesiser
from musicjax.rendering.page import PageSettings


def _define_flags() -> None:
    from absl import flags

    flags.DEFINE_multi_string("workdir", [], "Work dir of musicjax.train; several: side by side.")
    flags.DEFINE_string("output", None, "Folder to write to; default: WORKDIR/page.")
    flags.DEFINE_list("tally", [], "CSV files of ratings, with commas between, to be counted.")
    cli.define_options(PageSettings)
    cli.define_options(AudioSettings)
    cli.define_options(options_class())


def _main(flags: Any) -> None:
    folders = [name for given in flags.workdir for name in given.split(",") if name]
    if bool(folders) == bool(flags.tally):
        raise InputError(
            "expected --workdir=RUN to write a page, or --tally=ratings.csv to count ratings"
        )
    if flags.tally:
        _tally(flags.tally)
        return
    options = cli.parsed_options(options_class(), flags)
    settings = cli.parsed_options(PageSettings, flags)
    sound = cli.parsed_options(AudioSettings, flags)
    output = Path(flags.output or Path(folders[0]) / "page")
    from musicjax.generation import listening

    written = listening.write_page(folders, output, options, settings, sound)
    for problem in written.problems:
        print(problem)
    if written.blind:
        print(f"{written.blind}: rate pieces blind; it can be sent to others with its folder")
    elif settings.blind:
        print(f"no blind page: no piece lasts --blind_seconds={settings.blind_seconds:g}")
    print(f"{written.path}: open it in a browser; {synthesiser()}")


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
