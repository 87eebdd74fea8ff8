"""Compiles kernels/*.cu for the SIMT runtime, as shared objects that it loads.

    python -m unetcu.simtbuild FOLDER COMPILER      builds every kernel into FOLDER

CMake calls it so when the package is built; device/simt.py calls `module` for kernels that have
changed since, and for the modes that tests and profiles need. Standard library only.
"""

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .cache import load_or_make
from .errors import DeviceError, KernelError
from .kernel import HERE, KERNELS, simt_unit, stems

BUILT = HERE / "_kernels"  # what came with the package
COMMON = ["-std=c++17", "-fPIC", "-ffp-contract=fast", "-fno-math-errno", "-Wno-unknown-pragmas"]
# The runtime then places a kernel's __shared__ variables, which are thread-local, itself.
LINK = ["-shared", *(["-Wl,--wrap=__tls_get_addr"] if sys.platform == "linux" else [])]
MODES = {
    "fast": ["-O2", "-fno-trapping-math"],
    # Every load and store calls __tsan_readN or __tsan_writeN, and what C++ leaves undefined calls
    # __ubsan_handle_..., which are ours (simt/tsan.cpp). No -ftree-sra: it would split a float4.
    # DWARF 4: of version 5, addr2line of binutils 2.40 takes the wrong file name after a #line.
    "checked": [
        *("-O1", "-g1", "-gdwarf-4", "-fno-tree-sra"),
        "-fsanitize=thread,bounds,shift,signed-integer-overflow,integer-divide-by-zero",
    ],
    "profile": [
        *("-O1", "-g1", "-gdwarf-4", "-fno-tree-sra", "-fsanitize=thread", "-DSIMT_PROFILE"),
    ],
}


def flags(mode: str) -> list[str]:
    """The compiler's options for a mode. GPUs have fused multiply-add and half floats: so x86
    code may use them too; the runtime refuses to load it on a CPU that has none."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return [*COMMON, *(["-mavx2", "-mfma", "-mf16c"] if x86 else []), *MODES[mode]]


@functools.cache
def name_of(text: str, unit: str, mode: str) -> str:
    """The module's file name without its ending: new whenever it must be compiled anew."""
    headers = [f.read_text("utf-8") for f in sorted((KERNELS / "simt").glob("*.h"))]
    seen = "\0".join([text, *headers, *flags(mode), *LINK])
    return f"{re.sub('[/:]', '-', unit)}-{mode}-{hashlib.sha256(seen.encode()).hexdigest()[:20]}"


def module(unit: str, mode: str = "fast", text: str | None = None) -> Path:
    """A compiled unit (kernel.py): from the package, from the cache, or compiled now.

    text: a translation unit to use instead of that file's (tests change kernels and compile them).
    Raises DeviceError where a compiler is needed and none is found, KernelError where it fails.
    """
    text = simt_unit(unit) if text is None else text
    name = name_of(text, unit, mode)
    ready = BUILT / f"{name}.so"
    if ready.is_file():
        return ready
    return load_or_make(name, ".so", lambda: compiled(text, mode, compiler()))


def compiler() -> str:
    """The C++ compiler's path: $CXX, c++, g++ or clang++."""
    for candidate in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if candidate and (found := shutil.which(candidate)):
            return found
    raise DeviceError(
        "the simt device must compile a kernel and finds no C++ compiler; install one (for "
        "example g++), or set CXX to it"
    )


def compiled(text: str, mode: str, program: str) -> bytes:
    """The shared object of one translation unit."""
    with tempfile.TemporaryDirectory() as scratch:
        unit, made, library = (Path(scratch, f"unit.{end}") for end in ("cpp", "o", "so"))
        unit.write_text(text, "utf-8")
        # Two steps: linking with -fsanitize=thread would bring the real sanitizer in.
        steps = [
            [*flags(mode), f"-I{KERNELS / 'simt'}", "-c", str(unit), "-o", str(made)],
            [*LINK, str(made), "-o", str(library)],
        ]
        if sys.platform == "darwin":
            steps[1] += ["-undefined", "dynamic_lookup"]
        for step in steps:
            done = subprocess.run([program, *step], capture_output=True, text=True)
            if done.returncode:
                complaint = next((s for s in done.stderr.splitlines() if "error" in s), done.stderr)
                raise KernelError(f"{program} cannot compile a kernel: {complaint.strip()}")
        return library.read_bytes()


def build_all(into: Path, program: str) -> None:
    """Every kernel, in the fast mode, into a folder; older versions of them are removed."""
    into.mkdir(parents=True, exist_ok=True)

    def build(stem: str) -> Path:
        text = simt_unit(stem)
        target = into / f"{name_of(text, stem, 'fast')}.so"
        if not target.is_file():
            part = target.with_suffix(".part")
            part.write_bytes(compiled(text, "fast", program))
            part.replace(target)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = set(pool.map(build, stems()))
    for old in set(into.glob("*.so")) - made:
        old.unlink()


if __name__ == "__main__":
    build_all(Path(sys.argv[1]), sys.argv[2])
