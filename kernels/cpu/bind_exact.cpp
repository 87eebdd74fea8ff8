// bind_exact.cpp: the ops of exact.cpp for Python.
#include "arrays.h"

namespace unetcu {

void bind_exact(py::module_&) {}

}  // namespace unetcu
