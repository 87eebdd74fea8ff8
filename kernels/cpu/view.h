// view.h: how the CPU's kernels see an NHWC array: a pointer, sizes and strides.
//
// Channels are contiguous; the other strides are free, in floats. A crop is a moved pointer, a
// slice of channels a smaller C: nothing is copied for either.
#pragma once

namespace unetcu {

struct View {
  float* data;
  int N, H, W, C;
  long n, h, w;  // floats from one image, row, pixel to the next

  float* at(int image, int row, int column) const {
    return data + image * n + row * h + column * w;
  }
};

}  // namespace unetcu
