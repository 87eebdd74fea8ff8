// moves.h: the functions of moves.cpp (see isa.h).
#pragma once

#include <cstdint>

#include "view.h"

#define UNETCU_MOVES(OP)                                                                     \
  OP(fill, void, (float* y, long count, float value))                                        \
  OP(add, void, (const float* a, const float* b, float* y, long count))                      \
  OP(multiply, void, (const float* a, const float* b, float* y, long count))                 \
  OP(relu_forward, void, (const float* x, float* y, long count))                             \
  OP(relu_backward, void, (const float* dy, const float* y, float* dx, long count))          \
  OP(maxpool2_forward, void,                                                                 \
     (const float* x, float* y, std::uint8_t* winner, long rows, long W, long C))            \
  OP(maxpool2_backward, void,                                                                \
     (const float* dy, const std::uint8_t* winner, const float* so_far, float* dx, long rows, \
      long W, long C))                                                                       \
  OP(crop_concat_forward, void,                                                              \
     (const float* skip, const float* x, float* y, long N, long Hs, long Ws, long S, long H, \
      long W, long C))                                                                       \
  OP(crop_concat_backward_skip, void,                                                        \
     (const float* dy, float* dskip, long N, long Hs, long Ws, long S, long H, long W, long C)) \
  OP(crop_concat_backward_x, void, (const float* dy, float* dx, long pixels, long S, long C)) \
  OP(dropout, void,                                                                          \
     (const float* x, float* y, long count, std::uint32_t key, std::uint32_t step,           \
      std::uint32_t threshold, float scale))
