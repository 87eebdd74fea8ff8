// bind_winograd.cpp: the fast 3x3 convolution for Python; the ops of winograd.cpp,
// winograd_weights.cpp and narrow.cpp, and one of exact.cpp.
#include <pybind11/stl.h>

#include <optional>

#include "arrays.h"

namespace unetcu {
namespace {

constexpr int FEW = 4;  // channels of x: up to here without Winograd
// Pixels of y, up to which the transforms of filters cost more than the tiles' products save, so that
// the plain sums of exact.cpp are faster: forward, as long as 9 WIDE channels of 16 filters stay in a
// core's cache, and for dw.
constexpr long SMALL = 16, WIDE = 512, SMALL_W = 36;

long pixels(const View& y) { return long(y.N) * y.H * y.W; }

using Shape = std::vector<py::ssize_t>;
using Maybe = std::optional<py::array>;

// x (N,H,W,C) and y (N,H-2,W-2,K), nothing empty.
void check_pair(const View& x, const View& y) {
  if (x.N != y.N || x.H != y.H + 2 || x.W != y.W + 2) refuse("x", "does not fit y");
  if (y.N < 1 || y.H < 1 || y.W < 1 || x.C < 1 || y.C < 1) refuse("x", "must not be empty");
}

void forward(const py::array& x, const py::array& w, const py::array& b, const py::array& y,
             bool relu) {
  const View from = view(x, "x"), to = view(y, "y", true);
  check_pair(from, to);
  const float* filters = contiguous<const float>(w, "w", Shape{3, 3, from.C, to.C});
  const float* bias = contiguous<const float>(b, "b", Shape{to.C});
  const py::gil_scoped_release release;
  if (from.C <= FEW)
    ops().narrow_forward(from, filters, bias, relu, to);
  else if (pixels(to) <= SMALL && from.C <= WIDE)
    ops().conv3x3_exact_forward(from, filters, bias, to, relu);
  else
    ops().winograd_forward(from, filters, bias, relu, to);
}

// The view of y that gates dy, or none.
View gate_view(const Maybe& y, const View& dy) {
  if (!y) return View{};
  const View gate = view(*y, "y");
  if (gate.N != dy.N || gate.H != dy.H || gate.W != dy.W || gate.C != dy.C)
    refuse("y", "has the wrong shape");
  return gate;
}

void backward_x(const py::array& dy, const Maybe& y, const py::array& w, const py::array& dx) {
  const View given = view(dy, "dy"), to = view(dx, "dx", true), gate = gate_view(y, given);
  check_pair(to, given);
  const float* filters = contiguous<const float>(w, "w", Shape{3, 3, to.C, given.C});
  const py::gil_scoped_release release;
  ops().winograd_backward_x(given, y ? &gate : nullptr, filters, to);
}

void backward_w(const py::array& x, const py::array& dy, const Maybe& y, const py::array& dw,
                const py::array& db) {
  const View from = view(x, "x"), given = view(dy, "dy"), gate = gate_view(y, given);
  check_pair(from, given);
  float* to_w = contiguous<float>(dw, "dw", Shape{3, 3, from.C, given.C});
  float* to_b = contiguous<float>(db, "db", Shape{given.C});
  const View* closes = y ? &gate : nullptr;
  const py::gil_scoped_release release;
  if (from.C <= FEW)
    ops().narrow_backward_w(from, given, closes, to_w, to_b);
  else if (pixels(given) <= SMALL_W)
    ops().conv3x3_exact_backward_w(from, given, gate, to_w, to_b);
  else
    ops().winograd_backward_w(from, given, closes, to_w, to_b);
}

}  // namespace

void bind_winograd(py::module_& module) {
  module.def("conv3x3_fast_forward", &forward,
             "x, w, b -> y, with ReLU if asked; x, y may be strided views.");
  module.def("conv3x3_fast_backward_x", &backward_x, "dy, y or None, w -> dx.");
  module.def("conv3x3_fast_backward_w", &backward_w, "x, dy, y or None -> dw, db.");
}

}  // namespace unetcu
