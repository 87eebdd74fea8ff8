// bind_products.cpp: the ops of products.cpp for Python.
#include "arrays.h"

namespace unetcu {

void bind_products(py::module_&) {}

}  // namespace unetcu
