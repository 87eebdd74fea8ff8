"""The PTX machine on what the threads of a warp do together, and planted faults in the operands of
inline assembly, which nothing else would see without a GPU."""

import numpy as np
import pytest
from ptxtools import cuda, lanes, program

from unetcu.provers.ptx import PtxError

SHUFFLES = {
    "__shfl_down_sync(FULL, v, 3)": lambda i: i + 3 if i + 3 < 32 else i,
    "__shfl_up_sync(FULL, v, 3)": lambda i: i - 3 if i >= 3 else i,
    "__shfl_xor_sync(FULL, v, 5)": lambda i: i ^ 5,
    "__shfl_sync(FULL, v, 9)": lambda i: 9,
    "__shfl_sync(FULL, v, i * 7)": lambda i: i * 7 % 32,
    "__shfl_down_sync(FULL, v, 1, 8)": lambda i: i + 1 if i % 8 < 7 else i,
    "__shfl_xor_sync(FULL, v, 1, 4)": lambda i: i ^ 1,
    "__shfl_sync(FULL, v, 2, 16)": lambda i: i // 16 * 16 + 2,
}


@pytest.mark.parametrize("call", SHUFFLES)
def test_shuffles(call):
    text = f"""#define FULL 0xffffffffu
    extern "C" __global__ void k(const float* x, float* y) {{
      int t = threadIdx.x, i = t % 32;
      float v = x[t];
      y[t] = {call};
    }}"""
    x, y = np.arange(96, dtype=np.float32), lanes(96)
    cuda(text).launch("k", (1,), (96,), [x, y])
    assert y.tolist() == [t // 32 * 32 + SHUFFLES[call](t % 32) for t in range(96)]


def test_warp_sum_and_votes():
    text = """extern "C" __global__ void k(const float* x, float* y, unsigned* b) {
      int t = threadIdx.x;
      float v = x[t];
      for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
      y[t] = v;
      b[t] = __ballot_sync(0xffffffffu, x[t] > 40);
      b[t] += __any_sync(0xffffffffu, x[t] > 70) + 2 * __all_sync(0xffffffffu, x[t] < 32);
    }"""
    x, y, b = np.arange(64, dtype=np.float32), lanes(64), np.zeros(64, np.uint32)
    cuda(text).launch("k", (1,), (64,), [x, y, b])
    assert y.tolist() == [sum(range(32))] * 32 + [sum(range(32, 64))] * 32
    second = sum(1 << i for i in range(32) if 32 + i > 40)
    assert b.tolist() == [2] * 32 + [second] * 32


def test_shuffle_waits_for_diverged_lanes_and_reports_missing_ones():
    text = """extern "C" __global__ void k(float* y, int mode) {
      int t = threadIdx.x;
      float v = t;
      if (t == 4) for (int j = 0; j < 9; j++) v += y[j];
      if (mode == 1 && t >= 16) return;
      y[9 + t] = __shfl_down_sync(0xffffffffu, v, 1);
    }"""
    y = np.ones(41, np.float32)
    cuda(text).launch("k", (1,), (32,), [y, np.int32(0)])
    assert y[9:].tolist() == [*(1, 2, 3, 13), *range(5, 32), 31]
    with pytest.raises(
        PtxError, match=r"thread \(15,0,0\).*cu:6: takes from a thread that does not take"
    ):
        cuda(text).launch("k", (1,), (32,), [y, np.int32(1)])
    half = program("shfl.sync.idx.b32 %r5, %r0, 20, 31, 65535;", 1)
    with pytest.raises(PtxError, match="is no member"):
        half.launch("k", (1,), (32,), [lanes(1)])


def test_half_a_warp_may_work_alone_but_not_take_from_the_other():
    text = """extern "C" __global__ void k(float* y, int from) {
      int t = threadIdx.x;
      if (t < 16) y[t] = __shfl_sync(0xffffu, (float)t, from);
    }"""
    y = lanes(16)
    cuda(text).launch("k", (1,), (32,), [y, np.int32(3)])
    assert y.tolist() == [3] * 16
    with pytest.raises(PtxError, match="from a thread that does not take part"):
        cuda(text).launch("k", (1,), (32,), [y, np.int32(20)])


COPY = """extern "C" __global__ void k(const float* x, float* y) {
  __shared__ __align__(16) float tile[128];
  int t = threadIdx.x;
  unsigned to = (unsigned)__cvta_generic_to_shared(tile + 4 * t);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, SIZE;"
               :: "r"(to), "l"(x + 4 * t), "r"(t < 30 ? 16 : NONE) : "memory");
  COMMIT
  WAIT
  __syncwarp();
  for (int j = 0; j < 4; j++) y[4 * t + j] = tile[(4 * t + j) ^ 32];
}"""


def copy(
    size: str = "%2", commit: bool = True, wait: str = "wait_group 0", none: int = 0
) -> np.ndarray:
    text = COPY.replace("SIZE", size).replace("NONE", str(none))
    text = text.replace("COMMIT", 'asm volatile("cp.async.commit_group;");' if commit else "")
    text = text.replace("WAIT", f'asm volatile("cp.async.{wait};" ::: "memory");' if wait else "")
    x, y = np.arange(120, dtype=np.float32), lanes(128)
    cuda(text).launch("k", (1,), (32,), [x, y])
    return y


def test_what_a_copy_will_replace_may_not_be_read():
    text = """extern "C" __global__ void k(const float* x, float* y) {
      __shared__ __align__(16) float tile[4];
      for (int j = 0; j < 4; j++) tile[j] = 1;
      unsigned to = (unsigned)__cvta_generic_to_shared(tile);
      y[0] = tile[3];
      asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" :: "r"(to), "l"(x) : "memory");
      y[1] = tile[3];
    }"""
    with pytest.raises(PtxError, match=r"cu:7: reads 4 bytes that were never written: byte 12"):
        cuda(text).launch("k", (1,), (1,), [np.ones(4, np.float32), lanes(2)])


def test_asynchronous_copies_arrive_when_they_are_waited_for():
    right = np.where(np.arange(128) < 120, np.arange(128), 0)[np.arange(128) ^ 32]
    for wait in ("wait_group 0", "wait_all"):
        assert copy(wait=wait).tolist() == right.tolist()
    assert copy(commit=False, wait="wait_all").tolist() == right.tolist()


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ({"wait": ""}, "reads 4 bytes that were never written: byte 128 of shared"),
        ({"wait": "wait_group 1"}, "never written"),
        ({"commit": False}, "never written"),
        ({"none": 20}, "asks for more than its 16 bytes"),
        ({"none": 4}, "reads 4 bytes outside its memory: byte 480 of array 0"),
        # An operand left out: what must not be read is read.
        ({"size": "16"}, r"cu:6: reads 16 bytes outside its memory: byte 480 of array 0"),
    ],
)
def test_faults_of_asynchronous_copies(how, what):
    with pytest.raises(PtxError, match=what):
        copy(**how)


