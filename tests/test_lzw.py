"""LZW and PackBits: whatever an encoder writes comes back, whatever is damaged is refused."""

import io
import time

import numpy as np
import pytest
import tiffbuild
from PIL import Image

from unetcu.errors import DataError
from unetcu.files.lzw import lzw, packbits


def samples():
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, 9000).astype(np.uint8)
    return {
        "empty": b"",
        "one": b"\7",
        "two": b"\7\7",
        "run": bytes(20000),
        "text": b"TOBEORNOTTOBEORTOBEORNOT" * 400,
        "noise": noise.tobytes(),
        "levels": (noise // 64).tobytes(),
        "ramp": (np.arange(12000) // 50).astype(np.uint8).tobytes(),
    }


SAMPLES = samples()


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("full", [4094, 600, 511])
def test_lzw_comes_back(name, full):
    raw = SAMPLES[name]
    data = tiffbuild.lzw(raw, full)
    assert lzw(data, len(raw)) == raw
    assert lzw(data, len(raw) + 1000) == raw


@pytest.mark.parametrize("widen_last", [True, False])
def test_lzw_that_ends_anywhere_comes_back(widen_last):
    # Noise has about one code a byte: these lengths end on both sides of every change of width.
    raw = SAMPLES["noise"]
    for length in [*range(1, 9), *range(250, 262), *range(764, 780), *range(1800, 1850)]:
        data = tiffbuild.lzw(raw[:length], widen_last=widen_last)
        assert lzw(data, length) == raw[:length]


@pytest.mark.parametrize("name", ["run", "text", "noise", "levels", "ramp"])
def test_lzw_of_libtiff_comes_back(name):
    raw = SAMPLES[name]
    file = io.BytesIO()
    picture = Image.frombytes("L", (100, len(raw) // 100), raw[: len(raw) // 100 * 100])
    picture.save(file, "TIFF", compression="tiff_lzw", tiffinfo={278: picture.height})
    with Image.open(file) as image:
        (place,), (length,) = image.tag_v2[273], image.tag_v2[279]
    data = file.getvalue()[place : place + length]
    assert lzw(data, len(raw)) == picture.tobytes()


def test_known_lzw_of_the_specification():
    # TIFF 6.0, page 59: 7 7 7 8 8 7 7 6 6 becomes Clear 7 258 8 8 258 6 6 EOI.
    codes = [256, 7, 258, 8, 8, 258, 6, 6, 257]
    bits = "".join(f"{c:09b}" for c in codes)
    bits += "0" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    assert lzw(data, 9) == bytes([7, 7, 7, 8, 8, 7, 7, 6, 6])


def test_lzw_makes_no_more_than_allowed():
    for raw in (SAMPLES["noise"], SAMPLES["run"]):
        data = tiffbuild.lzw(raw)
        with pytest.raises(DataError, match="more LZW data"):
            lzw(data, len(raw) - 1)
        with pytest.raises(DataError, match="more LZW data"):
            lzw(data, 1)


@pytest.mark.parametrize("codes", [[256, 258], [256, 7, 259], [256, 7, 8, 261], [300]])
def test_lzw_codes_not_in_the_table_are_refused(codes):
    bits = "".join(f"{c:09b}" for c in codes) + "0" * 7
    data = int(bits[: len(bits) // 8 * 8], 2).to_bytes(len(bits) // 8, "big")
    with pytest.raises(DataError, match="damaged LZW"):
        lzw(data, 100)


def test_lzw_of_resets_only_is_refused_quickly():
    for pattern in ("100000000", "100000000" + "000000111"):
        bits = pattern * 400_000
        data = int(bits, 2).to_bytes(len(bits) // 8, "big")
        start = time.perf_counter()
        with pytest.raises(DataError, match="reset"):
            lzw(data, 1 << 20)
        assert time.perf_counter() - start < 2


def test_old_lzw_is_named():
    with pytest.raises(DataError, match="1990"):
        lzw(b"\0\1\2\3", 100)


@pytest.mark.parametrize("name", SAMPLES)
def test_packbits_comes_back(name):
    raw = SAMPLES[name]
    data = tiffbuild.packbits(raw)
    assert packbits(data, len(raw)) == raw
    assert packbits(b"\x80" + data + b"\x80", len(raw)) == raw
    if raw:
        with pytest.raises(DataError, match="more PackBits"):
            packbits(data, len(raw) - 1)
        with pytest.raises(DataError, match="cut short"):
            packbits(data[:-1], len(raw))


def test_known_packbits():
    # Apple's Technical Note TN1023.
    data = bytes.fromhex("FE AA 02 80 00 2A FD AA 03 80 00 2A 22 F7 AA")
    raw = bytes.fromhex("AA AA AA 80 00 2A AA AA AA AA 80 00 2A 22 AA AA AA AA AA AA AA AA AA AA")
    assert packbits(data, 24) == raw
