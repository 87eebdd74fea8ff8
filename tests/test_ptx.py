"""The PTX machine: control flow, launches, and small CUDA texts through NVRTC."""

import numpy as np
import pytest
from ptxtools import cuda, lanes, program

from unetcu.provers.ptx import PtxError, PtxModule


def test_branches_meet_again():
    body = """
    mov.u32 %r5, 0; mov.u32 %r6, 0;
    $LOOP:
    setp.ge.u32 %p1, %r6, %r0;
    @%p1 bra $DONE;
    and.b32 %r7, %r6, 1; setp.eq.u32 %p2, %r7, 0;
    @!%p2 bra $ODD;
    add.u32 %r5, %r5, %r6;
    bra.uni $NEXT;
    $ODD: add.u32 %r5, %r5, 100;
    $NEXT: add.u32 %r6, %r6, 1;
    bra.uni $LOOP;
    $DONE:
    mad.lo.u32 %r8, %r1, 64, %r0; mul.wide.u32 %rd5, %r8, 4; add.u64 %rd6, %rd0, %rd5;
    st.global.u32 [%rd6], %r5;
    """
    y = np.zeros(192, np.uint32)
    program(body, 1).launch("k", (3,), (64,), [y])
    right = [sum(100 if j % 2 else j for j in range(i)) for i in range(64)]
    assert y.reshape(3, 64).tolist() == [right] * 3


def test_many_blocks_come_in_groups_and_in_three_dimensions():
    text = """extern "C" __global__ void k(int* y) {
      int b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
      int t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
      y[b * blockDim.x * blockDim.y * blockDim.z + t] = 1000 * b + t;
    }"""
    y = np.full(60 * 720, -1, np.int32)
    cuda(text).launch("k", (5, 3, 4), (12, 10, 6), [y])
    assert np.array_equal(y.reshape(60, 720), 1000 * np.arange(60)[:, None] + np.arange(720))


def test_mathematics_of_cuda_is_near_numpys(rng):
    text = """extern "C" __global__ void k(const float* x, float* y, double* z, int N) {
      int i = blockIdx.x * blockDim.x + threadIdx.x;
      if (i >= N) return;
      y[i] = expf(x[i]); y[i + N] = logf(x[i]); y[i + 2 * N] = powf(x[i], 1.7f);
      y[i + 3 * N] = tanhf(x[i]); y[i + 4 * N] = x[i] / 3.0f; y[i + 5 * N] = sqrtf(x[i]);
      z[i] = exp((double)x[i]); z[i + N] = log((double)x[i]) / 7.0;
    }"""
    x = np.asarray(rng.uniform(0.01, 20, 100), np.float32)
    wide = np.float64(x)
    for arch in ("sm_75", "sm_90", "sm_120"):
        y, z = lanes(600), np.full(200, 0xFFFFFFFFFFFFFFFF, np.uint64).view(np.float64)
        cuda(text, arch).launch("k", (2,), (64,), [x, y, z, np.int32(100)])
        right = [
            np.exp(wide),
            np.log(wide),
            wide**1.7,
            np.tanh(wide),
            x / np.float32(3),
            np.sqrt(x),
        ]
        assert np.allclose(y.reshape(6, 100), right, rtol=6e-7, atol=1e-7)
        assert np.array_equal(y.reshape(6, 100)[4:], right[4:])
        right = [np.exp(wide), np.log(wide) / 7]
        assert np.allclose(z.reshape(2, 100), right, rtol=1e-15, atol=1e-16)


def test_constant_tables_and_bytes():
    text = """__device__ const int table[7] = {3, -1, 4, 1, -5, 9, 2};
    extern "C" __global__ void k(const unsigned char* c, const short* s, float* y) {
      int i = threadIdx.x;
      y[i] = table[i % 7] + c[i] + s[i];
    }"""
    c, s = np.arange(200, 232, dtype=np.uint8), np.arange(-16, 16, dtype=np.int16)
    y = lanes(32)
    cuda(text).launch("k", (1,), (32,), [c, s, y])
    table = np.array([3, -1, 4, 1, -5, 9, 2])[np.arange(32) % 7]
    assert y.tolist() == (table + c + s).tolist()


