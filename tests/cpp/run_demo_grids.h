// run_demo_grids.h: cases that run_demo.cpp runs after its own.
#pragma once

#include "runner.h"

namespace ssd::test {

void add_good_grids(Runner& runner);
void add_faulty_grids(Runner& runner);

}  // namespace ssd::test
