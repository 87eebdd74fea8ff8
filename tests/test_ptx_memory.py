"""The PTX machine reports what a kernel may not do to memory: the thread, the argument, the line of
the .cu and the line of the PTX."""

import numpy as np
import pytest
from ptxtools import cuda, lanes, program

from unetcu.provers.ptx import PtxError

SCALE = """extern "C" __global__ void k(const float* __restrict__ x, float* __restrict__ y, int N) {
  int i = blockIdx.x * 32 + threadIdx.x;
  if (i < N)
    y[i] = x[i + OFF] * 2;
}
"""


def scale(off: str, count: int, x: np.ndarray, y: np.ndarray) -> None:
    cuda(SCALE.replace("OFF", off)).launch("k", (4,), (32,), [x, y, np.int32(count)])


def test_right_kernel_passes_and_leaves_the_rest_alone():
    x, y = np.ones(100, np.float32), lanes(110)
    scale("0", 100, x, y)
    assert (y[:100] == 2).all()
    assert y[100:].tobytes() == b"\xff" * 40


def test_one_past_the_end_is_reported_with_both_lines():
    with pytest.raises(PtxError) as caught:
        scale("1", 100, np.ones(100, np.float32), lanes(100))
    message = str(caught.value)
    assert message.startswith("k: block (3,0,0) thread (3,0,0): kernels/test.cu:4: ")
    assert "reads 4 bytes outside its memory: byte 400 of array 0, which has 400" in message
    assert "(PTX line " in message
    assert "ld.global.nc.f32" in message


@pytest.mark.parametrize(
    ("off", "what"),
    [
        ("-1", "byte -4 of array 0, which has 400"),
        ("-1000", "byte -4000 of array 0"),
        ("1000", "byte 4000 of array 0"),
        ("(1ll << 50)", "belongs to no argument"),
    ],
)
def test_far_out_is_found_as_well(off, what):
    with pytest.raises(PtxError, match=what):
        scale(off, 100, np.ones(100, np.float32), lanes(100))


def test_write_past_the_end():
    with pytest.raises(PtxError, match=r"thread \(4,0,0\).*writes 4 bytes outside.*400 of array 1"):
        scale("0", 101, np.ones(101, np.float32), lanes(100))


def test_nothing_is_lost_of_what_was_written_before():
    x, y = np.ones(100, np.float32), lanes(100)
    with pytest.raises(PtxError):
        scale("0", 101, x, y)
    assert (y == 2).sum() < 100


def test_what_nobody_wrote_may_not_be_read():
    x = np.ones(100, np.float32)
    x.view(np.uint32)[40] = 0xFFFFFFFF
    with pytest.raises(
        PtxError, match=r"block \(1,0,0\) thread \(8,0,0\).*never written: byte 160"
    ):
        scale("0", 100, x, lanes(100))
    x[40] = np.nan  # another NaN than that of fresh memory is a number like others
    y = lanes(100)
    scale("0", 100, x, y)
    assert np.isnan(y[40])


def test_read_only_arrays_are_not_written_to():
    y = lanes(100)
    y.flags.writeable = False
    with pytest.raises(PtxError, match=r"writes 4 bytes that are read-only: byte 0 of array 1"):
        scale("0", 100, np.ones(100, np.float32), y)


def test_misaligned_vector_access():
    text = """extern "C" __global__ void k(const float* x, float* y, int off) {
      float4 v = *(const float4*)(x + off);
      y[0] = v.x + v.w;
    }"""
    x, y = np.arange(12, dtype=np.float32), lanes(1)
    cuda(text).launch("k", (1,), (1,), [x, y, np.int32(4)])
    assert y.tolist() == [11]
    with pytest.raises(
        PtxError, match=r"test\.cu:2: reads 16 bytes at .* no multiple of 16: byte 8"
    ):
        cuda(text).launch("k", (1,), (1,), [x, y, np.int32(2)])
    with pytest.raises(PtxError, match=r"reads 16 bytes outside"):
        cuda(text).launch("k", (1,), (1,), [x[:-1], y, np.int32(8)])


REVERSE = """extern "C" __global__ void k(const float* x, float* y, int size) {
  extern __shared__ float dynamic[];
  __shared__ float tile[64];
  int i = threadIdx.x;
  if (i != 5 || size != 1) tile[i] = x[i];
  if (size != 2) __syncthreads();
  dynamic[size == 3 ? i + 1 : i] = tile[63 - i];
  __syncthreads();
  y[i] = dynamic[i];
}
"""


