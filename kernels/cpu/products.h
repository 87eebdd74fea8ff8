// products.h: the functions of products.cpp (see isa.h).
#pragma once

#include "view.h"

#define UNETCU_PRODUCTS(OP)