def test_arguments_are_checked():
    module = cuda('extern "C" __global__ void __launch_bounds__(64) k(float* y, int n) {y[n] = 1;}')
    y, n = lanes(4), np.int32(1)
    for args, block, what in (
        ([y], 1, "takes 2 arguments, got 1"),
        ([y, y], 1, "argument 1 has 4 bytes"),
        ([y, np.int64(1)], 1, "argument 1 has 4 bytes"),
        ([y, 1], 1, "argument 1 has 4 bytes"),
        ([n, n], 1, "argument 0 has 8 bytes"),
        ([y[::2], n], 1, "argument 0 has 8 bytes"),
        ([y, n], 65, "at most 64 threads"),
    ):
        with pytest.raises(PtxError, match=what):
            module.launch("k", (1,), (block,), args)
    with pytest.raises(PtxError, match="no kernel other; it has k"):
        module.launch("other", (1,), (1,), [y, n])
    module.launch("k", (1,), (64,), [y, n])
    assert y[1] == 1
    assert np.isnan(y[[0, 2, 3]]).all()
    two = cuda('extern "C" __global__ void k(float* x, float* y) {x[0] = 1; y[1] = x[0];}')
    with pytest.raises(PtxError, match="overlap in part"):
        two.launch("k", (1,), (1,), [y[:3], y[1:]])
    two.launch("k", (1,), (1,), [y, y])
    assert y[:2].tolist() == [1, 1]


def test_unknown_instructions_are_refused():
    for body, what in (
        ("frobnicate.u32 %r1, %r2;", "does not have"),
        ("atom.global.add.f32 %f1, [%rd0], %f2;", "does not have"),
        ("div.full.f32 %f1, %f2, %f3;", "cannot be read"),
        ("bar.sync 1, 64;", "cannot be read"),
        ("add.f16 %h1, %h2, %h3;", "cannot be read"),
        ("mov.u32 %r1, %clock;", "%clock, which this machine does not know"),
        ("ld.global.f32 %f1, [nowhere];", "nowhere, which"),
    ):
        with pytest.raises(PtxError, match=what) as caught:
            program(body, 1).launch("k", (1,), (1,), [lanes(1)])
        assert body[:-1] in str(caught.value)
    local = """extern "C" __global__ void k(float* y, int n) {
      float a[9]; for (int i = 0; i < 9; i++) a[i] = y[i]; y[0] = a[n]; }"""
    with pytest.raises(PtxError, match="bytes of local memory"):
        cuda(local).launch("k", (1,), (1,), [lanes(9), np.int32(1)])
    assert PtxModule("").kernels == {}


def test_calls_of_functions_that_the_compiler_left(rng):
    text = """__device__ __noinline__ float twice(float v, int n) {
      for (int i = 0; i < n; i++) v = v * 2 + 1;
      return v;
    }
    extern "C" __global__ void k(const float* x, const double* p, float* y, double* z) {
      int i = threadIdx.x;
      y[i] = twice(x[i], i % 3) - twice(1.0f, 2);
      z[i] = pow(p[i], 2.5);
    }"""
    x, p = rng.integers(-9, 9, 40).astype(np.float32), rng.uniform(0.1, 9, 40)
    y, z = lanes(40), np.full(40, 0xFFFFFFFFFFFFFFFF, np.uint64).view(np.float64)
    module = cuda(text)
    module.launch("k", (1,), (40,), [x, p, y, z])
    times = np.arange(40) % 3
    assert np.array_equal(y, x * 2**times + 2**times - 1 - 7)
    assert np.allclose(z, p**2.5, rtol=1e-14)
    module.launch("k", (1,), (40,), [x, p, y, z])  # and once more
