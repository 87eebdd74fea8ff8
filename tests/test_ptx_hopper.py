"""Hopper's instructions on the PTX machine, as ptx.cuh has them: TMA, mbarriers and wgmma. No
operand is wrong; and such a fault, or what is not waited for or fenced, is noticed."""

import numpy as np
import pytest
from ptxtools import cuda, lanes
from test_ptx_kernels import header

from unetcu.device.boxes import boxes
from unetcu.errors import KernelError
from unetcu.precision import stored

# All of it: C (64 x N) += A B^T, ROUNDS times of an A (64 x 64) and a B (N x 64) that come by TMA
# to the same place in shared memory, and once more of an A that threads have stored.
ROUNDS = 3
ALL = """
constexpr int N = %d, ROUNDS = %d;
constexpr bool AT = %d, BT = %d;
extern "C" __global__ void __launch_bounds__(384, 1) k(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, float* c) {
  char *A = dynamic_shared<char>(), *B = A + 64 * 128;
  Barrier *full = reinterpret_cast<Barrier*>(B + N * 128), *empty = full + 1;
  const int t = threadIdx.x;
  if (t == 0) {
    mbarrier_init(full, 1);
    mbarrier_init(empty, 4);
    show_mbarriers();
  }
  __syncthreads();
  if (t >= 128) {
    registers_down_to<40>();
    if (t > 128) return;
    for (int i = 0; i < ROUNDS; ++i) {
      mbarrier_wait(empty, (i + 1) & 1);
      mbarrier_expect(full, (64 + N) * 128);
      copy_box(A, a, full, 8, -1, i);
      for (int j = 0; j < N / 64; ++j)
        copy_box(B + j * 64 * 128, b, full, BT ? 8 + 64 * j : 8, -1, BT ? 1 : 4 * j + 1, i);
    }
    return;
  }
  registers_up_to<232>();
  float d[N / 2];
  for (int j = 0; j < N / 2; ++j) d[j] = 1.0f;
  wgmma_settle(d);  // or the compiler may set them behind the first wgmma_begin
  for (int i = 0; i < ROUNDS + 1; ++i) {
    if (i < ROUNDS) {
      mbarrier_wait(full, i & 1);
    } else {
      unsigned short* rows = reinterpret_cast<unsigned short*>(A);
      __syncthreads();
      for (int e = 0; e < 32; ++e) rows[32 * t + e] = t & 2 ? ONE : 0;
      show_to_wgmma();
      __syncthreads();
    }
    wgmma_begin();
    for (int k = 0; k < 4; ++k)
      MULTIPLY<AT, BT>(d, wgmma_factor(A + k * (AT ? 2048 : 32), 0, 1024),
                       wgmma_factor(B + k * (BT ? 2048 : 32), 64 * 128, 1024));
    wgmma_commit();
    wgmma_wait<0>();
    __syncwarp();
    if (t %% 32 == 0) mbarrier_arrive(empty);
  }
  wgmma_settle(d);
  for (int j = 0; j < N / 2; ++j)
    c[(t / 32 * 16 + t %% 32 / 4 + j / 2 %% 2 * 8) * N + j / 4 * 8 + t %% 4 * 2 + j %% 2] = d[j];
}"""
# The product, its N, and which factor is turned: all products there are, all ways of each factor.
HOW = [
    ("bf16", 128, 0, 1),
    ("f16", 64, 1, 0),
    ("bf16", 192, 1, 0),
    ("f16", 192, 0, 1),
    ("bf16", 64, 0, 0),
    ("f16", 128, 1, 1),
]


def box(a: np.ndarray, *first: int, size: tuple[int, ...]) -> np.ndarray:
    """What lies from `first` on, the fastest index first; zeros outside."""
    wide = np.pad(a, [(1, 4)] * a.ndim)
    places = zip(first[::-1], size[::-1], strict=True)
    return wide[tuple(slice(f + 1, f + 1 + n) for f, n in places)]


