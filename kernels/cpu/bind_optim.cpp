// bind_optim.cpp: the ops of optim.cpp for Python.
#include "arrays.h"

namespace unetcu {

void bind_optim(py::module_&) {}

}  // namespace unetcu
