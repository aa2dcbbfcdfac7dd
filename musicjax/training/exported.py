"""A run as a folder to share: what makes music, without what training needs. It is laid out as
model hubs expect, and does wherever a work dir does but for training.

    README.md            a model card: config, data, licence, measures
    config.json          as in a work dir, as is baseline.json
    model.safetensors    the parameters by name
    songs/               the encoding, with its vocabulary; and, if asked for, some test songs
    programs/            prefill and sample_step as StableHLO: musicjax.models.programs
"""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from jax.export import Exported

from musicjax import __version__
from musicjax.config import Config, flat_fields
from musicjax.corpus.store import Corpus, Manifest, SongRecord
from musicjax.errors import InputError
from musicjax.models import build_model, programs, weights
from musicjax.models.base import Model
from musicjax.system import files
from musicjax.training import workdir
from musicjax.training.settings import ExportSettings
from musicjax.training.workdir import Trained

# Of config.data and config.train: what names files of the machine that trained.
_PATHS = ("data.source", "data.table", "train.init_from")


def export(
    folder: str | Path,
    output: str | Path,
    settings: ExportSettings | None = None,
    *,
    checkpoint: str = "best",
) -> Path:
    """Writes a run as a folder to share, whole or not at all.

    Args:
        folder: work dir of a run of musicjax.train.
        output: folder to write; must not exist.
        settings: what is exported.
        checkpoint: as workdir.load_trained takes it.
    Returns:
        the folder.
    Raises:
        InputError: no such work dir; the output exists; or the model makes no music, so that there
            are no programs.
    """
    settings, output = settings or ExportSettings(), Path(output)
    files.expect_workdir(folder)
    files.expect_new(output)
    files.expect_writable(output.absolute().parent)
    trained = workdir.load_trained(folder, checkpoint)
    corpus = workdir.load_songs(folder)
    config = _without_paths(trained.config)
    with files.new_folder(output) as made:
        workdir.save_songs(made, _some_test_songs(corpus, settings.songs))
        workdir.save_config(made, config, corpus.manifest["fingerprint"])
        weights.write(made / workdir.WEIGHTS, trained.params, settings.dtype, trained.step)
        standing = workdir.load_standing(folder)
        if standing:
            workdir.save_standing(made, standing)
        if settings.programs:
            (made / "programs").mkdir()
            programs.write(made / "programs", make_programs(trained))
        card = _card(output.absolute().name, trained, config, corpus, folder, settings)
        files.write_text(made / "README.md", card)
    return output


def _without_paths(config: Config) -> Config:
    """A config that does not tell where files lay on the machine that trained."""
    config = copy.deepcopy(config)
    for group in ("data", "train"):
        for field, value in config[group].items():
            config[group][field] = _name(f"{group}.{field}", value)
    return config


def _name(field: str, value: Any) -> Any:
    """The last part of a path; the value of any other field."""
    return Path(value).name if field in _PATHS and isinstance(value, str) else value


