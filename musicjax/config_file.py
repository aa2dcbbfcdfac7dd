"""Config files: found by name, loaded, and explained by their own comments.

The files of configs/ stand at the top of the repository, and travel in the wheel as
musicjax/configs. They, and config files of a user's own, import one another as `configs.<name>`,
wherever they are and from wherever musicjax is called.
"""

import ast
import contextlib
import difflib
import io
import itertools
import os
import runpy
import sys
import textwrap
import tokenize
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from musicjax.config import Config, flat_fields
from musicjax.errors import InputError

_HERE = Path(__file__).parent
# In a wheel, or else in a clone.
FOLDER = next(path for path in (_HERE / "configs", _HERE.parent / "configs") if path.is_dir())
_PACKAGE = "configs"
_WIDTH = 100  # columns of the help
_INDENT = " " * 8


class ConfigFile(NamedTuple):
    """A config: a file, and one of its variants; "" for the file's own."""

    path: Path
    variant: str

    def __str__(self) -> str:
        return f"{self.path}:{self.variant}" if self.variant else str(self.path)


def find(name: str) -> ConfigFile:
    """The config of a name.

    Args:
        name: such as "vocab", "configs/vocab.py" or the path of any other file; a variant may come
            after a colon.
    Raises:
        InputError: there is no such file.
    """
    file, _, variant = name.partition(":")
    path = Path(file).expanduser()
    if path.suffix == ".py" and path.is_file():
        return ConfigFile(path.resolve(), variant)
    ours = FOLDER / f"{path.stem}.py"
    short = path.parts in ((path.stem,), (_PACKAGE, path.name))
    if not short or not ours.is_file():
        raise InputError(
            f"config is {name!r}: no such config file; expected one of {', '.join(names())}, or "
            "the path of a file, such as configs/vocab.py; a variant comes after a colon"
        )
    return ConfigFile(ours, variant)


def names() -> list[str]:
    """The short names of the configs that come with musicjax."""
    files = sorted(FOLDER.glob("*.py"))
    return [path.stem for path in files if "def get_config(" in path.read_text(encoding="utf-8")]


def _folders(path: Path) -> list[Path]:
    """Where the `configs` are that a config file imports."""
    return [path.parent, FOLDER] if path.parent.name == _PACKAGE else [FOLDER]


@contextlib.contextmanager
def importable(path: Path) -> Iterator[None]:
    """While a config file is loaded, `configs` are the files beside it, if its folder is called so,
    and those that come with musicjax. Whatever else had that name is there again afterwards.
    """

    def loaded() -> dict[str, types.ModuleType]:
        return {n: m for n, m in sys.modules.items() if f"{n}.".startswith(f"{_PACKAGE}.")}

    before = loaded()
    package = types.ModuleType(_PACKAGE)
    package.__path__ = list(map(str, _folders(path)))
    for name in before:
        del sys.modules[name]
    sys.modules[_PACKAGE] = package
    try:
        yield
    finally:
        for name in loaded():
            del sys.modules[name]
        sys.modules.update(before)


def get_config(name: str, **changes: Any) -> Config:
    """A config, to train with or to encode by.

    Args:
        name: as `find` takes it, such as "vocab:quick".
        **changes: values of fields by their dotted names, as in
            `get_config("vocab:quick", **{"train.epochs": 2, "data.source": "/my/midi"})`.
    Returns:
        an ml_collections.ConfigDict; locked, so that a misspelt field is an error.
    Raises:
        InputError: no such file, variant or field, or a value of another type.
    """
    file = find(name)
    with importable(file.path):
        function = runpy.run_path(str(file.path))["get_config"]
        try:
            config = function(*[file.variant] if file.variant else [])
        except ValueError as error:
            raise InputError(f"config is {name!r}: {error}") from error
    config.lock()
    for field, value in changes.items():
        if field not in flat_fields(config):
            raise InputError(unknown_field(field, config))
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        try:
            config.update_from_flattened_dict({field: value})
        except TypeError as error:
            raise InputError(f"{field} is {value!r}: {error}") from error
    return config


def unknown_field(name: str, config: Config) -> str:
    """A line about a field that a config does not have."""
    fields = list(flat_fields(config))
    ends = {field.rpartition(".")[2]: field for field in fields}
    end = name.rpartition(".")[2]
    if end in ends:  # it is in another group
        close = [ends[end]]
    else:
        close = difflib.get_close_matches(name, fields, 1)
        close = close or [ends[e] for e in difflib.get_close_matches(end, ends, 1)]
    hint = f"did you mean {close[0]}?" if close else f"fields are {', '.join(fields)}"
    return f"unknown config field {name!r}; {hint}"


# --- help --------------------------------------------------------------------------------------


def describe() -> str:
    """A line about each config that comes with musicjax."""
    lines = ["Configs, as --config=NAME or --config=NAME:variant:", ""]
    for name in names():
        lines.append(f"  {name:12}{_docstring(FOLDER / f'{name}.py').partition(chr(10))[0]}")
    return "\n".join([*lines, "", "Add --config=NAME to see what its fields mean."])


def explain(name: str) -> str:
    """What a config file says of itself, and each field with its value and its comment."""
    file = find(name)
    comments = _comments(file.path)
    lines = [_docstring(file.path), "", f"The fields of {name}; --config.FIELD=VALUE sets one.", ""]
    for field, value in flat_fields(get_config(name)).items():
        lines.append(f"{field} = {value!r}")
        comment = textwrap.wrap(comments.get(field, ""), _WIDTH - len(_INDENT))
        lines += [_INDENT + line for line in comment]
    return "\n".join(lines)


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.name


def _comments(path: Path) -> Mapping[str, str]:
    """What a config file says above and beside the line that sets a field, by the field's name;
    of what it does not explain, what the files say that it imports.
    """
    text = path.read_text(encoding="utf-8")
    above, beside = {}, {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            alone = token.line.lstrip().startswith("#")
            (above if alone else beside)[token.start[0]] = token.string.lstrip("# ")
    found: dict[str, str] = {}
    imported: list[str] = []
    tree = ast.parse(text)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            package, _, module = node.module.partition(".")
            if package == _PACKAGE:
                imported += [module] if module else [alias.name for alias in node.names]
    # Variants have other names; their comments are about a change.
    getters = [f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name.startswith("get_")]
    for node in itertools.chain.from_iterable(map(ast.walk, getters)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            # data.source and config.data.source are the field data.source, config.seed is seed.
            *_, group, field = ast.unparse(node.targets[0]).split(".")
            first = node.lineno
            while first - 1 in above:
                first -= 1
            said = [above[line] for line in range(first, node.lineno)]
            said += [beside[line] for line in (node.end_lineno,) if line in beside]
            if said:
                found.setdefault(field if group == "config" else f"{group}.{field}", " ".join(said))
    for module in imported:
        files = (folder / f"{module}.py" for folder in _folders(path))
        found = {**_comments(next(file for file in files if file.is_file())), **found}
    return found
