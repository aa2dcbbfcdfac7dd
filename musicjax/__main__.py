"""The commands by name: `musicjax train ...` is `python -m musicjax.train ...`."""

import ast
import difflib
import importlib.util
import runpy
import sys
from pathlib import Path

from musicjax.system import stop, streams

COMMANDS = ("train", "encode", "evaluate", "generate", "compare", "listen", "export", "cache")


def main() -> None:
    """Runs the command that the first word names, with the words after it."""
    with streams.written():
        _run()


def _run() -> None:
    stop.catch()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h", "help"):
        print(_help())
    elif name == "--version":
        from musicjax import __version__

        print(f"musicjax {__version__}")
    elif name in _summaries():
        sys.argv = [f"musicjax {name}", *sys.argv[2:]]
        # As python -m does; so that the command's module does not take the place of the function
        # of its name, such as musicjax.train.
        runpy.run_module(f"musicjax.{name}", run_name="__main__", alter_sys=True)
    else:
        close = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {close[0]}?" if close else f"expected {', '.join(_summaries())}"
        print(f"error: unknown command {name!r}; {hint}", file=sys.stderr)
        sys.exit(2)


def _help() -> str:
    lines = ["musicjax COMMAND --flag=value ...; musicjax COMMAND --help says which flags.", ""]
    return "\n".join([*lines, *(f"  {name:10}{text}" for name, text in _summaries().items())])


def _summaries() -> dict[str, str]:
    """What each command does: the first line of its module, which is not imported for it."""
    summaries = {}
    for name in COMMANDS:
        spec = importlib.util.find_spec(f"musicjax.{name}")
        if spec and spec.origin:
            docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
            summaries[name] = (docstring or "").partition("\n")[0]
    return summaries


if __name__ == "__main__":
    main()
