import os
from pathlib import Path

import pytest
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.system.compiled import call_compiler, compiled_once, find_compilers


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    return tmp_path / 'tpf_tracker_ros'


def write(folder: Path) -> None:
    (folder / 'made').touch()


def test_each_set_of_sources_is_built_once(cache, capsys):
    first, again, other = (
        compiled_once('thing', made_from, write, seconds=1)
        for made_from in (['a', 'b'], ['a', 'b'], ['a', 'c'])
    )
    assert first == again != other
    assert (first / 'made').exists() and first.parent == cache
    assert capsys.readouterr().err.count('compiling thing once, about 1 s') == 2


def test_a_build_that_fails_leaves_nothing_and_is_tried_again(cache):
    def fail(folder: Path) -> None:
        write(folder)
        call_compiler(['sh', '-c', 'echo "x.c:1: error: no" >&2; false'], 'thing')

    with pytest.raises(TpfError, match=r'thing does not compile with sh: x\.c:1: error: no'):
        compiled_once('thing', ['a'], fail, seconds=1)
    assert [path.name for path in cache.iterdir()] == ['lock']
    assert compiled_once('thing', ['a'], write, seconds=1).is_dir()


def test_a_cache_that_cannot_be_written_says_what_to_do(monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', __file__)
    with pytest.raises(TpfError, match='set XDG_CACHE_HOME'):
        compiled_once('thing', ['a'], write, seconds=1)
    for name in ('XDG_CACHE_HOME', 'HOME'):
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, 'getuid', lambda: 2**31 - 7)
    with pytest.raises(TpfError, match='user 2147483641 has no home folder; set XDG_CACHE_HOME'):
        compiled_once('thing', ['a'], write, seconds=1)


def test_the_environment_names_the_compilers(monkeypatch):
    monkeypatch.setenv('CC', 'true')
    monkeypatch.setenv('CXX', 'false')
    assert find_compilers('thing') == {'.c': ['true'], '.cpp': ['false']}
