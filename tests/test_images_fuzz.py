"""Damaged files by the thousand: no error but DataError, no hang, no crash.

By hand, for longer: python tests/test_images_fuzz.py RUNS SEED
"""

import struct
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
from imagecheck import image
from tiffbuild import page, png, tiff

from unetcu.errors import DataError
from unetcu.files.images import open_stack


def seeds():
    """Small good files that between them use every part of the reader."""
    grey, colour = image("u2", height=20, width=20), image("u1", 4, height=20, width=20)
    floats = image("f4", height=20, width=20)
    text = "ImageJ=1.53t\nimages=2\nslices=2\n"
    return [
        tiff([page(grey, text=text), page(grey)]),
        tiff([page(grey, ">", compression=8, predictor=2, rows=6)], ">"),
        tiff([page(colour, compression=5, tile=(16, 16), separate=True, extra=[2])], big=True),
        tiff([page(grey > 9000, compression=32773, rows=3, fill_order=2)], ">", big=True),
        tiff([page(floats, compression=8, predictor=3, text='{"shape": [20, 20]}')]),
        tiff([page(colour[:, :, :3], compression=5, predictor=2)]),
        png(20, 20, 8, 6, b"".join(b"\4" + row.tobytes() for row in colour)),
        png(20, 20, 16, 0, b"".join(b"\1" + row.tobytes() for row in grey)),
    ]


def damage(data, rng):
    """Flip, set, cut, insert, repeat or exchange a few bytes, more of them near the tags."""
    data = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at, kind = int(rng.integers(len(data))), int(rng.integers(7))
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[at] = int(rng.choice([0, 1, 2, 3, 127, 128, 255]))
        elif kind == 2:
            data[at : at + 4] = rng.bytes(4)
        elif kind == 3:
            data[at : at + 4] = struct.pack("<I", int(rng.integers(2 * len(data))))
        elif kind == 4:
            del data[at : len(data) if rng.random() < 0.5 else at + int(rng.integers(1, 9))]
        elif kind == 5:
            other = int(rng.integers(len(data)))
            data[at : at + 12] = data[other : other + 12]
        else:
            data[at:at] = rng.bytes(int(rng.integers(1, 5)))
        data = data or bytearray(1)
    return bytes(data)


def mended(data):
    """A PNG file with the check sums of its chunks made right, so that damage reaches further."""
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        end = at + 8 + struct.unpack(">I", out[at : at + 4])[0]
        out[end : end + 4] = struct.pack(">I", zlib.crc32(out[at + 4 : end]))[
            : max(0, len(out) - end)
        ]
        at = end + 4
    return bytes(out)


def fuzz(path, runs, seed):
    """Damage files and read them: how many were refused, how many read, most CPU seconds of one."""
    rng = np.random.default_rng(seed)
    good = seeds()
    refusals = reads = 0
    slowest = 0.0
    with open(path, "wb", buffering=0) as file:  # one file: making new ones takes longer
        for run in range(runs):
            data = damage(good[run % len(good)], rng)
            if data.startswith(b"\x89PNG") and run % 3:
                data = mended(data)
            file.seek(0)
            file.write(data)
            file.truncate()
            start, text = time.process_time(), ""
            try:
                stack = open_stack(path)
                for pixels in stack:
                    assert pixels.shape == (stack.height, stack.width, stack.channels)
                reads += 1
            except DataError as error:
                refusals += 1
                text = str(error)
            except BaseException as error:
                raise AssertionError(f"run {run} of seed {seed}") from error
            assert text.isprintable()
            slowest = max(slowest, time.process_time() - start)
    return refusals, reads, slowest


def test_no_damage_escapes(tmp_path):
    for data in seeds():
        (tmp_path / "fuzz").write_bytes(data)
        open_stack(tmp_path / "fuzz")[0]
    refusals, reads, slowest = fuzz(tmp_path / "fuzz", 4000, 0)
    assert refusals > 2000
    assert reads > 100  # damage to pixels or to unread tags cannot be seen
    assert slowest < 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(fuzz(Path(folder) / "fuzz", int(sys.argv[1]), int(sys.argv[2])))
