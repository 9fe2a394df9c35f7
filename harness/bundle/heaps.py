"""Finds damage of an HDF5 file that its library reads for ever, where neither a signal nor a deadline of Python ends it.

Texts of any length lie in global heaps. Objects of such a heap follow each other, each with its size; the library (2.0.0) walks
from one to the next and does not look whether it moves: a piece of free space of size 0 has no end.

Source: The HDF Group, "HDF5 File Format Specification", III.E, Disk Format: Level 1E, Global Heap.
"""

import mmap
import struct
from pathlib import Path

SIGNATURE = b"\x89HDF\r\n\x1a\n"
HEAP = b"GCOL\x01"
HEAP_HEADER, OBJECT_HEADER = 16, 16
"""Bytes, for lengths of 8 bytes."""
SMALLEST_HEAP = 4096
FIRST_USER_BLOCK = 512


def expect_finite_heaps(path: Path) -> None:
    """Looks at the global heaps of an HDF5 file without its library.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is empty or no HDF5 file, its lengths have another size than 8 bytes, or a heap has no end.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        _expect_usual_lengths(content)
        place, left = content.find(HEAP), len(content) // OBJECT_HEADER
        while place >= 0:
            size = _number(content, place + 8) if place + HEAP_HEADER <= len(content) else 0
            if SMALLEST_HEAP <= size <= len(content) - place:  # the library refuses any other
                left -= _walk(content, place, place + size, most=left)
            place = content.find(HEAP, place + 1)


def _expect_usual_lengths(content: mmap.mmap) -> None:
    base = 0
    while content[base : base + len(SIGNATURE)] != SIGNATURE:
        base = 2 * base or FIRST_USER_BLOCK
        if base >= len(content):
            raise ValueError("no HDF5 file")
    version = content[base + 8] if base + 16 <= len(content) else 255
    sizes = content[base + 13 : base + 15] if version < 2 else content[base + 9 : base + 11]
    if sizes != b"\x08\x08":
        raise ValueError("an HDF5 file whose addresses or lengths are not of 8 bytes")


def _walk(content: mmap.mmap, heap: int, end: int, *, most: int) -> int:
    """Goes through a heap's objects, and returns their number.

    Heaps of a sound file do not overlap, so all of them together have no more objects than fit into it.

    Raises:
        ValueError: if the heap has no end, or more objects than `most`.
    """
    place, count = heap + HEAP_HEADER, 0
    while place + OBJECT_HEADER <= end:
        if count == most:
            raise ValueError(f"a heap at byte {heap} within others")
        index, size = struct.unpack_from("<H", content, place)[0], _number(content, place + 8)
        step = OBJECT_HEADER + (size + 7) // 8 * 8 if index else size
        if not OBJECT_HEADER <= step <= end - place:
            raise ValueError(f"a heap at byte {heap} with an object of {size} bytes, where {end - place} are left")
        place, count = place + step, count + 1
    return count


def _number(content: mmap.mmap, place: int) -> int:
    return int(struct.unpack_from("<Q", content, place)[0])
