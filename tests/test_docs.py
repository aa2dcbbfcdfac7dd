"""The README and docs/: the site builds, links lead somewhere, commands parse, Python runs."""

import ast
import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT

from musicjax import config_file
from musicjax.__main__ import COMMANDS
from musicjax.config import flat_fields
from musicjax.generation.options import Options
from musicjax.rendering.audio import AudioSettings
from musicjax.rendering.page import PageSettings
from musicjax.training.settings import ExportSettings

README = ROOT / "README.md"
PAGES = [
    README,
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Parses each command line of musicjax in a process of its own, as the command itself would; prints
# what is wrong with it. Forked, so that what all of them import is imported once.
PARSER = """
import importlib, json, os, sys
import ml_collections
from musicjax import cli
from musicjax.generation.options import options_class
from musicjax.training.settings import check_config

for name, *words in json.load(sys.stdin):
    module = importlib.import_module(f"musicjax.{name}")
    if os.fork() == 0:
        sys.argv = [f"musicjax {name}", *words]

        def main(flags, *rest):
            if "config" in flags:
                check_config(flags.config)
            if name in ("generate", "listen"):
                cli.parsed_options(options_class(), flags)

        try:
            cli.run(main, module._define_flags, arguments=name == "compare")
        except SystemExit as stop:
            if stop.code:
                print(shlex.join(sys.argv))
            os._exit(bool(stop.code))
    if os.wait()[1]:
        print("refused:", name, *words)
"""


def text(path):
    return path.read_text(encoding="utf-8")


def blocks(path, language):
    return [match[3] for match in FENCE.finditer(text(path)) if match[2] == language]


def prose(path):
    return FENCE.sub("", text(path))


def command_lines(path):
    """The words of each command in a page's bash blocks."""
    for block in blocks(path, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def of_musicjax(words):
    """The words after `musicjax` of a command of its, or None."""
    if words[:2] == ["python", "-m"] and words[2].startswith("musicjax."):
        return [words[2].removeprefix("musicjax."), *words[3:]]
    return words[1:] if words[0] == "musicjax" else None


def named(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


def test_the_readme_is_short():
    assert len(text(README).splitlines()) <= 200


def test_the_readmes_figures_are_those_of_the_results():
    def rows(path):
        """What was measured of a config, of its first row in each table."""
        found = {}
        for line in text(path).splitlines():
            cells = [cell.strip(" *") for cell in line.strip("|").split("|")]
            if len(cells) > 5 and re.fullmatch(r"`\w+:\w+`", cells[1]):
                music, config, unit, time, model, baseline, *_ = cells
                found.setdefault((music, config, unit), (time, model, baseline))
        return found

    ours, theirs = rows(README), rows(ROOT / "docs" / "results.md")
    assert len(ours) >= 4
    for row, (time, model, baseline) in ours.items():
        whole_time, whole_model, whole_baseline = theirs[row]
        assert model == whole_model
        assert whole_time.startswith(time)
        assert whole_baseline.endswith(f" {baseline}")


@named(PAGES)
def test_links_lead_somewhere(path):
    """As on GitHub; the site checks its own, when it is built."""
    for target in LINK.findall(prose(path)):
        if "://" not in target:
            file, _, anchor = target.partition("#")
            linked = (path.parent / file).resolve() if file else path
            assert linked.is_relative_to(ROOT)
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked), target


def anchors(path):
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_site_builds_without_a_warning_and_loads_nothing_from_the_net(tmp_path):
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={site}"],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for page in site.rglob("*.html"):
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", text(page)):
            if 'rel="canonical"' not in tag:
                assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", tag), (page, tag)
    for path in PAGES:  # each is there, and its first heading
        title = text(path).splitlines()[0].removeprefix("# ")
        assert any(f">{title}<" in text(page) for page in site.rglob("*.html")), path
    reference = text(site / "api.html")
    for name in ("train", "Run.generate", "SongRecord"):
        assert re.search(rf'id="musicjax\.[\w.]*\b{re.escape(name)}"', reference), name
    assert "<code>--temperature</code>" in text(site / "generating.html")


def test_the_commands_of_musicjax_parse():
    found = [(path, words) for path in PAGES for words in command_lines(path)]
    lines = [words for _, line in found if (words := of_musicjax(line))]
    assert len(lines) > 30
    assert {words[0] for words in lines} >= set(COMMANDS) - {"encode", "cache"}
    done = subprocess.run(
        [sys.executable, "-c", PARSER],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "refused" not in done.stdout, done.stdout[-2000:] + done.stderr


@named(PAGES)
def test_other_commands_name_what_is_there(path):
    extras = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
    for words in command_lines(path):
        if of_musicjax(words) or words == [".", ".venv/bin/activate"]:
            continue
        if words[:2] == ["pip", "install"]:
            assert set(re.findall(r"\[(\w+)\]", words[-1])) <= extras.keys(), words
        elif words[:2] == ["python", "-m"]:
            assert_benchmark(*words[2:])
        elif words[0] == "python":
            script = text(ROOT / words[1])
            for word in words[2:]:
                assert f'"{word.partition("=")[0].removeprefix("--")}"' in script, (words[1], word)
        else:
            assert (ROOT / words[0]).is_file(), words


@named([path for path in PAGES if path.parent != ROOT / "benchmarks"])
def test_flags_and_settings_in_the_text_are_there(path):
    if path.name == "CHANGELOG.md":  # it names what was, too
        return
    code = "\n".join(map(text, (ROOT / "musicjax").rglob("*.py")))
    flags = {"config", "help", *re.findall(r"DEFINE_\w+\(\s*\"(\w+)\"", code)}
    for settings in (Options, AudioSettings, PageSettings, ExportSettings):
        flags |= {field.name for field in dataclasses.fields(settings)}
    configs = map(config_file.get_config, config_file.names())
    fields = {field for config in configs for field in flat_fields(config)}
    for span in re.findall(r"`([^`\n]+)`", prose(path)):
        if span.startswith("python -m benchmarks"):
            assert_benchmark(*span.split()[2:])
        elif span.startswith(("--", "musicjax", *COMMANDS)):
            for flag in re.findall(r"(?<![\w-])--(\w+)", span):
                assert {flag, flag.removeprefix("no")} & flags, span
        for field in re.findall(r"(?<![\w/])(?:data|model|train)\.(?!py\b)\w+", span):
            assert field in fields, span


def assert_benchmark(name, *words):
    package, _, script = name.partition(".")
    assert (ROOT / package / f"{script or '__main__'}.py").is_file(), name
    code = "\n".join(map(text, (ROOT / package).glob("*.py")))
    for word in words:
        assert f'"{word.partition("=")[0]}"' in code, (name, word)


@named(PAGES)
def test_python_is_python(path):
    for block in blocks(path, "python"):
        ast.parse(re.sub(r"^ {4}", "", block, flags=re.MULTILINE) if block[0] == " " else block)


@pytest.mark.slow
def test_python_runs(folder, tmp_path, monkeypatch):
    """With the smallest config, on songs of the tests; the second page finds the first's run."""
    (tmp_path / "song.mid").write_bytes((folder / "00.mid").read_bytes())
    monkeypatch.chdir(tmp_path)
    for path in (README, ROOT / "docs" / "api.md"):
        here = {}
        for block in blocks(path, "python"):
            tiny = block.replace("/my/midi", str(folder))
            tiny = tiny.replace("vocab:quick", "vocab:tiny_causal")
            exec(compile(tiny, str(path), "exec"), here)
        assert here["pieces"][0].song.num_notes
        assert len(here["run"].metrics) >= 2
    for name in ("piece.mid", "out/seed_3.mid", "again.mid", "corpus"):
        assert (tmp_path / name).exists(), name
