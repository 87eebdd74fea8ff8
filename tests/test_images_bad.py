"""Bad and hostile files, built byte by byte: each is refused in one line, quickly, in little
memory, and no damage whatever brings out another error than DataError."""

import os
import re
import socket
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from badtiffs import TIFFS
from imagecheck import image
from tiffbuild import chunk, page, png, tiff

import unetcu.files.images
import unetcu.files.tiffstack
import unetcu.files.tiffwalk
from unetcu.errors import DataError
from unetcu.files.images import open_stack
from unetcu.files.tiffwalk import TiffFile


def read_all(path):
    stack = open_stack(path)
    for i in range(stack.pages):
        stack[i]
    return stack


def refused(path, match):
    """Opening or reading raises DataError in 2 s and 32 MB; its message is one line."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(DataError) as caught:
            read_all(path)
        assert time.perf_counter() - start < 2
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert text.isprintable(), text
    folder = str(path.parent)
    assert text.startswith(folder)
    # Without the folder, which has the test's own name in it.
    assert re.search(match, text[len(folder) :]), text


@pytest.mark.parametrize("name", TIFFS)
def test_bad_tiff(tmp_path, name):
    data, match = TIFFS[name]
    path = tmp_path / "bad.tif"
    path.write_bytes(data)
    refused(path, match)


@pytest.mark.parametrize("name", ["strip outside", "strip runs outside", "strip of 2^64 bytes"])
def test_structure_is_checked_before_any_page_is_read(tmp_path, name):
    (tmp_path / "bad.tif").write_bytes(TIFFS[name][0])
    with pytest.raises(DataError, match="outside the file"):
        open_stack(tmp_path / "bad.tif")


def test_there_are_many_bad_files():
    assert len(TIFFS) > 100
    assert len({data for data, _ in TIFFS.values()}) > 95


GREY = image("u1")
ROWS = b"".join(b"\0" + row[:, 0].tobytes() for row in GREY)
PNG = png(45, 37, 8, 0, ROWS)


def with_rows(rows, width=45, height=37, bits=8, colour=0, before=b""):
    return png(width, height, bits, colour, rows, before=before)


PNGS = {
    "signature only": (PNG[:8], "ends too early"),
    "cut in the header": (PNG[:20], "ends too early"),
    "cut in the data": (PNG[:200], "ends too early"),
    "cut before the end": (PNG[:-12], "ends too early"),
    "no data": (PNG[:33] + chunk(b"IEND"), "0 bytes of data"),
    "check sum wrong": (PNG[:100] + b"?" + PNG[101:], "check sum"),
    "header not first": (PNG[:8] + chunk(b"gAMA", bytes(4)) + PNG[8:], "header is wrong"),
    "header too short": (PNG[:8] + chunk(b"IHDR", bytes(12)) + PNG[33:], "header is wrong"),
    "header of another name": (PNG[:8] + chunk(b"tEXt", PNG[16:29]) + PNG[8:], "header is wrong"),
    "header too long": (PNG[:8] + chunk(b"IHDR", PNG[16:29] + b"?") + PNG[33:], "header is wrong"),
    "zero width": (with_rows(ROWS, width=0), "claims 37 x 0"),
    "zero height": (with_rows(ROWS, height=0), "claims 0 x 45"),
    "2^31 - 1 square": (with_rows(ROWS, (1 << 31) - 1, (1 << 31) - 1), "too many"),
    "larger than its data": (with_rows(ROWS, 9000, 9000), "cannot be 9000 x 9000"),
    "rows missing": (with_rows(ROWS[:-200]), "damaged PNG data"),
    "bomb": (with_rows(zlib.compress(bytes(9 << 20))), "damaged PNG data|cannot be"),
    "unknown filter": (with_rows(b"\x09" + ROWS[1:]), "damaged PNG data"),
    "data are noise": (
        PNG[:33] + chunk(b"IDAT", bytes(range(256))) + chunk(b"IEND"),
        "damaged PNG data",
    ),
    "far too much data": (
        PNG[:33] + chunk(b"IDAT", bytes(200_000)) + chunk(b"IEND"),
        "cannot be",
    ),
    "palette": (with_rows(ROWS, colour=3, before=chunk(b"PLTE", bytes(768))), "palette"),
    "16-bit RGB": (with_rows(ROWS, bits=16, colour=2), "16-bit colour PNG"),
    "16-bit grey and alpha": (with_rows(ROWS, bits=16, colour=4), "16-bit colour PNG"),
    "2 bits": (with_rows(ROWS, bits=2), "2 bits"),
    "4 bits": (with_rows(ROWS, bits=4), "4 bits"),
    "3 bits": (with_rows(ROWS, bits=3), "header is wrong"),
    "unknown colour type": (with_rows(ROWS, colour=5), "header is wrong"),
    "unknown interlace": (png(45, 37, 8, 0, ROWS, interlace=2), "header is wrong"),
    "animation": (with_rows(ROWS, before=chunk(b"acTL", bytes(8))), "animated"),
    "unknown critical chunk": (with_rows(ROWS, before=chunk(b"ABCD")), "critical"),
    "tiff inside": (tiff([page(GREY)]), r"named \.png but is a TIFF"),
}


@pytest.mark.parametrize("name", PNGS)
def test_bad_png(tmp_path, name):
    data, match = PNGS[name]
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    refused(path, match)


def test_what_is_no_file(tmp_path):
    refused(tmp_path / "missing.tif", "no such file")
    refused(tmp_path / "missing" / "a.tif", "no such file")
    (tmp_path / "folder.tif").mkdir()
    refused(tmp_path / "folder.tif", "is a folder")
    refused(tmp_path / "null\0.tif", "cannot be read")
    refused(tmp_path / ("x" * 300), "cannot be read")
    (tmp_path / "file").write_bytes(b"x")
    refused(tmp_path / "file" / "a.tif", "cannot be read|no such file")


if os.name == "posix":

    def test_what_is_no_regular_file(tmp_path, monkeypatch):
        (tmp_path / "loop.tif").symlink_to("loop.tif")
        refused(tmp_path / "loop.tif", "cannot be read: Too many levels")
        (tmp_path / "dangling.tif").symlink_to("nowhere.tif")
        refused(tmp_path / "dangling.tif", "no such file")
        os.mkfifo(tmp_path / "pipe.tif")
        refused(tmp_path / "pipe.tif", "not a regular file")
        monkeypatch.chdir(tmp_path)  # a socket's name must be short
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket.tif")
            refused(tmp_path / "socket.tif", "not a regular file")

    def test_a_link_to_a_good_file_is_followed(tmp_path):
        (tmp_path / "a.tif").write_bytes(tiff([page(GREY)]))
        (tmp_path / "link.tif").symlink_to("a.tif")
        np.testing.assert_array_equal(read_all(tmp_path / "link.tif")[0], GREY)


def test_a_hundred_thousand_pages_and_one(tmp_path, monkeypatch):
    monkeypatch.setattr(unetcu.files.tiffwalk, "MOST_PAGES", 100)
    (tmp_path / "a.tif").write_bytes(tiff([page(GREY[:1, :1])] * 101))
    refused(tmp_path / "a.tif", "more than 100 pages")
    (tmp_path / "a.tif").write_bytes(tiff([page(GREY[:1, :1])] * 100))
    assert read_all(tmp_path / "a.tif").pages == 100


def test_imagej_promises_more_pages_than_are_allowed(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff([page(GREY, text="ImageJ=1.5\nimages=9\n")]) + bytes(9 * GREY.size))
    assert open_stack(path).pages == 9
    monkeypatch.setattr(unetcu.files.tiffstack, "MOST_PAGES", 8)
    refused(path, "promises 9 pages")


def test_directories_that_overlap(tmp_path):
    """Directories four bytes apart, each of thousands of entries: long to walk, unless noticed."""
    count = 0x0C0C  # of entries, in every two bytes that a directory starts with
    data = bytearray(b"II*\0\x08\0\0\0" + b"\x0c" * (3000 + 12 * count))
    for at in range(8, 3000, 4):
        link = at + 2 + 12 * count
        data[link : link + 4] = struct.pack("<I", at + 4)
    (tmp_path / "a.tif").write_bytes(bytes(data))
    start = time.perf_counter()
    with open(tmp_path / "a.tif", "rb") as file, pytest.raises(DataError, match="page 2 overlaps"):
        list(TiffFile(file, len(data)).directories())
    assert time.perf_counter() - start < 1


def test_a_page_that_needs_too_much_memory(tmp_path, monkeypatch):
    (tmp_path / "a.tif").write_bytes(tiff([page(GREY)]))
    monkeypatch.setattr(unetcu.files.images, "_MOST_WHOLE", GREY.size - 1)
    refused(tmp_path / "a.tif", "read it by windows")
    stack = open_stack(tmp_path / "a.tif")
    np.testing.assert_array_equal(stack.window(0, 0, 9, 0, 9), GREY[:9, :9])

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(unetcu.files.images, "read_window", full)
    with pytest.raises(DataError, match="page 1 of 1 does not fit into memory"):
        stack.window(0, 0, 9, 0, 9)
