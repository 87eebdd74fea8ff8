// loss.h: the functions of loss.cpp (see isa.h).
#pragma once

#include "view.h"

#define UNETCU_LOSS(OP)
