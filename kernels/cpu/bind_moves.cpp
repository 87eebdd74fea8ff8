// bind_moves.cpp: the ops of moves.cpp for Python.
#include "arrays.h"

namespace unetcu {

void bind_moves(py::module_& module) {
  module.def("fill", [](const py::array& y, float value) {
    float* out = contiguous<float>(y, "y");
    const long count = long(y.size());
    const py::gil_scoped_release release;
    ops().fill(out, count, value);
  }, "y[...] = value, for C-contiguous float32.");
}

}  // namespace unetcu
