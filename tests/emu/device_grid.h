// device_grid.h: barriers beyond a block, and the wait for the previous kernel, as common/grid.cuh names them.
#pragma once

#include "emu/device_sync.h"

namespace emu {

void grid_barrier(Site site = Site::here());

void wait_for_predecessor();
void trigger_dependents();

void cluster_barrier(Site site = Site::here());
unsigned cluster_rank();
unsigned cluster_size();
void* shared_memory_of_block(void* mine, unsigned rank, Site site);

template <class T>
T* shared_of_block(T* mine, unsigned rank, Site site = Site::here()) {
  return static_cast<T*>(shared_memory_of_block(mine, rank, site));
}

}  // namespace emu
