// optim.h: the functions of optim.cpp (see isa.h).
#pragma once

#include "view.h"

#define UNETCU_OPTIM(OP)
