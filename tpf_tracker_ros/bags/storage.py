"""
Open any recording: mcap, sqlite3 or ROS 1, one file or a folder, compressed, cut, unindexed.

rosbags parses the formats. What is added: metadata.yaml is not needed; a file that is cut or
damaged is read up to there; messages come in order of time over all files of a recording.
"""

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
import heapq
import logging
from pathlib import Path
import re
import shutil
import struct
from tempfile import TemporaryDirectory
from typing import Any

import apsw
from ruamel.yaml import YAML
from tpf_tracker_ros.bags.readers import McapFile, reason, Ros1File, SqliteFile
from tpf_tracker_ros.bags.typestore import typestore, typestore_ros1
from tpf_tracker_ros.bags.zstd import zstd
from tpf_tracker_ros.core.errors import TpfError
from tpf_tracker_ros.core.files import entries, substitute

KINDS = {'.mcap': McapFile, '.db3': SqliteFile, '.bag': Ros1File}
WRAPPED = ('.zstd', '.active')  # what may follow: compressed, still being recorded
LOGS = ('-wal', '-journal')  # of sqlite, beside a file whose writer was killed
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Topic:
    """Type, as in 'sensor_msgs/msg/Image', number of messages, and how they are serialized."""

    kind: str
    count: int
    encoding: str = 'cdr'

    @property
    def readable(self) -> bool:
        """Whether its messages can be decoded: those of ROS 2 and ROS 1."""
        return self.encoding in ('cdr', 'ros1')


@dataclass(frozen=True)
class Message:
    """A serialized message; time is the bag's, in ns; encoding 'cdr' (ROS 2) or 'ros1'."""

    topic: str
    kind: str
    time: int
    data: bytes
    encoding: str = 'cdr'


def bag_files(path: Path) -> list[Path]:
    """
    Return the files of a recording, in order: the file itself, or those in a folder; else none.

    Of a folder those that its metadata.yaml lists, all of one format where there is none: files
    of several formats are conversions of one another.
    """
    if path.is_file():
        return [path] if _kind(path) else []
    files = [file for file in entries(path) if file.is_file()] if path.is_dir() else []
    files.sort(key=_part)
    listed = listed_files(path) or ()
    chosen = [file for file in files if _plain(file.name) in listed and _kind(file)]
    kinds = [kind for kind in KINDS if any(_kind(file) == kind for file in chosen or files)]
    return [file for file in chosen or files if _kind(file) in kinds[:1]]


def listed_files(folder: Path) -> list[str] | None:
    """Names in a folder's metadata.yaml, without .zstd; None where it says nothing."""
    try:
        content = YAML(typ='safe', pure=True).load((folder / 'metadata.yaml').read_bytes())
        names = content['rosbag2_bagfile_information']['relative_file_paths']
        return [_plain(Path(name).name) for name in names] or None
    except Exception:  # absent, cut, of another program: the files speak for themselves
        return None


