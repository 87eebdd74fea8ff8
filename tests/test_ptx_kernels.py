"""What NVRTC makes of our kernels computes what is right: every op's own launches, on the PTX
machine, at tiny shapes; and no instruction of ptx.cuh has a wrong operand."""

import numpy as np
import pytest
from ptxtools import cuda, lanes
from step_cases import check_steps

from unetcu import kernel
from unetcu.errors import KernelError
from unetcu.ops import _conv3x3_variants
from unetcu.ops.conv3x3 import Conv3x3
from unetcu.ops.upconv2 import UpConv2
from unetcu.provers import ladder
from unetcu.provers.cases import cases, of_form
from unetcu.provers.judge import Case, judge, right, run
from unetcu.provers.ptx.device import PtxDevice
from unetcu.provers.sums import conv3x3_case

TINY = 900  # numbers in a case's inputs
# Those of test_ptx_hopper.py, and what a pair of images needs, which comes from two ops.
HOPPER = ("conv3x3_wgmma", "conv3x3_wgmma_w")
ELSEWHERE = {"crop_concat_border", *(e for stem in HOPPER for e in kernel.entries(stem))}


def conv(h: int, w: int, c: int, k: int) -> Case:
    pixels = (h - 2) * (w - 2)
    shapes = (1, h, w, c), (3, 3, c, k), (k,)
    return Case("conv3x3", Conv3x3, shapes, (9 * c + 1, 9 * k, pixels, pixels), max(c, k))


# Each form of its kernels: for many channels, for few, for the image itself.
CONVOLUTIONS = [conv(3, 4, 33, 34), conv(3, 21, 2, 17), conv(5, 3, 5, 6)]


def tiny() -> list[Case]:
    """Of each op the cases with the most channels, and a small one with NaN."""
    by_stem: dict[str, list[Case]] = {}
    for case in cases(24):
        if sum(np.prod(s, initial=1) for s in case.shapes) <= TINY and case.stem != "conv3x3":
            by_stem.setdefault(case.stem, []).append(case)
    chosen = list(CONVOLUTIONS)
    for found in by_stem.values():
        found.sort(key=lambda c: -c.channels)
        several = 6 if found[0].stem == "head_loss" else 2  # it has a kernel for each few classes
        chosen += [*found[:several], *[c for c in found if c.kind == "special"][-1:]]
    return list({case.name: case for case in chosen}.values())


@pytest.fixture(scope="module")
def where():
    return PtxDevice("sm_80")


@pytest.mark.parametrize("case", tiny(), ids=lambda c: c.name)
def test_op(case, where):
    arrays, dy = case.draw()
    if case.stem == "softmax_loss":  # as labels come from files
        arrays = [a.astype(np.int64) if a.dtype.kind == "i" else a for a in arrays]
    with np.errstate(all="ignore"):
        exact, bounds = right(case, arrays, dy)
        judge(case, run(case, where, arrays, dy), exact, bounds)


def test_optimizers_and_fill(where):
    check_steps(where)


@pytest.mark.parametrize("form", ["bf16", "tf32x3"])
def test_convolution_on_tensor_cores(form, where, monkeypatch):
    """Forward, both gradients and the sums of two shares of the channels."""
    monkeypatch.setattr(_conv3x3_variants, "shares", lambda blocks, chunks: min(chunks, 2))
    agrees(of_form(conv3x3_case(1, 3, 4, 40, 40 if form == "bf16" else 20), form), where)


def test_convolution_of_many_filters_on_tensor_cores(where, monkeypatch):
    """The kernels for more than 64 filters; with 8, to be quick."""
    rows = [v for v in _conv3x3_variants.VARIANTS if v.suffix != "_narrow"]
    monkeypatch.setattr(_conv3x3_variants, "VARIANTS", rows)
    before = set(where.launches)
    agrees(of_form(conv3x3_case(1, 3, 3, 8, 8), "bf16"), where)
    assert {"conv3x3_mma_forward", "conv3x3_mma_backward_x"} <= set(where.launches) - before


@pytest.mark.parametrize("form", ["bf16", "tf32x3"])
def test_up_convolution_on_tensor_cores(form, where):
    shapes = (1, 2, 3, 8), (2, 2, 8, 8), (8,)
    case = Case("upconv2", UpConv2, shapes, (9, 32, 6, 24), 8)
    agrees(of_form(case, form), where)


def agrees(case: Case, where: PtxDevice) -> None:
    arrays, dy = case.draw()
    judge(case, run(case, where, arrays, dy), *right(case, arrays, dy))