def reverse(size: int, shared: int = 256) -> np.ndarray:
    x, y = np.arange(64, dtype=np.float32), lanes(64)
    cuda(REVERSE).launch("k", (1,), (64,), [x, y, np.int32(size)], shared)
    return y


def test_shared_memory():
    assert reverse(0).tolist() == list(range(63, -1, -1))
    with pytest.raises(
        PtxError, match=r"thread \(58,0,0\).*cu:7: reads 4 bytes that were never wr"
    ):
        reverse(1)
    with pytest.raises(PtxError, match=r"cu:7: writes 4 bytes outside.*byte 512 of shared memory"):
        reverse(3)
    with pytest.raises(PtxError, match=r"thread \(63,0,0\).*outside.*which a block has 508"):
        reverse(0, 252)
    with pytest.raises(PtxError, match=r"outside.*of which a block has 256"):
        reverse(0, 0)


def test_shared_memory_of_blocks_is_apart():
    text = """extern "C" __global__ void k(float* y) {
      __shared__ float tile[32];
      if (blockIdx.x == 0) tile[threadIdx.x] = 1;
      __syncthreads();
      y[blockIdx.x * 32 + threadIdx.x] = tile[threadIdx.x];
    }"""
    with pytest.raises(PtxError, match=r"block \(1,0,0\) thread \(0,0,0\).*never written"):
        cuda(text).launch("k", (2,), (32,), [lanes(64)])


def test_barrier_that_some_do_not_reach():
    two = "setp.lt.u32 %p1, %r0, 9; @%p1 bra $A; bar.sync 0; bra $B; $A: bar.sync 0; $B:"
    with pytest.raises(PtxError, match=r"waits for others of its block, which wait at bar\.sync 0"):
        program(two, 1).launch("k", (1,), (64,), [lanes(1)])
    text = """extern "C" __global__ void k(float* y) {
      float v = threadIdx.x;
      if (threadIdx.x == 40)
        __syncthreads();
      else
        v = __shfl_down_sync(0xffffffffu, v, 1);
      y[threadIdx.x] = v;
    }"""
    with pytest.raises(
        PtxError, match=r"test\.cu:6: waits for others .* which wait at .*cu:4 \(PTX"
    ):
        cuda(text).launch("k", (1,), (64,), [lanes(64)])


def test_threads_that_have_ended_are_not_waited_for():
    for late in ("", "if (i == 40) { for (int j = 0; j < 9; j++) y[64] += j; return; }"):
        text = f"""extern "C" __global__ void k(float* y) {{
          __shared__ float tile[64];
          int i = threadIdx.x;
          if (i >= 50) return;
          tile[i] = i;
          {late}
          __syncthreads();
          y[i] = tile[i / 2 + 1];
        }}"""
        y = np.zeros(65, np.float32)
        cuda(text).launch("k", (1,), (64,), [y])
        right = [i // 2 + 1 for i in range(50)]
        assert np.delete(y[:50], 40).tolist() == np.delete(right, 40).tolist()
        assert y[64] == (36 if late else 0)


def test_barrier_behind_code_at_the_end_of_the_text():
    # Thread 3 does its part further down and comes back: the barrier waits for it.
    body = """
    setp.eq.u32 %p1, %r0, 3; mov.u32 %r5, 1;
    @%p1 bra $FAR;
    $BACK: bar.sync 0;
    mul.wide.u32 %rd5, %r0, 4; add.u64 %rd6, %rd0, %rd5; st.global.u32 [%rd6], %r5;
    ret;
    $FAR: mov.u32 %r5, 2;
    bra.uni $BACK;
    """
    y = np.zeros(32, np.uint32)
    program(body, 1).launch("k", (1,), (32,), [y])
    assert y.tolist() == [1, 1, 1, 2] + [1] * 28


def test_kernel_that_does_not_end(monkeypatch):
    monkeypatch.setattr("unetcu.provers.ptx.machine.MOST_STEPS", 1000)
    with pytest.raises(PtxError, match="does not end"):
        program("$L: bra.uni $L;", 1).launch("k", (1,), (1,), [lanes(1)])


def test_line_of_a_header_comes_with_the_line_that_called_it():
    text = """#line 1 "kernels/common.cuh"
    __device__ __forceinline__ float first(const float* x, int i) {
      return x[i];
    }
    #line 1 "kernels/test.cu"
    extern "C" __global__ void k(const float* x, float* y) {
      y[0] = 1;
      y[1] = first(x, 5);
    }"""
    where = r"kernels/common\.cuh:2, called at kernels/test\.cu:3: reads"
    with pytest.raises(PtxError, match=where):
        cuda(text).launch("k", (1,), (1,), [np.ones(5, np.float32), lanes(2)])
