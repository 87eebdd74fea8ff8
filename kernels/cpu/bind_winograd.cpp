// bind_winograd.cpp: the ops of winograd.cpp for Python.
#include "arrays.h"

namespace unetcu {

void bind_winograd(py::module_&) {}

}  // namespace unetcu
