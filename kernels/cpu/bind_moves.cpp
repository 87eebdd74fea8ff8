// bind_moves.cpp: the ops of moves.cpp for Python.
#include <pybind11/stl.h>

#include <optional>

#include "arrays.h"

namespace unetcu {
namespace {

using Shape = std::vector<py::ssize_t>;

Shape shape(const py::array& a) { return Shape(a.shape(), a.shape() + a.ndim()); }

// (N,H,W,C), or a line of what it should be.
Shape map(const py::array& a, const char* name) {
  if (a.ndim() != 4) refuse(name, "must be (N,H,W,C)");
  return shape(a);
}

// op(a, b, y, count) of three arrays of one shape.
template <class Op>
void three(const py::array& a, const py::array& b, const py::array& y, Op op) {
  const float* first = contiguous<const float>(a, "the first array");
  const float* second = contiguous<const float>(b, "the second array", shape(a));
  float* out = contiguous<float>(y, "the result", shape(a));
  const long count = long(a.size());
  const py::gil_scoped_release release;
  op(first, second, out, count);
}

void fill(const py::array& y, float value) {
  float* out = contiguous<float>(y, "y");
  const long count = long(y.size());
  const py::gil_scoped_release release;
  ops().fill(out, count, value);
}

void relu_forward(const py::array& x, const py::array& y) {
  const float* in = contiguous<const float>(x, "x");
  float* out = contiguous<float>(y, "y", shape(x));
  const long count = long(x.size());
  const py::gil_scoped_release release;
  ops().relu_forward(in, out, count);
}

void maxpool2_forward(const py::array& x, const py::array& y, const py::array& winner) {
  const Shape s = map(y, "y");
  const float* in = contiguous<const float>(x, "x", {s[0], 2 * s[1], 2 * s[2], s[3]});
  float* out = contiguous<float>(y, "y");
  std::uint8_t* number = contiguous<std::uint8_t>(winner, "winner", s);
  const py::gil_scoped_release release;
  ops().maxpool2_forward(in, out, number, long(s[0] * s[1]), long(s[2]), long(s[3]));
}

void maxpool2_backward(const py::array& dy, const py::array& winner,
                       const std::optional<py::array>& so_far, const py::array& dx) {
  const Shape s = map(dy, "dy"), whole{s[0], 2 * s[1], 2 * s[2], s[3]};
  const float* in = contiguous<const float>(dy, "dy");
  const std::uint8_t* number = contiguous<const std::uint8_t>(winner, "winner", s);
  const float* other = so_far ? contiguous<const float>(*so_far, "so_far", whole) : nullptr;
  float* out = contiguous<float>(dx, "dx", whole);
  const py::gil_scoped_release release;
  ops().maxpool2_backward(in, number, other, out, long(s[0] * s[1]), long(s[2]), long(s[3]));
}

// The skip map must have a border of a whole number of pixels around the other.
void check_crop(const Shape& skip, const Shape& x) {
  if (skip[0] != x[0] || skip[1] < x[1] || skip[2] < x[2])
    refuse("skip", "must be at least as large as x");
}

void crop_concat_forward(const py::array& skip, const py::array& x, const py::array& y) {
  const Shape s = map(skip, "skip"), c = map(x, "x");
  check_crop(s, c);
  const float* cut = contiguous<const float>(skip, "skip");
  const float* own = contiguous<const float>(x, "x");
  float* out = contiguous<float>(y, "y", {c[0], c[1], c[2], s[3] + c[3]});
  const py::gil_scoped_release release;
  ops().crop_concat_forward(cut, own, out, long(s[0]), long(s[1]), long(s[2]), long(s[3]),
                            long(c[1]), long(c[2]), long(c[3]));
}

void crop_concat_backward_skip(const py::array& dy, const py::array& dskip) {
  const Shape s = map(dskip, "dskip"), y = map(dy, "dy");
  check_crop(s, y);
  if (s[3] > y[3]) refuse("dskip", "has more channels than dy");
  const float* in = contiguous<const float>(dy, "dy");
  float* out = contiguous<float>(dskip, "dskip");
  const py::gil_scoped_release release;
  ops().crop_concat_backward_skip(in, out, long(s[0]), long(s[1]), long(s[2]), long(s[3]),
                                  long(y[1]), long(y[2]), long(y[3] - s[3]));
}

void crop_concat_backward_x(const py::array& dy, const py::array& dx) {
  const Shape c = map(dx, "dx"), y = map(dy, "dy");
  if (c[3] > y[3]) refuse("dx", "has more channels than dy");
  const float* in = contiguous<const float>(dy, "dy", {c[0], c[1], c[2], y[3]});
  float* out = contiguous<float>(dx, "dx");
  const py::gil_scoped_release release;
  ops().crop_concat_backward_x(in, out, long(c[0] * c[1] * c[2]), long(y[3] - c[3]), long(c[3]));
}

void dropout(const py::array& x, const py::array& y, std::uint32_t key, std::uint32_t step,
             std::uint32_t threshold, float scale) {
  const float* in = contiguous<const float>(x, "x");
  float* out = contiguous<float>(y, "y", shape(x));
  const long count = long(x.size());
  const py::gil_scoped_release release;
  ops().dropout(in, out, count, key, step, threshold, scale);
}

}  // namespace

void bind_moves(py::module_& module) {
  module.def("fill", &fill, "y[...] = value, for C-contiguous float32.");
  module.def("add", [](const py::array& a, const py::array& b, const py::array& y) {
    three(a, b, y, ops().add);
  }, "y = a + b, of one shape.");
  module.def("multiply", [](const py::array& a, const py::array& b, const py::array& y) {
    three(a, b, y, ops().multiply);
  }, "y = a * b, of one shape.");
  module.def("relu_forward", &relu_forward, "y = max(x, 0).");
  module.def("relu_backward", [](const py::array& dy, const py::array& y, const py::array& dx) {
    three(dy, y, dx, ops().relu_backward);
  }, "dx = dy where y > 0, else 0.");
  module.def("maxpool2_forward", &maxpool2_forward, "x -> y and winner, uint8.");
  module.def("maxpool2_backward", &maxpool2_backward, "dy, winner, so_far or None -> dx.");
  module.def("crop_concat_forward", &crop_concat_forward, "skip, x -> y.");
  module.def("crop_concat_backward_skip", &crop_concat_backward_skip, "dy -> dskip.");
  module.def("crop_concat_backward_x", &crop_concat_backward_x, "dy -> dx.");
  module.def("dropout", &dropout,
             "y = x scale where the word, of the Philox key and step, reaches the threshold.");
}

}  // namespace unetcu
