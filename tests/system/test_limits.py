import resource

import pytest

from musicjax.errors import InputError
from musicjax.system import limits

NONE = resource.RLIM_INFINITY


def limited(monkeypatch, files=(NONE, NONE), addresses=(NONE, NONE)):
    """As if the system had these limits, soft and hard; the one of files that is set."""
    found, changed = {resource.RLIMIT_NOFILE: files, resource.RLIMIT_AS: addresses}, []
    monkeypatch.setattr(resource, "getrlimit", found.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: changed.append(limit))
    limits.check()
    return changed


def test_too_few_files_or_too_little_memory_are_told_before_work_begins(monkeypatch):
    assert limited(monkeypatch) == []
    assert limited(monkeypatch, (1024, 4096), (2**40, NONE)) == []
    assert limited(monkeypatch, (32, 4096)) == [(128, 4096)]  # it may raise its own
    with pytest.raises(InputError, match="open 32 files; expected at least 128, such as by ulimit"):
        limited(monkeypatch, (32, 32))
    with pytest.raises(InputError, match=r"1\.0 GiB of memory \(ulimit -v\); expected at least 3"):
        limited(monkeypatch, addresses=(2**30, 2**30))


def test_a_full_disk_is_told_before_work_begins(tmp_path):
    limits.expect_room(tmp_path / "not" / "there", 1000, "a few bytes")
    expected = r"free on its device; expected at least 1099511627776\.0, for two checkpoints"
    with pytest.raises(InputError, match=expected):
        limits.expect_room(tmp_path, 2**60, "two checkpoints")
