"""Bad and hostile TIFF files by name, each with what the message must say of it."""

import gzip
import struct
import zlib

import numpy as np
from imagecheck import image
from tiffbuild import ASCII, LONG, LONG8, SHORT, late_ring, page, png, ring, tiff

DEFLATE, LZW, PACKBITS = 8, 5, 32773
GREY = image("u1")
ROWS = b"".join(b"\0" + row.tobytes() for row in GREY)


def changed(tags, array=GREY, big=False, **options):
    """A one-page file with tags set: None drops one; a number, numbers, or (type, numbers)."""
    one = page(array, **options)
    for tag, value in tags.items():
        if isinstance(value, int):
            value = [value]
        if isinstance(value, list):
            value = (LONG if max(value) > 65535 else SHORT, value)
        one.tags[tag] = value
    return tiff([one], big=big)


def sharing():
    """Two pages, the second one with the pixels of the first."""
    pages = [page(GREY), page(GREY)]
    pages[1].tags |= {273: (LONG, [8]), 279: (LONG, [GREY.size])}
    pages[1].segments = []
    return tiff(pages)


def with_segment(data, compression=DEFLATE, which=0, **options):
    one = page(GREY, compression=compression, **options)
    one.segments[which] = data
    return tiff([one])


def segment(compression):
    return page(GREY, compression=compression).segments[0]


def tagged(text):
    return tiff([page(GREY, text=text)])


def imagej_of_4():
    """One directory, then four pages."""
    one = page(GREY, text="ImageJ=1.53t\nimages=4\n")
    one.tags[273] = (LONG, [1000 + GREY.size])
    return tiff([one])[: 1000 + GREY.size].ljust(1000 + GREY.size, b"\0") + bytes(4 * GREY.size)


def many_strips():
    """A file of 257 bytes that declares 50 million strips."""
    one = page(GREY[:1, :1])
    one.tags |= {257: (LONG, [50_000_000]), 278: (LONG, [1])}
    data = bytearray(tiff([one]))
    for tag in (273, 279):
        at = data.index(struct.pack("<HHI", tag, LONG, 1))
        data[at + 4 : at + 8] = struct.pack("<I", 50_000_000)
    return bytes(data)


BIG = tiff([page(GREY)], big=True)
GOOD = tiff([page(GREY)] * 3)
STACK = tiff([page(GREY, compression=DEFLATE)] * 30)
PNG = png(45, 37, 8, 0, ROWS)
FLOATS = np.full((4, 4), np.nan, np.float32)

