// loss.h: the functions of loss.cpp (see isa.h).
#pragma once

#include <cstdint>

#include "view.h"

#define UNETCU_LOSS(OP)                                                                       \
  OP(softmax_loss, double,                                                                    \
     (const float* z, const std::int32_t* t, const float* w, float* dz, long P, long K))      \
  OP(softmax_loss_wide, double,                                                               \
     (const float* z, const std::int64_t* t, const float* w, float* dz, long P, long K))      \
  OP(exponentials, void, (const float* x, float* y, long count))
