"""What all command lines share: parsing, one-line errors with status 2, and a quick --help."""

import difflib
import errno
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from musicjax.config import flat_fields
from musicjax.errors import InputError

_CONFIG = "config"


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


def run(main: Callable, define_flags: Callable[[], None]) -> None:
    """Runs a command: parses the flags, then main(flags).

    An InputError, a wrong flag and a full disk each end it with one line and status 2; --debug
    shows the traceback.
    """
    flags.DEFINE_bool("debug", False, "Show tracebacks.")
    define_flags()
    logging.set_verbosity(logging.WARNING)  # Orbax tells of each file at level info
    for flag in flags.FLAGS.flags_by_module_dict()[__name__]:
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # --help shows these too
    try:
        app.run(lambda _: main(flags.FLAGS), flags_parser=_parse)
    except (InputError, OSError) as error:
        # The flag may be unparsed here, so look at the command line itself.
        if "--debug" in sys.argv:
            raise
        if isinstance(error, InputError):
            message = str(error)
        elif error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"no space left on the device for {error.filename or 'output'}; free some"
        elif error.errno in (errno.EACCES, errno.EROFS):
            message = f"{error.filename}: not writable; give another folder"
        else:
            raise
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as stop:
        # absl ends --help with status 1.
        sys.exit(0 if {"--help", "--helpfull", "--helpshort"} & set(sys.argv) else stop.code)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


def _parse(argv: list[str]) -> list[str]:
    path, _ = _config_file(argv)
    if path and not Path(path).is_file():
        raise InputError(f"--config={path}: no such config file; expected as configs/vocab.py")
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        # What a config file raises comes with its traceback; the last line says what it was.
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
            close = difflib.get_close_matches(name, fields, 1) or [
                ends[end] for end in difflib.get_close_matches(name.rpartition(".")[2], ends, 1)
            ]
            hint = f"did you mean {close[0]}?" if close else f"fields are {', '.join(fields)}"
            return f"unknown config field {name!r}; {hint}"
    return None
