"""A command starts itself once more, and then its memory lies in large pages."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from musicjax import allocator

PROGRAM = """
import os, re, sys
from musicjax import allocator
allocator.use_large_pages()
block = b"x" * 2**27
text = open("/proc/self/smaps_rollup").read()
print(sys.argv[1:], allocator.VARIABLE in os.environ, re.search(r"AnonHugePages: +(\\d+)", text)[1])
"""


def run(**more):
    environment = {**allocator.environment(), **more}
    if not more:
        del environment[allocator.VARIABLE]
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
def test_starts_once_more_with_its_words_and_has_large_pages():
    first, second = run()
    assert first.startswith("starting anew with large pages")
    assert second.startswith("['--some=words'] False ")
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if pages.exists() and "[never]" not in pages.read_text():
        assert int(second.split()[-1]) > 2**16  # KiB; half of the block at the least


def test_what_the_user_has_set_stays():
    (line,) = run(**{allocator.VARIABLE: "glibc.malloc.top_pad=1000000"})
    assert line.startswith("['--some=words'] True ")


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.delenv(allocator.VARIABLE, raising=False)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.os, "execve", lambda *_: pytest.fail("started anew"))
    allocator.use_large_pages()
