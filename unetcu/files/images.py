"""Images in files: a strict reader of TIFF stacks and PNG images, and the writers beside it.

    stack = open_stack("cells.tif")     # checked: structure, sizes, promises in its headers
    stack.pages, stack.height, stack.width, stack.channels, stack.dtype
    stack[0]                            # page 0, (H, W, C)
    stack.window(0, 0, 572, 0, 572)     # a part of it; the rest is not decoded
    stack.notes                         # what was left out, one line each

A file is opened as if it were hostile: whatever is not an image of a kind read here, or is only a
part of one, is a DataError of one line that names the file and says what to do.
"""

import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import DataError, ShapeError
from ..files import pngread, tiffstack
from ..files.imagewrite import TiffSink, write_png, write_tiff
from ..files.paths import shown
from ..files.pngread import PngPage
from ..files.tiffpage import NONE, TiffPage
from ..files.tiffread import read_window

__all__ = ["Stack", "TiffSink", "open_stack", "write_png", "write_tiff"]

REMEMBERED_BYTES = 64 << 20
_MOST_WHOLE = 1 << 32
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# What people hand over by mistake, by its first bytes, and what to do about it.
_OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the image: run git lfs pull"),
    (b"\x1f\x8b", "compressed with gzip: decompress it first"),
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"\xff\xd8\xff", "a JPEG image, which loses detail: export the original as TIFF or PNG"),
    (b"\0\0\0\x0cjP", "a JPEG 2000 image: save it as TIFF or PNG"),
    (b"GIF8", "a GIF image: save it as TIFF or PNG"),
    (b"BM", "a BMP image: save it as TIFF or PNG"),
    (b"\x89HDF", "an HDF5 file: export the images as TIFF"),
    (b"ZISRAWFILE", "a Zeiss CZI file: export the images as TIFF"),
    (b"\xda\xce\xbe\x0a", "a Nikon ND2 file: export the images as TIFF"),
    (b"\x70\0\0\0", "a Leica LIF file: export the images as TIFF"),
    (b"\x93NUMPY", "a NumPy array: save it as TIFF"),
)


