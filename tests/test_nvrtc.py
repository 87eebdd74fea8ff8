"""NVRTC through ctypes: text in, machine code out, errors with the kernel's own file and line."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from unetcu import cache
from unetcu.device import nvrtc
from unetcu.errors import DeviceError, KernelError

HALVE = """#line 1 "kernels/halve.cu"
// y = x / 2
extern "C" __global__ void halve(const float* __restrict__ x, float* __restrict__ y, int N) {
  int i = blockIdx.x * 256 + threadIdx.x;
  if (i < N) y[i] = x[i] / d;
}
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNETCU_CACHE", str(tmp_path / "cache"))


def halve(by: str = "2.0f") -> str:
    return HALVE.replace("/ d", "/ " + by)


def test_machine_code_is_for_the_architecture_asked_for():
    for number in (75, 90, 120):
        made = nvrtc.compiled(halve(), "halve.cu", f"sm_{number}")
        assert made.cubin[:4] == b"\x7fELF"
        assert struct.unpack_from("<H", made.cubin, 18) == (190,)  # EM_CUDA
        assert f".target sm_{number}" in made.ptx
        assert ".entry halve(" in made.ptx
        assert made.log == ""


def test_ptx_names_lines_of_the_kernel_and_no_folder():
    ptx = nvrtc.compiled(halve(), "halve.cu", "sm_80").ptx
    assert '.file\t1 "kernels/halve.cu"' in ptx
    store = next(i for i, s in enumerate(ptx.splitlines(), 1) if "st.global" in s)
    assert nvrtc.line_of(ptx, store) == "kernels/halve.cu:4"
    assert nvrtc.line_of(ptx, 1) == ""


def test_numbers_are_not_traded_for_speed():
    ptx = nvrtc.compiled(halve("x[i + 1] + sqrtf(x[i])"), "halve.cu", "sm_80").ptx
    assert "div.rn.f32" in ptx
    assert "sqrt.rn.f32" in ptx
    assert ".ftz" not in ptx
    assert "fma.rn.f32" in nvrtc.compiled(halve("1 * x[i] + x[i]"), "halve.cu", "sm_80").ptx


@pytest.mark.parametrize(
    ("mistake", "file", "line", "what"),
    [
        ("nothing", "kernels/halve.cu", 4, 'identifier "nothing" is undefined'),
        ('2;\n#line 30 "kernels/common.cuh"\nx[0] = 1', "kernels/common.cuh", 30, "modifiable"),
        ("2;\n#error no", "kernels/halve.cu", 5, "#error directive: no"),
        # Inline assembly is not NVRTC's: the assembler finds this, in a text we never see.
        ('2;\nasm volatile("hop.f32 %0;" ::"f"(y[i]))', "kernels/halve.cu", 5, "hop"),
    ],
)
def test_error_is_said_with_the_kernels_own_file_and_line(mistake, file, line, what):
    with pytest.raises(KernelError) as caught:
        nvrtc.compiled(halve(mistake), "halve.cu", "sm_80")
    message = str(caught.value)
    assert message.startswith(f"{file}:{line}: ")
    assert what in message
    assert "sm_80" in message
    assert "\n" not in message
    assert "\0" not in message
    assert len(caught.value.__notes__) == 1


def test_error_without_a_line_names_the_kernel():
    with pytest.raises(KernelError, match=r"^halve\.cu: .*gpu-architecture.* \(NVRTC, sm_12\)"):
        nvrtc.compiled(halve(), "halve.cu", "sm_12")
    large = "2; __shared__ float s[60000]; s[i] = x[i]; __syncthreads(); y[i] = s[9 * i]"
    with pytest.raises(KernelError, match=r"^halve\.cu: .*too much shared data"):
        nvrtc.compiled(halve(large), "halve.cu", "sm_80")


def test_warning_is_in_the_log():
    log = nvrtc.compiled(halve("2; int left = 3"), "halve.cu", "sm_80").log
    assert log.startswith('kernels/halve.cu(4): warning #177-D: variable "left"')


def test_options_reach_the_compiler():
    log = nvrtc.compiled(halve(), "halve.cu", "sm_80", ["--ptxas-options=-v"]).log
    assert "registers" in log


