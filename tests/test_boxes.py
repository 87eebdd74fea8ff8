"""Boxes: which views TMA takes, that launches want them, and what the driver is asked for."""

import ctypes

import numpy as np
import pytest
from fakecuda import Driver, fake_cupy

from unetcu import kernel, simtbuild
from unetcu.device import boxes as module
from unetcu.device import simt as simt_module
from unetcu.device.boxes import Boxes, boxes, of_boxes, replaced
from unetcu.device.cuda import Cuda
from unetcu.device.gpu import Call
from unetcu.device.simt import Simt
from unetcu.errors import KernelError

TEXT = """// take.cu: row `at` of the boxes of a map, plus one.
{real}#include "ptx.cuh"
extern "C" __global__ void take_row(const __grid_constant__ TensorMap map, {type}* y, int at) {{
  unsigned short* place = dynamic_shared<unsigned short>();
  __shared__ Barrier full;
  if (threadIdx.x == 0) {{
    mbarrier_init(&full, 1);
    show_mbarriers();
  }}
  __syncthreads();  // the mbarrier is there
  if (threadIdx.x == 0) {{
    mbarrier_expect(&full, 128);
    copy_box(place, map, &full, 0, at, 0);
  }}
  mbarrier_wait(&full, 0);
  y[threadIdx.x] = {made};
}}
extern "C" __global__ void take_first(const unsigned short* x, unsigned short* y) {{ y[0] = x[0]; }}
"""
WHOLE = np.arange(2048, dtype=np.uint16)


@pytest.fixture
def take(tmp_path, monkeypatch):
    """Kernels of ours: take.cu, and half.cu, which has formats."""
    for header in (*kernel.KERNELS.glob("*.cuh"), *kernel.KERNELS.glob("simt/*.h")):
        (tmp_path / header.relative_to(kernel.KERNELS)).parent.mkdir(exist_ok=True)
        (tmp_path / header.relative_to(kernel.KERNELS)).write_bytes(header.read_bytes())
    plain = TEXT.format(real="", type="unsigned short", made="place[threadIdx.x] + 1")
    (tmp_path / "take.cu").write_text(plain)
    half = '// Formats: bf16 fp16\n#include "real.cuh"\n'
    half = TEXT.format(real=half, type="real", made="reinterpret_cast<real*>(place)[threadIdx.x]")
    (tmp_path / "half.cu").write_text(half.replace("take_", "half_"))
    caches = (kernel.source, kernel.entries, kernel.formats, simt_module.load)
    monkeypatch.setattr(kernel, "KERNELS", tmp_path)
    monkeypatch.setattr(simtbuild, "KERNELS", tmp_path)
    for cached in caches:
        cached.cache_clear()
    yield
    monkeypatch.undo()
    for cached in caches:
        cached.cache_clear()


def view(array, start=0):
    return boxes(array, (64, 10, 1), (1, 72, 0), (64, 1, 1), start)


def launch(where, entry, *args, stem="take"):
    where.launch(stem, entry, 1, 64, *args, shared=1024)


GOOD = {"sizes": (64, 10, 3), "strides": (1, 72, 8), "box": (64, 8, 256), "start": 16}
LAST = (16 + 63 + 9 * 72 + 2 * 8) + 1  # numbers that these need


def test_what_is_taken():
    given = boxes(WHOLE[:LAST], **GOOD)
    assert given[1:] == (16, (64, 10, 3), (1, 72, 8), (64, 8, 256))
    assert given.array.size == LAST
    assert boxes(WHOLE, [8, 1], [1, 0], [64, 1]).start == 0
    assert boxes(WHOLE.view(np.float16), [8] * 4, [1, 8, 8, 8], [64] * 4).sizes == (8,) * 4


