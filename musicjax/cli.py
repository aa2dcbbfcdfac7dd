"""What all command lines share: parsing, one-line errors with status 2, and a quick --help."""

import dataclasses
import difflib
import errno
import os
import runpy
import sys
import threading
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from absl import app, flags, logging
from ml_collections import config_flags

from musicjax.config import flat_fields
from musicjax.errors import InputError

T = TypeVar("T")
_CONFIG = "config"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def define_config() -> None:
    """Defines --config=FILE.py[:variant], with --config.x.y=value for each of its fields."""
    config_flags.DEFINE_config_file(
        _CONFIG,
        None,
        "Config file, such as configs/vocab.py, or configs/vocab.py:quick for a variant. Set "
        "any of its fields by --config.x.y=value.",
        lock_config=True,
    )
    flags.mark_flag_as_required(_CONFIG)


def define_options(options: type) -> None:
    """Defines a flag for each field of a dataclass of settings with defaults and helps."""
    define = {
        bool: flags.DEFINE_bool,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }
    for field in dataclasses.fields(options):
        # int | None, say, of a setting that may be left out
        kinds = [kind for kind in typing.get_args(field.type) or (field.type,) if kind in define]
        define[kinds[0]](field.name, field.default, field.metadata["help"])


def parsed_options(options: Callable[..., T], values: Any) -> T:
    """The dataclass whose fields `define_options` made flags of, from the parsed flags.

    Raises:
        InputError: a value that is not allowed.
    """
    names = [field.name for field in dataclasses.fields(typing.cast(Any, options))]
    return options(**{name: values[name].value for name in names})


def run(main: Callable, define_flags: Callable[[], None]) -> None:
    """Runs a command: parses the flags, then main(flags).

    An InputError, a wrong flag and a full disk each end it with one line and status 2; --debug
    shows the traceback.
    """
    flags.DEFINE_bool("debug", False, "Show tracebacks.")
    define_flags()
    if "--debug" not in sys.argv:
        # Orbax logs each file, and each thread's traceback, of what it then raises here.
        logging.set_verbosity(logging.FATAL)
        threading.excepthook = _thread_excepthook
    for flag in flags.FLAGS.flags_by_module_dict()[__name__]:
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # --help shows these too
    try:
        app.run(lambda _: main(flags.FLAGS), flags_parser=_parse)
    except Exception as error:
        message = _message(error)
        # The flag may be unparsed here, so look at the command line itself.
        if message is None or "--debug" in sys.argv:
            raise
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as stop:
        # absl ends --help with status 1.
        sys.exit(0 if {"--help", "--helpfull", "--helpshort"} & set(sys.argv) else stop.code)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


def _thread_excepthook(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is None or _message(arguments.exc_value) is None:
        threading.__excepthook__(arguments)


def _message(error: BaseException) -> str | None:
    """The line about an error that the user can mend; None for one of musicjax itself."""
    if isinstance(error, InputError):
        return str(error)
    filename = getattr(error, "filename", None)
    # Orbax reports a full disk as a ValueError with the system's text in it.
    if getattr(error, "errno", None) in _FULL or os.strerror(errno.ENOSPC) in str(error):
        return f"no space left on the device of {filename or 'the output'}; free some and try again"
    if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EROFS:
        return f"{filename}: not writable; give another folder"
    return None


def _parse(argv: list[str]) -> list[str]:
    path, _ = _config_file(argv)
    if path and not Path(path).is_file():
        raise InputError(f"--config={path}: no such config file; expected as configs/vocab.py")
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        # An error in a config file comes with its traceback; the last line is the error itself.
        line = str(error).strip().splitlines()[-1]
        raise InputError(f"{line}; see --help") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(_unknown_field(argv) or str(error)) from error
    if len(rest) > 1:
        raise InputError(f"unexpected argument {rest[1]!r}; flags look like --name=value")
    return rest


def _config_file(argv: list[str]) -> tuple[str, str]:
    """The file and the variant of --config=FILE:variant."""
    words = iter(argv)
    for word in words:
        name, _, value = word.partition("=")
        if name.lstrip("-") == _CONFIG:
            path, _, variant = (value or next(words, "")).partition(":")
            return path, variant
    return "", ""


def _unknown_field(argv: list[str]) -> str | None:
    """A line about the first --config.x.y that the config does not have."""
    path, variant = _config_file(argv)
    fields = list(flat_fields(runpy.run_path(path)["get_config"](variant)))
    prefix = f"--{_CONFIG}."
    for word in argv:
        name = word.partition("=")[0].removeprefix(prefix)
        if word.startswith(prefix) and name not in fields:
            ends = {field.rpartition(".")[2]: field for field in fields}
            end = name.rpartition(".")[2]
            if end in ends:  # it is in another group
                close = [ends[end]]
            else:
                close = difflib.get_close_matches(name, fields, 1)
                close = close or [ends[e] for e in difflib.get_close_matches(end, ends, 1)]
            hint = f"did you mean {close[0]}?" if close else f"fields are {', '.join(fields)}"
            return f"unknown config field {name!r}; {hint}"
    return None