@pytest.mark.parametrize("rung", ladder.rungs())
def test_rung(rung, where, rng):
    x, w, b = (
        rng.integers(-4, 5, s).astype(np.float32) for s in ((1, 9, 7, 5), (3, 3, 5, 6), (6,))
    )
    y = ladder.convolve(where, rung, *map(where.put, (x, w, b)))
    assert np.array_equal(where.get(y), Conv3x3.reference(x, w, b))


def test_every_kernel_was_launched(request, where):
    """Only after a whole run of this file: selected tests alone cannot tell."""
    if len([i for i in request.session.items if "test_ptx_kernels" in i.nodeid]) > len(tiny()):
        known = {e for stem in kernel.stems() for e in kernel.entries(stem)}
        assert known - set(where.launches) == ELSEWHERE


def test_fault_of_a_launch_is_an_error_with_its_line(where):
    x, y = where.put(np.ones(8, np.float32)), where.empty((8,))
    with pytest.raises(
        KernelError, match=r"relu_forward: .*kernels/relu\.cu:\d+: reads 4 bytes ou"
    ):
        where.launch("relu", "relu_forward", 1, 256, x, y, 9)
    with pytest.raises(KernelError, match=r"reads 4 bytes that were never written"):
        where.launch("relu", "relu_forward", 1, 256, y, x, 8)


# All of ptx.cuh: C (16 x 8) += A (16 x 16) B^T (8 x 16), whose rows come by asynchronous copies.
ALL = """extern "C" __global__ void k(const unsigned short* a, const unsigned short* b, float* c) {
  unsigned short* A = dynamic_shared<unsigned short>();
  unsigned short* B = A + 16 * 16;
  int t = threadIdx.x, g = t / 4, q = t % 4;
  cp_async<16>(A + 8 * t, a + 8 * t);
  cp_async_commit();
  if (t < 24) cp_async<8>(B + 4 * t, b + 4 * t);
  if (t < 16) cp_async<4>(B + 96 + 2 * t, b + 96 + 2 * t);
  cp_async_commit();
  cp_async<16>(A + 384 + 8 * t, a + (t ? 0 : 8), t ? 0 : 6);
  cp_async_commit();
  cp_async_wait<1>();
  __syncthreads();
  unsigned x[4], y[2], u[1];
  float z[4];
  for (int j = 0; j < 4; j++) z[j] = 8 * (g + j / 2 * 8) + 2 * q + j % 2;
  LOAD
  MMA(z, x, y);
  for (int j = 0; j < 4; j++) c[8 * (g + j / 2 * 8) + 2 * q + j % 2] = z[j];
  cp_async_wait<0>();
  __syncthreads();
  for (int j = 0; j < 8; j++) c[128 + 8 * t + j] = A[384 + 8 * t + j];
}"""
LOADS = {
    "x4, x2": "ldmatrix_x4(x, A + t % 16 * 16 + t / 16 * 8);"
    "ldmatrix_x2(y, B + t % 8 * 16 + t / 8 % 2 * 8);",
    "x1": "for (int i = 0; i < 4; i++) {"
    "  ldmatrix_x1(u, A + (t % 8 + i % 2 * 8) * 16 + i / 2 * 8); x[i] = u[0]; }"
    "for (int i = 0; i < 2; i++) { ldmatrix_x1(u, B + t % 8 * 16 + i * 8); y[i] = u[0]; }",
    # Of matrices that lie transposed: A as 16 columns of 16, B as 16 rows of 8.
    "x4, x2 transposed": "ldmatrix_x4_trans(x, A + (t % 8 + t / 16 * 8) * 16 + t / 8 % 2 * 8);"
    "ldmatrix_x2_trans(y, B + t % 16 * 8);",
    "x1 transposed": "for (int i = 0; i < 4; i++) {"
    "  ldmatrix_x1_trans(u, A + (t % 8 + i / 2 * 8) * 16 + i % 2 * 8); x[i] = u[0]; }"
    "for (int i = 0; i < 2; i++) { ldmatrix_x1_trans(u, B + (t % 8 + i * 8) * 8); y[i] = u[0]; }",
}


def header() -> str:
    return (kernel.KERNELS / "ptx.cuh").read_text().replace("#pragma once", "")


