"""
One file of a recording: rosbags' readers, and a walk over the records where they give up.

`cut` says why a file is walked over, for a warning; it is empty where nothing is wrong.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import cache
from io import BytesIO
import os
from pathlib import Path
import re
import struct
from typing import Any
from urllib.parse import quote

import apsw
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag1,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag2.errors import ReaderError
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader
from rosbags.typesys.msg import normalize_msgtype
from tpf_tracker_ros.bags.mcap_records import (
    end_of_data,
    ends_whole,
    MAGIC,
    records_in_cut_chunk,
    TAIL,
)
from tpf_tracker_ros.bags.ros1_records import (
    CONNECTION,
    fields,
    MESSAGE,
    records,
)
from tpf_tracker_ros.bags.ros1_records import (
    MAGIC as ROS1_MAGIC,
)

READABLE = {'ros2msg', 'ros2idl', 'omgidl', ''}  # encodings of schemas
NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, '')


class McapFile(McapReader):
    """rosbags' reader, and a walk over the records where there is no usable index."""

    cut = ''
    _rest: McapReader | None = None  # the records in the chunk through which the cut goes

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.schemas = _Schemas()

    def open(self) -> None:  # noqa: A003
        """Learn topics and counts; from the records where that must be."""
        try:
            super().open()
            self._name_types()
            return
        except Exception as error:
            with self.path.open('rb') as file:
                if file.read(len(MAGIC)) != MAGIC:
                    raise
            # The profile is a hint of the writer's; what a message is stands with its channel.
            if 'Profile' not in str(error):
                self.cut = f'has no usable index; it is read record by record: {reason(error)}'
            if not ends_whole(self.path):
                self.cut = 'is cut or was never closed; it is read up to the cut'
        self.bio = self.path.open('rb')
        self._scan(len(MAGIC))
        with suppress(Exception):  # damaged, not cut: nothing to save there
            rest = McapFile(self.path)
            rest.bio = BytesIO(records_in_cut_chunk(self.bio, self.data_end))
            rest._scan(0)
            self._rest = rest
        parts = [self] if self._rest is None else [self, self._rest]
        counts = Counter()
        for part in parts:
            counts.update(part.statistics.channel_message_counts)
        known = {connection.id: connection for part in parts for connection in part.connections}
        self.connections = [known[key]._replace(msgcount=counts[key]) for key in known]
        self._name_types()

    def _name_types(self) -> None:
        """Write the names of ROS 1 types, 'sensor_msgs/Image', as those of ROS 2."""
        for index, connection in enumerate(self.connections):
            if re.fullmatch(r'\w+/\w+', connection.msgtype):
                kind = normalize_msgtype(connection.msgtype)
                self.connections[index] = connection._replace(msgtype=kind)

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
        """Messages of these connections with the bag's time in ns, as rosbags gives them."""
        if self.chunks:
            yield from super().messages(connections, start, stop)
            return
        # Without an index rosbags insists on sorted times; the order of arrival is as good.
        yield from self.messages_scan(connections, start, stop)
        if self._rest:
            yield from self._rest.messages_scan(connections, start, stop)


class _Schemas(dict):
    """Without definitions that rosbags cannot parse, of ROS 1 or json: their names do."""

    def __setitem__(self, key: int, schema: Any) -> None:
        readable = schema.encoding in READABLE
        super().__setitem__(key, schema if readable else schema._replace(encoding=''))


