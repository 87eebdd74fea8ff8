// winograd.h: the functions of winograd.cpp (see isa.h).
#pragma once

#include "view.h"

#define UNETCU_WINOGRAD(OP)
