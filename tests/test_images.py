"""A stack is read by parts, from any name, and tells every choice that was made."""

import os
import threading

import numpy as np
import pytest
import tifffile
from imagecheck import check, image, same
from PIL import Image
from tiffbuild import LONG, SHORT, page, tiff

import unetcu.files.images
import unetcu.files.tiffread
from unetcu.errors import DataError, ShapeError
from unetcu.files.images import open_stack

DEFLATE = 8


def test_windows_decode_only_what_they_meet(tmp_path, monkeypatch):
    array = image("u1", height=320, width=320)
    calls = []
    real = unetcu.files.tiffread._decoded

    def counted(file, one, number):
        calls.append(number)
        return real(file, one, number)

    monkeypatch.setattr(unetcu.files.tiffread, "_decoded", counted)
    tiles = page(array, compression=DEFLATE, tile=(32, 32))
    (tmp_path / "tiles.tif").write_bytes(tiff([tiles]))
    stack = open_stack(tmp_path / "tiles.tif")
    assert calls == []
    same(stack.window(0, 33, 64, 64, 96), array[33:64, 64:96])
    assert calls == [12]
    same(stack.window(0, 31, 65, 95, 97), array[31:65, 95:97])
    assert sorted(calls) == [2, 3, 12, 13, 22, 23]  # 12 was remembered
    strips = page(array, compression=DEFLATE, rows=10)
    (tmp_path / "strips.tif").write_bytes(tiff([strips]))
    stack = open_stack(tmp_path / "strips.tif")
    calls.clear()
    same(stack.window(0, 19, 31, 5, 6), array[19:31, 5:6])
    assert calls == [1, 2, 3]


def test_remembered_segments_are_bounded_and_not_shared_with_callers(tmp_path, monkeypatch):
    monkeypatch.setattr(unetcu.files.images, "REMEMBERED_BYTES", 3 * 32 * 32)
    array = image("u1", height=320, width=320)
    (tmp_path / "a.tif").write_bytes(tiff([page(array, compression=DEFLATE, tile=(32, 32))] * 1))
    stack = open_stack(tmp_path / "a.tif")
    for y in range(0, 320, 32):
        for x in range(0, 320, 16):
            got = stack.window(0, y, y + 32, x, x + 16)
            same(got, array[y : y + 32, x : x + 16])
            got[:] = 0
    assert len(stack._recent._kept) == 3
    assert stack._recent._bytes == 3 * 32 * 32
    same(stack.window(0, 288, 320, 300, 320), array[288:320, 300:320])


def test_the_segment_not_used_for_longest_is_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(unetcu.files.images, "REMEMBERED_BYTES", 2 * 16 * 16)
    array = image("u1", height=16, width=64)
    (tmp_path / "a.tif").write_bytes(tiff([page(array, compression=DEFLATE, tile=(16, 16))]))
    stack = open_stack(tmp_path / "a.tif")
    for tile in (0, 1, 0, 2):
        stack.window(0, 0, 1, 16 * tile, 16 * tile + 1)
    assert [number for _, number in stack._recent._kept] == [0, 2]


def test_uncompressed_window_reads_few_bytes(tmp_path):
    # 3 GB of pixels in a file with a hole: only what is asked for may be touched.
    path = tmp_path / "huge.tif"
    height, width = 60_000, 50_000
    one = page(np.zeros((1, 1), np.uint8), rows=height)
    one.tags |= {256: (LONG, [width]), 257: (LONG, [height]), 279: (LONG, [height * width])}
    data = tiff([one])
    one.tags[273] = (LONG, [len(data) + 100])
    data = tiff([one])
    assert len(data) < 1000
    with open(path, "wb") as file:
        file.write(data)
        file.truncate(len(data) + 100 + height * width)
        file.seek(len(data) + 100 + 30_000 * width + 77)
        file.write(b"\5")
    stack = open_stack(path)
    got = stack.window(0, 29_999, 30_002, 70, 80)
    assert (got.sum(), got[1, 7, 0]) == (5, 5)


def test_imagej_stack_with_one_directory(tmp_path):
    arrays = [image("u2", seed=seed) for seed in range(4)]
    one = page(np.concatenate(arrays), ">", text="ImageJ=1.53t\nimages=4\nslices=4\n")
    one.tags |= {257: (LONG, [37]), 278: (LONG, [37]), 279: (LONG, [37 * 45 * 2])}
    (tmp_path / "a.tif").write_bytes(tiff([one], ">"))
    check(tmp_path / "a.tif", arrays, note="one directory for 4 pages")


def test_choices_are_told(tmp_path):
    array = image("u1")
    small = page(array[::2, ::2])
    small.tags[254] = (LONG, [1])
    old = page(array[::4, ::4])
    old.tags[255] = (SHORT, [2])
    mask = page(array > 4)
    mask.tags[254] = (LONG, [4])
    mask.tags[262] = (SHORT, [4])
    turned = page(array)
    turned.tags[274] = (SHORT, [6])
    inside = page(array)
    inside.tags[330] = (LONG, [8])
    hyper = page(array, text="ImageJ=1.5\nimages=2\nchannels=2\nhyperstack=true\n")
    fewer = page(array, text="ImageJ=1.5\nimages=2\n")
    cases = {
        "3 reduced copies or masks left out": [page(array), small, old, mask],
        "orientation tag (6)": [turned],
        "SubIFDs": [inside],
        "2 channels, 1 slices, 1 frames": [hyper, page(array)],
        "tells of 2 pages, all 3 are read": [fewer, page(array), page(array)],
    }
    for i, (note, pages) in enumerate(cases.items()):
        (tmp_path / f"{i}.tif").write_bytes(tiff(pages))
        full = [array for p in pages if p.tags[256][1] == [45] and 254 not in p.tags]
        check(tmp_path / f"{i}.tif", full, note=note)


