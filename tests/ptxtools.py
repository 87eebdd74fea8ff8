"""Small PTX programs for tests: one instruction on every thread, or a kernel body; and numbers to
try instructions on."""

import numpy as np

from unetcu.device.nvrtc import compiled
from unetcu.provers.ptx import PtxModule

REGISTERS = """
.reg .pred %p<20>; .reg .b16 %h<20>; .reg .b32 %r<40>; .reg .b64 %rd<40>; .reg .f32 %f<20>;
.reg .f64 %d<20>;
"""


def program(body: str, arrays: int, outside: str = "") -> PtxModule:
    """A kernel k(pointers...): %rd0, %rd1, ... hold them; %r0 is threadIdx.x, %r1 blockIdx.x."""
    params = ", ".join(f".param .u64 k_{i}" for i in range(arrays))
    loads = "".join(f"ld.param.u64 %rd{i}, [k_{i}];\n" for i in range(arrays))
    return PtxModule(
        f".version 8.0\n.target sm_80\n.address_size 64\n{outside}\n"
        f".visible .entry k({params})\n{{\n{REGISTERS}{loads}"
        f"mov.u32 %r0, %tid.x;\nmov.u32 %r1, %ctaid.x;\n{body}\nret;\n}}\n"
    )


def one(instruction: str, out: str, *inputs: np.ndarray) -> np.ndarray:
    """The results of an instruction of {0} (result), {1}, {2}... on arrays of equal length.

    out: NumPy's name of the result's type; "bool" comes out as 0 and 1 (uint8).
    """
    names = {1: "%h", 2: "%h", 4: "%r", 8: "%rd"}
    result = np.empty(len(inputs[0]), np.uint8 if out == "bool" else out)
    registers, body = ["%p1" if out == "bool" else f"{names[result.itemsize]}9"], ""
    for i, a in enumerate(inputs):
        register = "%p2" if a.dtype == bool else f"{names[a.itemsize]}{10 + i}"
        raw = "%h19" if a.dtype == bool else register
        bits = 8 * a.itemsize
        body += (
            f"mul.wide.u32 %rd30, %r0, {a.itemsize}; add.u64 %rd31, %rd{i}, %rd30;\n"
            f"ld.global.{'u' if bits == 8 else 'b'}{bits} {raw}, [%rd31];\n"
        )
        body += f"setp.ne.u16 {register}, {raw}, 0;\n" if a.dtype == bool else ""
        registers.append(register)
    body += instruction.format(*registers) + ";\n"
    if out == "bool":
        body += "selp.u16 %h9, 1, 0, %p1;\n"
        registers[0] = "%h9"
    body += (
        f"mul.wide.u32 %rd30, %r0, {result.itemsize}; add.u64 %rd31, %rd{len(inputs)}, %rd30;\n"
        f"st.global.b{8 * result.itemsize} [%rd31], {registers[0]};\n"
    )
    whole = [np.ascontiguousarray(a) for a in inputs]
    # Bits, so that no value counts as never written.
    args = [a.view(f"u{a.itemsize}") for a in (*whole, result)]
    program(body, len(args)).launch("k", (1,), (len(result),), args)
    return result


def cuda(text: str, arch: str = "sm_80") -> PtxModule:
    """CUDA C++ through NVRTC; line 1 of "kernels/test.cu" is the first of `text`."""
    return PtxModule(compiled(f'#line 1 "kernels/test.cu"\n{text}', "test.cu", arch).ptx)


def lanes(count: int = 256) -> np.ndarray:
    """Places for one number a thread, as yet unwritten."""
    return np.full(count, 0xFFFFFFFF, np.uint32).view(np.float32)


# Where results change: zero, one, the ends of every type and their neighbours.
EDGES = [0, 1, 2, 3, 7, 8, 31, 32, 33, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31]
EDGES += [2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 0x12345678, 0x123456789ABCDEF0]
PTX = {"int16": "s16", "uint16": "u16", "int32": "s32", "uint32": "u32"}
PTX |= {"int64": "s64", "uint64": "u64", "float32": "f32", "float64": "f64"}
TYPES = list(PTX)[2:6]


def wholes(rng, kind: str, count: int = 400) -> np.ndarray:
    """Numbers of an integer type: half edges, half random."""
    raw = rng.integers(0, 2**64, count, np.uint64)
    raw[::2] = rng.choice(np.array(EDGES, np.uint64), len(raw[::2]))
    return raw.astype(f"u{np.dtype(kind).itemsize}").view(kind)


def floats(rng, count: int = 400) -> np.ndarray:
    """float32 of every size, with zeros, infinities, NaN and denormals."""
    raw = rng.integers(0, 2**32, count, np.uint32).view(np.float32)
    raw[np.isnan(raw)] = np.nan  # no signalling ones: NumPy warns
    raw[::4] = rng.standard_normal(len(raw[::4]))
    raw[1::8] = rng.choice(
        [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -3e-39, 1.0, 0.5, 2**31], count // 8
    )
    return raw


def wrapped(values: list[int], dtype) -> np.ndarray:
    """Python's whole numbers, cut to a type."""
    bits = 8 * np.dtype(dtype).itemsize
    raw = np.array([v % (1 << bits) for v in values], np.uint64)
    return raw.astype(f"u{bits // 8}").view(dtype)
