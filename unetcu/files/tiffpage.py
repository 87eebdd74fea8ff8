"""What one TIFF page directory says about its pixels, or why such a page is not read.

The product reads grey and RGB pages of the types that microscopes write. Everything else is
refused, with the way out: a colour map or an inverted scale read as plain numbers would be
silently wrong.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..files.tiffwalk import CUT_SHORT, Directory, Tag

_DTYPES = {
    (1, 1): "?",
    (8, 1): "u1",
    (16, 1): "u2",
    (32, 1): "u4",
    (8, 2): "i1",
    (16, 2): "i2",
    (32, 2): "i4",
    (16, 3): "f2",
    (32, 3): "f4",
    (64, 3): "f8",
}
NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 8, 32946, 32773
# The most bytes that one byte can decode to: what a page claims beyond it cannot be there.
_MOST_GROWTH = {NONE: 1, LZW: 3000, DEFLATE: 1100, OLD_DEFLATE: 1100, PACKBITS: 64}
_OTHER_COMPRESSIONS = {
    2: "CCITT (fax)",
    3: "CCITT (fax)",
    4: "CCITT (fax)",
    6: "JPEG",
    7: "JPEG",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
}
GREY, RGB = 1, 2
_OTHER_COLOURS = {
    0: "stores white as 0 (MinIsWhite, an inverted lookup table): in ImageJ use "
    "Image > Lookup Tables > Grays, then check by eye that it looks right, and save it again",
    3: "has a colour map (palette): in ImageJ use Image > Type > 8-bit for grey values "
    "or RGB Color, and save it again",
    4: "is a transparency mask, not an image",
    5: "is CMYK: save it again as RGB or grey",
    6: "is YCbCr: save it again as RGB or grey",
    8: "is CIE L*a*b*: save it again as RGB or grey",
}
_TILE_TAGS = (Tag.TILE_WIDTH, Tag.TILE_HEIGHT, Tag.TILE_OFFSETS, Tag.TILE_BYTES)
_MOST_SIDE = 1 << 31
_SMALL_TILE = 1 << 26


@dataclass(frozen=True, slots=True)
class TiffPage:
    """One page whose segments (strips or tiles) were found to be inside the file.

    A segment holds `rows` x `columns` pixels; the last strip holds fewer rows, while tiles at
    the edge are filled up. Segments run along rows of the page, then down, then over `planes`
    (the number of samples where each is stored apart, else 1).
    """

    height: int
    width: int
    samples: int
    channels: int
    dtype: np.dtype
    compression: int
    predictor: int
    reverse_bits: bool
    planes: int
    tiled: bool
    rows: int
    columns: int
    offsets: np.ndarray
    lengths: np.ndarray

    @property
    def row_bytes(self) -> int:
        """Decoded bytes of one row of a segment."""
        bits = 1 if self.dtype.kind == "b" else 8 * self.dtype.itemsize
        return (self.columns * (self.samples // self.planes) * bits + 7) // 8

    def rows_of(self, segment: int) -> int:
        """Rows that a segment must hold."""
        down = -(-self.height // self.rows)
        last = not self.tiled and segment % down == down - 1
        return self.height - (down - 1) * self.rows if last else self.rows

    @property
    def stored_bytes(self) -> int:
        """Bytes of the file that the segments take up."""
        length = int(self.lengths.sum())
        most = len(self.lengths) * self.rows * self.row_bytes
        return min(length, most) if self.compression == NONE else length

    @property
    def kind(self) -> str:
        """What all pages of a stack have in common, for a message."""
        colour = " RGB" if self.channels == 3 else ""
        return f"{self.height} x {self.width}{colour} {self.dtype.name}"


def page_of(tags: Directory, order: str, size: int) -> TiffPage:
    """Check one directory of a file of `size` bytes and byte order `order` ("<" or ">")."""
    height, width = tags.number(Tag.HEIGHT), tags.number(Tag.WIDTH)
    if not (0 < height < _MOST_SIDE and 0 < width < _MOST_SIDE):
        raise DataError(f"claims {height} x {width} pixels: the file is damaged")
    if tags.number(Tag.IMAGE_DEPTH, 1) != 1 or tags.number(Tag.TILE_DEPTH, 1) != 1:
        raise DataError("is a volume in one page: save one page for each slice")
    if tags.count(Tag.METAMORPH_PLANES) > 1:
        raise DataError("is a MetaMorph stack: open it in ImageJ and save it as TIFF")
    compression = tags.number(Tag.COMPRESSION, NONE)
    if compression not in _MOST_GROWTH:
        name = _OTHER_COMPRESSIONS.get(compression, f"method {compression}")
        raise DataError(f"is compressed with {name}: save it again uncompressed, LZW or ZIP")
    samples, channels = _channels(tags)
    dtype = _dtype(tags, samples, order)
    if dtype.kind == "b" and samples > 1:
        raise DataError("has 1-bit colours: save it again with 8 bits")
    predictor = _predictor(tags, compression, dtype)
    fill_order = tags.number(Tag.FILL_ORDER, 1)
    planar = tags.number(Tag.PLANAR, 1)
    if fill_order not in (1, 2) or planar not in (1, 2):
        raise DataError("has an unknown fill order or planar configuration: the file is damaged")
    if fill_order == 2 and dtype.kind != "b":
        raise DataError("has reversed bits, which programs read differently: save it again")
    planes = samples if planar == 2 else 1
    page_bytes = height * width * samples * dtype.itemsize // (8 if dtype.kind == "b" else 1)
    if page_bytes > size * _MOST_GROWTH[compression]:
        raise DataError(f"claims {height} x {width} pixels, more than the file holds: {CUT_SHORT}")
    tiled = any(tag in tags for tag in _TILE_TAGS)
    if tiled:
        if Tag.STRIP_OFFSETS in tags or Tag.STRIP_BYTES in tags:
            raise DataError("has both strips and tiles: the file is damaged")
        rows, columns = tags.number(Tag.TILE_HEIGHT), tags.number(Tag.TILE_WIDTH)
        bulk = rows * columns * samples * dtype.itemsize
        if rows % 16 or columns % 16 or not 0 < bulk <= max(_SMALL_TILE, 2 * page_bytes):
            raise DataError(f"claims tiles of {rows} x {columns} pixels: the file is damaged")
    else:
        rows, columns = min(tags.number(Tag.ROWS_PER_STRIP, height), height), width
        if rows == 0:
            raise DataError("claims strips of no rows: the file is damaged")
    number = planes * -(-height // rows) * -(-width // columns)
    offsets, lengths = _segments(tags, tiled, number, size)
    page = TiffPage(
        height,
        width,
        samples,
        channels,
        dtype,
        compression,
        predictor,
        fill_order == 2,
        planes,
        tiled,
        rows,
        columns,
        offsets,
        lengths,
    )
    need = np.full(number, page.row_bytes * rows)
    if not tiled:
        down = -(-height // rows)
        need[down - 1 :: down] = page.row_bytes * page.rows_of(down - 1)
    if (lengths * _MOST_GROWTH[compression] < need).any():
        raise DataError(f"has fewer bytes than its pixels need: {CUT_SHORT}")
    return page


def _channels(tags: Directory) -> tuple[int, int]:
    """Samples stored per pixel, and how many of them are colour (1 or 3)."""
    photometric, samples = tags.number(Tag.PHOTOMETRIC), tags.number(Tag.SAMPLES, 1)
    if photometric not in (GREY, RGB):
        what = _OTHER_COLOURS.get(photometric, f"has the unknown colour space {photometric}")
        raise DataError(what)
    channels = 3 if photometric == RGB else 1
    extra = samples - channels
    if extra == 0:
        return samples, channels
    if (
        extra == 1
        and tags.count(Tag.EXTRA_SAMPLES) == 1
        and tags.number(Tag.EXTRA_SAMPLES) in (1, 2)
    ):
        return samples, channels
    colour = "RGB" if channels == 3 else "grey"
    raise DataError(
        f"has {samples} samples per pixel, which do not make {colour} with or without alpha: "
        "save it again as RGB, or each channel as a grey image"
    )


def _dtype(tags: Directory, samples: int, order: str) -> np.dtype:
    bits = set(tags.numbers(Tag.BITS, 1, samples))
    formats = set(tags.numbers(Tag.SAMPLE_FORMAT, 1, samples))
    if len(bits) != 1 or len(formats) != 1:
        raise DataError("mixes samples of several types: save it again as one type")
    key = bits.pop(), formats.pop()
    if key[1] in (5, 6):
        raise DataError("has complex numbers: save their magnitude instead")
    if key not in _DTYPES:
        name = {1: "unsigned integer", 2: "signed integer", 3: "floating point"}.get(
            key[1], "untyped"
        )
        raise DataError(f"has {key[0]}-bit {name} samples: save it again as 8-bit, 16-bit or float")
    return np.dtype(order + _DTYPES[key])


def _predictor(tags: Directory, compression: int, dtype: np.dtype) -> int:
    predictor = tags.number(Tag.PREDICTOR, 1)
    fits = {1: True, 2: dtype.kind != "b", 3: dtype.kind == "f"}.get(predictor, False)
    if not fits or (predictor != 1 and compression in (NONE, PACKBITS)):
        raise DataError(
            f"has predictor {predictor}, which does not fit it: save it again uncompressed"
        )
    return predictor


def _segments(
    tags: Directory, tiled: bool, number: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where the segments lie, as int64, once all of them are known to be inside the file."""
    tables = []
    for tag in (
        (Tag.TILE_OFFSETS, Tag.TILE_BYTES) if tiled else (Tag.STRIP_OFFSETS, Tag.STRIP_BYTES)
    ):
        if tags.count(tag) != number:
            raise DataError(
                f"has {tags.count(tag)} values in {tag.name} where its size asks for {number}: "
                "the file is damaged"
            )
        tables.append(tags.table(tag))
    offsets, lengths = tables
    if (lengths == 0).any():
        raise DataError("has strips or tiles without data: save it again in full")
    # Each alone first, so that the sum cannot pass 2^64.
    outside = (offsets < 8) | (offsets > size) | (lengths > size)
    if outside.any() or (offsets + lengths > size).any():
        raise DataError(f"has pixels outside the file: {CUT_SHORT}")
    return offsets.astype(np.int64), lengths.astype(np.int64)
