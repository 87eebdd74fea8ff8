// bind_loss.cpp: the ops of loss.cpp for Python.
#include "arrays.h"

namespace unetcu {
namespace {

double softmax_loss(const py::array& z, const py::array& t, const py::array& w,
                    const py::array& dz) {
  if (z.ndim() != 4 || z.shape(3) < 1) refuse("z", "must be (N,H,W,K)");
  const std::vector<py::ssize_t> whole(z.shape(), z.shape() + 4), pixels(z.shape(), z.shape() + 3);
  const float* logits = contiguous<const float>(z, "z");
  const float* weights = contiguous<const float>(w, "w", pixels);
  float* out = contiguous<float>(dz, "dz", whole);
  const long P = long(w.size()), K = long(whole[3]);
  if (py::isinstance<py::array_t<std::int32_t>>(t)) {
    const std::int32_t* labels = contiguous<const std::int32_t>(t, "t", pixels);
    const py::gil_scoped_release release;
    return ops().softmax_loss(logits, labels, weights, out, P, K);
  }
  const std::int64_t* labels = contiguous<const std::int64_t>(t, "t", pixels);
  const py::gil_scoped_release release;
  return ops().softmax_loss_wide(logits, labels, weights, out, P, K);
}

void exponentials(const py::array& x, const py::array& y) {
  const float* in = contiguous<const float>(x, "x");
  float* out = contiguous<float>(y, "y", {x.shape(), x.shape() + x.ndim()});
  ops().exponentials(in, out, long(x.size()));
}

}  // namespace

void bind_loss(py::module_& module) {
  module.def("softmax_loss", &softmax_loss,
             "z, t (int32 or int64), w -> dz; returns the loss, in double.");
  module.def("exponentials", &exponentials, "y = e^x: for its test.");
}

}  // namespace unetcu
