// products.h: the functions of products.cpp (see isa.h).
#pragma once

#include "view.h"

#define UNETCU_PRODUCTS(OP)                                                                   \
  OP(conv1x1_forward, void, (const View& x, const float* w, const float* b, const View& y))   \
  OP(conv1x1_backward_x, void, (const View& dy, const float* w, const View& dx))              \
  OP(conv1x1_backward_w, void, (const View& x, const View& dy, float* dw, float* db))         \
  OP(upconv2_forward, void, (const View& x, const float* w, const float* b, const View& y))   \
  OP(upconv2_backward_x, void, (const View& dy, const float* w, const View& dx))              \
  OP(upconv2_backward_w, void, (const View& x, const View& dy, float* dw, float* db))
