"""Builds TIFF and PNG files byte by byte for tests, the honest and the hostile ones.

Written from the formats' texts alone and sharing nothing with the reader that it tests: plain
loops, and an LZW encoder with a dictionary of strings.
"""

import struct
import zlib
from dataclasses import dataclass

import numpy as np

SHORT, LONG, LONG8, ASCII = 3, 4, 16, 2
CODES = {1: "B", 2: "B", 3: "H", 4: "I", 16: "Q"}
FORMATS = {"b": 1, "u": 1, "i": 2, "f": 3, "c": 6}


@dataclass
class Page:
    """The tags of a page, {tag: (type, values)}, and the bytes of its segments. Change at will."""

    tags: dict
    segments: list


def page(
    array,
    order="<",
    *,
    compression=1,
    tile=None,
    rows=None,
    separate=False,
    predictor=1,
    fill_order=1,
    photometric=None,
    extra=None,
    text=None,
):
    """A page of an (H, W) or (H, W, C) array, in strips of `rows` or tiles of (height, width)."""
    array = array[:, :, None] if array.ndim == 2 else array
    height, width, samples = array.shape
    kind = array.dtype.kind
    bits = 1 if kind == "b" else 8 * array.dtype.itemsize
    rows = rows or height
    planes = [array[:, :, [s]] for s in range(samples)] if separate else [array]
    blocks = []
    for plane in planes:
        if tile:
            for y in range(0, height, tile[0]):
                for x in range(0, width, tile[1]):
                    block = np.zeros((*tile, plane.shape[2]), array.dtype)
                    part = plane[y : y + tile[0], x : x + tile[1]]
                    block[: part.shape[0], : part.shape[1]] = part
                    blocks.append(block)
        else:
            blocks += [plane[y : y + rows] for y in range(0, height, rows)]
    segments = [encode(b, order, compression, predictor, fill_order) for b in blocks]
    tags = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [bits] * samples),
        259: (SHORT, [compression]),
        262: (SHORT, [photometric if photometric is not None else (2 if samples > 2 else 1)]),
        277: (SHORT, [samples]),
        284: (SHORT, [2 if separate else 1]),
        339: (SHORT, [FORMATS[kind]] * samples),
    }
    if tile:
        tags |= {322: (SHORT, [tile[1]]), 323: (SHORT, [tile[0]])}
    else:
        tags[278] = (LONG, [rows])
    if predictor != 1:
        tags[317] = (SHORT, [predictor])
    if fill_order != 1:
        tags[266] = (SHORT, [fill_order])
    if extra is not None:
        tags[338] = (SHORT, extra)
    if text is not None:
        tags[270] = (ASCII, list(text.encode() + b"\0"))
    return Page(tags, segments)


def tiff(pages, order="<", big=False):
    """The file: header, then for each page its segments, long values and directory."""
    word, entry = ("Q", 8) if big else ("I", 4)

    def pack(code, *values):
        return struct.pack(order + code, *values)

    out = bytearray(b"II" if order == "<" else b"MM")
    out += pack("HHHQ", 43, 8, 0, 0) if big else pack("HI", 42, 0)
    link = len(out) - entry
    for p in pages:
        places = []
        for segment in p.segments:
            places.append(len(out))
            out += segment + b"\0" * (len(segment) % 2)
        tiled = 322 in p.tags
        tags = {
            324 if tiled else 273: (LONG8 if big else LONG, places),
            325 if tiled else 279: (LONG, [len(s) for s in p.segments]),
            **p.tags,
        }
        entries = b""
        kept = [(tag, value) for tag, value in sorted(tags.items()) if value is not None]
        for tag, (kind, values) in kept:
            count = len(values)
            data = b"".join(pack(CODES[kind], v) for v in values)
            if len(data) > entry:
                data, place = b"", len(out)
                out += b"".join(pack(CODES[kind], v) for v in values)
                out += b"\0" * (len(out) % 2)
                data = pack(word, place)
            entries += pack("HH" + word, tag, kind, count) + data.ljust(entry, b"\0")
        out[link : link + entry] = pack(word, len(out))
        out += pack("Q" if big else "H", len(kept)) + entries
        link = len(out)
        out += pack(word, 0)
    return bytes(out)


