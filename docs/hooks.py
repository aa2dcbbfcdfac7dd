"""What the site has beside the pages of this folder: the README and other files of the repository
that its pages link to, so that each link is written once, as it works on GitHub; and tables of
flags, where a page says

    <!-- flags: musicjax.generation.options:Options -->

The docstrings of the API are read as this house writes them.
"""

import dataclasses
import importlib
import posixpath
import re
from pathlib import Path, PurePosixPath

import griffe
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
# Pages that stand elsewhere in the repository, by their place in the site.
PAGES = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "benchmarks.md": "benchmarks/README.md",
}
LINK = re.compile(r"(\]\()([^)\s#]*)")
FLAGS = re.compile(r"<!-- flags: ([\w.]+):(\w+) -->")
SECTION = re.compile(r"\n+( *(?:Args|Attributes|Raises|Returns|Yields):\n)")
SEVERAL = re.compile(r"^( +)(\w+(?:, \w+)+): (.*)$", re.MULTILINE)
FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)


class Docstrings(griffe.Extension):
    """Docstrings as griffe expects them: an empty line before a section, a line for each name."""

    def on_object(self, *, obj, **kwargs):
        """Changes the docstring of each object that is read."""
        if obj.docstring:
            value = SECTION.sub(r"\n\n\1", obj.docstring.value)
            obj.docstring.value = SEVERAL.sub(
                lambda match: "\n".join(
                    f"{match[1]}{name}: {match[3]}" for name in match[2].split(", ")
                ),
                value,
            )


def on_files(files, config):
    """Adds the pages, and what they and the pages of this folder link to."""
    for place, path in PAGES.items():
        files.append(
            File.generated(config, place, content=(ROOT / path).read_text(encoding="utf-8"))
        )
    for page in list(files.documentation_pages()):
        for target in _links(page.content_string):
            path = _path(page.src_uri, target)
            place = _place(path)
            if files.get_file_from_path(place) is None and (ROOT / path).is_file():
                content = (ROOT / path).read_bytes()
                files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turns links within the repository into links within the site."""

    def turned(match):
        target = match[2]
        if not target or ":" in target:
            return match[0]
        place = _place(_path(page.file.src_uri, target))
        folder = posixpath.dirname(page.file.src_uri)
        return match[1] + posixpath.relpath(place, folder or ".")

    markdown = FLAGS.sub(lambda match: _flags(match[1], match[2]), markdown)
    parts, end = [], 0
    for fence in FENCE.finditer(markdown):  # no links in there
        parts += [LINK.sub(turned, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(turned, markdown[end:])])


def _flags(module, name):
    """The fields of a dataclass of settings as a table, in Markdown."""
    rows = ["| flag | default | |", "|---|---|---|"]
    for field in dataclasses.fields(getattr(importlib.import_module(module), name)):
        default = "" if field.default in (None, "") else f"`{field.default}`"
        text = field.metadata["help"].replace("|", "\\|")
        rows.append(f"| `--{field.name}` | {default} | {text} |")
    return "\n".join(rows)


def _links(markdown):
    found = (match[2] for match in LINK.finditer(FENCE.sub("", markdown)))
    return [target for target in found if target and ":" not in target]


def _path(page, target):
    """In the repository, of what a page of the site links to."""
    source = PAGES.get(page, f"docs/{page}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))


def _place(path):
    """In the site, of a file of the repository."""
    for place, page in PAGES.items():
        if page == path:
            return place
    docs = PurePosixPath("docs")
    if docs in PurePosixPath(path).parents:
        return str(PurePosixPath(path).relative_to(docs))
    shown = path.endswith((".png", ".txt"))
    return f"files/{path}" if shown else f"files/{path}.txt"  # text, which browsers show
