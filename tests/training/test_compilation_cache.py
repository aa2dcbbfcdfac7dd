import errno

import jax
import pytest
from conftest import spoil
from jax._src import compilation_cache as of_jax

from musicjax.training import compilation_cache


@pytest.fixture
def folder_of_jax():
    """The setting of jax, put back afterwards."""
    before = jax.config.jax_compilation_cache_dir
    yield lambda: jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", before)


def test_programs_are_kept_in_the_users_cache(folder_of_jax, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.enable()
    assert folder_of_jax() == str(tmp_path / "musicjax" / "programs")


def test_a_damaged_program_is_named_and_made_anew_and_a_full_disk_costs_none(
    tmp_path, capsys, monkeypatch
):
    entries = compilation_cache._Entries(str(tmp_path), max_size=-1)
    assert entries.get("jit_f-1") is None
    for damage in ("cut", "flipped", "empty"):
        entries.put("jit_f-1", b"program" * 20)
        assert entries.get("jit_f-1") == b"program" * 20
        assert capsys.readouterr().err == ""
        spoil(tmp_path / "jit_f-1", damage)
        assert entries.get("jit_f-1") is None
        assert capsys.readouterr().err.startswith("a compiled program was damaged and is made anew")
        assert list(tmp_path.iterdir()) == []

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(compilation_cache.files, "new_file", full)
    entries.put("jit_f-1", b"program")
    entries.put("jit_f-2", b"program")
    assert capsys.readouterr().err.count("compiled programs are not kept: ") == 1


def test_jax_reads_and_writes_entries_so(folder_of_jax, monkeypatch, tmp_path):
    """It is made to by a name of its own that may change."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.enable()
    assert isinstance(of_jax.get_file_cache(str(tmp_path))[0], compilation_cache._Entries)


def test_a_cache_that_cannot_be_written_is_named_and_not_used(
    folder_of_jax, monkeypatch, tmp_path, capsys
):
    (tmp_path / "musicjax").write_text("a file in its place")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.enable()
    assert folder_of_jax() is None
    assert capsys.readouterr().err.startswith("programs are compiled anew each time: the cache ")


def test_a_folder_that_was_set_stays(folder_of_jax, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    compilation_cache.enable()
    assert folder_of_jax() == str(tmp_path)
