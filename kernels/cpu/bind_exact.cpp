// bind_exact.cpp: the ops of exact.cpp for Python.
#include "arrays.h"

namespace unetcu {
namespace {

// x (N,H,W,C), w (3,3,C,K) and y (N,H-2,W-2,K) fit each other.
void check_shapes(const View& x, const py::array& w, const View& y) {
  if (x.H < 3 || x.W < 3 || y.N != x.N || y.H != x.H - 2 || y.W != x.W - 2)
    refuse("y", "must be 2 rows and 2 columns smaller than x");
  contiguous<const float>(w, "w", {3, 3, x.C, y.C});
}

void forward(const py::array& x, const py::array& w, const py::array& b, const py::array& y,
             bool relu) {
  const View from = view(x, "x"), to = view(y, "y", true);
  check_shapes(from, w, to);
  const float* weights = contiguous<const float>(w, "w");
  const float* bias = contiguous<const float>(b, "b", {to.C});
  const py::gil_scoped_release release;
  ops().conv3x3_exact_forward(from, weights, bias, to, relu);
}

// The view of y that gates dy, or none.
View gate_view(const py::object& y, const View& dy) {
  if (y.is_none()) return View{};
  const View gate = view(y.cast<py::array>(), "y");
  if (gate.N != dy.N || gate.H != dy.H || gate.W != dy.W || gate.C != dy.C)
    refuse("y", "must have dy's shape");
  return gate;
}

void backward_x(const py::array& dy, const py::object& y, const py::array& w, const py::array& dx) {
  const View g = view(dy, "dy"), to = view(dx, "dx", true), gate = gate_view(y, g);
  check_shapes(to, w, g);
  const float* weights = contiguous<const float>(w, "w");
  const py::gil_scoped_release release;
  ops().conv3x3_exact_backward_x(g, gate, weights, to);
}

void backward_w(const py::array& x, const py::array& dy, const py::object& y, const py::array& dw,
                const py::array& db) {
  const View from = view(x, "x"), g = view(dy, "dy"), gate = gate_view(y, g);
  check_shapes(from, dw, g);
  float *weights = contiguous<float>(dw, "dw"), *bias = contiguous<float>(db, "db", {g.C});
  const py::gil_scoped_release release;
  ops().conv3x3_exact_backward_w(from, g, gate, weights, bias);
}

}  // namespace

void bind_exact(py::module_& module) {
  module.def("conv3x3_exact_forward", &forward, "x, w, b -> y, with ReLU if asked.");
  module.def("conv3x3_exact_backward_x", &backward_x, "dy, y or None, w -> dx.");
  module.def("conv3x3_exact_backward_w", &backward_w, "x, dy, y or None -> dw, db.");
}

}  // namespace unetcu
