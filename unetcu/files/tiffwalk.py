"""The chain of page directories in a TIFF file, walked as if an enemy had written it.

A chain may be a ring, a count may name more values than the file has bytes, an offset may point
past the end. Facts are from TIFF 6.0 (section 2) and the BigTIFF extension of it.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import BinaryIO

import numpy as np

from ..errors import DataError

MOST_PAGES = 100_000
_MOST_ENTRIES = 4096
CUT_SHORT = "the file is cut short or damaged, copy it again from its source"


class Tag(IntEnum):
    """The tags that matter to what the pixels are."""

    SUBFILE, OLD_SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION = range(254, 260)
    PHOTOMETRIC, FILL_ORDER, DESCRIPTION, STRIP_OFFSETS, ORIENTATION = 262, 266, 270, 273, 274
    SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, PLANAR, PREDICTOR = 277, 278, 279, 284, 317
    TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 322, 323, 324, 325
    SUB_PAGES, EXTRA_SAMPLES, SAMPLE_FORMAT = 330, 338, 339
    IMAGE_DEPTH, TILE_DEPTH, METAMORPH_PLANES = 32997, 32998, 33629


_KNOWN = frozenset(Tag)
# The type codes of unsigned integers (13 and 18 are offsets of directories).
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_TEXT = {1, 2, 7}


class TiffFile:
    """An open file, its size in bytes, and how its numbers are written."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        head = self.at(0, min(size, 16), "its header")
        self.order = "<" if head[:2] == b"II" else ">"
        version = struct.unpack(self.order + "H", head[2:4])[0] if len(head) >= 8 else 0
        if version == 42:
            self.first = struct.unpack(self.order + "I", head[4:8])[0]
            self.count, self.entry, self.offset = "H", "HHI4s", "I"
        elif (
            version == 43 and len(head) == 16 and head[4:8] == struct.pack(self.order + "HH", 8, 0)
        ):
            self.first = struct.unpack(self.order + "Q", head[8:16])[0]
            self.count, self.entry, self.offset = "Q", "HHQ8s", "Q"
        else:
            raise DataError(f"the TIFF header is wrong: {CUT_SHORT}")

    def at(self, offset: int, length: int, what: str) -> bytes:
        """`length` bytes from `offset`; DataError, "`what` outside the file", where there are
        not so many."""
        data = b""
        if offset + length <= self.size:
            self.file.seek(offset)
            data = self.file.read(length)
        if len(data) != length:
            raise DataError(f"{what} outside the file: {CUT_SHORT}")
        return data

    def unpack(self, offset: int, code: str, what: str) -> int:
        """One number."""
        code = self.order + code
        number: int = struct.unpack(code, self.at(offset, struct.calcsize(code), what))[0]
        return number

    def directories(self) -> Iterator["Directory"]:
        """The page directories, in the order of the chain."""
        offset, seen, walked = self.first, set[int](), 0
        if not offset:
            raise DataError("the file has no page")
        while offset:
            page = f"page {len(seen) + 1}"
            if offset in seen:
                raise DataError(f"{page} is one that came before (a ring): the file is damaged")
            if len(seen) == MOST_PAGES:
                raise DataError(f"the file has more than {MOST_PAGES} pages: split it")
            seen.add(offset)
            number = self.unpack(offset, self.count, f"{page} lies")
            if not 0 < number <= _MOST_ENTRIES:
                raise DataError(f"{page} has a directory of {number} entries: {CUT_SHORT}")
            offset += struct.calcsize(self.order + self.count)
            length = number * struct.calcsize(self.order + self.entry)
            walked += length
            if walked > self.size:
                raise DataError(f"{page} overlaps others: the file is damaged")
            yield Directory(self, self.at(offset, length, f"{page} lies"))
            offset = self.unpack(offset + length, self.offset, f"the link after {page} lies")


class Directory:
    """The tags of one page.

    Every access raises DataError where a tag is not as it must be. The message here and in
    tiffpage.py is what the page does, "has ...", for the caller to put "page 3" before it.
    """

    def __init__(self, tiff: TiffFile, data: bytes) -> None:
        self._tiff = tiff
        self._entries: dict[int, tuple[int, int, bytes]] = {}
        for tag, kind, count, value in struct.iter_unpack(tiff.order + tiff.entry, data):
            if tag in _KNOWN:
                if tag in self._entries:
                    raise DataError(f"has the tag {Tag(tag).name} twice: the file is damaged")
                self._entries[tag] = kind, count, value

    def __contains__(self, tag: Tag) -> bool:
        return tag in self._entries

    def count(self, tag: Tag) -> int:
        """How many values a tag has; 0 where it is missing."""
        return self._entries[tag][1] if tag in self._entries else 0

    def table(self, tag: Tag) -> np.ndarray:
        """All values of a tag, uint64; the caller has looked at `count` first."""
        kind, count, _ = self._entries[tag]
        if kind not in _INTEGERS:
            raise DataError(f"has the tag {tag.name} in a wrong type: the file is damaged")
        code = np.dtype(self._tiff.order + _INTEGERS[kind])
        return np.frombuffer(self._bytes(tag, count * code.itemsize), code).astype(np.uint64)

    def numbers(self, tag: Tag, default: int, count: int) -> list[int]:
        """`count` values of a tag; one value stands for them all, no tag for the default."""
        have = self.count(tag)
        if tag not in self._entries:
            return [default] * count
        if have not in (1, count):
            raise DataError(f"has {have} values in {tag.name}, not {count}: the file is damaged")
        values: list[int] = self.table(tag).tolist()
        return values * (count // have)

    def number(self, tag: Tag, default: int | None = None) -> int:
        """The one value of a tag; DataError where it is missing and has no default."""
        if default is None and tag not in self._entries:
            raise DataError(f"has no tag {tag.name}: the file is damaged")
        return self.numbers(tag, default or 0, 1)[0]

    def text(self, tag: Tag, most: int) -> str:
        """The first `most` characters of a text tag; empty where it is missing."""
        if tag not in self._entries or self._entries[tag][0] not in _TEXT:
            return ""
        length = min(self.count(tag), most)
        return self._bytes(tag, length).decode("utf-8", "replace")

    def _bytes(self, tag: Tag, length: int) -> bytes:
        value = self._entries[tag][2]
        if length <= len(value):
            return value[:length]
        offset = struct.unpack(self._tiff.order + self._tiff.offset, value)[0]
        return self._tiff.at(offset, length, f"has values of {tag.name}")
