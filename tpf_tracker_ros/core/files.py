"""Writing files that are whole or absent, and failures of it as one clear line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tpf_tracker_ros.core.errors import TpfError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full disk, a missing right or a file in the way into a TpfError."""
    try:
        yield
    except OSError as error:
        raise TpfError(f'cannot write {error.filename or path}: {error.strerror}') from error


def write_file(path: Path, data: bytes) -> None:
    """Write the whole file, in a folder made for it, or leave none. Raises TpfError."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.write_bytes(data)
        except OSError:
            path.unlink(missing_ok=True)
            raise