MATRIX = """__device__ unsigned at(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
extern "C" __global__ void k(const unsigned short* a, const unsigned short* b, const float* c,
                             float* d) {
  __shared__ __align__(16) unsigned short A[16][16], B[8][16];
  int t = threadIdx.x, g = t / 4, q = t % 4;
  for (int i = t; i < 256; i += 32) A[i / 16][i % 16] = a[i];
  for (int i = t; i < 128; i += 32) B[i / 16][i % 16] = b[i];
  __syncwarp();
  unsigned x[4], y[2];
  float z[4] = {c[8 * g + 2 * q], c[8 * g + 2 * q + 1],
                c[8 * (g + 8) + 2 * q], c[8 * (g + 8) + 2 * q + 1]};
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
    : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(at(&A[t % 16][8 * (t / 16)])));
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
    : "=r"(y[0]), "=r"(y[1]) : "r"(at(&B[t % 8][8 * (t / 8 % 2)])));
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
    "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
    : "+f"(z[0]), "+f"(z[1]), "+f"(z[2]), "+f"(z[3])
    : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
  d[8 * g + 2 * q] = z[0];
  d[8 * g + 2 * q + 1] = z[1];
  d[8 * (g + 8) + 2 * q] = z[2];
  d[8 * (g + 8) + 2 * q + 1] = z[3];
}"""