class Stack:
    """The pages of one image file, read when asked for. Made by `open_stack`.

    path      the file
    pages, height, width, channels (1 grey, 3 RGB)
    dtype     of the pixels as stored, in the machine's byte order; bool for 1-bit pages
    notes     remarks for the user, one line each

    No file is kept open; each read opens it and fails if it has changed since. Recently decoded
    strips and tiles are kept (at most 64 MiB), for windows that overlap. Safe for use by threads.
    """

    def __init__(
        self,
        path: Path,
        pages: list[TiffPage] | PngPage,
        notes: list[str],
        identity: tuple[int, int],
    ) -> None:
        first = pages if isinstance(pages, PngPage) else pages[0]
        self.path, self.notes = path, notes
        self.pages = 1 if isinstance(pages, PngPage) else len(pages)
        self.height, self.width, self.channels = first.height, first.width, first.channels
        self.dtype = first.dtype.newbyteorder("=")
        self._layout, self._identity = pages, identity
        self._recent = _Recent()

    def __len__(self) -> int:
        return self.pages

    def __getitem__(self, page: int) -> np.ndarray:
        """Page `page` (from 0; from the end if negative) as a new (H, W, C) array.

        Raises IndexError past the end, and DataError where its data are damaged, not finite, or
        more than fits into memory.
        """
        page = self._index(page)
        needs = self.height * self.width * self.channels * self.dtype.itemsize
        if needs > _MOST_WHOLE:
            raise DataError(
                f"{self._named(page)} needs {needs / 2**30:.0f} GiB of memory: read it by windows"
            )
        return self._read(page, (0, self.height, 0, self.width), lambda _, decode: decode())

    def window(self, page: int, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """Rows y0 to y1 and columns x0 to x1 of a page, a new (y1 - y0, x1 - x0, C) array.

        Decodes only the strips or tiles that meet the window (a PNG is decoded whole). Raises
        ShapeError for a window that is empty or not inside the page, and as `stack[page]` does.
        """
        page = self._index(page)
        if not (0 <= y0 < y1 <= self.height and 0 <= x0 < x1 <= self.width):
            raise ShapeError(
                f"the window {y0}:{y1}, {x0}:{x1} is not inside the page of "
                f"{self.height} x {self.width} pixels"
            )
        return self._read(page, (y0, y1, x0, x1), self._recent.keeper(page))

    @property
    def window_bytes(self) -> int:
        """Memory that windows take besides their own pixels: parts of pages, decoded and kept."""
        page_bytes = self.height * self.width * self.channels * self.dtype.itemsize
        if isinstance(self._layout, PngPage):
            return 3 * page_bytes
        packed = [page.row_bytes * page.rows for page in self._layout if page.compression != NONE]
        kept = min(self.pages * page_bytes, REMEMBERED_BYTES)
        return kept + 2 * max(packed) if packed else 0

    def _read(
        self,
        page: int,
        box: tuple[int, int, int, int],
        remembered: Callable[[int, Callable[[], np.ndarray]], np.ndarray],
    ) -> np.ndarray:
        try:
            with open(self.path, "rb") as file:
                if _identity(os.fstat(file.fileno())) != self._identity:
                    raise DataError("changed while it was being read: start again")
                if isinstance(self._layout, PngPage):
                    png, (y0, y1, x0, x1) = self._layout, box
                    whole = remembered(0, lambda: pngread.read_page(file, png))
                    pixels = whole[y0:y1, x0:x1].copy()
                else:
                    pixels = read_window(file, self._layout[page], box, remembered)
        except DataError as error:
            raise DataError(f"{self._named(page)} {error}") from error.__cause__
        except OSError as error:
            raise DataError(f"{shown(self.path)} cannot be read: {error.strerror}") from error
        except MemoryError:
            raise DataError(f"{self._named(page)} does not fit into memory") from None
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            bad = int(np.count_nonzero(~np.isfinite(pixels)))
            raise DataError(
                f"{self._named(page)} has {bad} values that are not finite (NaN or infinity): "
                "replace them and save it again"
            )
        return pixels

    def _index(self, page: int) -> int:
        if not -self.pages <= page < self.pages:
            raise IndexError(f"page {page} of a stack of {self.pages}")
        return page % self.pages

    def _named(self, page: int) -> str:
        return f"{shown(self.path)}: page {page + 1} of {self.pages}"


def open_stack(path: str | os.PathLike[str]) -> Stack:
    """Open a TIFF stack or a PNG image and check all of its structure; no pixel is decoded yet.

    TIFF: classic and BigTIFF of either byte order, strips or tiles, uncompressed, deflate, LZW or
    PackBits; grey or RGB of 1 bit, (u)int8/16/32 or float16/32/64; alpha is dropped. PNG: grey of
    1, 8 or 16 bits and 8-bit RGB; alpha is dropped.

    Raises DataError, one line that names the file and what to do, for everything else.
    """
    path = Path(os.fsdecode(path))
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise DataError(f"it is {kind}: name an image file")
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            pages, notes = _scan(path, file, status.st_size)
    except DataError as error:
        raise DataError(f"{shown(path)}: {error}") from None
    except FileNotFoundError:
        raise DataError(f"{shown(path)}: there is no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{shown(path)} cannot be read: {reason}") from error
    return Stack(path, pages, notes, _identity(status))


def _scan(path: Path, file: BinaryIO, size: int) -> tuple[list[TiffPage] | PngPage, list[str]]:
    head = file.read(32)
    if not head:
        raise DataError("the file is empty")
    name = path.suffix.lower()
    if head.startswith(_TIFF):
        if name == ".png":
            raise DataError("it is named .png but is a TIFF file: rename it")
        return tiffstack.scan(file, size)
    if head.startswith(pngread.SIGNATURE):
        if name in (".tif", ".tiff"):
            raise DataError("it is named .tif but is a PNG file: rename it")
        return pngread.scan(file, size)
    for magic, what in _OTHERS:
        if head.startswith(magic):
            raise DataError(f"it is {what}")
    raise DataError("it is not a TIFF or PNG image: save it as one of them")


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


class _Recent:
    """The segments decoded last, by page and number; the last one always stays."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def keeper(self, page: int) -> Callable[[int, Callable[[], np.ndarray]], np.ndarray]:
        def remembered(number: int, decode: Callable[[], np.ndarray]) -> np.ndarray:
            key = page, number
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
            pixels = decode()
            with self._lock:
                if key not in self._kept:
                    self._kept[key] = pixels
                    self._bytes += pixels.nbytes
                while self._bytes > REMEMBERED_BYTES and len(self._kept) > 1:
                    self._bytes -= self._kept.popitem(last=False)[1].nbytes
            return pixels

        return remembered