@pytest.mark.parametrize(
    "change",
    [
        {"array": WHOLE[: LAST - 1]},
        {"array": WHOLE.view(np.uint8)},
        {"array": WHOLE.view(np.float32)},
        {"start": -8},
        {"start": 12},
        {"start": 2048},
        {"sizes": (60, 10, 3)},
        {"sizes": (0, 10, 3)},
        {"sizes": (64, 0, 3)},
        {"sizes": (64, -1, 3)},
        {"sizes": (64, 10)},
        {"strides": (2, 72, 8)},
        {"strides": (1, 76, 8)},
        {"strides": (1, -8, 72)},
        {"strides": (1, 72)},
        {"strides": (1, 72, 8, 8)},
        {"box": (32, 8, 2)},
        {"box": (128, 8, 2)},
        {"box": (64, 0, 2)},
        {"box": (64, 8, 257)},
        {"box": (64, 8)},
        {"sizes": (64,), "strides": (1,), "box": (64,)},
        {"sizes": (8,) * 5, "strides": (1, *[8] * 4), "box": (64, *[1] * 4)},
        {"sizes": (), "strides": (), "box": ()},
    ],
    ids=str,
)
def test_what_tma_cannot_do_is_refused(change):
    given = {"array": WHOLE[:LAST], **GOOD, **change}
    with pytest.raises(KernelError, match=r"^TMA cannot copy such boxes of \(\d+,\): \("):
        boxes(**given)


def test_the_array_behind_an_argument():
    given, other = view(WHOLE), WHOLE + 1
    assert of_boxes(given) is WHOLE
    assert of_boxes(WHOLE) is WHOLE
    assert of_boxes(7) == 7
    assert replaced(given, other) == Boxes(other, *given[1:])
    assert replaced(WHOLE, other) is other


def test_boxes_are_wanted_where_the_kernel_says_so(take):
    where = Simt()
    x, y = where.put(WHOLE), where.empty((64,), np.uint16)
    launch(where, "take_row", view(x), y, 1)
    for args, says in (
        (("take_row", x, y, 1), "take_row: map must be a view"),
        (("take_row", 7, y, 1), "take_row: map must be a view"),
        (("take_row", view(x), view(x), 1), "take_row: y must be an array$"),
        (("take_first", view(x), y), "take_first: x must be an array$"),
        (("take_row", view(WHOLE), y, 1), "take_row: map must be an array on simt, got ndarray"),
        (("take_row", view(x[::2]), y, 1), "take_row: map must be a contiguous uint16 array"),
        (("take_row", view(x[1:]), y, 1), "take_row: map does not start at a multiple of 16 bytes"),
    ):
        with pytest.raises(KernelError, match=says):
            launch(where, *args)


def test_boxes_have_the_format_of_the_kernel(take):
    where = Simt()
    bits, halves = where.put(WHOLE), where.put(WHOLE.astype(np.float16))
    y = where.empty((64,), np.float16)
    launch(where, "half_row", view(halves), y, 2, stem="half")
    assert np.array_equal(where.get(y), WHOLE[144:208].astype(np.float16))
    with pytest.raises(KernelError, match="half_row: map must be a contiguous float16 array, got"):
        launch(where, "half_row", view(bits), y, 2, stem="half")
    with pytest.raises(KernelError, match="half_row: map must be a contiguous uint16 array, got"):
        launch(where, "half_row", view(halves), bits[:64], 2, stem="half:bf16")


def test_debug_looks_for_nan_behind_boxes(take):
    where = Simt()
    where.debug = True
    y = where.empty((64,), np.float16)
    x = where.put(np.where(WHOLE == 2000, np.nan, 1).astype(np.float16))
    with pytest.raises(KernelError, match=r"half_row is given 1 NaN of 2048 in map.* \(2000,\)"):
        launch(where, "half_row", view(x), y, 2, stem="half")


OUTSIDE = "bytes past the end of map", "32 bytes before map", r"reads map\[728\], but map has 720"


