"""Writing images: TIFF stacks band by band, and PNG pictures. Files appear whole or not at all."""

import os
import struct
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import DTypeLike

from ..errors import DataError, ShapeError
from ..files.atomic import atomic_path
from ..files.paths import shown

_WRITTEN = {np.dtype(c) for c in ("?", "u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8")}
_IMAGEJ = {np.dtype(code) for code in ("u1", "u2", "f4")}
_FORMATS = {"b": 1, "u": 1, "i": 2, "f": 3}
_STRIP_BYTES = 1 << 18
_CLASSIC_LIMIT = 1 << 32  # offsets of 32 bits reach no further
_TEXT, _SHORT, _LONG, _LONG8 = 2, 3, 4, 16
_CODES = {_TEXT: "B", _SHORT: "H", _LONG: "I", _LONG8: "Q"}


class TiffSink:
    """A TIFF stack of grey pages, written from top to bottom and never held in memory.

        with TiffSink(path, pages, height, width, np.uint8) as sink:
            sink.write_rows(0, 0, rows)          # (n, width) of that dtype; row n of page 0 is next

    dtype     bool (written with 1 bit), (u)int8/16/32 or float16/32/64
    compress  with deflate ("ZIP"), without loss, in strips of about 256 KiB
    imagej    with ImageJ's header, so that it opens as a stack; uint8, uint16 or float32 only

    The file appears when the `with` block ends, or at `close()`; after any exception nothing is
    left. It is a BigTIFF where it might pass 4 GB. Raises DataError where the file cannot be
    written, is there already (unless `overwrite`), or is nothing that ImageJ reads; ShapeError
    where rows do not come in order or in another shape or dtype.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        pages: int,
        height: int,
        width: int,
        dtype: DTypeLike,
        *,
        compress: bool = True,
        imagej: bool = False,
        overwrite: bool = False,
    ) -> None:
        self._path, self._pages, self._height, self._width = path, pages, height, width
        self._dtype, self._compress = np.dtype(dtype).newbyteorder("="), compress
        if min(pages, height, width) < 1:
            raise ShapeError(f"a TIFF of {pages} pages of {height} x {width} pixels has no pixels")
        if self._dtype not in _WRITTEN:
            raise DataError(f"{shown(path)} cannot be written: {dtype} is no type of TIFF pixels")
        bits = 1 if self._dtype.kind == "b" else 8 * self._dtype.itemsize
        row_bytes = (width * bits + 7) // 8
        rows = min(height, max(1, _STRIP_BYTES // row_bytes))
        # Deflate makes what it cannot shrink larger, by 5 bytes in 16 KiB and 11 for the strip.
        largest = height * row_bytes * 1001 // 1000 + -(-height // rows) * 32 + 1024
        self._big = pages * largest >= _CLASSIC_LIMIT
        if imagej and (self._big or self._dtype not in _IMAGEJ):
            raise DataError(
                f"{shown(path)} cannot be written for ImageJ, which takes uint8, uint16 and "
                "float32 stacks below 4 GB: write it without ImageJ's header"
            )
        header = f"ImageJ=1.11a\nimages={pages}\nslices={pages}\nloop=false\n\0"
        self._tags = {
            254: (_LONG, [0]),
            256: (_LONG, [width]),
            257: (_LONG, [height]),
            258: (_SHORT, [bits]),
            259: (_SHORT, [8 if compress else 1]),
            262: (_SHORT, [1]),
            **({270: (_TEXT, list(header.encode()))} if imagej else {}),
            277: (_SHORT, [1]),
            278: (_LONG, [rows]),
            339: (_SHORT, [_FORMATS[self._dtype.kind]]),
        }
        self._strip = np.zeros((rows, width), self._dtype.newbyteorder("<"))
        self._strips: list[tuple[int, int]] = []
        self._page = self._row = 0  # where the next row belongs
        self._open = ExitStack()
        try:
            temporary = self._open.enter_context(atomic_path(path, overwrite=overwrite))
            self._file = self._open.enter_context(temporary.open("wb"))
            head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) if self._big else b"II*\0\0\0\0\0"
            self._file.write(head)
        except BaseException as error:
            self._abort(error)
            raise
        self._link = 8 if self._big else 4  # where the offset of the next directory goes

    def write_rows(self, page: int, y0: int, rows: np.ndarray) -> None:
        """Append rows (n, width) of the stack's dtype; `page` and `y0` say where they belong."""
        if (page, y0) != (self._page, self._row) or page == self._pages:
            raise ShapeError(
                f"rows come in order: row {self._row} of page {self._page} is next, "
                f"not row {y0} of page {page} (of {self._pages})"
            )
        fits = rows.ndim == 2 and rows.shape[1] == self._width and y0 + len(rows) <= self._height
        if not fits or rows.dtype.newbyteorder("=") != self._dtype:
            raise ShapeError(
                f"rows of shape {rows.shape} and type {rows.dtype} do not fit at row {y0} of "
                f"a page of {self._height} x {self._width} {self._dtype}"
            )
        try:
            while len(rows):
                at = self._row % len(self._strip)
                count = min(len(rows), len(self._strip) - at)
                self._strip[at : at + count] = rows[:count]
                rows, self._row = rows[count:], self._row + count
                if at + count == len(self._strip) or self._row == self._height:
                    self._write_strip(at + count)
            if self._row == self._height:
                self._write_directory()
        except BaseException as error:
            self._abort(error)
            raise

    def close(self) -> None:
        """Give the file its name. Raises ShapeError, and leaves no file, where rows are missing."""
        if self._page < self._pages and not self._file.closed:
            error = ShapeError(
                f"{shown(self._path)} is not complete: row {self._row} of page {self._page} is next"
            )
            self._abort(error)
            raise error
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._abort(error)

    def _abort(self, error: BaseException) -> None:
        """Remove the file; where the error is that it cannot be written, raise the DataError."""
        self._open.__exit__(type(error), error, error.__traceback__)

    def _write_strip(self, rows: int) -> None:
        pixels = self._strip[:rows]
        data = (np.packbits(pixels, axis=1) if pixels.dtype.kind == "b" else pixels).tobytes()
        data = zlib.compress(data) if self._compress else data
        self._strips.append((self._file.tell(), len(data)))
        self._file.write(data + b"\0" * (len(data) % 2))  # everything starts at an even offset

    def _write_directory(self) -> None:
        """End a page: its directory, and the link to it from the one before."""
        offset_type, inline = (_LONG8, 8) if self._big else (_LONG, 4)
        offset = "<" + _CODES[offset_type]
        offsets, lengths = (list(column) for column in zip(*self._strips, strict=True))
        tags = {**self._tags, 273: (offset_type, offsets), 279: (offset_type, lengths)}
        entries = []
        for tag, (kind, values) in sorted(tags.items()):
            value = struct.pack(f"<{len(values)}{_CODES[kind]}", *values)
            if len(value) > inline:
                place = self._file.tell()
                self._file.write(value + b"\0" * (len(value) % 2))
                value = struct.pack(offset, place)
            entries.append(
                struct.pack("<HH", tag, kind)
                + struct.pack(offset, len(values))
                + value.ljust(inline, b"\0")
            )
        start = self._file.tell()
        count = struct.pack("<Q" if self._big else "<H", len(entries))
        self._file.write(count + b"".join(entries) + bytes(inline))
        end = self._file.tell()
        self._file.seek(self._link)
        self._file.write(struct.pack(offset, start))
        self._file.seek(end)
        self._link = end - inline
        self._strips, self._page, self._row = [], self._page + 1, 0


