// winograd.h: the functions of winograd.cpp, winograd_weights.cpp and narrow.cpp (see isa.h).
//
// gate: where given, an array like dy; dy counts only where gate > 0 (it is the output y of a
// convolution with ReLU). w, dw (3,3,C,K) and bias, db (K) are contiguous.
#pragma once

#include "view.h"

#define UNETCU_WINOGRAD(OP)                                                                       \
  OP(winograd_forward, void,                                                                      \
     (const View& x, const float* w, const float* bias, bool relu, const View& y))                \
  OP(winograd_backward_x, void,                                                                   \
     (const View& dy, const View* gate, const float* w, const View& dx))                          \
  OP(winograd_backward_w, void,                                                                   \
     (const View& x, const View& dy, const View* gate, float* dw, float* db))                     \
  OP(narrow_forward, void,                                                                        \
     (const View& x, const float* w, const float* bias, bool relu, const View& y))                \
  OP(narrow_backward_w, void,                                                                     \
     (const View& x, const View& dy, const View* gate, float* dw, float* db))
