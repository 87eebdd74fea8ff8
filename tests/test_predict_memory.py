"""The memory that `predict` takes: independent of an image's height, and no more than it says."""

import os
import re
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from predictset import pages, save_model, stack_file
from tiffbuild import page, tiff

from unetcu import infer, outputs
from unetcu.errors import UsageError
from unetcu.files.images import Stack, open_stack
from unetcu.memory import parse_bytes
from unetcu.predict import predict
from unetcu.unet import UNet


def peak_of(model, tmp_path, height: int, width: int) -> int:
    """Bytes of arrays while an image is predicted with tiles of 112 pixels, 96 of output."""
    image = np.tile(pages(11, 1, 100, 150), (1, height // 100, width // 150))
    file = stack_file(tmp_path / f"{height}x{width}.tif", image)
    tracemalloc.start()
    predict(model, file, tmp_path / "out", tile=112, overlay=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_page_is_never_in_memory(tmp_path, monkeypatch):
    """Ten times the rows take no more memory, and no window is larger than a tile."""
    model, asked = save_model(tmp_path / "m.safetensors"), []
    window = Stack.window

    def watched(self, page, y0, y1, x0, x1):
        asked.append((y1 - y0, x1 - x0))
        return window(self, page, y0, y1, x0, x1)

    monkeypatch.setattr(Stack, "window", watched)
    monkeypatch.setattr(Stack, "__getitem__", None)
    # What is left are decoded strips that are remembered, 300 kB in all.
    short, tall = (peak_of(model, tmp_path, rows, 150) for rows in (200, 2000))
    assert tall - short < 1_000_000
    assert max(max(size) for size in asked) <= 112


def test_of_finished_rows_one_band_is_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "NUMBERS_AT_ONCE", 1 << 14)
    model = save_model(tmp_path / "m.safetensors")
    narrow, wide = (peak_of(model, tmp_path, 200, columns) for columns in (150, 3000))
    band = 96 * (3000 - 150) * 2 * 4
    assert band < wide - narrow < 1.6 * band  # and the decoded image, 0.26 of a band


# Linux counts into ru_maxrss what the parent took before it started the child, so that a large
# test process would be measured instead of predict: VmHWM starts anew with the program.
PEAK = """
import pathlib, re, resource, sys
from unetcu.cli import main
code = main(sys.argv[1:])
status = pathlib.Path("/proc/self/status")
if status.exists():
    peak = 1024 * int(re.search(r"VmHWM:\\s*([0-9]+) kB", status.read_text())[1])
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024
print("peak", peak)
sys.exit(code)
"""


@pytest.mark.parametrize("flags", [["--instances"], ["--tta", "rot7"]], ids=str)
def test_the_process_takes_what_was_said_and_not_much_less(tmp_path, flags):
    model = save_model(tmp_path / "m.safetensors", depth=2)
    file = stack_file(tmp_path / "a.tif", pages(0, 1, 150, 1800 if "--instances" in flags else 150))
    words = ["predict", "-m", str(model), str(file), "-o", str(tmp_path / "out"), *flags]
    environment = {**os.environ, "UNETCU_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    command = [sys.executable, "-c", PEAK, *words]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=True)
    number, unit = re.search(r"about ([0-9.]+) ([MG])B of memory", done.stderr).groups()
    said = float(number) * {"M": 1e6, "G": 1e9}[unit]
    peak = int(done.stdout.split("peak ")[1])
    assert 0.4 * said < peak < said  # said allows 100 MB for libraries, which here take less


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("tta", infer.VIEWS)
def test_no_input_is_larger_than_was_reckoned_with(monkeypatch, depth, tta):
    sizes = []
    net = UNet(depth, 1)

    def watched(net, x, exact):
        sizes.extend(x.shape[:2])
        lost = 6 * 2**depth - 4
        return np.full((x.shape[0] - 2 * lost, x.shape[1] - 2 * lost, 2), 0.5, np.float32)

    monkeypatch.setattr(infer, "softmax", watched)
    tile_out = 2**depth * 5 + {1: 0, 2: 0, 3: 4}[depth]
    infer.whole(net, np.zeros((90, 130, 1), np.float32), tile_out, tta)
    most = infer.largest_input(depth, tile_out, tta)
    assert max(sizes) <= most
    assert most - max(sizes) <= 2 * 2**depth


@pytest.mark.parametrize(
    ("text", "number"),
    [("2G", 2e9), ("1.5 gb", 1.5e9), ("500M", 5e8), ("64k", 64000), ("2GiB", 2**31), ("1T", 1e12)],
)
def test_amounts_of_memory(text, number):
    assert parse_bytes(text) == number


@pytest.mark.parametrize("text", ["", "2", "G", "-1G", "1e9", "2 GG", "infG", "٢G"])
def test_what_is_no_amount_of_memory(text):
    with pytest.raises(UsageError, match="is no amount"):
        parse_bytes(text)


def test_decoded_parts_of_pages_count(tmp_path):
    image = np.zeros((64, 32), np.uint8)
    (tmp_path / "plain.tif").write_bytes(tiff([page(image, rows=8)]))
    (tmp_path / "packed.tif").write_bytes(tiff([page(image, rows=8, compression=8)] * 3))
    Image.fromarray(image).save(tmp_path / "whole.png")
    sizes = {p.name: open_stack(p).window_bytes for p in tmp_path.iterdir()}
    assert sizes == {
        "plain.tif": 0,
        "packed.tif": 3 * 64 * 32 + 2 * 8 * 32,
        "whole.png": 3 * 64 * 32,
    }