def product(rng, text: str, kind: str = "bf16") -> tuple[np.ndarray, np.ndarray]:
    """(what the machine computes, A B^T + C) for whole numbers, exact in any order."""
    a, b = rng.integers(-8, 9, (16, 16)), rng.integers(-8, 9, (8, 16))
    c, d = np.float32(rng.integers(-9, 9, (16, 8))), lanes(128)

    def packed(x: np.ndarray) -> np.ndarray:
        if kind == "f16":
            return x.astype(np.float16).view(np.uint16)
        return (np.float32(x).view(np.uint32) >> 16).astype(np.uint16)

    cuda(text).launch("k", (1,), (32,), [packed(a), packed(b), c, d])
    return d.reshape(16, 8), np.float32(a @ b.T) + c


@pytest.mark.parametrize("kind", ["bf16", "f16"])
def test_matrix_product(rng, kind):
    found, right = product(rng, MATRIX.replace("bf16.bf16", f"{kind}.{kind}"), kind)
    assert np.array_equal(found, right)


def test_matrix_product_in_tf32(rng):
    text = """extern "C" __global__ void k(const float* a, const float* b, float* d) {
      int t = threadIdx.x, g = t / 4, q = t % 4;
      unsigned x[4] = {__float_as_uint(a[8 * g + q]), __float_as_uint(a[8 * (g + 8) + q]),
                       __float_as_uint(a[8 * g + q + 4]), __float_as_uint(a[8 * (g + 8) + q + 4])};
      unsigned y[2] = {__float_as_uint(b[8 * g + q]), __float_as_uint(b[8 * g + q + 4])};
      float z[4] = {0, 0, 0, 0};
      asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(z[0]), "+f"(z[1]), "+f"(z[2]), "+f"(z[3])
        : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
      for (int j = 0; j < 4; j++) d[8 * (g + j / 2 * 8) + 2 * q + j % 2] = z[j];
    }"""
    a, b = np.float32(rng.integers(-99, 99, (16, 8))), np.float32(rng.integers(-99, 99, (8, 8)))
    d = lanes(128)
    cuda(text).launch("k", (1,), (32,), [a, b, d])
    assert np.array_equal(d.reshape(16, 8), a @ b.T)
    # The lowest 13 bits of a factor are not looked at.
    cuda(text).launch("k", (1,), (32,), [a * np.float32(1 + 2**-20), b, d])
    assert np.array_equal(d.reshape(16, 8), a @ b.T)


FAULTS = {
    "a in another order": ("{%4,%5,%6,%7}, {%8", "{%4,%6,%5,%7}, {%8"),
    "b swapped": ("{%8,%9}", "{%9,%8}"),
    "accumulators swapped": ("{%0,%1,%2,%3};", "{%1,%0,%2,%3};"),
    "result to others than the sum": ('"{%0,%1,%2,%3}, {%4', '"{%2,%3,%0,%1}, {%4'),
    "ldmatrix transposed": ("m8n8.x4.shared", "m8n8.x4.trans.shared"),
    "ldmatrix registers": ("b16 {%0,%1,%2,%3}, [", "b16 {%0,%2,%1,%3}, ["),
    "ldmatrix of the wrong rows": ("&A[t % 16][8 * (t / 16)]", "&A[t % 8][8 * (t / 16)]"),
    "another type": ("bf16.bf16", "f16.f16"),
    "sum not read": ('"+f"(z[0]), "+f"(z[1])', '"=f"(z[0]), "=f"(z[1])'),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_operands_of_inline_assembly_are_seen(rng, fault):
    assert FAULTS[fault][0] in MATRIX
    found, right = product(rng, MATRIX.replace(*FAULTS[fault]))
    assert not np.array_equal(found, right)


def test_faults_of_matrix_loads_are_reported(rng):
    for old, new, what in (
        ("&A[t % 16][8 * (t / 16)]", "&A[t % 16][4 * (t / 16)]", "no multiple of 16"),
        ("&B[t % 8][8 * (t / 8 % 2)]", "&B[t % 8 + 3][8 * (t / 8 % 2)]", "outside its memory"),
        ("i < 128; i += 32) B", "i < 96; i += 32) B", r"cu:15: reads 16 bytes that were never"),
        ("m8n8.x4.shared.b16", "m8n8.x4.shared.b16 ", None),
    ):
        assert old in MATRIX
        if what is None:
            assert np.array_equal(*product(rng, MATRIX.replace(old, new)))
            continue
        with pytest.raises(PtxError, match=what):
            product(rng, MATRIX.replace(old, new))
