"""A command starts itself once more, and then its memory is in huge pages."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from musicjax.system import huge_pages

PROGRAM = """
import os, re, sys
from musicjax.system import huge_pages
huge_pages.restart()
block = b"x" * 2**27
text = open("/proc/self/smaps_rollup").read()
pages = re.search(r"AnonHugePages: +(\\d+)", text)[1]
print(sys.argv[1:], huge_pages.VARIABLE in os.environ, pages)
"""


def run(**more):
    environment = {**huge_pages.environment(), **more}
    if not more:
        del environment[huge_pages.VARIABLE]
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", PROGRAM, "--some=words"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_command_starts_once_more_with_its_arguments_and_has_huge_pages():
    first, second = run()
    assert first.startswith("starting anew with huge pages")
    assert second.startswith("['--some=words'] False ")
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if pages.exists() and "[never]" not in pages.read_text():
        assert int(second.split()[-1]) > 2**16  # KiB; half of the block at the least


def test_what_the_user_has_set_stays():
    (line,) = run(**{huge_pages.VARIABLE: "glibc.malloc.top_pad=1000000"})
    assert line.startswith("['--some=words'] True ")


@pytest.mark.parametrize("other", ["another C library", "another allocator", "embedded"])
def test_where_nothing_can_be_done_nothing_is(monkeypatch, other):
    monkeypatch.delenv(huge_pages.VARIABLE, raising=False)
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.39"))
    match other:
        case "another C library":
            monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
        case "another allocator":
            monkeypatch.setenv("LD_PRELOAD", "libjemalloc.so")
        case "embedded":
            monkeypatch.setattr(sys, "orig_argv", ["program"])
    monkeypatch.setattr(huge_pages.os, "execve", lambda *_: pytest.fail("started anew"))
    huge_pages.restart()
