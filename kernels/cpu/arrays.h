// arrays.h: NumPy arrays as the kernels see them; what does not fit is refused in one line.
//
// Every bind_NAME.cpp has one function, bind_NAME, which native.cpp calls. A bound function takes
// py::array (not py::array_t, which would copy what does not fit), turns each into pointers or
// views with the functions below, releases the GIL (py::gil_scoped_release) and calls ops().
#pragma once

#include <pybind11/numpy.h>

#include <string>
#include <vector>

#include "isa.h"

namespace unetcu {

namespace py = pybind11;

void bind_moves(py::module_&);
void bind_winograd(py::module_&);
void bind_exact(py::module_&);
void bind_products(py::module_&);
void bind_loss(py::module_&);
void bind_optim(py::module_&);

[[noreturn]] inline void refuse(const char* name, const std::string& why) {
  throw py::value_error(std::string(name) + " " + why);
}

// The data of a C-contiguous array of this type; T const: read only, else it must be writeable.
template <class T>
T* contiguous(const py::array& a, const char* name) {
  using Plain = std::remove_const_t<T>;
  if (!py::isinstance<py::array_t<Plain, py::array::c_style>>(a))
    refuse(name, "must be C-contiguous and of the right dtype");
  if constexpr (std::is_const_v<T>) {
    return static_cast<T*>(a.data());
  } else {
    if (!a.writeable()) refuse(name, "must be writeable");
    return static_cast<T*>(const_cast<void*>(a.data()));
  }
}

// The same, of this shape.
template <class T>
T* contiguous(const py::array& a, const char* name, const std::vector<py::ssize_t>& shape) {
  if (std::vector<py::ssize_t>(a.shape(), a.shape() + a.ndim()) != shape)
    refuse(name, "has the wrong shape");
  return contiguous<T>(a, name);
}

// A float32 array (N,H,W,C) with contiguous channels and any other strides.
inline View view(const py::array& a, const char* name, bool writes = false) {
  if (!py::isinstance<py::array_t<float>>(a)) refuse(name, "must be float32");
  if (a.ndim() != 4) refuse(name, "must be (N,H,W,C)");
  for (int i = 0; i < 4; i++)
    if (a.strides(i) % 4 || a.shape(i) > 1 << 30) refuse(name, "has strides or sizes too odd");
  if (a.size() && a.shape(3) > 1 && a.strides(3) != 4)
    refuse(name, "must have contiguous channels");
  if (writes && !a.writeable()) refuse(name, "must be writeable");
  float* data = static_cast<float*>(const_cast<void*>(a.data()));
  return {data, int(a.shape(0)), int(a.shape(1)), int(a.shape(2)), int(a.shape(3)),
          long(a.strides(0) / 4), long(a.strides(1) / 4), long(a.strides(2) / 4)};
}

}  // namespace unetcu
