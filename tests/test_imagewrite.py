"""What is written can be read by others, appears at once, and never overwrites unasked."""

import errno
import os
import tracemalloc

import numpy as np
import pytest
import tifffile
from PIL import Image

import unetcu.files.imagewrite
from unetcu.errors import DataError, ShapeError
from unetcu.files.images import TiffSink, open_stack, write_png, write_tiff

DTYPES = ["?", "u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"]


def pixels(dtype, pages=3, height=70, width=51):
    rng = np.random.default_rng(5)
    if dtype == "?":
        return rng.random((pages, height, width)) < 0.5
    if dtype[0] == "f":
        return rng.normal(size=(pages, height, width)).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, (pages, height, width), dtype, endpoint=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(("band", "big"), [(1, False), (7, False), (7, True), (70, True)])
def test_bands_come_back(tmp_path, dtype, compress, band, big, monkeypatch):
    monkeypatch.setattr(unetcu.files.imagewrite, "_STRIP_BYTES", 1000)  # several strips a page
    if big:
        monkeypatch.setattr(unetcu.files.imagewrite, "_CLASSIC_LIMIT", 1000)
    array = pixels(dtype)
    path = tmp_path / "a.tif"
    with TiffSink(path, 3, 70, 51, dtype, compress=compress) as sink:
        for page in range(3):
            for y in range(0, 70, band):
                assert not path.exists()
                sink.write_rows(page, y, array[page, y : y + band])
    assert os.listdir(tmp_path) == ["a.tif"]
    assert path.read_bytes()[:4] == (b"II+\0" if big else b"II*\0")
    theirs = tifffile.imread(path)
    assert theirs.dtype == array.dtype
    np.testing.assert_array_equal(theirs, array)
    stack = open_stack(path)
    assert (stack.pages, stack.dtype, stack.notes) == (3, array.dtype, [])
    np.testing.assert_array_equal(np.stack([page[:, :, 0] for page in stack]), array)
    if dtype in ("?", "u1"):  # libtiff, through Pillow, which reads few other types
        with Image.open(path) as image:
            assert image.n_frames == 3
            image.seek(2)
            np.testing.assert_array_equal(np.asarray(image), array[2])


def test_write_tiff_takes_pages_and_stacks(tmp_path):
    array = pixels("u2")
    write_tiff(tmp_path / "stack.tif", array)
    write_tiff(tmp_path / "list.tif", list(array))
    write_tiff(tmp_path / "page.tif", array[1])
    for name in ("stack.tif", "list.tif"):
        np.testing.assert_array_equal(tifffile.imread(tmp_path / name), array)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "page.tif"), array[1])


def test_any_memory_layout_and_byte_order(tmp_path):
    array = pixels("u2", height=51)
    for i, given in enumerate(
        [array.astype(">u2"), array[:, ::-1], array.transpose(0, 2, 1), array[:, :, ::2]]
    ):
        copy = given.copy()
        write_tiff(tmp_path / f"{i}.tif", given)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / f"{i}.tif"), copy)
        np.testing.assert_array_equal(given, copy)


def test_imagej_opens_it_as_a_stack(tmp_path):
    array = pixels("f4")
    write_tiff(tmp_path / "a.tif", array, imagej=True)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_imagej
        assert file.imagej_metadata["images"] == file.imagej_metadata["slices"] == 3
        (series,) = file.series
        np.testing.assert_array_equal(series.asarray(), array)
    assert open_stack(tmp_path / "a.tif").notes == []
    for dtype in ("?", "i2", "u4", "f8"):
        with pytest.raises(DataError, match="ImageJ"):
            write_tiff(tmp_path / "b.tif", pixels(dtype), imagej=True)
    with pytest.raises(DataError, match="ImageJ"):
        TiffSink(tmp_path / "b.tif", 5, 32768, 32768, "u1", imagej=True)
    assert os.listdir(tmp_path) == ["a.tif"]


def test_bigtiff_only_where_it_may_be_needed(tmp_path):
    for pages, magic in ((3, b"II*\0"), (5, b"II+\0")):
        path = tmp_path / f"{pages}.tif"
        sink = TiffSink(path, pages, 32768, 32768, "u1")
        sink._file.flush()
        (temporary,) = tmp_path.iterdir()
        assert temporary.read_bytes()[:4] == magic
        with pytest.raises(ShapeError, match="not complete"):
            sink.close()
    assert os.listdir(tmp_path) == []


def test_noise_that_deflate_makes_larger_is_allowed_for(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000), np.uint8)
    write_tiff(tmp_path / "a.tif", noise)
    size = (tmp_path / "a.tif").stat().st_size
    assert size > noise.size
    monkeypatch.setattr(unetcu.files.imagewrite, "_CLASSIC_LIMIT", size)
    write_tiff(tmp_path / "b.tif", noise)
    assert (tmp_path / "b.tif").read_bytes()[:4] == b"II+\0"