def ring(length):
    """A chain of pages whose last one links to the first."""
    data = bytearray(tiff([page(np.zeros((4, 4), np.uint8))] * length))
    first = struct.unpack("<I", data[4:8])[0]
    data[-4:] = struct.pack("<I", first)
    return bytes(data)


def late_ring():
    """Three pages, the last of which links to the second."""
    data = bytearray(tiff([page(np.zeros((4, 4), np.uint8))] * 3))
    first = struct.unpack("<I", data[4:8])[0]
    link = first + 2 + 12 * struct.unpack("<H", data[first : first + 2])[0]
    data[-4:] = data[link : link + 4]
    return bytes(data)


def encode(block, order, compression, predictor, fill_order):
    """One strip or tile as bytes."""
    rows, columns, samples = block.shape
    if block.dtype.kind == "b":
        raw = b"".join(packed_bits(row[:, 0]) for row in block)
    elif predictor == 3:
        raw = b""
        for row in block:
            big = row.astype(row.dtype.newbyteorder(">")).tobytes()
            size = block.dtype.itemsize
            planes = b"".join(big[i::size] for i in range(size))
            raw += bytes(
                (planes[i] - (planes[i - samples] if i >= samples else 0)) % 256
                for i in range(len(planes))
            )
    else:
        values = block
        if predictor == 2:
            values = block.view(f"u{block.dtype.itemsize}").copy()
            for x in range(columns - 1, 0, -1):
                values[:, x] -= values[:, x - 1]
        raw = values.astype(values.dtype.newbyteorder(order)).tobytes()
    if compression in (8, 32946):
        raw = zlib.compress(raw)
    elif compression == 5:
        raw = lzw(raw)
    elif compression == 32773:
        row_bytes = len(raw) // rows
        raw = b"".join(packbits(raw[i : i + row_bytes]) for i in range(0, len(raw), row_bytes))
    if fill_order == 2:
        raw = bytes(int(f"{b:08b}"[::-1], 2) for b in raw)
    return raw


def packed_bits(row):
    text = "".join("1" if v else "0" for v in row)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))


def lzw(raw, full=4094, widen_last=True):
    """The encoder of TIFF 6.0, section 13, with a string table reset when `full`.

    Encoders differ in whether the last code widens the one after it, as all others do.
    """
    bits, width, table, nxt = [], 9, {}, 258

    def put(code):
        bits.append(f"{code:0{width}b}")

    put(256)
    word = b""
    for i in range(len(raw)):
        byte = raw[i : i + 1]
        if len(word + byte) == 1 or word + byte in table:
            word += byte
            continue
        put(table.get(word, word[0]))
        table[word + byte] = nxt
        nxt += 1
        if nxt == full:
            put(256)
            width, table, nxt = 9, {}, 258
        elif nxt in (512, 1024, 2048):
            width += 1
        word = byte
    if word:
        put(table.get(word, word[0]))
        if widen_last and nxt + 1 in (512, 1024, 2048):
            width += 1
    put(257)
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def packbits(raw):
    """Runs of two or more equal bytes as such, the rest as literals."""
    out, i = b"", 0
    while i < len(raw):
        run = 1
        while run < 128 and raw[i : i + 1] * (run + 1) == raw[i : i + run + 1]:
            run += 1
        if run > 1:
            out += bytes([257 - run, raw[i]])
            i += run
        else:
            start = i
            while i < len(raw) and i - start < 128 and raw[i : i + 1] != raw[i + 1 : i + 2]:
                i += 1
            i += i == start
            out += bytes([i - start - 1]) + raw[start:i]
    return out


def chunk(name, data=b""):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, bits, colour, raw, *, before=b"", interlace=0):
    """A PNG of filtered rows `raw`; `before` are chunks to put before the pixel data."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + before
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND")
    )
