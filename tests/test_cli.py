"""What all command lines share; each of them is run in test_commands.py."""

import dataclasses
import errno
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from musicjax import cli
from musicjax.config import at_least, setting
from musicjax.errors import InputError

PROGRAM = """
'''What this program does.'''
import dataclasses, errno, os, sys, threading
from absl import flags
from musicjax import cli
from musicjax.config import ANY, at_least, check_settings, setting
from musicjax.errors import InputError

@dataclasses.dataclass(frozen=True)
class Options:
    count: int = setting(at_least(1), default=4, help="How many.")
    length: int | None = setting(ANY, default=None, help="How long.")
    rate: float = setting(ANY, default=0.5, help="How fast.")
    name: str | None = setting(ANY, default=None, help="Whose.")
    quiet: bool = setting(ANY, default=False, help="Whether.")

    def __post_init__(self):
        check_settings(self)

def define():
    flags.DEFINE_string("raise", "", "What to raise.")
    cli.define_options(Options)

def main(flags):
    if flags["raise"].value:
        raise eval(flags["raise"].value)
    print(cli.parsed_options(Options, flags))

cli.run(main, define)
"""


def run(*words):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], cwd=ROOT, capture_output=True, text=True
    )


def test_options_are_the_flags_of_their_names():
    done = run()
    expected = "Options(count=4, length=None, rate=0.5, name=None, quiet=False)"
    assert (done.stdout.strip(), done.returncode) == (expected, 0)
    done = run("--count=2", "--length=7", "--rate=2", "--name=x", "--quiet")
    expected = "Options(count=2, length=7, rate=2.0, name='x', quiet=True)"
    assert done.stdout.strip() == expected


@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        (["--count=0"], 2, "error: count is 0; expected at least 1"),
        (["--count=x"], 2, "see --help"),
        (["--raise=InputError('two\\nlines')"], 2, "error: two lines"),
        (["--raise=InputError('a\\x1b[31m\\u2028b\\0')"], 2, r"error: a\x1b[31m b\x00"),
        (["--raise=PermissionError(13, 'no', '/x')"], 2, "error: /x: not writable; give another"),
        (["--raise=OSError(errno.EROFS, 'no', '/x')"], 2, "error: /x: not writable"),
        (["--raise=OSError(errno.EDQUOT, 'no')"], 2, "error: no space left on the device of the o"),
        (["--raise=KeyboardInterrupt()"], 130, "stopped"),
    ],
)
def test_errors_of_the_user_are_one_line_and_a_status(words, status, line):
    done = run(*words)
    assert done.returncode == status
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [["--raise=ZeroDivisionError()"], ["--count=0", "--debug"]])
def test_errors_of_musicjax_and_debug_show_the_traceback(words):
    done = run(*words)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_help_shows_all_flags_and_ends_well():
    done = run("--help")
    assert done.returncode == 0
    for text in ("--count: How many.", "--[no]quiet: Whether.", "--[no]debug"):
        assert text in done.stdout


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("x is 3; expected 4"), "x is 3; expected 4"),
        (OSError(errno.ENOSPC, "full", "/a"), "no space left on the device of /a; free some"),
        (ValueError("RESOURCE_EXHAUSTED: No space left on device"), "no space left on the device"),
        (PermissionError(errno.EACCES, "no", "/a"), "/a: not writable; give another folder"),
        (FileNotFoundError(errno.ENOENT, "no", "/a"), None),
        (ValueError("shape"), None),
    ],
)
def test_which_errors_are_the_users(error, line):
    message = cli._message(error)
    assert message is None if line is None else message is not None and line in message


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--config=a.py:b"], ("a.py:b", (0, 1))),
        (["--x", "-config", "a.py", "--y"], ("a.py", (1, 3))),
        (["--config.seed=3", "--config"], ("", (1, 3))),
        ([], ("", (0, 0))),
    ],
)
def test_the_config_of_a_command_line(words, found):
    assert cli._config_name(words) == found


def test_a_reader_that_is_gone_ends_it_quietly():
    loop = "print('x', flush=True) or [print('y' * 9999) for _ in range(99)]"
    command = [sys.executable, "-c", PROGRAM.replace("print(cli", f"{loop}; print(cli")]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "x\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.parametrize(
    "words", [("-c", PROGRAM, "--help"), ("-m", "musicjax", "--version")], ids=["help", "version"]
)
def test_where_nobody_reads_what_is_printed_last(words):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, *words], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("redirection", "status", "said"),
    [
        (">/dev/full", 2, "error: no space left on the device of standard output\n"),
        (">&-", 0, ""),
        (">/dev/null 2>&-", 0, ""),
    ],
)
def test_standard_output_that_is_full_or_closed(redirection, status, said):
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-c", PROGRAM]
    environment = os.environ | {"PYTHONUNBUFFERED": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (status, said)


def test_a_broken_pipe_that_is_not_the_output_is_an_error_of_musicjax():
    done = run("--raise=BrokenPipeError(32, 'a worker')")
    assert done.returncode == 1
    assert "a worker" in done.stderr


def test_a_flag_is_of_the_type_of_its_field():
    from absl import flags

    @dataclasses.dataclass(frozen=True)
    class Toy:
        toy_count: int | None = setting(at_least(0), default=None, help="Count.")

    cli.define_options(Toy)
    values = flags.FlagValues()
    flags.DEFINE_integer("toy_count", 3, "Count.", flag_values=values)
    values(["program"])
    assert cli.parsed_options(Toy, values) == Toy(toy_count=3)
    assert isinstance(flags.FLAGS["toy_count"].parser, flags.IntegerParser)
