// The kernels of Hopper GPUs, for the bindings.
#pragma once

#include "kernels.h"

namespace srfast {

// How the window moves across the pixels, see conv_wgmma.cuh and conv_held.cuh.
enum class Window : int { copied = 0, shifted = 1, held = 2 };

// rows: of a strip; blocks: of threads, at most; about one for each multiprocessor.
template <class T>
int run_conv_hopper(const ConvParams& p, Window window, int rows, int blocks, const Queue& queue);
template <class T>
int run_pair_hopper(const PairParams& p, int rows, int blocks, const Queue& queue);
template <class T>
int run_tail_hopper(const TailParams& p, const Queue& queue);

// Measures wgmma m64nNk16, N = columns, 36 of them `rounds` times in two warpgroups of each block; `source` is 64 KB. held:
// weights in registers, 64 columns.
int matrix_rate_hopper(int columns, bool held, const void* source, int rounds, int blocks, const Queue& queue);

}  // namespace srfast