class _Walked:
    """Beside a reader of rosbags: what it gives of a file that is `cut`, from a walk over it."""

    cut = ''

    def _walk(self) -> Iterator[tuple[int, int, bytes]]:
        """Give of each message the id of its connection, the bag's time in ns, and its bytes."""
        raise NotImplementedError

    def _connection(self, key: int, topic: str, kind: str, count: int, ext: Any) -> Connection:
        return Connection(
            id=key,
            topic=topic,
            msgtype=kind,
            msgdef=NO_DEFINITION,
            digest='',
            msgcount=count,
            ext=ext,
            owner=self,
        )

    def messages(
        self,
        connections: Collection[Connection] = (),
        start: int | None = None,
        stop: int | None = None,
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Messages of these connections with the bag's time in ns, as rosbags gives them."""
        if not self.cut:
            yield from super().messages(connections, start, stop)
            return
        wanted = {connection.id: connection for connection in connections}
        for key, time, data in self._walk():
            if key in wanted:
                yield wanted[key], time, data


class SqliteFile(_Walked, Sqlite3Reader):
    """rosbags' reader, and a walk over the rows where the file is cut."""

    def __init__(self, path: Path) -> None:
        super().__init__(Path(quote(str(path))))  # rosbags puts it into a URI as it is
        self.file = path

    def open(self) -> None:  # noqa: A003
        """Learn topics and counts; from the records where that must be."""
        written, expected = written_pages(self.file)
        try:
            if written >= expected:
                super().open()
                return
            raise ReaderError(f'{written} of {expected} pages are there')
        except ReaderError:
            if not expected:  # no database
                raise
            self.dbconn = apsw.Connection(
                f'file:{self.path}?immutable=1',
                flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI,
                vfs=written_vfs(),
            )
            # Otherwise sqlite refuses a file that is shorter than its header says.
            self.dbconn.execute('PRAGMA writable_schema=ON')
            topics = list(self.dbconn.execute('SELECT id, name, type FROM topics'))
        self.cut = 'is cut; it is read up to the cut'
        counts = Counter(key for key, _, _ in self._walk())
        self.connections = [
            self._connection(key, name, kind, counts[key], ConnectionExtRosbag2('cdr', []))
            for key, name, kind in topics
        ]

    def _walk(self) -> Iterator[tuple[int, int, bytes]]:
        rows = self.dbconn.execute('SELECT topic_id, timestamp, data FROM messages NOT INDEXED')
        with suppress(apsw.Error):  # of the cut
            for row in rows:
                if not row[2]:  # of a page that was never written
                    return
                yield row


def written_pages(path: Path) -> tuple[int, int]:
    """
    Count the whole pages of a database that were written, and those that its header promises.

    (0, 0) for what is no database. A file that is cut may end in zeros, from within a page; a page
    that has some at its end by right is the price of that.
    """
    with path.open('rb') as file:
        head = file.read(100)
        page = int.from_bytes(head[16:18], 'big') or 1
        page = 1 << 16 if page == 1 else page
        if not head.startswith(b'SQLite format 3\0') or len(head) < 100:
            return 0, 0
        size = end = file.seek(0, os.SEEK_END)
        expected = int.from_bytes(head[28:32], 'big')
        block = b''
        while end and not block.strip(b'\0'):
            end -= min(end, 1 << 16)
            file.seek(end)
            block = file.read(1 << 16)
        end += len(block.rstrip(b'\0'))
    if size // page >= expected and end > (expected - 1) * page:
        return expected, expected
    return (size if size - end < TAIL else end) // page, expected


@cache
def written_vfs() -> str:
    """Register a view of databases that ends with the last page that was written."""

    class File(apsw.VFSFile):
        def __init__(self, name: Any, flags: list[int]) -> None:
            super().__init__('', name, flags)
            path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
            self._pages, self._size = written_pages(path)[0], super().xFileSize()

        def xFileSize(self) -> int:
            page = int.from_bytes(self.xRead(18, 0)[16:], 'big') if self._size > 18 else 0
            return self._pages * (1 << 16 if page == 1 else page)

    class View(apsw.VFS):
        def __init__(self) -> None:
            super().__init__('written', '')

        def xOpen(self, name: Any, flags: list[int]) -> File:
            return File(name, flags)

    written_vfs.view = View()  # a VFS lives as long as its object
    return 'written'


class Ros1File(_Walked, Ros1Reader):
    """rosbags' reader, and a walk over the records where there is no index yet or any more."""

    def open(self) -> None:  # noqa: A003
        """Learn topics and counts; from the records where that must be."""
        try:
            super().open()
            if self.connections:
                return
            super().close()  # an index of nothing: the recorder had just begun
        except Exception:
            with self.path.open('rb') as file:
                if file.read(len(ROS1_MAGIC)) != ROS1_MAGIC:
                    raise
        self.bio = self.path.open('rb')
        self.cut = 'is cut or was never closed; it is read up to the cut'
        counts = Counter()
        known = {}
        for header, data in records(self.bio):
            key = int.from_bytes(header.get('conn', b''), 'little')
            if header.get('op') == CONNECTION and key not in known:
                about = fields(data)
                kind = normalize_msgtype(about.get('type', b'').decode(errors='replace'))
                names = header.get('topic', b'').decode(errors='replace').split('/')
                topic = '/' + '/'.join(filter(None, names))
                ext = ConnectionExtRosbag1(None, None)
                known[key] = self._connection(key, topic, kind, 0, ext)
            counts[key] += header.get('op') == MESSAGE
        self.connections = [known[key]._replace(msgcount=counts[key]) for key in known]

    def _walk(self) -> Iterator[tuple[int, int, bytes]]:
        for header, data in records(self.bio):
            if header.get('op') == MESSAGE:
                seconds, nanoseconds = struct.unpack('<II', header['time'])
                key = int.from_bytes(header.get('conn', b''), 'little')
                yield key, seconds * 10**9 + nanoseconds, data


def reason(error: Exception) -> str:
    """One line of what a library had to say."""
    return ' '.join(str(error).split()) or type(error).__name__
