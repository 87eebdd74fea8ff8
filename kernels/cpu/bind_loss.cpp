// bind_loss.cpp: the ops of loss.cpp for Python.
#include "arrays.h"

namespace unetcu {

void bind_loss(py::module_&) {}

}  // namespace unetcu
