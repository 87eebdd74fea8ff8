// bind_optim.cpp: the optimizers of optim.cpp for Python. All arrays are flat and of one size.
#include "arrays.h"

namespace unetcu {
namespace {

void sgd(const py::array& p, const py::array& g, const py::array& v, float lr, float momentum) {
  const py::ssize_t count = p.size();
  float *values = contiguous<float>(p, "p", {count}), *velocity = contiguous<float>(v, "v", {count});
  const float* gradients = contiguous<const float>(g, "g", {count});
  const py::gil_scoped_release release;
  ops().sgd(values, gradients, velocity, long(count), lr, momentum);
}

void adamw(const py::array& p, const py::array& g, const py::array& m, const py::array& s,
           float of_mean, float of_square, float square, float eps, float keep, float rate) {
  const py::ssize_t count = p.size();
  float *values = contiguous<float>(p, "p", {count}), *mean = contiguous<float>(m, "m", {count});
  float* squares = contiguous<float>(s, "s", {count});
  const float* gradients = contiguous<const float>(g, "g", {count});
  const py::gil_scoped_release release;
  ops().adamw(values, gradients, mean, squares, long(count), of_mean, of_square, square, eps, keep,
              rate);
}

void average(const py::array& a, const py::array& p, float share) {
  const py::ssize_t count = a.size();
  float* mean = contiguous<float>(a, "a", {count});
  const float* values = contiguous<const float>(p, "p", {count});
  const py::gil_scoped_release release;
  ops().average(mean, values, long(count), share);
}

}  // namespace

void bind_optim(py::module_& module) {
  module.def("sgd", &sgd, "A step of SGD with momentum: writes to p and v.");
  module.def("adamw", &adamw, "A step of AdamW: writes to p, m and s.");
  module.def("average", &average, "a += share (p - a).");
}

}  // namespace unetcu
