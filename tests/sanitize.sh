#!/usr/bin/env bash
# Builds the CPU's own kernels with sanitizers of the compiler, which stop the process at the first
# fault, and runs the tests of these kernels with them:
#   tests/sanitize.sh [SET ...]            memory and undefined behaviour (ASan, UBSan)
#   tests/sanitize.sh --thread [SET ...]   races among the worker threads (TSan)
# SET: portable, avx2, avx512; without one, the best of this CPU. Works on a copy in a temporary
# folder. Needs GCC on Linux, with its libasan or libtsan, and pip install pybind11 cmake.
set -euo pipefail

kind=address,undefined runtime=asan
if [ "${1-}" = --thread ]; then
  kind=thread runtime=tsan
  shift
fi
library=$(c++ -print-file-name=lib$runtime.so)
[ -e "$library" ] || { echo "the compiler has no lib$runtime.so to load into Python"; exit 1; }

here=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r "$here/unetcu" "$here/tests" "$here/kernels" "$here/pyproject.toml" "$scratch"
rm -f "$scratch"/unetcu/*.so
cmake -S "$here" -B "$scratch/build" $(command -v ninja >/dev/null && echo "-G Ninja") \
  -DUNETCU_SANITIZE=$kind -DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$scratch/unetcu" \
  -DPython_EXECUTABLE="$(command -v python)" -Dpybind11_DIR="$(python -m pybind11 --cmakedir)"
cmake --build "$scratch/build" --target _native --parallel
grep -q "__${runtime}_init" "$scratch"/unetcu/_native*.so  # it is what was asked for

cd "$scratch"
# Every array a piece of its own, with the memory around it watched: not out of a region or an arena.
export UNETCU_BUFFERS=0 PYTHONMALLOC=malloc UNETCU_THREADS=4
# The sanitizer first, then the C++ library, which Python does not load: both watch what is thrown.
export LD_PRELOAD="$library $(c++ -print-file-name=libstdc++.so)"
export ASAN_OPTIONS=detect_leaks=0  # Python's own, at exit
export UBSAN_OPTIONS=print_stacktrace=1
# NumPy's BLAS is not instrumented; forked children start threads of their own.
export TSAN_OPTIONS=ignore_noninstrumented_modules=1:die_after_fork=0:halt_on_error=1
for isa in "${@:-}"; do
  export UNETCU_ISA=$isa
  printf '\n== %s: ' "$kind"
  python -c 'import unetcu._native as native; print(native.describe())'
  python -m pytest -q -p no:cacheprovider --capture=sys -k 'not simt and not cuda' \
    tests/ops tests/test_native*.py tests/test_optim*.py
done
