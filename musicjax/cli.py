"""What all command lines share: parsing, one-line errors with status 2, and a quick --help."""

import contextlib
import dataclasses
import errno
import functools
import os
import sys
import threading
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from absl import app, flags, logging
from ml_collections import config_flags

from musicjax import config_file, readymade
from musicjax.config import flat_fields
from musicjax.errors import InputError, one_line
from musicjax.system import limits, stop, streams

T = TypeVar("T")
_CONFIG = "config"
_HELP = f"--help={_CONFIG}"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED: Out of memory"  # jax's


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


def define_model() -> None:
    """Defines --workdir and --model, of which a command takes one: `model_folder`."""
    flags.DEFINE_string("workdir", None, "Folder of musicjax.train, or of musicjax.export.")
    define_readymade()


def define_readymade() -> None:
    """Defines --model alone."""
    flags.DEFINE_string(
        "model",
        None,
        "In place of --workdir: a model that comes with musicjax and needs no training: "
        f"{', '.join(readymade.names())}.",
    )


def model_folder(values: Any) -> Path:
    """The folder that --workdir or --model names.

    Raises:
        InputError: neither is given, or both; or there is no such model.
    """
    if (values.workdir is None) == (values.model is None):
        ready = " or ".join(f"--model={name}" for name in readymade.names())
        raise InputError(f"expected --workdir=RUN, or {ready}, which needs no training")
    return Path(values.workdir) if values.model is None else readymade.find(values.model)


def output_folder(values: Any, name: str) -> Path:
    """--output, or a folder's name below that of the model: a work dir keeps what it made, and what
    a ready-made model made is in the current folder.
    """
    return Path(values.output or Path(values.workdir or values.model) / name)


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
    shows the traceback. What becomes of what it prints says musicjax.system.streams.written.
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
        limits.check()
        main(flags.FLAGS, *([words[1:]] if arguments else []))

    try:
        with streams.written():
            app.run(call, flags_parser=functools.partial(_parse, arguments=arguments))
    except Exception as error:
        message = _message(error)
        # The flag may be unparsed here, so look at the command line itself.
        if message is None or "--debug" in sys.argv:
            raise
        print(f"error: {one_line(' '.join(message.split()))}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as ended:
        # absl ends --help with status 1.
        helped = ended.code == 1 and {"--help", "--helpfull", "--helpshort"} & set(sys.argv)
        sys.exit(0 if helped else ended.code)
    except KeyboardInterrupt as stopped:
        stop.end(stopped)


def _thread_excepthook(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is None or _message(arguments.exc_value) is None:
        threading.__excepthook__(arguments)


def _message(error: BaseException) -> str | None:
    """The line about an error that the user can mend; None for one of musicjax itself."""
    if isinstance(error, InputError):
        return str(error)
    filename = getattr(error, "filename", None) or _output()
    number = getattr(error, "errno", None)
    # Orbax reports a full disk as a ValueError with the system's text in it.
    if number in _FULL or os.strerror(errno.ENOSPC) in str(error):
        return f"no space left on the device of {filename}; free some and try again"
    if number == errno.EFBIG:
        return f"{filename}: larger than a file may be here (ulimit -f); raise the limit"
    if number in (errno.EMFILE, errno.ENFILE):
        return "more files are open than may be (ulimit -n); raise the limit"
    if isinstance(error, MemoryError) or number == errno.ENOMEM or _OUT_OF_MEMORY in str(error):
        return "no memory left; give smaller sizes, such as a lower train.batch_size, or more of it"
    if isinstance(error, PermissionError) or number == errno.EROFS:
        return f"{filename}: not writable; give another folder"
    return None


def _output() -> str:
    """What a command writes to, where an error does not say it."""
    given = (flags.FLAGS[name].value for name in ("output", "workdir") if name in flags.FLAGS)
    return next(filter(None, given), "the output")


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
