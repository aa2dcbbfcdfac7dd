import subprocess

import pytest
from conftest import spoil

from musicjax.system import checksums


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "deep" / "b").write_bytes(b"two")
    checksums.write(tmp_path)
    return tmp_path


def test_what_was_written_is_whole_and_what_was_added_does_not_count(folder):
    assert checksums.find_damage(folder) is None
    (folder / "c").write_bytes(b"three")
    assert checksums.find_damage(folder) is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "empty"])
@pytest.mark.parametrize("name", ["a", "deep/b", "SHA256SUMS"])
def test_any_damage_is_named(folder, name, damage):
    spoil(folder / name, damage)
    found = checksums.find_damage(folder)
    assert found is not None
    assert found.endswith(("is missing", "is not what was written"))
    assert name == "SHA256SUMS" or found.startswith(name)


def test_each_byte_and_each_line_of_the_checksums_counts(folder):
    path = folder / checksums.NAME
    content = path.read_bytes()
    for i in range(0, len(content) - 1, 7):
        path.write_bytes(content[:i] + bytes([content[i] ^ 0x80]) + content[i + 1 :])
        assert checksums.find_damage(folder), i
        path.write_bytes(content[:i])
        assert checksums.find_damage(folder), i
    path.write_bytes(content)
    assert checksums.find_damage(folder) is None


def test_sha256sum_reads_it(folder):
    command = ["sha256sum", "--check", "--strict", checksums.NAME]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def test_a_folder_in_place_of_a_file_is_damage(folder):
    (folder / "a").unlink()
    (folder / "a").mkdir()
    assert checksums.find_damage(folder) == "a is missing"