@pytest.mark.parametrize("mode", ["guard", "guard-before", "checked", "checked,guard"])
def test_a_map_follows_its_array_between_guard_pages(take, mode):
    """A view that ends with its array, and one that says it ends behind it."""
    where = Simt(mode.split(","))
    x, y = where.put(WHOLE[:720]), where.empty((64,), np.uint16)
    launch(where, "take_row", view(x, 8), y, 9)
    assert np.array_equal(where.get(y), WHOLE[656:720] + 1)
    start, row = (-16, 0) if mode == "guard-before" else (80, 9)
    wrong = Boxes(x, start, (64, 10, 1), (1, 72, 0), (64, 1, 1))
    with pytest.raises(KernelError, match="|".join(OUTSIDE)):
        launch(where, "take_row", wrong, y, row)


def test_a_captured_function_keeps_what_is_behind_boxes(take):
    where = Simt()
    outside = [where.put(WHOLE)]

    def function(x):
        row, made = where.empty((64,), np.uint16), where.empty((64,), np.uint16)
        launch(where, "take_row", view(outside[0], 16), row, 1)
        for _ in range(2):  # each time the place of `wide` is free again
            wide = where.empty((720,), np.uint16)
            launch(where, "take_row", view(x), wide[216:280], 3)
            launch(where, "take_row", view(wide), made, 3)
            del wide
        return made

    run = where.captured(function)
    for k in range(4):
        if k == 2:
            (shape,) = run._shapes.values()
            assert any(a is outside[0] for a in shape.outside.values())
            outside.clear()
        got = where.get(run(x=WHOLE + np.uint16(k)))
        assert np.array_equal(got, WHOLE[216:280] + k + 2), k


@pytest.fixture
def encoded(driver, monkeypatch):
    """The map that the driver makes of a view at an address; what it was asked for."""
    found = Driver(count=1)
    driver(found)
    return lambda *given: (module.encoded(*given), found.maps[-1])


def test_what_the_driver_is_asked_for(encoded):
    address = 1 << 40
    given = Boxes(WHOLE, 24, (72, 9, 5, 3), (1, 80, 8, 160), (64, 7, 256, 2))
    made, (place, kind, rank, first, sizes, strides, box, steps, *how) = encoded(given, address)
    assert place % 64 == 0
    assert (kind, rank, first) == (1, 4, address + 48)  # CU_TENSOR_MAP_DATA_TYPE_UINT16
    assert [type(a)._type_ for a in (sizes, strides, box, steps)] == [
        *(ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint32)
    ]
    assert list(sizes) == [72, 9, 5, 3]
    assert list(strides)[:3] == [160, 16, 320]
    assert list(box) == [64, 7, 256, 2]
    assert list(steps) == [1] * 4
    assert how == [0, 3, 3, 0]  # plain, rows of 128 bytes swizzled, 256 bytes to L2, zeros outside
    assert (made.dtype, made.shape, made.size) == (np.dtype("V128"), (1,), 1)
    assert made.tobytes() == bytes(range(128))


def test_a_map_that_the_driver_refuses(driver):
    driver(Driver(encode=1))
    with pytest.raises(KernelError, match=r"no tensor map \(CUDA error 1\) of \(0, \(64, 10, 1\)"):
        module.encoded(view(WHOLE), 16)


def test_cuda_hands_the_map_to_the_kernel(launched, monkeypatch, tmp_path):
    found = Driver(count=2)
    real = ctypes.CDLL
    monkeypatch.setattr(
        ctypes, "CDLL", lambda name, *r: found if name == "libcuda.so.1" else real(name, *r)
    )
    device = Cuda(1)
    x = device.put(WHOLE)
    monkeypatch.setitem(device._functions, ("take", "take_row"), fake_cupy(launched).RawModule(
        path="").get_function("take_row"))  # fmt: skip
    device._start(Call("take", "take_row", (1, 1, 1), (64, 1, 1), [view(x, 8), x, np.int32(3)], 0))
    given, y, at = launched[0][3]
    assert type(given) is np.ndarray
    assert (given.dtype, given.size) == (np.dtype("V128"), 1)
    assert given.tobytes() == bytes(range(128))
    assert y is x
    assert at == 3
    assert found.maps[0][3] == device.address(x) + 16
