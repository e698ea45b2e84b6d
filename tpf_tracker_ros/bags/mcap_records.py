"""The outer structure of mcap files: enough to find the cut in one, and to close one there.

An mcap file is a magic number, records of (opcode, uint64 length, content), and the magic number
again (https://mcap.dev/spec).
"""

import os
import struct
from pathlib import Path

MAGIC = b'\x89MCAP0\r\n'
# An empty DataEnd, a Footer that promises no summary, the magic: a complete file without index.
ENDING = struct.pack('<BQI', 0x0F, 4, 0) + struct.pack('<BQQQI', 0x02, 20, 0, 0, 0) + MAGIC
SUMMARY_OPCODES = {0x02, 0x0F}  # Footer, DataEnd: no messages after these


def ends_whole(path: Path) -> bool:
    """Whether the file has its closing magic number."""
    with path.open('rb') as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(MAGIC)))
        return size > 2 * len(MAGIC) and file.read() == MAGIC


def end_of_data(path: Path, *, before: int | None = None) -> int:
    """Offset behind the last whole record of data that ends before this offset (None: any)."""
    with path.open('rb') as file:
        limit = file.seek(0, os.SEEK_END) if before is None else before - 1
        end = file.seek(len(MAGIC))
        while len(head := file.read(9)) == 9:
            opcode, length = struct.unpack('<BQ', head)
            # A file that was not flushed before a power cut ends in zeros.
            if opcode == 0 or opcode in SUMMARY_OPCODES or end + 9 + length > limit:
                break
            end = file.seek(end + 9 + length)
    return end


def close_at_cut(path: Path) -> None:
    """Cut a half-written file behind its last whole record, so that any mcap reader opens it.

    What is cut off makes room for the ending: this works on a full disk.
    """
    end = end_of_data(path, before=path.stat().st_size - len(ENDING))
    with path.open('r+b') as file:
        file.truncate(end)
        file.seek(end)
        file.write(ENDING)