def write_tiff(
    path: str | os.PathLike[str],
    pages: np.ndarray | Sequence[np.ndarray],
    *,
    imagej: bool = False,
    overwrite: bool = False,
) -> None:
    """Write one grey page (H, W), or a stack: an array (pages, H, W) or a list of (H, W) arrays.

    Compressed without loss. Types, errors and `imagej` are those of `TiffSink`.
    """
    if isinstance(pages, np.ndarray) and pages.ndim == 2:
        pages = [pages]
    if not len(pages) or any(page.ndim != 2 for page in pages):
        raise ShapeError("a TIFF stack is written from (H, W) or (pages, H, W) arrays")
    first = pages[0]
    height, width = first.shape
    with TiffSink(
        path, len(pages), height, width, first.dtype, imagej=imagej, overwrite=overwrite
    ) as sink:
        for number, page in enumerate(pages):
            if page.shape != first.shape:
                raise ShapeError(f"page {number} is {page.shape}, the first one {first.shape}")
            sink.write_rows(number, 0, page)


def write_png(path: str | os.PathLike[str], pixels: np.ndarray, *, overwrite: bool = False) -> None:
    """Write a picture: uint8, grey (H, W) or RGB (H, W, 3).

    Raises ShapeError for another array, DataError where the file cannot be written or exists.
    """
    from PIL import Image

    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        raise ShapeError(f"a PNG is written from uint8 (H, W) or (H, W, 3), not {pixels.shape}")
    if not pixels.size:
        raise ShapeError(f"a PNG of {pixels.shape} has no pixels")
    with atomic_path(path, overwrite=overwrite) as temporary:
        Image.fromarray(np.ascontiguousarray(pixels)).save(temporary, "PNG")
