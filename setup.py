"""Builds the compiled modules with CMake; all else stands in pyproject.toml.

They are optional: unetcu._native, unetcu._simt and the kernels compiled for it. Where they cannot
be built, the build goes on without them and says so in one line: unetcu then runs on NumPy.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildNative(build_ext):
    """Hands all extensions to CMake at once, which also compiles the kernels for _simt."""

    def build_extensions(self) -> None:
        """Configures and builds; never fails for want of a compiler."""
        target = Path(self.get_ext_fullpath("unetcu._simt")).resolve()
        try:
            reason = cmake(target.parent, Path(self.build_temp).resolve() / "cmake")
        except OSError as error:
            reason = str(error)
        if reason:
            print(f"unetcu: compiled modules not built ({reason}); unetcu will run on NumPy.")

    def copy_extensions_to_source(self) -> None:
        """For an editable install: what was built goes into the checkout."""
        super().copy_extensions_to_source()
        inside = self.get_finalized_command("build_py").get_package_dir("unetcu")
        built, target = Path(self.build_lib, "unetcu", "_kernels"), Path(inside, "_kernels")
        shutil.rmtree(target, ignore_errors=True)  # kernels as they were before
        if built.is_dir():
            shutil.copytree(built, target)


def cmake(output: Path, build: Path) -> str:
    """Builds the module into `output`; returns the reason why not in a few words, or ""."""
    try:
        import pybind11
    except ImportError:
        return "pybind11 is missing"
    program = shutil.which("cmake")
    if program is None:
        return "CMake is missing"
    shutil.rmtree(build, ignore_errors=True)  # its cache names a build environment now gone
    build.mkdir(parents=True)
    configure = [
        *(program, "-S", str(ROOT), "-B", str(build)),
        *(["-G", "Ninja"] if shutil.which("ninja") else []),
        "-DCMAKE_BUILD_TYPE=Release",
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={output}",
        f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY_RELEASE={output}",
    ]
    for command in (configure, [program, "--build", str(build), "--config", "Release"]):
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        if done.returncode and "CMAKE_CXX_COMPILER" in done.stdout:
            return "no C++ compiler was found"
        if done.returncode:
            print(done.stdout)  # a compiler is there and fails: that is worth the whole story
            return "the compiler or the Python headers failed, see above"
    return ""


class BuildPython(build_py):
    """Also puts the CUDA sources into the package, where an installed unetcu looks for them."""

    def run(self) -> None:
        """As usual, then what is read at run time to unetcu/_kernels (not when editable)."""
        super().run()
        if self.editable_mode:
            return
        for source in sorted(ROOT.glob("kernels/**/*")):
            inside = source.relative_to(ROOT / "kernels")
            if source.suffix in (".cu", ".cuh", ".h", ".tsv") and inside.parts[0] != "cpu":
                target = Path(self.build_lib, "unetcu", "_kernels", inside)
                self.mkpath(os.fspath(target.parent))
                self.copy_file(os.fspath(source), os.fspath(target))


setup(
    ext_modules=[
        Extension("unetcu._native", sources=["kernels/cpu/native.cpp"], optional=True),
        Extension("unetcu._simt", sources=["kernels/simt/module.cpp"], optional=True),
    ],
    cmdclass={"build_ext": BuildNative, "build_py": BuildPython},
)
