"""
Open any recording: mcap, sqlite3 or ROS 1, one file or a folder, compressed, cut, unindexed.

rosbags parses the formats. What is added: metadata.yaml is not needed; a file that is cut or
damaged is read up to there; messages come in order of time over all files of a recording.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
import heapq
from io import BytesIO
import logging
from pathlib import Path
import re
import shutil
import struct
from tempfile import TemporaryDirectory
from typing import Any

import apsw
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag2.errors import ReaderError
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader
from tpf_tracker_ros.bags.mcap_records import (
    end_of_data,
    ends_whole,
    MAGIC,
    records_in_cut_chunk,
)
from tpf_tracker_ros.bags.typestore import typestore, typestore_ros1
from tpf_tracker_ros.bags.zstd import zstd
from tpf_tracker_ros.core.errors import TpfError

KINDS = ('.mcap', '.db3', '.bag')
ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Topic:
    """Type, as in 'sensor_msgs/msg/Image', and number of messages."""

    kind: str
    count: int


@dataclass(frozen=True)
class Message:
    """A serialized message; time is the bag's, in ns."""

    topic: str
    kind: str
    time: int
    data: bytes


def bag_files(path: Path) -> list[Path]:
    """
    Return the files of a recording, in order: the file itself, or those in a folder; else none.

    A folder with files of several formats holds conversions of one another: one format is taken.
    """
    if path.is_file():
        return [path] if _kind(path) else []
    files = [file for file in path.glob('*') if file.is_file()]
    for kind in KINDS:
        # Part 10 comes after part 9.
        found = sorted(
            (file for file in files if _kind(file) == kind),
            key=lambda file: ([int(part) for part in re.findall(r'\d+', file.name)], file.name),
        )
        if found:
            return found
    return []


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
        self._ros1 = _kind(self._files[0]) == '.bag'
        self.topics: dict[str, Topic] = {}
        with ExitStack() as stack:
            for _, reader in self._readers(stack):
                for topic in reader.connections:
                    before = self.topics.get(topic.topic, Topic(topic.msgtype, 0))
                    self.topics[topic.topic] = Topic(topic.msgtype, before.count + topic.msgcount)

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Message]:
        """All messages of these topics (None: of all), serialized, in order of the bag's time."""
        with ExitStack() as stack:
            streams = [self._read(*opened, topics) for opened in self._readers(stack)]
            yield from heapq.merge(*streams, key=lambda message: message.time)

    def decode(self, message: Message) -> Any:
        """Give the message as an object of rosbags' classes. Raises TpfError on unknown types."""
        try:
            if self._ros1:
                return typestore_ros1().deserialize_ros1(message.data, message.kind)
            return typestore().deserialize_cdr(message.data, message.kind)
        except Exception as error:  # rosbags raises whatever its parser stumbles on
            raise TpfError(
                f'{self.path}: message of {message.topic} at {message.time} ns is no '
                f'{message.kind}: {_reason(error)}'
            ) from error

    def stamp(self, message: Message) -> int:
        """Header stamp in ns, without decoding the rest; the bag's time where it is zero."""
        if len(message.data) < 12:
            return message.time
        order = '<' if self._ros1 or message.data[1] & 1 else '>'
        seconds, nanoseconds = struct.unpack_from(f'{order}iI', message.data, 4)
        return seconds * 10**9 + nanoseconds or message.time

    def _readers(self, stack: ExitStack) -> Iterator[tuple[Path, Any]]:
        """Open each file that can be opened until the stack closes it."""
        opened = 0
        for file in self._files:
            readers = {'.mcap': _Mcap, '.db3': _Sqlite, '.bag': Ros1Reader}
            reader = readers[_kind(file)](self._unpacked.get(file, file))
            try:
                reader.open()
            except Exception as error:  # rosbags raises whatever its parsers stumble on
                if file is self._files[-1] and not opened:
                    raise TpfError(f'{file} cannot be read as a bag: {_reason(error)}') from error
                self._warn(file, f'cannot be read and is left out: {_reason(error)}')
                continue
            stack.callback(reader.close)
            opened += 1
            if getattr(reader, 'cut', None):
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
                yield Message(connection.topic, connection.msgtype, time, data)
        except Exception as error:  # rosbags raises whatever its parsers stumble on
            self._warn(file, f'is damaged; it is read up to there: {_reason(error)}')

    def _unpack(self) -> dict[Path, Path]:
        """*.zstd files and what is in them, which lives as long as this object."""
        compressed = [file for file in self._files if file.suffix == '.zstd']
        if not compressed:
            return {}
        self._folder = TemporaryDirectory(prefix='tpf_bag_')
        unpacked = {file: Path(self._folder.name) / file.stem for file in compressed}
        for packed, plain in unpacked.items():
            with packed.open('rb') as file, plain.open('wb') as out:
                try:
                    shutil.copyfileobj(zstd.open(file), out)
                except (EOFError, zstd.ZstdError) as error:
                    self._warn(packed, f'is cut; it is read up to the cut: {_reason(error)}')
        return unpacked

    def _warn(self, file: Path, text: str) -> None:
        if file not in self._warned:
            self._warned.add(file)
            log.warning('%s %s', file, text)


