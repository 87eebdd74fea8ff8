"""From a checked TIFF page to pixels: strips and tiles decoded one by one, only where asked."""

import zlib
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from ..errors import DataError
from ..files.lzw import lzw, packbits
from ..files.tiffpage import LZW, NONE, PACKBITS, TiffPage
from ..files.tiffwalk import CUT_SHORT

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def read_window(
    file: BinaryIO,
    page: TiffPage,
    box: tuple[int, int, int, int],
    remembered: Callable[[int, Callable[[], np.ndarray]], np.ndarray],
) -> np.ndarray:
    """Pixels y0:y1, x0:x1 of a page, (y1-y0, x1-x0, channels) in the machine's byte order.

    Of an uncompressed page only the rows asked for are read, of any other only the segments that
    meet the box are decoded, through `remembered(number, decode)`, which may keep some of them.
    An alpha channel is left out. Raises DataError, without the file's name, for damaged data.
    """
    y0, y1, x0, x1 = box
    out = np.empty((y1 - y0, x1 - x0, page.channels), page.dtype.newbyteorder("="))
    down, across = -(-page.height // page.rows), -(-page.width // page.columns)
    for plane in range(1 if page.planes == 1 else page.channels):
        target = out if page.planes == 1 else out[:, :, plane : plane + 1]
        for row in range(y0 // page.rows, (y1 - 1) // page.rows + 1):
            for column in range(x0 // page.columns, (x1 - 1) // page.columns + 1):
                number = (plane * down + row) * across + column
                top, left = row * page.rows, column * page.columns
                a, b = max(y0 - top, 0), min(y1 - top, page.rows)
                c, d = max(x0 - left, 0), min(x1 - left, page.columns)
                if page.compression == NONE:
                    part = _stored(file, page, number, a, b)
                else:
                    part = remembered(number, lambda n=number: _decoded(file, page, n))[a:b]  # type: ignore[misc]
                target[top + a - y0 : top + b - y0, left + c - x0 : left + d - x0] = part[
                    :, c:d, : target.shape[2]
                ]
    return out


def _stored(file: BinaryIO, page: TiffPage, number: int, first: int, last: int) -> np.ndarray:
    """Some rows of an uncompressed segment."""
    offset = int(page.offsets[number]) + first * page.row_bytes
    return _pixels(page, _read(file, page, offset, (last - first) * page.row_bytes))


def _decoded(file: BinaryIO, page: TiffPage, number: int) -> np.ndarray:
    """All rows of a compressed segment."""
    data = _read(file, page, int(page.offsets[number]), int(page.lengths[number]))
    need, most = page.row_bytes * page.rows_of(number), page.row_bytes * page.rows
    decode = {LZW: lzw, PACKBITS: packbits}.get(page.compression, _inflate)
    raw = decode(data, most)
    if len(raw) not in (need, most):  # some writers fill up the last strip
        raise DataError(f"holds {len(raw)} bytes in a strip or tile of {need}: {CUT_SHORT}")
    return _pixels(page, raw)


def _read(file: BinaryIO, page: TiffPage, offset: int, length: int) -> bytes:
    file.seek(offset)
    data = file.read(length)
    if len(data) != length:
        raise DataError(f"has pixels outside the file: {CUT_SHORT}")
    return data.translate(_REVERSED) if page.reverse_bits else data


def _inflate(data: bytes, most: int) -> bytes:
    """Undo deflate, never making more than `most` bytes (a bomb of 2 MB may hold 2 GB)."""
    decoder = zlib.decompressobj()
    try:
        raw = decoder.decompress(data, most)
        more = b"" if decoder.eof else decoder.decompress(decoder.unconsumed_tail, 1)
    except zlib.error:
        raise DataError(f"holds damaged deflate data: {CUT_SHORT}") from None
    if more:
        raise DataError("holds more deflate data than its size allows: the file is damaged")
    if not decoder.eof:  # the check sum at the end was not reached
        raise DataError(f"holds deflate data that end too early: {CUT_SHORT}")
    return raw


def _pixels(page: TiffPage, raw: bytes) -> np.ndarray:
    """Whole decoded rows as (rows, columns, samples), byte order and predictor undone."""
    samples = page.samples // page.planes
    if page.dtype.kind == "b":
        bits = np.frombuffer(raw, np.uint8).reshape(-1, page.row_bytes)
        return np.unpackbits(bits, axis=1)[:, : page.columns, np.newaxis].view(bool)
    shape = (-1, page.columns, samples)
    if page.predictor == 3:
        return _unpredicted_floats(page, raw).reshape(shape)
    values = np.frombuffer(raw, page.dtype).reshape(shape)
    values = values.astype(page.dtype.newbyteorder("="), copy=False)
    if page.predictor == 2:  # each sample is the difference from the one to its left, modulo 2^bits
        whole = values.view(f"u{page.dtype.itemsize}")
        values = np.cumsum(whole, axis=1, dtype=whole.dtype).view(values.dtype)
    return values


def _unpredicted_floats(page: TiffPage, raw: bytes) -> np.ndarray:
    """Undo predictor 3 (TIFF Technical Note 3): differences of bytes, in each row the most
    significant bytes of all samples first, then the next ones, in either byte order."""
    size, samples = page.dtype.itemsize, page.samples // page.planes
    bytes_ = np.frombuffer(raw, np.uint8).reshape(-1, page.columns * size, samples)
    bytes_ = np.cumsum(bytes_, axis=1, dtype=np.uint8).reshape(len(bytes_), size, -1)
    big = np.ascontiguousarray(bytes_.transpose(0, 2, 1)).view(f">f{size}")
    return big.astype(page.dtype.newbyteorder("="))
