"""
The outer structure of mcap files: enough to find the cut in one, and to close one there.

An mcap file is a magic number, records of (opcode, uint64 length, content), and the magic number
again (https://mcap.dev/spec).
"""

from io import BytesIO
import os
from pathlib import Path
import struct
from typing import BinaryIO

import lz4.frame
from tpf_tracker_ros.bags.zstd import zstd

MAGIC = b'\x89MCAP0\r\n'
# An empty DataEnd, a Footer that promises no summary, the magic: a complete file without index.
ENDING = struct.pack('<BQI', 0x0F, 4, 0) + struct.pack('<BQQQI', 0x02, 20, 0, 0, 0) + MAGIC
CHUNK_OPCODE = 0x06
TAIL = 8  # bytes of a record that were never written if they are zero, and so is what follows
SUMMARY_OPCODES = {0x02, 0x0F}  # Footer, DataEnd: no messages after these


def ends_whole(path: Path) -> bool:
    """Whether the file has its closing magic number."""
    with path.open('rb') as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(MAGIC)))
        return size > 2 * len(MAGIC) and file.read() == MAGIC


def end_of_data(file: BinaryIO, start: int = len(MAGIC), *, before: int | None = None) -> int:
    """Offset behind the last whole record from start on that ends before this (None: any)."""
    limit = file.seek(0, os.SEEK_END) if before is None else before - 1
    end = last = file.seek(start)
    while len(head := file.read(9)) == 9:
        opcode, length = struct.unpack('<BQ', head)
        if opcode == 0:
            # A file that was not flushed before a power cut ends in zeros, from within a record.
            file.seek(max(last, end - TAIL))
            return last if file.read(TAIL) == bytes(TAIL) else end
        if opcode in SUMMARY_OPCODES or end + 9 + length > limit:
            break
        last, end = end, file.seek(end + 9 + length)
    return end


def records_in_cut_chunk(file: BinaryIO, start: int) -> bytes:
    """Get what a cut chunk at this offset still holds: its records; empty if there is no chunk."""
    file.seek(start)
    head, tail = file.read(9 + 28), BytesIO(file.read())
    if len(head) < 9 + 28 or head[0] != CHUNK_OPCODE:
        return b''
    compression = tail.read(*struct.unpack('<I', tail.read(4)))
    tail.read(8)  # compressed size
    unpack = {
        b'': bytes,
        b'zstd': lambda data: zstd.ZstdDecompressor().decompress(data),
        b'lz4': lambda data: lz4.frame.LZ4FrameDecompressor().decompress(data),
    }
    return unpack[compression](tail.read())


def close_at_cut(path: Path) -> None:
    """
    Cut a half-written file behind its last whole record, so that any mcap reader opens it.

    What is cut off makes room for the ending: this works on a full disk.
    """
    with path.open('r+b') as file:
        end = end_of_data(file, before=path.stat().st_size - len(ENDING))
        file.truncate(end)
        file.seek(end)
        file.write(ENDING)