def of_halves(rng, text: str, how: str, kind: str) -> bool:
    """Whether the kernel that uses all of ptx.cuh, with `text` for it, gives what is right."""
    a, b = rng.integers(-8, 9, (16, 16)), rng.integers(-8, 9, (8, 16))

    def packed(x: np.ndarray) -> np.ndarray:
        half = x.astype(np.float16).view(np.uint16)
        wide = (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        return np.ascontiguousarray(half if kind == "f16" else wide)

    stored = [packed(x.T if "transposed" in how else x) for x in (a, b)]
    body = ALL.replace("MMA", f"mma_{kind}").replace("LOAD", LOADS[how])
    c = np.concatenate([lanes(128), lanes(256)])
    cuda(f"{text}\n{body}").launch("k", (1,), (32,), [*stored, c], 1280)
    tail = np.zeros(256)
    tail[:3] = stored[0].ravel()[8:11]
    return np.array_equal(c[:128], (a @ b.T).ravel() + np.arange(128)) and np.array_equal(
        c[128:], tail
    )


SUMS = np.array([[1, 2], [3, 4]])[:, None, None]  # by half of the rows, and column


def of_tf32(rng, text: str) -> bool:
    """The same for mma_tf32."""
    body = """extern "C" __global__ void k(const float* a, const float* b, float* c) {
      int t = threadIdx.x, g = t / 4, q = t % 4;
      unsigned x[4] = {__float_as_uint(a[8 * g + q]), __float_as_uint(a[8 * (g + 8) + q]),
                       __float_as_uint(a[8 * g + q + 4]), __float_as_uint(a[8 * (g + 8) + q + 4])};
      unsigned y[2] = {__float_as_uint(b[8 * g + q]), __float_as_uint(b[8 * g + q + 4])};
      float z[4] = {1, 2, 3, 4};
      mma_tf32(z, x, y);
      for (int j = 0; j < 4; j++) c[8 * (g + j / 2 * 8) + 2 * q + j % 2] = z[j];
    }"""
    a, b = (rng.integers(-99, 99, (n, 8)).astype(np.float32) for n in (16, 8))
    c = lanes(128)
    cuda(f"{text}\n{body}").launch("k", (1,), (32,), [a, b, c])
    return np.array_equal(c.reshape(2, 8, 4, 2), (a @ b.T).reshape(2, 8, 4, 2) + SUMS)


def passes(rng, text: str) -> bool:
    """Whether a text in place of ptx.cuh is right wherever it is used."""
    try:
        halves = (of_halves(rng, text, how, kind) for how in LOADS for kind in ("bf16", "f16"))
        return of_tf32(rng, text) and all(halves)
    except KernelError:
        return False


def test_instructions_of_ptx_cuh(rng):
    assert passes(rng, header())


FAULTS = {
    "the address of another row": ('"=r"(r[0]) : "r"(shared_address(row))', '"=r"(r[0]) : "r"(0)'),
    "x2 registers swapped": ("x2.shared.b16 {%0,%1}", "x2.shared.b16 {%1,%0}"),
    "x4 registers swapped": ("x4.shared.b16 {%0,%1,%2,%3}", "x4.shared.b16 {%0,%2,%1,%3}"),
    "x1 transposed": ("x1.shared.b16", "x1.trans.shared.b16"),
    "x4 not transposed": ("x4.trans.shared.b16", "x4.shared.b16"),
    "x2 transposed, swapped": ("x2.trans.shared.b16 {%0,%1}", "x2.trans.shared.b16 {%1,%0}"),
    "a swapped": ("{%4,%5,%6,%7}, {%8,%9}", "{%4,%6,%5,%7}, {%8,%9}"),
    "b swapped": ("{%8,%9}", "{%9,%8}"),
    "sums swapped": ("{%8,%9}, {%0,%1,%2,%3}", "{%8,%9}, {%0,%1,%3,%2}"),
    "bf16 for f16": ("f32.f16.f16.f32", "f32.bf16.bf16.f32"),
    "f16 for bf16": ("f32.bf16.bf16.f32", "f32.f16.f16.f32"),
    "sums not read": ('"+f"(d[0]), "+f"(d[1])', '"=f"(d[0]), "=f"(d[1])'),
    "copies without their size": ("[%0], [%1], 16, %2;", "[%0], [%1], 16;"),
    "copies of another size": ("[%0], [%1], %3, %2;", "[%0], [%1], 4, 4;"),
    "wait for fewer": ("cp.async.wait_group %0;", "cp.async.wait_group %0+1;"),
    "no group": ('asm volatile("cp.async.commit_group;" ::: "memory");', ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_operand_in_ptx_cuh_is_noticed(rng, fault):
    old, new = FAULTS[fault]
    assert old in header()
    assert not passes(rng, header().replace(old, new))
