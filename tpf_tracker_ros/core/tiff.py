"""What cv2 does not say about a TIFF file: how many images it holds, and whether 0 is white."""

from collections.abc import Iterator
import struct

MAGIC = {b'II*\0': '<', b'MM\0*': '>', b'II+\0': '<', b'MM\0+': '>'}  # + is BigTIFF
SUBFILE, BITS, PHOTOMETRIC = 254, 258, 262
MIN_IS_WHITE = 0
SMALLER, MASK = 1, 4  # kinds of subfiles that are no images of their own
MOST = 100_000  # pages; more is a loop of damaged links


def directories(data: bytes) -> list[dict[int, int]]:
    """Tag -> first value for each image in a TIFF file; none in other files."""
    if bytes(data[:4]) not in MAGIC:
        return []
    try:
        return [tags for tags in _walk(data) if not tags.get(SUBFILE, 0) & (SMALLER | MASK)]
    except struct.error:  # damaged: for the decoder to say
        return []


def _walk(data: bytes) -> Iterator[dict[int, int]]:
    magic = bytes(data[:4])
    order, big = MAGIC[magic], b'+' in magic
    offset, count, entry = ('Q', 'Q', 'HHQ8s') if big else ('I', 'H', 'HHI4s')
    at, *_ = struct.unpack_from(order + offset, data, 8 if big else 4)
    for _ in range(MOST):
        if not at:
            return
        entries, *_ = struct.unpack_from(order + count, data, at)
        at += struct.calcsize(order + count)
        tags = {}
        for _ in range(entries):
            tag, kind, _, value = struct.unpack_from(order + entry, data, at)
            tags[tag], *_ = struct.unpack_from(order + {1: 'B', 3: 'H'}.get(kind, 'I'), value)
            at += struct.calcsize(order + entry)
        yield tags
        at, *_ = struct.unpack_from(order + offset, data, at)
