"""NVRTC, NVIDIA's compiler as a library: CUDA C++ text in, machine code of one architecture out.

It needs neither a GPU nor a driver, so a machine without one can prove that every kernel compiles.
It is called by us and not through CuPy, whose own compilation flushes denormals (-ftz=true): on
every device a kernel computes the same numbers. ctypes and the standard library only.
"""

import ctypes
import functools
import hashlib
import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..cache import load_or_make
from ..errors import DeviceError, KernelError

# -lineinfo costs nothing at run time: tools and error messages can name lines of the .cu.
FLAGS = ("-std=c++17", "-lineinfo", "-ftz=false", "-prec-div=true", "-prec-sqrt=true")
INSTALL = 'pip install "unetcu[cuda13]"'  # the line to type, in every message
_FIRST_ERROR = re.compile(r"^(.+)\((\d+)\): (?:catastrophic )?error:? *(.*)", re.M)
_IN_PTX = re.compile(r"ptx input, line (\d+); error\s*: *(.*)")
_FOLDER = re.compile(r'(?<= ")[^"\n]*/(kernels/[^"\n]*(?="))')


class Compiled(NamedTuple):
    """Machine code, the PTX it was made from, and what the compiler had to say (warnings)."""

    cubin: bytes
    ptx: str
    log: str