def right(rng, text: str, kind: str, N: int, at: int, bt: int) -> bool:
    """Whether the kernel with `text` for ptx.cuh gives what is right."""
    a = rng.integers(-4, 5, (ROUNDS, 66, 80))
    b = rng.integers(-4, 5, (ROUNDS, 5 if bt else N // 16, 16, 8 + (N if bt else 64)))
    exact = np.ones((64, N))
    for i in range(ROUNDS + 1):
        A = box(a, 8, -1, i, size=(64, 64, 1))[0] if i < ROUNDS else np.arange(64)[:, None] % 2
        A = np.broadcast_to(A, (64, 64))
        place = [(8 + 64 * j, 1) if bt else (8, 4 * j + 1) for j in range(N // 64)]
        last = min(i, ROUNDS - 1)
        parts = [box(b, c, -1, z, last, size=(64, 16, 4, 1)).reshape(64, 64) for c, z in place]
        B = np.concatenate([p.T for p in parts] if bt else parts)
        exact += (A.T if at else A) @ B.T
    form = "uint16" if kind == "bf16" else "float16"
    a16, b16 = (stored(x.astype(np.float32), form).view(np.uint16) for x in (a, b))
    strides = [1, *np.cumprod(b.shape[:0:-1]).tolist()]
    maps = (
        boxes(a16, a.shape[::-1], (1, 80, 66 * 80), (64, 64, 1)),
        boxes(b16, b.shape[::-1], strides, (64, 16, 4, 1)),
    )
    body = (ALL % (N, ROUNDS, at, bt)).replace("MULTIPLY", f"wgmma_{kind}")
    body = body.replace("ONE", "0x3f80" if kind == "bf16" else "0x3c00")
    c = lanes(64 * N)
    cuda(f"{text}\n{body}", "sm_90a").launch("k", (1,), (384,), [*maps, c], (64 + N) * 128 + 16)
    return np.array_equal(c.reshape(64, N), exact)


def passes(rng, text: str) -> bool:
    """Whether a text in place of ptx.cuh is right wherever it is used."""
    try:
        return all(right(rng, text, *how) for how in HOW)
    except KernelError:
        return False


@pytest.mark.parametrize("how", HOW, ids=lambda how: "-".join(map(str, how)))
def test_instructions_of_ptx_cuh_for_hopper(rng, how):
    assert right(rng, header(), *how)


def without(instruction: str) -> tuple[str, str]:
    """The fault that it is left out."""
    start = header().index(f'asm volatile("{instruction}')
    return header()[start : header().index(";)", start) + 1], ""


FAULTS = {
    "mbarrier of other arrivals": ('"r"(arrivals)', '"r"(1)'),
    "mbarriers not shown": without("fence.mbarrier_init"),
    "no arrival": without("mbarrier.arrive.shared"),
    "bytes not expected": (
        "arrive.expect_tx.shared::cta.b64 _, [%0], %1",
        "arrive.shared.b64 _, [%0]",
    ),
    "fewer bytes expected": ('"r"(bytes)', '"r"(bytes - 128)'),
    "more bytes expected": ('"r"(bytes)', '"r"(bytes + 128)'),
    "waits once": ("@!done bra again;", ""),
    "waits for the other phase": ('"r"(parity)', '"r"(parity ^ 1)'),
    "3d: first two indices": ("{%3, %4, %5}]", "{%4, %3, %5}]"),
    "3d: last two indices": ("{%3, %4, %5}]", "{%3, %5, %4}]"),
    "4d: first two indices": ("{%3, %4, %5, %6}", "{%4, %3, %5, %6}"),
    "4d: middle indices": ("{%3, %4, %5, %6}", "{%3, %5, %4, %6}"),
    "4d: last two indices": ("{%3, %4, %5, %6}", "{%3, %4, %6, %5}"),
    "3d: target and mbarrier": ("[%0], [%1, {%3, %4, %5}], [%2]", "[%2], [%1, {%3, %4, %5}], [%0]"),
    "start in bytes": ("(at & 0x3ffff) >> 4", "(at & 0x3ffff)"),
    "start cut": ("0x3ffff", "0x1fff"),
    "leading for stride": ("(leading >> 4) << 16", "(leading >> 4) << 32"),
    "stride in bytes": ("(stride >> 4) << 32", "(stride) << 32"),
    "not swizzled": (" | 1ull << 62", ""),
    "swizzled by 64 bytes": ("1ull << 62", "2ull << 62"),
    "64: turned": ("1, 1, 1, %34, %35", "1, 1, 1, %35, %34"),
    "128: turned": ("1, 1, 1, %66, %67", "1, 1, 1, %67, %66"),
    "192: turned": ("1, 1, 1, %98, %99", "1, 1, 1, %99, %98"),
    "64: a is b": ("%32, %33, 1", "%33, %32, 1"),
    "128: not added": ("%65, 1, 1, 1", "%65, 0, 1, 1"),
    "192: negated": ("%97, 1, 1, 1", "%97, 1, 1, -1"),
    "sums swapped": (",%32,%33,%34,", ",%33,%32,%34,"),
    "bf16 for f16": ("F16, f16)", "F16, bf16)"),
    "no fence of sums": without("wgmma.fence"),
    "no group": without("wgmma.commit_group"),
    "no wait": without("wgmma.wait_group"),
    "waits for fewer": (
        ':: "n"(KEEP) : "memory");)\n  ON_HOST(simt::wgmma',
        ':: "n"(KEEP + 1) : "memory");)\n  ON_HOST(simt::wgmma',
    ),
    "not shown to wgmma": without("fence.proxy.async"),
    "registers up for down": ("setmaxnreg.dec", "setmaxnreg.inc"),
    "registers down for up": ("setmaxnreg.inc", "setmaxnreg.dec"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_operand_in_ptx_cuh_for_hopper_is_noticed(rng, fault):
    old, new = FAULTS[fault]
    assert old in header()
    assert not passes(rng, header().replace(old, new))


# What a kernel must not do, and what is said about it.
MISUSES = {
    "mbarriers are used at once": (
        "  __syncthreads();\n  if (t >= 128)", "  if (t >= 128)", "without a barrier since it was",
    ),
    "shown, but not met": (
        "show_to_wgmma();\n      __syncthreads();", "show_to_wgmma();", "and a barrier behind",
    ),
    "one warp does not multiply": (
        "wgmma_begin();", "if (t >= 96) continue;\n    wgmma_begin();", "waits for others",
    ),
    "half a warpgroup multiplies, the rest is gone": (
        "registers_up_to<232>();", "if (t >= 64) return;", "not all 128 threads are here",
    ),
    "warps multiply different factors": (
        "wgmma_factor(A", "wgmma_factor(A + t / 32 * 1024", "than the first thread of its warp",
    ),
    "sums are read too early": (
        "wgmma_wait<0>();", "c[t] = d[0];\n    wgmma_wait<0>();", "a sum of wgmma under way",
    ),
    "sums are set behind the fence": (
        "wgmma_begin();", "wgmma_begin();\n    d[0] = c[t] = i;", "since the last wgmma.fence",
    ),
    "a factor is overwritten": (
        "wgmma_wait<0>();", "A[t] = 1;\n    wgmma_wait<0>();", "product under way still needs",
    ),
    "a copy is overwritten": (
        "copy_box(A, a, full, 8, -1, i);", "copy_box(A, a, full, 8, -1, i);\n      A[9] = 1;",
        "a copy or a product under way still needs",
    ),
    "a copy is read too early": (
        "copy_box(A, a, full, 8, -1, i);", "copy_box(A, a, full, 8, -1, i);\n      c[0] = A[9];",
        "never written",
    ),
    "an mbarrier is overwritten": ("if (t > 128) return;", "*empty = 0;", "read-only"),
    "nobody waits for a copy": (
        "  wgmma_settle(d);\n  for", "  if (t == 0) {\n    mbarrier_expect(full, 8192);\n"
        "    copy_box(A, a, full, 0, 0, 0);\n  }\n  wgmma_settle(d);\n  for", "ends before copies",
    ),
    "nobody waits for a product": (
        "wgmma_wait<0>();", "if (i == ROUNDS) return;\n    wgmma_wait<0>();",
        "ends before products",
    ),
    "nobody gives up registers": ("registers_down_to<40>();", "", "waits for others .*setmaxnreg"),
}  # fmt: skip


@pytest.mark.parametrize("misuse", MISUSES)
def test_misuse_is_an_error(rng, misuse, monkeypatch):
    old, new, message = MISUSES[misuse]
    assert old in ALL
    monkeypatch.setitem(globals(), "ALL", ALL.replace(old, new))
    with pytest.raises(KernelError, match=message):
        right(rng, header(), "bf16", 64, 0, 0)