class _Mcap(McapReader):
    """rosbags' reader, and a walk over the records where there is no usable index."""

    cut = ''
    _rest: McapReader | None = None  # the records in the chunk through which the cut goes

    def open(self) -> None:  # noqa: A003
        try:
            super().open()
            return
        except Exception as error:
            with self.path.open('rb') as file:
                if file.read(len(MAGIC)) != MAGIC:
                    raise
            self.cut = f'has no usable index; it is read record by record: {_reason(error)}'
            if not ends_whole(self.path):
                self.cut = 'is cut or was never closed; it is read up to the cut'
        self.bio = self.path.open('rb')
        self._scan(len(MAGIC))
        with suppress(Exception):  # damaged, not cut: nothing to save there
            rest = _Mcap(self.path)
            rest.bio = BytesIO(records_in_cut_chunk(self.bio, self.data_end))
            rest._scan(0)
            self._rest = rest
        parts = [self] if self._rest is None else [self, self._rest]
        counts = Counter()
        for part in parts:
            counts.update(part.statistics.channel_message_counts)
        known = {connection.id: connection for part in parts for connection in part.connections}
        self.connections = [known[key]._replace(msgcount=counts[key]) for key in known]

    def _scan(self, start: int) -> None:
        """Learn topics and counts from the records themselves, up to the last good one."""
        self.data_start, self.data_end = start, end_of_data(self.bio, start)
        try:
            self.meta_scan()
        except Exception:  # a chunk of the right length with other contents: end before it
            self.data_end = end_of_data(self.bio, start, before=self.bio.tell())
            self.meta_scan()

    def messages(
        self,
        connections: Collection[Connection],
        start: int | None = None,
        stop: int | None = None,
    ) -> Iterator[tuple[Connection, int, bytes]]:
        if self.chunks:
            yield from super().messages(connections, start, stop)
            return
        # Without an index rosbags insists on sorted times; the order of arrival is as good.
        yield from self.messages_scan(connections, start, stop)
        if self._rest:
            yield from self._rest.messages_scan(connections, start, stop)


class _Sqlite(Sqlite3Reader):
    """rosbags' reader, and a walk over the rows where the file is cut."""

    cut = ''

    def open(self) -> None:  # noqa: A003
        try:
            super().open()
            return
        except ReaderError:
            self.dbconn = apsw.Connection(
                f'file:{self.path}?immutable=1',
                flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
            )
            # Otherwise sqlite refuses a file that is shorter than its header says.
            self.dbconn.execute('PRAGMA writable_schema=ON')
            topics = list(self.dbconn.execute('SELECT id, name, type FROM topics'))
        self.cut = 'is cut; it is read up to the cut'
        counts = Counter(row[0] for row in self._rows())
        self.connections = [
            Connection(
                id=key,
                topic=name,
                msgtype=kind,
                msgdef=MessageDefinition(MessageDefinitionFormat.NONE, ''),
                digest='',
                msgcount=counts[key],
                ext=ConnectionExtRosbag2('cdr', []),
                owner=self,
            )
            for key, name, kind in topics
        ]

    def messages(
        self,
        connections: Collection[Connection],
        start: int | None = None,
        stop: int | None = None,
    ) -> Iterator[tuple[Connection, int, bytes]]:
        if not self.cut:
            yield from super().messages(connections, start, stop)
            return
        wanted = {connection.id: connection for connection in connections}
        for key, time, data in self._rows():
            if key in wanted:
                yield wanted[key], time, data

    def _rows(self) -> Iterator[tuple[int, int, bytes]]:
        rows = self.dbconn.execute('SELECT topic_id, timestamp, data FROM messages NOT INDEXED')
        try:
            for row in rows:
                if not row[2]:  # of the page through which the cut goes
                    return
                yield row
        except apsw.CorruptError:
            return


def _kind(file: Path) -> str | None:
    """'.mcap', '.db3' or '.bag', also where '.zstd' follows; None for other files."""
    suffix = Path(file.stem).suffix if file.suffix == '.zstd' else file.suffix
    return suffix if suffix in KINDS else None


def _reason(error: Exception) -> str:
    """One line of what a library had to say."""
    return ' '.join(str(error).split()) or type(error).__name__