def candidates() -> Iterator[str]:
    """Where NVRTC may be, the newest first: the wheels of pip, a toolkit, the system's loader."""
    try:
        spec = importlib.util.find_spec("nvidia")
    except ValueError:  # a broken package of that name
        spec = None
    wheels = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    # nvidia-cuda-nvrtc (CUDA 13 and on), nvidia-cuda-nvrtc-cu12
    found = [f for w in wheels for f in w.glob("cu[0-9]*/lib/libnvrtc.so.*")]
    found += [f for w in wheels for f in w.glob("cuda_nvrtc/lib/libnvrtc.so.*")]
    for root in (os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda"):
        if root:
            found += [f for d in ("lib64", "lib") for f in Path(root, d).glob("libnvrtc.so.*")]
    yield from map(str, found)
    yield from ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")


@functools.cache
def library() -> ctypes.CDLL:
    """NVRTC, loaded. Raises DeviceError with the line to type where there is none."""
    for path in candidates():
        # NVRTC looks for this part of itself by its bare name only: load it first.
        for part in sorted(Path(path).parent.glob("libnvrtc-builtins.so.*")) if "/" in path else ():
            try:
                ctypes.CDLL(str(part))
            except OSError:
                continue
        try:
            return ctypes.CDLL(path)
        except OSError:
            continue
    raise DeviceError(f"NVRTC, the compiler of CUDA kernels, was not found: {INSTALL}")


@functools.cache
def version() -> tuple[int, int]:
    """(major, minor) of NVRTC, for example (13, 0)."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


@functools.cache
def architectures() -> tuple[int, ...]:
    """The compute capabilities it compiles for: 75, 80, ..."""
    count = ctypes.c_int()
    _call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
    known = (ctypes.c_int * count.value)()
    _call("nvrtcGetSupportedArchs", known)
    return tuple(sorted(known))


def architecture_for(capability: int) -> str:
    """What to compile for on a GPU of this compute capability (90 is 9.0), such as "sm_90".

    Machine code runs on GPUs of the same first digit and the same or a higher second.
    Raises DeviceError for a GPU that this NVRTC is too new or too old for.
    """
    fitting = [a for a in architectures() if a // 10 == capability // 10 and a <= capability]
    if fitting:
        return f"sm_{max(fitting)}"
    shown, known = f"{capability // 10}.{capability % 10}", architectures()
    whole = "{}.{}".format(*version())
    if capability < known[0]:
        raise DeviceError(
            f"this GPU (compute capability {shown}) is too old for NVRTC {whole}; "
            'CUDA 12 may do: pip install "unetcu[cuda12]"'
        )
    raise DeviceError(f"this GPU (compute capability {shown}) is newer than NVRTC {whole} knows")


def compiled(source: str, name: str, arch: str, options: Sequence[str] = ()) -> Compiled:
    """Compile `source`, called `name` in messages where no #line says otherwise, for `arch`.

    arch: "sm_90" and the like; options: beside FLAGS. Raises KernelError with the file and line of
    the first error; the compiler's whole log is attached to it as a note.
    """
    program = ctypes.c_void_p()
    text = (source.encode(), name.encode(), 0, None, None)
    _call("nvrtcCreateProgram", ctypes.byref(program), *text)
    try:
        given = [o.encode() for o in (f"--gpu-architecture={arch}", *FLAGS, *options)]
        flags = (ctypes.c_char_p * len(given))(*given)
        code = library().nvrtcCompileProgram(program, len(given), flags)
        log = _text("nvrtcGetProgramLog", program)
        if code:
            raise _failure(code, log, source, name, arch)
        # Names from #line come out as if they were in the current folder, where nothing is.
        ptx = _FOLDER.sub(r"\1", _text("nvrtcGetPTX", program))
        return Compiled(_read("nvrtcGetCUBIN", program), ptx, log)
    finally:
        library().nvrtcDestroyProgram(ctypes.byref(program))


def cubin(source: str, name: str, arch: str) -> Path:
    """The file of machine code: from the user's cache folder, or compiled now."""
    key = cache_key(source, name, arch)
    return load_or_make(key, ".cubin", lambda: compiled(source, name, arch).cubin)


def cache_key(source: str, name: str, arch: str, options: Sequence[str] = ()) -> str:
    """The name in the cache of what is made from these: another one whenever it may differ."""
    seen = "\0".join([source, arch, *FLAGS, *options, *map(str, version())])
    return f"{Path(name).stem}-{arch}-{hashlib.sha256(seen.encode()).hexdigest()[:20]}"


def _failure(code: int, log: str, source: str, name: str, arch: str) -> KernelError:
    first, assembly = _FIRST_ERROR.search(log), _IN_PTX.search(log)
    if first:
        what = f"{first[1]}:{first[2]}: {first[3]}"
    elif assembly and arch.startswith("sm_"):  # inline assembly is looked at after NVRTC is done
        ptx = compiled(source, name, arch.replace("sm_", "compute_")).ptx
        what = f"{line_of(ptx, int(assembly[1])) or name}: {assembly[2]}"
    else:
        complaint = next((s for s in log.splitlines() if s.strip()), _name_of(code))
        what = f"{name}: {complaint.strip()}"
    error = KernelError(f"{what} (NVRTC, {arch})")
    error.add_note(log)
    return error


def line_of(ptx: str, number: int) -> str:
    """The line of the .cu, as "file:line", that line `number` of a PTX text comes from, or ""."""
    found = ""
    for line in ptx.splitlines()[:number]:
        if (place := re.match(r"\s*\.loc\s+(\d+) (\d+)", line)) and place[2] != "0":
            found = f"{place[1]}:{place[2]}"
    file, _, where = found.partition(":")
    name = re.search(rf'^\s*\.file\s+{file} "(.*?)"', ptx, re.M) if found else None
    return f"{name[1]}:{where}" if name else ""


def _text(function: str, program: ctypes.c_void_p) -> str:
    return _read(function, program).decode("utf-8", "replace").strip("\0\n\t ")


def _read(function: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _call(f"{function}Size", program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    _call(function, program, buffer)
    return buffer.raw


def _call(function: str, *args: object) -> None:
    code = getattr(library(), function)(*args)
    if code:
        raise DeviceError(f"{function} failed: {_name_of(code)}")


def _name_of(code: int) -> str:
    get = library().nvrtcGetErrorString
    get.restype = ctypes.c_char_p
    return get(code).decode()
