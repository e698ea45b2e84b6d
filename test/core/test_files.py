"""A file is whole or absent, and a failure says which file and why."""

import os

import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.files import remove, write_file


def test_writes_in_a_new_folder(tmp_path):
    write_file(tmp_path / 'a/b/c.txt', b'text')
    assert (tmp_path / 'a/b/c.txt').read_bytes() == b'text'


def test_full_disk_leaves_no_half_file(tmp_path, file_size_limit):
    with file_size_limit(50), pytest.raises(TpfError, match=r'cannot write .*c\.txt: File too'):
        write_file(tmp_path / 'c.txt', b'x' * 100)
    assert not (tmp_path / 'c.txt').exists()


def test_file_in_the_way_is_named(tmp_path):
    (tmp_path / 'a').write_text('')
    with pytest.raises(TpfError, match=r'cannot write .*/a: File exists'):
        write_file(tmp_path / 'a/b', b'')


def test_what_is_no_file_is_not_removed(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    remove(tmp_path / 'pipe')
    assert (tmp_path / 'pipe').exists()
    (tmp_path / 'file').touch()
    for _ in range(2):
        remove(tmp_path / 'file')
    assert not (tmp_path / 'file').exists()
