"""Text as editors save it, files that are whole or absent; failures as one clear line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tpf_tracker_ros.core.errors import TpfError

BOMS = {b'\xff\xfe': 'utf-16', b'\xfe\xff': 'utf-16'}


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
            remove(path)
            raise


def remove(path: Path) -> None:
    """Take a file away, if it is there; never what only looks like one, such as /dev/full."""
    if path.is_file():
        path.unlink()


def read_text(path: Path) -> str:
    """
    Return the text of a file in UTF-8, or in UTF-16 with a byte order mark; marks are no text.

    Raises TpfError when it cannot be read, or holds something else.
    """
    try:
        data = path.read_bytes()
        return data.decode(BOMS.get(data[:2], 'utf-8-sig'))
    except OSError as error:
        raise TpfError(f'{path} cannot be read: {error.strerror}') from None
    except UnicodeDecodeError as error:
        raise TpfError(f'{path} cannot be read as text: {error}{substitute(path)}') from None


def substitute(path: Path) -> str:
    """
    Name what lies in the place of a file of data, to be added to an error; '' if nothing odd.

    Git LFS leaves a pointer where a download was left out; a download page that was saved under
    the name of the file is a web page.
    """
    try:
        with path.open('rb') as file:
            head = file.read(512).lstrip().lower()
    except OSError:
        return ''
    if head.startswith(b'version https://git-lfs'):
        return '; the file is a Git LFS pointer, fetch what it stands for: git lfs pull'
    if head.startswith((b'<!doctype html', b'<html')):
        return '; the file is a web page, such as a download page; download the file itself'
    return '' if head else '; the file is empty'


def entries(folder: Path) -> list[Path]:
    """List a folder by name, without hidden files and what macOS adds (__MACOSX, ._*)."""
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith('.') and path.name != '__MACOSX'
    )
