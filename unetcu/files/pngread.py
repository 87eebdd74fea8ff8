"""PNG files: every chunk checked here, the pixels then decoded by Pillow.

Pillow gets the header and the pixel data alone, rebuilt from chunks whose check sums we have
compared. So whatever else a file carries (text, profiles, animation, a bomb in any of them) is
never interpreted, and a damaged byte never goes unnoticed.
"""

import io
import struct
import zlib
from typing import BinaryIO, NamedTuple

import numpy as np

from ..errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CUT_SHORT = "the file is cut short or damaged, copy it again from its source"
_MOST_PIXELS = 1 << 28
_MOST_GROWTH = 1100  # deflate makes at most 1032 bytes of one
_BLOCK = 1 << 16
# Colour type and bits: samples stored, samples kept, Pillow's mode.
_KINDS = {
    (0, 1): (1, 1, "1"),
    (0, 8): (1, 1, "L"),
    (0, 16): (1, 1, "I;16"),
    (2, 8): (3, 3, "RGB"),
    (4, 8): (2, 1, "LA"),
    (6, 8): (4, 3, "RGBA"),
}


class PngPage(NamedTuple):
    """What the header says, and where the pixel data lie."""

    height: int
    width: int
    channels: int
    dtype: np.dtype
    mode: str
    header: bytes
    data: list[tuple[int, int]]


def scan(file: BinaryIO, size: int) -> tuple[PngPage, list[str]]:
    """The one page of an open PNG file of `size` bytes, and remarks for the user.

    Raises DataError, without the file's name, where it is damaged or of a kind not read.
    """
    file.seek(len(SIGNATURE))
    name, length, offset = _chunk(file, size)
    if name != b"IHDR" or length != 13:
        raise DataError(f"the PNG header is wrong: {_CUT_SHORT}")
    header = _at(file, offset, 13)
    width, height, bits, colour, method, filters, interlace = struct.unpack(">IIBBBBB", header)
    samples, channels, mode = _kind(colour, bits)
    if (method, filters) != (0, 0) or interlace > 1:
        raise DataError(f"the PNG header is wrong: {_CUT_SHORT}")
    if not (0 < width < 1 << 31 and 0 < height < 1 << 31):
        raise DataError(f"it claims {height} x {width} pixels: the file is damaged")
    if height * width > _MOST_PIXELS:
        raise DataError(
            f"it claims {height} x {width} pixels, too many for a PNG file, which can only be "
            "read whole: save it as a tiled TIFF"
        )
    notes = ["alpha channel dropped"] if samples > channels else []
    data: list[tuple[int, int]] = []
    while name != b"IEND":
        name, length, offset = _chunk(file, size)
        if name == b"IDAT":
            data.append((offset, length))
        elif name == b"acTL":
            raise DataError("it is an animated PNG: save its frames as a TIFF stack")
        elif name == b"tRNS":
            notes.append("transparent colour ignored")
        elif not name[0] & 32 and name not in (b"PLTE", b"IEND"):  # capital letter: critical
            raise DataError(f"the PNG file has an unknown critical chunk: {_CUT_SHORT}")
    raw = height * ((width * samples * bits + 7) // 8)
    stored = sum(length for _, length in data)
    if raw > stored * _MOST_GROWTH or stored > 2 * raw + _BLOCK:
        raise DataError(f"its {stored} bytes of data cannot be {height} x {width} pixels")
    dtype = np.dtype({1: "?", 8: "u1", 16: "u2"}[bits])
    return PngPage(height, width, channels, dtype, mode, header, data), notes


def read_page(file: BinaryIO, page: PngPage) -> np.ndarray:
    """All pixels, (height, width, channels). Raises DataError, without the file's name."""
    from PIL.PngImagePlugin import PngImageFile

    parts = [SIGNATURE, _made(b"IHDR", page.header)]
    parts += [_made(b"IDAT", _at(file, offset, length)) for offset, length in page.data]
    try:
        # The class itself: Image.open would try every format and has a limit of its own.
        with PngImageFile(io.BytesIO(b"".join([*parts, _made(b"IEND", b"")]))) as image:
            image.load()
            mode, pixels = image.mode, np.asarray(image)
    except Exception as error:  # Pillow raises whatever its parts raise
        raise DataError(f"holds damaged PNG data: {_CUT_SHORT}") from error
    pixels = pixels.reshape(page.height, page.width, -1)[:, :, : page.channels]
    if mode != page.mode or pixels.dtype != page.dtype:
        raise DataError(f"is a PNG that this Pillow reads as {mode}: save it as TIFF")
    return pixels


def _kind(colour: int, bits: int) -> tuple[int, int, str]:
    if (colour, bits) in _KINDS:
        return _KINDS[colour, bits]
    if colour == 3:
        raise DataError(
            "it has a colour map (palette): save it again as 8-bit grey, or as RGB if the colours "
            "matter"
        )
    if colour in (2, 4, 6) and bits == 16:
        raise DataError("it is a 16-bit colour PNG: save it as TIFF")
    if colour == 0 and bits in (2, 4):
        raise DataError(f"it is a PNG with {bits} bits: save it again with 8 bits")
    raise DataError(f"the PNG header is wrong: {_CUT_SHORT}")


def _chunk(file: BinaryIO, size: int) -> tuple[bytes, int, int]:
    """Name, length and offset of the next chunk, once its check sum was found right."""
    head = file.read(8)
    offset = file.tell()
    if len(head) < 8 or offset + (length := struct.unpack(">I", head[:4])[0]) + 4 > size:
        raise DataError(f"the PNG file ends too early: {_CUT_SHORT}")
    crc, left = zlib.crc32(head[4:]), length
    while left:
        block = file.read(min(left, _BLOCK))
        if not block:
            raise DataError(f"the PNG file ends too early: {_CUT_SHORT}")
        crc, left = zlib.crc32(block, crc), left - len(block)
    if file.read(4) != struct.pack(">I", crc):
        raise DataError(f"a check sum in the PNG file is wrong: {_CUT_SHORT}")
    return head[4:], length, offset


def _at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    data = file.read(length)
    file.seek(4, io.SEEK_CUR)  # past the check sum
    return data


def _made(name: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(data, zlib.crc32(name))
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)
