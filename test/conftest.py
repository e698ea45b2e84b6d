"""Shared by all tests: where the real data lies, if it is there."""

import os
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine makes an example slow, not wrong.
settings.register_profile('tpf', deadline=None)
settings.load_profile('tpf')


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The folder of real third-party data; tests that need it skip where it is absent."""
    beside = Path(__file__).parents[2] / 'shared' / 'data'
    folder = Path(os.environ.get('TPF_SHARED_DATA', beside))
    if not folder.is_dir():
        pytest.skip(f'real data not found at {folder}; set TPF_SHARED_DATA to its folder')
    return folder


@pytest.fixture
def file_size_limit():
    """with file_size_limit(bytes): writing a file beyond that fails as it does on a full disk."""

    @contextmanager
    def limited(limit):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
