import jax
import pytest

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
    assert folder_of_jax() == str(tmp_path / "musicjax" / "compiled")


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
