// bind_products.cpp: the ops of products.cpp for Python.
#include "arrays.h"

namespace unetcu {
namespace {

enum class Layer { conv1x1, upconv2 };

// x (N,H,W,C), w and y fit each other.
void check_shapes(Layer layer, const View& x, const py::array& w, const py::array& y) {
  const bool up = layer == Layer::upconv2;
  if (y.ndim() != 4) refuse("y", "must be (N,H,W,K)");
  const py::ssize_t K = y.shape(3), size = up ? 2 : 1;
  contiguous<const float>(y, "y", {x.N, size * x.H, size * x.W, K});
  if (up)
    contiguous<const float>(w, "w", {2, 2, x.C, K});
  else
    contiguous<const float>(w, "w", {x.C, K});
}

template <Layer layer>
void forward(const py::array& x, const py::array& w, const py::array& b, const py::array& y) {
  const View from = view(x, "x"), to = view(y, "y", true);
  check_shapes(layer, from, w, y);
  const float* weights = contiguous<const float>(w, "w");
  const float* bias = contiguous<const float>(b, "b", {to.C});
  const auto op = layer == Layer::upconv2 ? ops().upconv2_forward : ops().conv1x1_forward;
  const py::gil_scoped_release release;
  op(from, weights, bias, to);
}

template <Layer layer>
void backward_x(const py::array& dy, const py::array& w, const py::array& dx) {
  const View g = view(dy, "dy"), to = view(dx, "dx", true);
  check_shapes(layer, to, w, dy);
  const float* weights = contiguous<const float>(w, "w");
  const auto op = layer == Layer::upconv2 ? ops().upconv2_backward_x : ops().conv1x1_backward_x;
  const py::gil_scoped_release release;
  op(g, weights, to);
}

template <Layer layer>
void backward_w(const py::array& x, const py::array& dy, const py::array& dw, const py::array& db) {
  const View from = view(x, "x"), g = view(dy, "dy");
  check_shapes(layer, from, dw, dy);
  float *weights = contiguous<float>(dw, "dw"), *bias = contiguous<float>(db, "db", {g.C});
  const auto op = layer == Layer::upconv2 ? ops().upconv2_backward_w : ops().conv1x1_backward_w;
  const py::gil_scoped_release release;
  op(from, g, weights, bias);
}

}  // namespace

void bind_products(py::module_& module) {
  module.def("conv1x1_forward", &forward<Layer::conv1x1>, "x, w, b -> y.");
  module.def("conv1x1_backward_x", &backward_x<Layer::conv1x1>, "dy, w -> dx.");
  module.def("conv1x1_backward_w", &backward_w<Layer::conv1x1>, "x, dy -> dw, db.");
  module.def("upconv2_forward", &forward<Layer::upconv2>, "x, w, b -> y.");
  module.def("upconv2_backward_x", &backward_x<Layer::upconv2>, "dy, w -> dx.");
  module.def("upconv2_backward_w", &backward_w<Layer::upconv2>, "x, dy -> dw, db.");
}

}  // namespace unetcu