def test_cache_makes_each_text_once(monkeypatch):
    made = []
    real = nvrtc.compiled
    monkeypatch.setattr(nvrtc, "compiled", lambda *a: made.append(a) or real(*a))
    first = nvrtc.cubin(halve(), "kernels/halve.cu", "sm_80")
    assert first.read_bytes() == real(halve(), "kernels/halve.cu", "sm_80").cubin
    assert first.name.startswith("halve-sm_80-")
    assert first.suffix == ".cubin"
    assert nvrtc.cubin(halve(), "kernels/halve.cu", "sm_80") == first
    assert len(made) == 1
    others = {
        nvrtc.cubin(halve("4.0f"), "kernels/halve.cu", "sm_80"),
        nvrtc.cubin(halve(), "kernels/halve.cu", "sm_90"),
    }
    monkeypatch.setattr(nvrtc, "version", lambda: (12, 9))
    others.add(nvrtc.cubin(halve(), "kernels/halve.cu", "sm_80"))
    monkeypatch.setattr(nvrtc, "FLAGS", (*nvrtc.FLAGS, "-G"))
    others.add(nvrtc.cubin(halve(), "kernels/halve.cu", "sm_80"))
    assert len(others | {first}) == 5
    assert len(made) == 5


def test_cache_keeps_nothing_of_a_failure():
    with pytest.raises(KernelError):
        nvrtc.cubin(halve("nothing"), "kernels/halve.cu", "sm_80")
    assert list(cache.folder().iterdir()) == []


def test_gpu_gets_code_of_its_own_generation(monkeypatch):
    monkeypatch.setattr(nvrtc, "architectures", lambda: (75, 80, 86, 90, 100))
    monkeypatch.setattr(nvrtc, "version", lambda: (13, 0))
    found = {c: nvrtc.architecture_for(c) for c in (75, 80, 86, 87, 89, 90, 103)}
    assert found == {
        75: "sm_75",
        80: "sm_80",
        86: "sm_86",
        87: "sm_86",
        89: "sm_86",
        90: "sm_90",
        103: "sm_100",
    }
    with pytest.raises(DeviceError, match=r"capability 7\.0\) is too old for NVRTC 13\.0.*cuda12"):
        nvrtc.architecture_for(70)
    with pytest.raises(DeviceError, match=r"capability 12\.1\) is newer than NVRTC 13\.0"):
        nvrtc.architecture_for(121)


def test_what_it_can_do_is_known():
    assert nvrtc.version()[0] >= 12
    assert {75, 80, 86, 89, 90, 100, 120} <= set(nvrtc.architectures())


@pytest.mark.parametrize(
    "layout",
    ["cu13/lib/libnvrtc.so.13", "cuda_nvrtc/lib/libnvrtc.so.12", "cu14/lib/libnvrtc.so.14"],
)
def test_wheels_of_every_cuda_are_found_first(tmp_path, monkeypatch, layout):
    file = tmp_path / "nvidia" / layout
    file.parent.mkdir(parents=True)
    for name in (file.name, file.name.replace("nvrtc.so", "nvrtc.alt.so")):
        (file.parent / name).touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "none"))
    found = list(nvrtc.candidates())
    assert found[0] == str(file)
    assert not any("alt" in f for f in found)
    assert found[-3:] == ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]


def test_toolkit_is_found(tmp_path, monkeypatch):
    file = tmp_path / "lib64" / "libnvrtc.so.12"
    file.parent.mkdir()
    file.touch()
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert str(file) in nvrtc.candidates()


def test_without_nvrtc_the_line_to_type_is_said(monkeypatch, tmp_path):
    broken = tmp_path / "libnvrtc.so.13"
    broken.write_bytes(b"not a library")
    (tmp_path / "libnvrtc-builtins.so.13.0").write_bytes(b"nor this")
    monkeypatch.setattr(nvrtc, "candidates", lambda: iter([str(broken), "libnvrtc-none.so"]))
    nvrtc.library.cache_clear()
    try:
        with pytest.raises(DeviceError, match=r'pip install "unetcu\[cuda13\]"'):
            nvrtc.library()
    finally:
        nvrtc.library.cache_clear()


def test_it_loads_in_a_process_of_its_own():
    # Another library of the same process may have loaded what NVRTC looks for by name only.
    code = (
        "import sys; from unetcu.device import nvrtc; "
        "print(len(nvrtc.compiled(sys.argv[1], 'k.cu', 'sm_80').cubin), 'cupy' in sys.modules)"
    )
    root = Path(nvrtc.__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code, halve()], capture_output=True, text=True, check=True, cwd=root
    )
    size, cupy = done.stdout.split()
    assert int(size) > 1000
    assert cupy == "False"