def _some_test_songs(corpus: Corpus, count: int) -> Corpus:
    """A corpus with some test songs alone, evenly spread."""
    test = corpus.split("test")
    count = min(count, len(test))
    chosen = [test[i * len(test) // count] for i in range(count)]
    rows = [np.asarray(corpus.rows(song)) for song in chosen]
    starts = np.cumsum([0, *map(len, rows)]).tolist()
    songs: list[SongRecord] = [
        dataclasses.replace(song, offset=start) for song, start in zip(chosen, starts, strict=False)
    ]
    settings = corpus.manifest["settings"]
    manifest: Manifest = {
        **corpus.manifest,
        "length": starts[-1],
        "settings": {name: _name(f"data.{name}", value) for name, value in settings.items()},
        # Not that of the whole: what is kept by it is not the same.
        "fingerprint": f"{corpus.manifest['fingerprint']}-{count}",
    }
    data = np.concatenate([corpus.encoding.rows(0), *rows])
    return Corpus(manifest, songs, data, corpus.encoding, skipped=[])


def make_programs(trained: Trained) -> dict[str, Exported]:
    """The programs of a run's model, as musicjax.models.programs writes them.

    Raises:
        InputError: the model makes no music, or not of a batch whose size is not known.
    """
    config = copy.deepcopy(trained.config)
    # Kernels of other libraries cannot be in a program that runs without them.
    if "kernel" in config.model:
        config.model.kernel = "scan"
    model = build_model(config, trained.model.encoding)
    try:
        length, _ = model.plan(None, None)
    except InputError as error:
        raise InputError(
            f"no programs can be written ({error}); export with --noprograms"
        ) from None
    try:
        return programs.export(model, length)
    except TypeError as error:  # of a number that is not known yet
        raise InputError(
            f"no programs can be written, as the model asks how large a batch is ({error}): see "
            "docs/extending.md, or export with --noprograms"
        ) from error


# --- the model card -------------------------------------------------------------------------------


def _card(
    name: str,
    trained: Trained,
    config: Config,
    corpus: Corpus,
    folder: str | Path,
    settings: ExportSettings,
) -> str:
    model, encoding = trained.model, trained.model.encoding
    counts = {split: len(corpus.split(split)) for split in ("train", "validation", "test")}
    held = " and ".join(f"{n} for {split}" for split, n in counts.items() if n and split != "train")
    head = {
        "license": settings.license,
        "library_name": "musicjax",
        "tags": ["music", "symbolic-music", "midi", "music-generation", "jax", config.model.name],
    }
    lines = [
        "---",
        *(f"{key}: {json.dumps(value)}" for key, value in head.items()),
        "---",
        "",
        f"# {name}",
        "",
        f"A model of music as {encoding.element}s (`{encoding.name}`), of "
        f"{sum(array.size for array in weights.by_name(trained.params).values()):,} parameters, "
        f"trained by [musicjax](https://pypi.org/project/musicjax/) {__version__}.",
        "",
        "```bash",
        f"musicjax generate --workdir={name} --output=out"
        + ("" if settings.songs else " --prime=song.mid"),
        "```",
        "",
        "## Data",
        "",
        f"{config.data.source}, {counts['train']} songs to train on"
        + (f", besides {held}" if held else "")
        + f"; {encoding.describe(corpus.manifest['statistics'] | corpus.manifest)[0]}. "
        + _songs_line(min(settings.songs, counts["test"])),
        "",
        "## Licence",
        "",
        _license_line(settings.license),
        "",
        "## Measures",
        "",
        *_measures(trained, model, folder),
        "",
        "## Files",
        "",
        f"- `{workdir.WEIGHTS}`: the parameters by name, {settings.dtype}",
        "- `config.json`: the config below; `songs/`: the encoding, with its vocabulary",
    ]
    if settings.programs:
        lines.append(
            "- `programs/`: `prefill` and `sample_step` as StableHLO for any batch, on "
            f"{' and '.join(programs.PLATFORMS)}, by `jax.export`; `programs.json` has their "
            "arguments"
        )
    fields = flat_fields({key: config[key] for key in ("seed", "data", "model", "train")})
    lines += ["", "## Config", "", "```", *(f"{k} = {v!r}" for k, v in fields.items()), "```", ""]
    return "\n".join(lines)


def _songs_line(count: int) -> str:
    if not count:
        return "None of the songs is in this folder."
    return f"{count} of the test songs are in this folder, to be continued."


def _license_line(license: str) -> str:
    if license == ExportSettings.license:
        return "Nobody has said under what licence these weights are; ask whoever gave them to you."
    return f"{license}."


def _measures(trained: Trained, model: Model, folder: str | Path) -> list[str]:
    """Lines of what training found out at the checkpoint."""
    found = [line for line in workdir.load_metrics(folder) if line["step"] == trained.step]
    prefix = "validation_"
    rows = [
        f"| {name.removeprefix(prefix).replace('_', ' ')} | {value:.4g} |"
        for line in found[-1:]
        for name, value in line.items()
        if name.startswith(prefix) and isinstance(value, float)
    ]
    lines = [f"Step {trained.step}; the loss is in {model.loss_unit}."]
    if rows:
        lines += ["", "| of the validation songs | |", "|---|---|", *rows]
    standing = workdir.load_standing(folder)
    if standing and standing.step == trained.step:
        lines += ["", f"Beside the strongest simple baseline: {standing}."]
    return lines
