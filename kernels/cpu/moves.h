// moves.h: the functions of moves.cpp (see isa.h).
#pragma once

#include "view.h"

#define UNETCU_MOVES(OP) OP(fill, void, (float* y, long count, float value))
