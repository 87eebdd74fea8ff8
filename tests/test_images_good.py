"""Good files are read exactly, whatever wrote them, whole or by windows."""

import zlib

import numpy as np
import pytest
import tiffbuild
import tifffile
from imagecheck import check, image
from PIL import Image
from tiffbuild import page, tiff

DTYPES = ["?", "u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"]
DEFLATE, OLD_DEFLATE, LZW, PACKBITS = 8, 32946, 5, 32773

LAYOUTS = {
    "one strip": {},
    "strips": {"rows": 8},
    "single rows": {"rows": 1},
    "tiles": {"tile": (16, 32)},
    "large tile": {"tile": (64, 64)},
}
COMPRESSIONS = [1, DEFLATE, OLD_DEFLATE, LZW, PACKBITS]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_layout_and_compression(tmp_path, order, big, layout, compression):
    arrays = [image("u2", seed=seed) for seed in range(2)]
    pages = [page(a, order, compression=compression, **LAYOUTS[layout]) for a in arrays]
    (tmp_path / "a.tif").write_bytes(tiff(pages, order, big))
    check(tmp_path / "a.tif", arrays)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compression", [1, DEFLATE, PACKBITS])
def test_every_type(tmp_path, order, dtype, compression):
    array = image(dtype)
    one = page(array, order, compression=compression, rows=9)
    (tmp_path / "a.tif").write_bytes(tiff([one], order))
    check(tmp_path / "a.tif", [array])


@pytest.mark.parametrize(("dtype", "order"), [("u1", "<"), ("u2", ">"), ("i4", "<"), ("f4", ">")])
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("layout", ["strips", "tiles"])
@pytest.mark.parametrize("alpha", [None, 1, 2])
def test_colour(tmp_path, dtype, order, separate, layout, alpha):
    array = image(dtype, 3 if alpha is None else 4)
    one = page(
        array,
        order,
        compression=DEFLATE,
        separate=separate,
        predictor=2 if dtype != "f4" else 3,
        extra=None if alpha is None else [alpha],
        **LAYOUTS[layout],
    )
    (tmp_path / "a.tif").write_bytes(tiff([one], order))
    check(tmp_path / "a.tif", [array[:, :, :3]], note=None if alpha is None else "alpha")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [DEFLATE, LZW])
@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_predictors(tmp_path, order, compression, dtype):
    for predictor in (2, 3) if dtype[0] == "f" else (2,):
        array = image(dtype)
        one = page(array, order, compression=compression, predictor=predictor, rows=9)
        (tmp_path / "a.tif").write_bytes(tiff([one], order))
        check(tmp_path / "a.tif", [array])


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_reversed_bits(tmp_path, compression):
    array = image("?")
    one = page(array, compression=compression, fill_order=2, rows=7)
    (tmp_path / "a.tif").write_bytes(tiff([one]))
    check(tmp_path / "a.tif", [array])


def test_grey_with_alpha_and_last_strip_filled_up(tmp_path):
    array = image("u1", 2)
    (tmp_path / "a.tif").write_bytes(tiff([page(array, extra=[2])]))
    check(tmp_path / "a.tif", [array[:, :, :1]], note="alpha")
    array = image("u1", height=20)
    one = page(array, compression=DEFLATE, rows=16)
    one.segments[1] = zlib.compress(zlib.decompress(one.segments[1]) + bytes(12 * 45))
    (tmp_path / "b.tif").write_bytes(tiff([one]))
    check(tmp_path / "b.tif", [array])


def test_byte_counts_may_claim_more_than_pixels_need(tmp_path):
    arrays = [image("u1", seed=seed) for seed in range(3)]
    pages = [page(array) for array in arrays]
    for one in pages:
        one.tags[279] = (tiffbuild.LONG, [37 * 45 + 300])
    (tmp_path / "a.tif").write_bytes(tiff(pages) + bytes(200))
    check(tmp_path / "a.tif", arrays)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 70), (70, 1), (16, 16), (17, 15)])
@pytest.mark.parametrize("layout", ["strips", "tiles"])
def test_odd_sizes(tmp_path, height, width, layout):
    for dtype in ("?", "u2"):
        array = image(dtype, height=height, width=width)
        one = page(array, compression=DEFLATE, **LAYOUTS[layout])
        (tmp_path / "a.tif").write_bytes(tiff([one]))
        check(tmp_path / "a.tif", [array])