class Bag:
    """
    A recording: its topics, and its messages in order of time.

    Raises TpfError when there is nothing to read; logs one warning for each file that is cut,
    damaged or has no index, and reads what there is.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise TpfError(f'bag {path} does not exist')
        self._files = bag_files(self.path)
        if not self._files:
            raise TpfError(f'{path} is no bag; give a .mcap, .db3 or .bag file or their folder')
        self._warned: set[Path] = set()
        self._unpacked = self._unpack()
        self._compare_with_metadata()
        self.topics: dict[str, Topic] = {}
        with ExitStack() as stack:
            for _, reader in self._readers(stack):
                for each in reader.connections:
                    before = self.topics.get(each.topic)
                    count = each.msgcount + (before.count if before else 0)
                    self.topics[each.topic] = Topic(each.msgtype, count, _encoding(each))

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Message]:
        """All messages of these topics (None: of all), serialized, in order of the bag's time."""
        with ExitStack() as stack:
            streams = [self._read(*opened, topics) for opened in self._readers(stack)]
            yield from heapq.merge(*streams, key=lambda message: message.time)

    def decode(self, message: Message) -> Any:
        """Give the message as an object of rosbags' classes. Raises TpfError on unknown types."""
        if message.encoding not in ('cdr', 'ros1'):
            raise TpfError(
                f'{self.path}: messages of {message.topic} are {message.encoding}, not ROS; '
                'convert the recording to ROS 2 messages'
            )
        try:
            if message.encoding == 'ros1':
                return typestore_ros1().deserialize_ros1(message.data, message.kind)
            return typestore().deserialize_cdr(message.data, message.kind)
        except Exception as error:  # rosbags raises whatever its parser stumbles on
            raise TpfError(
                f'{self.path}: message of {message.topic} at {message.time} ns is no '
                f'{message.kind}: {reason(error)}'
            ) from error

    def stamp(self, message: Message) -> int:
        """Header stamp in ns, without decoding the rest; the bag's time where it is zero."""
        if len(message.data) < 12:
            return message.time
        order = '<' if message.encoding == 'ros1' or message.data[1] & 1 else '>'
        seconds, nanoseconds = struct.unpack_from(f'{order}iI', message.data, 4)
        return seconds * 10**9 + nanoseconds or message.time

    def _readers(self, stack: ExitStack) -> Iterator[tuple[Path, Any]]:
        """Open each file that can be opened until the stack closes it."""
        opened = 0
        for file in self._files:
            reader = None
            try:
                reader = KINDS[_kind(file)](self._unpacked.get(file, file))
                reader.open()
            except Exception as error:  # rosbags raises whatever its parsers stumble on
                if file is self._files[-1] and not opened:
                    raise TpfError(
                        f'{file} cannot be read as a bag: {reason(error)}{substitute(file)}'
                    ) from error
                self._warn(file, f'cannot be read and is left out: {reason(error)}')
                continue
            stack.callback(reader.close)
            opened += 1
            if reader.cut:
                self._warn(file, reader.cut)
            yield file, reader

    def _read(self, file: Path, reader: Any, topics: Collection[str] | None) -> Iterator[Message]:
        wanted = [x for x in reader.connections if topics is None or x.topic in topics]
        if not wanted:
            return
        try:
            for connection, time, data in reader.messages(wanted):
                if data[:4] == ZSTD_MAGIC:
                    data = zstd.decompress(data)
                encoding = _encoding(connection)
                yield Message(connection.topic, connection.msgtype, time, data, encoding)
        except Exception as error:  # rosbags raises whatever its parsers stumble on
            self._warn(file, f'is damaged; it is read up to there: {reason(error)}')

    def _unpack(self) -> dict[Path, Path]:
        """Files to be read in the place of others, which live as long as this object."""
        logs = {file: [Path(f'{file}{end}') for end in LOGS] for file in self._files}
        logs = {file: [each for each in beside if each.is_file() and each.stat().st_size]
                for file, beside in logs.items()}  # fmt: skip
        changed = [file for file in self._files if file.suffix == '.zstd' or logs[file]]
        if not changed:
            return {}
        self._folder = TemporaryDirectory(prefix='tpf_bag_')
        unpacked = {}
        for number, file in enumerate(changed):
            plain = Path(self._folder.name) / f'{number}_{_plain(file.name)}'
            unpacked[file] = plain
            try:
                if file.suffix == '.zstd':
                    with file.open('rb') as packed, plain.open('wb') as out:
                        shutil.copyfileobj(zstd.open(packed), out)
                else:
                    _merge(file, logs[file], plain)
            except (EOFError, zstd.ZstdError) as error:
                self._warn(file, f'is cut; it is read up to the cut: {reason(error)}')
            except apsw.Error as error:
                self._warn(file, f'is read without {logs[file][0].name}: {reason(error)}')
                shutil.copyfile(file, plain)
        return unpacked

    def _compare_with_metadata(self) -> None:
        listed = listed_files(self.path) if self.path.is_dir() else None
        if listed is None:
            return
        there = {_plain(file.name) for file in entries(self.path) if _kind(file)}
        used = {_plain(file.name) for file in self._files}
        kind = _kind(self._files[0])
        for name in sorted(there - used):
            if name not in listed and _kind(Path(name)) == kind:
                log.warning('%s is not listed in its metadata.yaml; it is left out',
                            self.path / name)  # fmt: skip
        absent = [name for name in listed if name not in there]
        if absent:
            log.warning('%s lacks %s, which its metadata.yaml lists', self.path, ', '.join(absent))

    def _warn(self, file: Path, text: str) -> None:
        if file not in self._warned:
            self._warned.add(file)
            log.warning('%s %s', file, text)


def _kind(file: Path) -> str | None:
    """'.mcap', '.db3' or '.bag', also where '.zstd' or '.active' follows; None for others."""
    suffix = Path(_plain(file.name)).suffix
    return suffix if suffix in KINDS else None


def _part(file: Path) -> tuple[list[int], str]:
    """Sort key: part 10 comes after part 9."""
    return [int(part) for part in re.findall(r'\d+', file.name)], file.name


def _plain(name: str) -> str:
    """Name of a file without what wraps it."""
    path = Path(name)
    return path.stem if path.suffix in WRAPPED else name


def _encoding(connection: Any) -> str:
    """How the messages of one of rosbags' connections are serialized."""
    return getattr(connection.ext, 'serialization_format', 'ros1')


def _merge(file: Path, logs: list[Path], plain: Path) -> None:
    """
    Copy a database with what its writer left beside it, and let sqlite put them together.

    The recording itself stays untouched. Raises apsw.Error.
    """
    shutil.copyfile(file, plain)
    for beside in logs:
        shutil.copyfile(beside, Path(f'{plain}{beside.name.removeprefix(file.name)}'))
    database = apsw.Connection(str(plain))
    try:
        database.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall()
        database.execute('PRAGMA journal_mode=DELETE').fetchall()
    finally:
        database.close()