def test_memory_does_not_grow_with_the_page(tmp_path):
    rows = np.random.default_rng(0).integers(0, 255, (64, 20_000), np.uint8)
    tracemalloc.start()
    with TiffSink(tmp_path / "a.tif", 1, 1600, 20_000, "u1", compress=False) as sink:
        for y in range(0, 1600, 64):
            sink.write_rows(0, y, rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20
    assert (tmp_path / "a.tif").stat().st_size > 32_000_000


def test_rows_out_of_order_or_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    good = np.zeros((4, 8), np.uint8)
    for page, y0, rows, match in [
        (0, 4, good, "row 0 of page 0 is next"),
        (1, 0, good, "row 0 of page 0 is next"),
        (0, 0, good.astype(np.uint16), "uint16"),
        (0, 0, good[:, :7], "do not fit"),
        (0, 0, np.zeros((11, 8), np.uint8), "do not fit"),
        (0, 0, good[None], "do not fit"),
    ]:
        with pytest.raises(ShapeError, match=match), TiffSink(path, 1, 10, 8, "u1") as sink:
            sink.write_rows(page, y0, rows)
        assert os.listdir(tmp_path) == []
    with TiffSink(path, 1, 4, 8, "u1") as sink:
        sink.write_rows(0, 0, good)
        with pytest.raises(ShapeError, match="of page 1"):
            sink.write_rows(1, 0, good)
    assert os.listdir(tmp_path) == ["a.tif"]


def test_missing_rows_leave_no_file(tmp_path):
    def stop_early():
        with TiffSink(tmp_path / "a.tif", 2, 10, 8, "u1") as sink:
            sink.write_rows(0, 0, np.zeros((10, 8), np.uint8))
            sink.write_rows(1, 0, np.zeros((4, 8), np.uint8))

    with pytest.raises(ShapeError, match="row 4 of page 1 is next"):
        stop_early()
    assert os.listdir(tmp_path) == []


def test_without_a_with_block(tmp_path):
    path = tmp_path / "a.tif"
    sink = TiffSink(path, 1, 2, 2, "u1")
    sink.write_rows(0, 0, np.zeros((2, 2), np.uint8))
    assert not path.exists()
    sink.close()
    sink.close()
    assert path.exists()
    assert os.listdir(tmp_path) == ["a.tif"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_exception_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.tif"
    write_tiff(path, pixels("u1"))
    old = path.read_bytes()

    def fail():
        with TiffSink(path, 1, 10, 8, "u1", overwrite=True) as sink:
            sink.write_rows(0, 0, np.zeros((4, 8), np.uint8))
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["a.tif"]


def test_existing_files_are_kept_unless_asked(tmp_path):
    array = pixels("u1")
    picture = array[0]
    for name, write, first, second in [
        ("a.tif", write_tiff, array, array[:1]),
        ("a.png", write_png, picture, picture[:5]),
    ]:
        path = tmp_path / name
        write(path, first)
        old = path.read_bytes()
        with pytest.raises(DataError, match="exists already"):
            write(path, second)
        assert path.read_bytes() == old
        write(path, second, overwrite=True)
        assert path.read_bytes() != old
    assert sorted(os.listdir(tmp_path)) == ["a.png", "a.tif"]


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    array = pixels("u1")

    class Full:
        def __init__(self, file, room):
            self.file, self.room, self.closed = file, room, False

        def write(self, data):
            self.room -= len(data)
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    for room in (0, 10, 3000, 9000):

        def fill(room=room):
            with TiffSink(tmp_path / "a.tif", 3, 70, 51, "u1", compress=False) as sink:
                sink._file = Full(sink._file, room)
                for page in range(3):
                    sink.write_rows(page, 0, array[page])

        with pytest.raises(DataError, match=r"a\.tif cannot be written: No space left on device"):
            fill()
        assert os.listdir(tmp_path) == []


def test_nothing_is_written_of_what_cannot_be_read(tmp_path):
    for dtype in ("i8", "u8", "c8", "S3", "O"):
        with pytest.raises(DataError, match="no type of TIFF pixels"):
            TiffSink(tmp_path / "a.tif", 1, 1, 1, dtype)
    for shape in ((0, 1, 1), (1, 0, 1), (1, 1, 0)):
        with pytest.raises(ShapeError, match="no pixels"):
            TiffSink(tmp_path / "a.tif", *shape, "u1")
    for given in (np.zeros((0, 3, 3)), [], np.zeros((2, 2, 2, 2)), np.zeros(3), [np.zeros(3)]):
        with pytest.raises(ShapeError):
            write_tiff(tmp_path / "a.tif", given)
    with pytest.raises(ShapeError, match="page 1"):
        write_tiff(tmp_path / "a.tif", [np.zeros((2, 3)), np.zeros((3, 2))])
    assert os.listdir(tmp_path) == []
