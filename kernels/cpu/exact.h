// exact.h: the functions of exact.cpp (see isa.h).
#pragma once

#include "view.h"

#define UNETCU_EXACT(OP)