@pytest.mark.parametrize("dtype", ["?", "u1", "u2", "i4", "f4"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"compression": "zlib"},
        {"compression": "deflate", "rowsperstrip": 5},
        {"tile": (16, 32)},
        {"tile": (32, 16), "compression": "zlib", "byteorder": ">"},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"metadata": None},
        {"ome": True},
    ],
    ids=str,
)
def test_stacks_by_tifffile(tmp_path, dtype, options):
    if options.get("imagej") and dtype not in ("u1", "u2", "f4"):
        dtype = "u2"
    if dtype == "?" and "tile" in options:
        dtype = "u1"
    array = np.stack([image(dtype, seed=seed)[:, :, 0] for seed in range(3)])
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", **options)
    check(tmp_path / "a.tif", list(array), note="OME" if options.get("ome") else None)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("predictor", [False, True])
def test_colour_by_tifffile(tmp_path, planar, predictor):
    array = np.stack([image("u2", 3, seed=seed) for seed in range(2)])
    written = array if planar == "contig" else np.moveaxis(array, 3, 1)
    tifffile.imwrite(
        tmp_path / "a.tif",
        written,
        photometric="rgb",
        planarconfig=planar,
        compression="zlib",
        predictor=predictor,
        rowsperstrip=10,
    )
    check(tmp_path / "a.tif", list(array))


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "I", "F", "RGB", "RGBA"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_pillow_and_libtiff(tmp_path, mode, compression):
    dtype, channels = {
        "1": ("?", 1),
        "I;16": ("u2", 1),
        "I": ("i4", 1),
        "F": ("f4", 1),
        "RGB": ("u1", 3),
        "RGBA": ("u1", 4),
    }.get(mode, ("u1", 1))
    array = image(dtype, channels)
    first = Image.fromarray(array[:, :, 0] if channels == 1 else array)
    assert first.mode == mode
    predictors = [1]
    if compression in ("tiff_lzw", "tiff_adobe_deflate") and mode != "1":
        predictors = [1, 2, 3] if mode == "F" else [1, 2]
    for predictor in predictors:
        first.save(
            tmp_path / "a.tif",
            compression=compression,
            save_all=True,
            append_images=[first],
            tiffinfo={317: predictor} if predictor > 1 else {},
        )
        kept = array[:, :, :3] if channels > 1 else array
        check(tmp_path / "a.tif", [kept, kept], note="alpha" if mode == "RGBA" else None)


PNG_KINDS = {"1": "?", "I;16": "u2"}
ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
ADAM7 += [(1, 0, 2, 1)]  # first row, first column, step of rows, step of columns


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGB", "RGBA", "LA"])
@pytest.mark.parametrize("interlace", [0, 1])
def test_png(tmp_path, mode, interlace):
    dtype = PNG_KINDS.get(mode, "u1")
    channels = {"RGB": 3, "RGBA": 4, "LA": 2}.get(mode, 1)
    array = image(dtype, channels)
    path = tmp_path / "a.png"
    if interlace:  # Pillow writes none
        raw = b""
        for y, x, down, across in ADAM7:
            for row in array[y::down, x::across]:
                packed = tiffbuild.packed_bits(row[:, 0]) if mode == "1" else b""
                raw += b"\0" + (packed or row.astype(f">{dtype}").tobytes())
        colour = {"RGB": 2, "RGBA": 6, "LA": 4}.get(mode, 0)
        bits = {"?": 1, "u2": 16}.get(dtype, 8)
        path.write_bytes(tiffbuild.png(45, 37, bits, colour, raw, interlace=1))
    else:
        Image.fromarray(array[:, :, 0] if channels == 1 else array).save(path)
    kept = {4: 3, 2: 1}.get(channels, channels)
    check(path, [array[:, :, :kept]], note="alpha" if channels in (2, 4) else None)


def test_png_with_text_profile_and_transparent_colour(tmp_path):
    array = image("u1")
    raw = b"".join(b"\0" + row.tobytes() for row in array)
    bomb = zlib.compress(bytes(10 << 20))
    before = tiffbuild.chunk(b"zTXt", b"x\0\0" + bomb) + tiffbuild.chunk(b"iCCP", b"x\0\0" + bomb)
    before += tiffbuild.chunk(b"tRNS", b"\0\7")
    (tmp_path / "a.png").write_bytes(tiffbuild.png(45, 37, 8, 0, raw, before=before))
    check(tmp_path / "a.png", [array], note="transparent colour")