TIFFS = {
    # not a TIFF at all
    "empty": (b"", "is empty"),
    "one byte": (b"I", "not a TIFF or PNG"),
    "magic only": (b"II*\0", "header is wrong"),
    "big magic only": (b"II+\0\x08\0\0\0", "header is wrong"),
    "magic and no page": (b"II*\0\0\0\0\0", "has no page"),
    "zeros": (bytes(1000), "not a TIFF or PNG"),
    "random": (np.random.default_rng(0).bytes(1000), "not a TIFF or PNG"),
    "text": (b"hello\n" * 9, "not a TIFF or PNG"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "gzip": (gzip.compress(GOOD), "decompress it"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(99), "JPEG"),
    "png inside": (PNG, r"named \.tif but is a PNG"),
    "offset size 4": (b"II+\0\x04\0\0\0" + bytes(8), "header is wrong"),
    # cut short
    "cut in the directory": (GOOD[:-20], "cut short"),
    "cut in the data": (GOOD[:1000], "cut short"),
    "cut at 60 %": (STACK[: len(STACK) * 6 // 10], "cut short"),
    "next page outside": (GOOD[:-4] + b"\xff\xff\xff\x7f", "cut short"),
    "first page outside": (GOOD[:4] + b"\xff\xff\xff\xff" + GOOD[8:], "cut short"),
    "first page at 2^64": (BIG[:8] + b"\xf8" + b"\xff" * 7 + BIG[16:], "cut short"),
    # rings
    "ring of 1": (ring(1), "ring"),
    "ring of 2": (ring(2), "ring"),
    "ring of 99": (ring(99), "ring"),
    "ring of 100": (ring(100), "ring"),
    "ring of 150": (ring(150), "ring"),
    "ring after a page": (late_ring(), "ring"),
    # sizes and types
    "zero width": (changed({256: 0}), "claims 37 x 0"),
    "zero height": (changed({257: 0}), "claims 0 x 45"),
    "no width": (changed({256: None}), "no tag WIDTH"),
    "no height": (changed({257: None}), "no tag HEIGHT"),
    "no photometric": (changed({262: None}), "no tag PHOTOMETRIC"),
    "no offsets": (changed({273: None}), "0 values in STRIP_OFFSETS"),
    "no byte counts": (changed({279: None}), "0 values in STRIP_BYTES"),
    "0 bits": (changed({258: 0}), "0-bit"),
    "7 bits": (changed({258: 7}), "7-bit"),
    "12 bits": (changed({258: 12}), "12-bit"),
    "64 bits": (changed({}, GREY.astype("u8")), "64-bit unsigned"),
    "65535 bits": (changed({258: 65535}), "65535-bit"),
    "8-bit float": (changed({339: 3}), "8-bit floating"),
    "untyped": (changed({339: 4}), "untyped"),
    "complex": (changed({}, GREY.astype("c8")), "complex"),
    "mixed bits": (changed({258: [8, 8, 16]}, image("u1", 3)), "several types"),
    "2^31 square": (changed({256: 1 << 31, 257: 1 << 31}), "damaged"),
    "2^31 - 1 square": (changed({256: (1 << 31) - 1, 257: (1 << 31) - 1}), "more than the file"),
    "2^31 - 1 square in tiles": (
        changed({256: (1 << 31) - 1, 257: (1 << 31) - 1}, tile=(16, 16), compression=LZW),
        "more than the file",
    ),
    "width too large": (changed({256: 46}), "cut short"),
    "height too large": (changed({257: 38, 278: 38}), "cut short"),
    "50 million strips": (many_strips(), "cut short"),
    "no rows in a strip": (changed({278: 0}), "strips of no rows"),
    "one strip missing": (changed({278: 7}, rows=8), "5 values in STRIP_OFFSETS"),
    "empty strip": (changed({279: [0]}), "without data"),
    "strip outside": (changed({273: [100_000]}), "outside the file"),
    "strip in the header": (changed({273: [0]}), "outside the file"),
    "strip ends outside": (changed({279: [100_000]}), "outside the file"),
    "strip runs outside": (changed({273: [1000]}), "outside the file"),
    "strip too short": (changed({279: [37 * 45 - 1]}), "fewer bytes"),
    "tiles of 0": (changed({322: 0}, tile=(16, 16)), "tiles of 16 x 0"),
    "tiles of 8": (changed({}, tile=(8, 8)), "tiles of 8 x 8"),
    "tiles of 2^31": (
        changed({322: 1 << 31, 323: 1 << 31}, tile=(16, 16), compression=LZW),
        "claims tiles",
    ),
    "65535 samples": (changed({277: 65535, 258: 8}), "65535 samples"),
    "2 values for 3 samples": (changed({258: [8, 8]}, image("u1", 3)), "2 values in BITS"),
    "0 samples": (changed({277: 0}), "samples"),
    "strip ends past 2^64": (
        changed({273: (LONG8, [(1 << 64) - 8]), 279: (LONG8, [37 * 45])}, big=True),
        "outside the file",
    ),
    "strip of 2^64 bytes": (
        changed({273: (LONG8, [8]), 279: (LONG8, [(1 << 64) - 8])}, big=True),
        "outside the file",
    ),
    "bits as text": (changed({258: (ASCII, [8])}), "BITS in a wrong type"),
    "strips and tiles": (changed({325: 8}), "both strips and tiles"),
    "reversed bytes": (changed({}, fill_order=2), "reversed bits"),
    # kinds that are not read
    "white is zero": (changed({262: 0}), "MinIsWhite.*Lookup Tables"),
    "palette": (changed({262: 3}), "palette.*8-bit"),
    "mask": (changed({262: 4}), "transparency mask"),
    "cmyk": (changed({262: 5}, image("u1", 4)), "CMYK"),
    "ycbcr": (changed({262: 6}, image("u1", 3)), "YCbCr"),
    "lab": (changed({262: 8}, image("u1", 3)), r"L\*a\*b"),
    "filter array": (changed({262: 32803}), "unknown colour space 32803"),
    "2 channels": (changed({}, image("u1", 2)), "2 samples per pixel"),
    "3 channels not RGB": (changed({262: 1}, image("u1", 3)), "3 samples per pixel"),
    "5 channels": (changed({}, image("u1", 5)), "5 samples per pixel"),
    "RGB of one sample": (changed({262: 2}), "1 samples per pixel"),
    "RGB and unknown": (changed({}, image("u1", 4), extra=[0]), "4 samples per pixel"),
    "1-bit alpha": (changed({258: [1, 1]}, image("u1", 2), extra=[1]), "1-bit colours"),
    "jpeg compression": (changed({259: 7}), "JPEG: save it again"),
    "jpeg 2000": (changed({259: 33003}), "JPEG 2000: save"),
    "fax": (changed({259: 4}), "CCITT"),
    "zstd": (changed({259: 50000}), "Zstandard"),
    "unknown compression": (changed({259: 9999}), "method 9999"),
    "volume": (changed({32997: 5}), "volume"),
    "metamorph": (changed({33629: [0] * 24}), "MetaMorph"),
    "fill order 3": (changed({266: 3}), "fill order"),
    "planar 0": (changed({284: 0}), "planar"),
    "predictor 9": (changed({317: 9}, compression=DEFLATE), "predictor 9"),
    "float predictor on integers": (changed({317: 3}, compression=DEFLATE), "predictor 3"),
    "predictor without compression": (changed({317: 2}), "predictor 2"),
    "predictor on bits": (changed({317: 2}, GREY > 9, compression=DEFLATE), "predictor 2"),
    # damaged or malicious pixels
    "deflate bomb": (with_segment(zlib.compress(bytes(200 << 20))), "more deflate data"),
    "deflate too short": (with_segment(zlib.compress(bytes(37 * 45 - 1))), "holds 1664 bytes"),
    "tile of 5 rows": (with_segment(zlib.compress(bytes(240)), tile=(48, 48)), "holds 240 bytes"),
    "last tile of 5 rows": (
        with_segment(zlib.compress(bytes(240)), which=2, tile=(16, 48)),
        "holds 240 bytes",
    ),
    "deflate of one row": (with_segment(zlib.compress(bytes(45)), rows=37), "holds 45 bytes"),
    "deflate cut": (with_segment(segment(DEFLATE)[:-8]), "end too early"),
    "deflate without check sum": (with_segment(segment(DEFLATE)[:-4]), "end too early"),
    "deflate check sum wrong": (with_segment(segment(DEFLATE)[:-1] + b"?"), "damaged deflate"),
    "deflate is noise": (with_segment(bytes(range(256))), "damaged deflate"),
    "lzw cut": (with_segment(segment(LZW)[:-100], LZW), "holds [0-9]+ bytes"),
    "lzw is noise": (with_segment(b"\x80\x7f" + bytes(range(255, 0, -1)), LZW), "damaged LZW"),
    "lzw bomb": (
        with_segment(page(np.zeros((1000, 1000), "u1"), compression=LZW).segments[0], LZW),
        "more LZW data",
    ),
    "old lzw": (with_segment(b"\0\1" + bytes(99), LZW), "1990"),
    "packbits cut": (with_segment(segment(PACKBITS)[:-1], PACKBITS), "cut short"),
    "packbits bomb": (with_segment(b"\x81\0" * 5000, PACKBITS), "more PackBits"),
    "packbits too short": (with_segment(b"\x81\0" * 13, PACKBITS), "fewer bytes"),
    "NaN": (tiff([page(FLOATS)]), "page 1 of 1 has 16 values that are not finite"),
    "infinity": (tiff([page(np.array([[1, -np.inf]]))]), "1 values that are not finite"),
    "NaN in float16": (tiff([page(FLOATS.astype("f2"))]), "16 values that are not finite"),
    # pages
    "pages of two sizes": (tiff([page(GREY), page(GREY[1:])]), "page 2 is 36 x 45 uint8 but"),
    "pages of two types": (tiff([page(GREY), page(GREY.astype("u2"))]), "page 2 is .*uint16"),
    "grey and RGB": (tiff([page(GREY), page(image("u1", 3))]), "page 2 is 37 x 45 RGB"),
    "second page bad": (
        tiff([page(GREY), page(GREY, compression=7)]),
        "page 2 is compressed with JPEG",
    ),
    "only reduced pages": (changed({254: 1}), "only reduced"),
    "pages that share pixels": (sharing(), "page 2 shares"),
    # promises
    "imagej promises more": (tagged("ImageJ=1.53t\nimages=30\nslices=30\n"), "promises 30 pages"),
    "imagej cut by a byte": (imagej_of_4()[:-1], "promises 4 pages"),
    "tifffile promises more": (tagged('{"shape": [30, 37, 45]}'), "promises 30 pages"),
    "old tifffile promises more": (tagged("shape=(30,37,45)"), "promises 30 pages"),
    "tifffile promises 10^40": (tagged('{"shape": [' + "9" * 40 + "]}"), "promises [0-9]+ pages"),
    "ome promises more": (
        tagged('<OME><Pixels SizeX="45" SizeZ="3" SizeC="2" SizeT="5"></Pixels></OME>'),
        "promises 30 pages",
    ),
}


def patched():
    """Cases that need bytes of the finished file changed."""
    made = {}
    data = bytearray(tiff([page(GREY)]))
    height = data.index(struct.pack("<HHI", 257, LONG, 1))
    data[height : height + 2] = struct.pack("<H", 256)
    made["tag twice"] = bytes(data), "WIDTH twice"
    data = bytearray(tiff([page(GREY)]))
    data[height + 2 : height + 4] = struct.pack("<H", 12)
    made["wrong type"] = bytes(data), "HEIGHT in a wrong type"
    data = bytearray(tiff([page(GREY)]))
    at = struct.unpack("<I", data[4:8])[0]
    data[at : at + 2] = b"\0\0"
    made["directory of 0 entries"] = bytes(data), "directory of 0 entries"
    data[at : at + 2] = b"\xff\xff"
    made["directory of 65535 entries"] = bytes(data), "directory of 65535 entries"
    data = bytearray(tiff([page(GREY)], big=True))
    at = struct.unpack("<Q", data[8:16])[0]
    data[at : at + 8] = b"\xff" * 8
    made["directory of 2^64 entries"] = bytes(data), "directory of 18446744073709551615"
    return made


TIFFS |= patched()
