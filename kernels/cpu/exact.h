// exact.h: the functions of exact.cpp (see isa.h).
#pragma once

#include "view.h"

#define UNETCU_EXACT(OP)                                                                      \
  OP(conv3x3_exact_forward, void,                                                             \
     (const View& x, const float* w, const float* b, const View& y, bool act))                \
  OP(conv3x3_exact_backward_x, void,                                                          \
     (const View& dy, const View& y, const float* w, const View& dx))                         \
  OP(conv3x3_exact_backward_w, void,                                                          \
     (const View& x, const View& dy, const View& y, float* dw, float* db))
