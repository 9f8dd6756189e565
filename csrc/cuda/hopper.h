// The kernels of Hopper GPUs, for the bindings.
#pragma once

#include "kernels.h"

namespace srfast {

// blocks: of threads, at most; about one for each multiprocessor.
template <class T>
int run_conv_hopper(const ConvParams& p, bool shifted, int rows, int blocks, const Queue& queue);

// Measures wgmma m64nNk16, N = columns, 36 of them `rounds` times in two warpgroups of each block; `source` is 64 KB.
int matrix_rate_hopper(int columns, const void* source, int rounds, int blocks, const Queue& queue);

}  // namespace srfast
