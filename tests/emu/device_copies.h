// device_copies.h: CUDA's asynchronous copies, as kernels call them. copies.cpp says when their bytes arrive.
#pragma once

#include <cstddef>

void __pipeline_memcpy_async(void* shared, const void* global, std::size_t bytes, std::size_t zeros = 0);
void __pipeline_commit();
void __pipeline_wait_prior(std::size_t batches);
