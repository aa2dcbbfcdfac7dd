"""What all command lines share: parsing, one-line errors with status 2, and a quick --help."""

import contextlib
import dataclasses
import errno
import functools
import os
import select
import sys
import threading
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from absl import app, flags, logging
from ml_collections import config_flags

from musicjax import config_file
from musicjax.config import flat_fields
from musicjax.errors import InputError, one_line
from musicjax.system import stop

T = TypeVar("T")
_CONFIG = "config"
_HELP = f"--help={_CONFIG}"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_BROKEN_PIPE = 128 + 13  # what a shell makes of SIGPIPE


def define_config() -> None:
    """Defines --config=NAME[:variant], with --config.x.y=value for each of its fields."""
    config_flags.DEFINE_config_file(
        _CONFIG,
        None,
        "Config, such as vocab, or vocab:quick for a variant; or a file, such as configs/vocab.py. "
        "Set any of its fields by --config.x.y=value; --help=config says what they are.",
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


def run(main: Callable, define_flags: Callable[[], None], *, arguments: bool = False) -> None:
    """Runs a command: parses the flags, then main(flags); with `arguments` main(flags, words), with
    the words that are no flags.

    An InputError, a wrong flag and a full disk each end it with one line and status 2; --debug
    shows the traceback. Where what it prints is no longer read, as by `| head`, it ends quietly.
    SIGINT and SIGTERM end it as musicjax.system.stop says.
    """
    stop.catch()
    flags.DEFINE_bool("debug", False, "Show tracebacks.")
    define_flags()
    if "--debug" not in sys.argv:
        # Orbax logs each file, and each thread's traceback, of what it then raises here.
        logging.set_verbosity(logging.FATAL)
        threading.excepthook = _thread_excepthook
    for flag in flags.FLAGS.flags_by_module_dict()[__name__]:
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # --help shows these too

    def call(words: list[str]) -> None:
        main(flags.FLAGS, *([words[1:]] if arguments else []))
        sys.stdout.flush()

    try:
        app.run(call, flags_parser=functools.partial(_parse, arguments=arguments))
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            sys.exit(_BROKEN_PIPE)
        message = _message(error)
        # The flag may be unparsed here, so look at the command line itself.
        if message is None or "--debug" in sys.argv:
            raise
        print(f"error: {one_line(' '.join(message.split()))}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as ended:
        # absl ends --help with status 1.
        sys.exit(0 if {"--help", "--helpfull", "--helpshort"} & set(sys.argv) else ended.code)
    except KeyboardInterrupt as stopped:
        stop.end(stopped)


def _thread_excepthook(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is None or _message(arguments.exc_value) is None:
        threading.__excepthook__(arguments)


def _nobody_reads() -> bool:
    """Whether it is standard output whose reader is gone; it is then given up."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sys.stdout, select.POLLERR)
        if not poll.poll(0):
            return False
    # Or else Python says so once more when it ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


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


def _parse(argv: list[str], *, arguments: bool) -> list[str]:
    name, place = _config_name(argv)
    if _HELP in argv and _CONFIG in flags.FLAGS:
        print(config_file.explain(name) if name else config_file.describe())
        sys.exit(0)
    loading = contextlib.nullcontext()
    if name:
        file = config_file.find(name)
        # First, as ml_collections wants it to be, wherever the user has put it; it looks there.
        argv = [argv[0], f"--{_CONFIG}={file}", *argv[1 : place[0]], *argv[place[1] :]]
        sys.argv = argv
        loading = config_file.importable(file.path)
    try:
        with loading:
            rest = flags.FLAGS(argv)
    except flags.Error as error:
        # An error in a config file comes with its traceback; the last line is the error itself.
        line = str(error).strip().splitlines()[-1]
        raise InputError(f"{line}; see --help") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(_unknown_field(name, argv) or str(error)) from error
    if len(rest) > 1 and not arguments:
        raise InputError(f"unexpected argument {rest[1]!r}; flags look like --name=value")
    return rest


def _config_name(argv: list[str]) -> tuple[str, tuple[int, int]]:
    """The value of --config=NAME or --config NAME, "" without one; from and to which word it is."""
    for i, word in enumerate(argv):
        flag, equals, value = word.partition("=")
        if flag in (f"-{_CONFIG}", f"--{_CONFIG}"):
            return (value, (i, i + 1)) if equals else ("".join(argv[i + 1 : i + 2]), (i, i + 2))
    return "", (0, 0)


def _unknown_field(name: str, argv: list[str]) -> str | None:
    """A line about the first --config.x.y that a config does not have."""
    config = config_file.get_config(name)
    prefix = f"--{_CONFIG}."
    for word in argv:
        field = word.partition("=")[0].removeprefix(prefix)
        if word.startswith(prefix) and field not in flat_fields(config):
            return config_file.unknown_field(field, config)
    return None
