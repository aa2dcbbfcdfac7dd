import contextlib
import stat

import pytest

from musicjax.errors import InputError
from musicjax.system import files


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "ünï\n")
    with contextlib.suppress(KeyboardInterrupt), files.new_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text(encoding="utf-8") == "ünï\n"
    with files.new_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() != b"new"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "folder"
    with contextlib.suppress(KeyboardInterrupt), files.new_folder(path) as folder:
        (folder / "half").touch()
        raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == []
    with files.new_folder(path) as folder:
        (folder / "file").touch()
        assert not path.exists()
    assert [file.name for file in path.iterdir()] == ["file"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_exists_is_refused(tmp_path):
    with pytest.raises(InputError, match="already exists; give another folder or delete it"):
        files.expect_new(tmp_path)
    with pytest.raises(InputError, match="already exists"), files.new_folder(tmp_path):
        pass
    files.expect_new(tmp_path / "new")
