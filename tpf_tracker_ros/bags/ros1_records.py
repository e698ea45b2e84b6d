"""
The outer structure of ROS 1 bags, for those that are cut or were never closed (`.active`).

A bag is a line of magic and records of (uint32 length, header, uint32 length, data); chunks hold
records of their own, compressed perhaps (http://wiki.ros.org/Bags/Format/2.0).
"""

import bz2
from collections.abc import Iterator
from io import BytesIO
import struct
from typing import BinaryIO

import lz4.frame

MAGIC = b'#ROSBAG V2.0\n'
MESSAGE, CHUNK, CONNECTION = b'\x02', b'\x05', b'\x07'
TAIL = 8  # bytes of a record that were never written if they are zero, and so is what follows
LONGEST_HEADER = 1 << 20  # bytes; more is no header
SIZES = {MESSAGE: {'conn': 4, 'time': 8}, CONNECTION: {'conn': 4}}  # of fields, in bytes
UNPACK = {
    b'none': lambda data: data,
    b'bz2': lambda data: bz2.BZ2Decompressor().decompress(data),
    b'lz4': lambda data: lz4.frame.LZ4FrameDecompressor().decompress(data),
}


def records(file: BinaryIO) -> Iterator[tuple[dict[str, bytes], bytes]]:
    """
    Give header and data of all connections and messages, in order, up to where the file is cut.

    Of a chunk through which the cut goes, what can be unpacked counts.
    """
    file.seek(len(MAGIC))
    for header, data in _walk(file, parts=True):
        if header.get('op') == CHUNK:
            try:
                inside = UNPACK[header['compression']](data)
            except (KeyError, OSError, RuntimeError, EOFError):
                return
            yield from _walk(BytesIO(inside))
        else:
            yield header, data


def _walk(file: BinaryIO, *, parts: bool = False) -> Iterator[tuple[dict[str, bytes], bytes]]:
    """Give one record after the other; parts: also the beginning of a chunk that is cut."""
    held: list[tuple[dict[str, bytes], bytes]] = []
    while len(size := file.read(4)) == 4:
        (length,) = struct.unpack('<I', size)
        # A file that was not flushed before a power cut ends in zeros, from within a record.
        if not length and held and held[0][1][-TAIL:] == bytes(TAIL):
            return
        yield from held
        held = []
        head = file.read(length) if 0 < length <= LONGEST_HEADER else b''
        size = file.read(4)
        if not head or len(head) < length or len(size) < 4:
            return
        header, (length,) = fields(head), struct.unpack('<I', size)
        data = file.read(length)
        op = header.get('op')
        if len(data) < length and not (parts and op == CHUNK):
            return
        sizes = SIZES.get(op, {})
        if op is None or any(len(header.get(name, b'')) != size for name, size in sizes.items()):
            return
        held = [(header, data)]
    yield from held


def fields(data: bytes) -> dict[str, bytes]:
    """Name -> value of a header; what is damaged ends it."""
    found, file = {}, BytesIO(data)
    while len(size := file.read(4)) == 4:
        (length,) = struct.unpack('<I', size)
        field = file.read(length)
        name, equals, value = field.partition(b'=')
        if not equals or len(field) < length:
            break
        found[name.decode(errors='replace')] = value
    return found
