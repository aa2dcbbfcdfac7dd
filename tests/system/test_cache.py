import pytest

from musicjax.errors import InputError
from musicjax.system import cache


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "musicjax"


def test_what_is_in_it_and_how_large(root):
    assert cache.contents() == []
    assert cache.clear() == 0
    (root / "corpora" / "deep").mkdir(parents=True)
    (root / "corpora" / "deep" / "data").write_bytes(b"x" * 70)
    (root / "corpora" / "other").write_bytes(b"x" * 30)
    (root / "compiled").mkdir()
    assert cache.contents() == [
        (root / "compiled", 0, 0),
        (root / "corpora", 2, 100),
    ]
    cache.expect_writable()
    assert cache.clear() == 100
    assert not root.exists()
    assert root.parent.is_dir()


def test_one_that_cannot_be_written_is_named_as_such(root):
    root.write_text("a file in its place")
    with pytest.raises(InputError, match=r"the cache cannot be used: .*musicjax: .*XDG_CACHE_HOME"):
        cache.expect_writable()
