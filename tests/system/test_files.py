import contextlib
import os
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


def test_what_kills_have_left_of_a_folder_is_removed_when_it_is_a_day_old(tmp_path):
    names = [".folder.abcd_123", ".folder.abcd_124", ".folder.partial", ".other.abcd_123"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
        if name != names[1]:  # which another process may be writing
            os.utime(tmp_path / name, (0, 0))
    with files.new_folder(tmp_path / "folder"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"folder", *names[1:]}


def test_a_folder_that_exists_is_refused(tmp_path):
    with pytest.raises(InputError, match="already exists; give another folder or delete it"):
        files.expect_new(tmp_path)
    with pytest.raises(InputError, match="already exists"), files.new_folder(tmp_path):
        pass
    files.expect_new(tmp_path / "new")
