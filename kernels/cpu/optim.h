// optim.h: the functions of optim.cpp (see isa.h).
#pragma once

#include "view.h"

#define UNETCU_OPTIM(OP)                                                                      \
  OP(sgd, void, (float* p, const float* g, float* v, long count, float lr, float momentum))   \
  OP(adamw, void,                                                                             \
     (float* p, const float* g, float* m, float* s, long count, float of_mean,                \
      float of_square, float square, float eps, float keep, float rate))                      \
  OP(average, void, (float* a, const float* p, long count, float share))