def test_series_by_tifffile_are_one_stack(tmp_path):
    array = np.stack([image("u1", seed=seed)[:, :, 0] for seed in range(4)])
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for one in array:
            file.write(one, photometric="minisblack")
    check(tmp_path / "a.tif", list(array), note="4 series of pages")


def test_pyramid_by_tifffile_reads_the_full_resolution(tmp_path):
    array = image("u1", height=64, width=64)[:, :, 0]
    with tifffile.TiffWriter(tmp_path / "sub.tif") as file:
        file.write(array, subifds=1, photometric="minisblack")
        file.write(array[::2, ::2], subfiletype=1, photometric="minisblack")
    check(tmp_path / "sub.tif", [array], note="SubIFDs")
    with tifffile.TiffWriter(tmp_path / "chain.tif") as file:
        file.write(array, photometric="minisblack")
        file.write(array[::2, ::2], subfiletype=1, photometric="minisblack", metadata=None)
    check(tmp_path / "chain.tif", [array], note="1 reduced")


def test_one_file_of_an_ome_set_does_not_follow_the_others(tmp_path):
    array = image("u1")
    text = (
        '<OME><Image><Pixels SizeX="45" SizeY="37" SizeZ="5" SizeC="1" SizeT="1">'
        '<TiffData><UUID FileName="../other.tif"/></TiffData></Pixels></Image></OME>'
    )
    (tmp_path / "a.tif").write_bytes(tiff([page(array, text=text)]))
    check(tmp_path / "a.tif", [array], note="one file of a set of 5 pages")


def test_an_ome_header_counts_colours_as_samples(tmp_path):
    array = image("u1", 3)
    text = '<OME><Image><Pixels SizeZ="1" SizeC="3" SizeT="2"></Pixels></Image></OME>'
    (tmp_path / "a.tif").write_bytes(tiff([page(array, text=text), page(array)]))
    check(tmp_path / "a.tif", [array, array], note="OME header is not used")


NAMES = ["zelle-ß-細胞.tif", "a b [1]*?.tif", "-rf.tif", "no suffix", "a.lsm", "UPPER.TIF"]
if os.name == "posix":
    NAMES += ["line\nbreak.tif", os.fsdecode(b"caf\xe9.tif"), " .tif", "\x1b[31m.tif"]


@pytest.mark.parametrize("name", NAMES)
def test_names(tmp_path, name, monkeypatch):
    array = image("u1")
    (tmp_path / name).write_bytes(tiff([page(array)]))
    check(tmp_path / name, [array])
    check(os.fsdecode(tmp_path / name), [array])
    monkeypatch.chdir(tmp_path)
    check(name, [array])
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError) as caught:
        open_stack(name)
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith(": the file is empty")


def test_windows_outside_are_refused(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff([page(image("u1"))]))
    stack = open_stack(tmp_path / "a.tif")
    for box in [(0, 38, 0, 1), (-1, 3, 0, 1), (0, 1, 44, 46), (3, 3, 0, 1), (5, 4, 0, 1)]:
        with pytest.raises(ShapeError, match="not inside the page of 37 x 45"):
            stack.window(0, *box)
    for number in (1, -2):
        with pytest.raises(IndexError):
            stack[number]
        with pytest.raises(IndexError):
            stack.window(number, 0, 1, 0, 1)
    assert len(list(stack)) == 1


def test_a_file_that_changes_is_noticed(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(tiff([page(image("u1"))]))
    stack = open_stack(path)
    stack[0]
    path.write_bytes(tiff([page(image("u1", seed=1)), page(image("u1"))]))
    with pytest.raises(DataError, match=r"a\.tif: page 1 of 1 changed while"):
        stack[0]
    path.unlink()
    with pytest.raises(DataError, match=r"a\.tif cannot be read"):
        stack[0]


def test_threads_read_together(tmp_path):
    arrays = [image("u2", seed=seed, height=100, width=100) for seed in range(3)]
    pages = [page(a, compression=DEFLATE, tile=(16, 16)) for a in arrays]
    (tmp_path / "a.tif").write_bytes(tiff(pages))
    stack = open_stack(tmp_path / "a.tif")
    failures = []

    def read(seed):
        rng = np.random.default_rng(seed)
        for _ in range(30):
            i, y, x = (int(n) for n in rng.integers([3, 60, 60]))
            got = stack.window(i, y, y + 40, x, x + 40)
            if not np.array_equal(got, arrays[i][y : y + 40, x : x + 40]):
                failures.append((i, y, x))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(stack._recent._kept) > 1


def test_no_file_is_left_open(tmp_path):
    array = image("u1")
    (tmp_path / "a.tif").write_bytes(tiff([page(array)]))
    Image.fromarray(array[:, :, 0]).save(tmp_path / "b.png")
    (tmp_path / "bad.tif").write_bytes(b"II*\0")

    def next_handle():
        with open(os.devnull) as file:
            return file.fileno()

    before = next_handle()
    stacks = [open_stack(tmp_path / "a.tif"), open_stack(tmp_path / "b.png")]
    kept = [(stack[0], stack.window(0, 0, 1, 0, 1)) for stack in stacks]
    with pytest.raises(DataError):
        open_stack(tmp_path / "bad.tif")
    assert next_handle() == before
    assert len(kept) == 2
