// The kernels of Hopper GPUs, for the bindings.
#pragma once

#include "kernels.h"

namespace srfast {

// How the window moves across the pixels, see conv_wgmma.cuh and conv_held.cuh. shifted and offset are two readings of what
// a matrix descriptor's base offset means where a matrix begins inside a swizzled tile; a GPU says which is right.
enum class Window : int { copied = 0, shifted = 1, held = 2, offset = 3 };

// rows: of a strip; blocks: of threads, at most; about one for each multiprocessor.
template <class T>
int run_conv_hopper(const ConvParams& p, Window window, int rows, int blocks, const Stream& stream);
// One of its forms; each is compiled in a source of its own.
template <class T, Window WINDOW>
int run_window(const ConvParams& p, int rows, int blocks, const Stream& stream);
template <class T>
int run_pair_hopper(const PairParams& p, int rows, int blocks, const Stream& stream);
template <class T>
int run_tail_hopper(const TailParams& p, const Stream& stream);
// In 8 bits, see conv_int8.cuh; of x 64 channels each.
template <class T>
int run_conv_int8(const Int8Params& p, int blocks, const Stream& stream);
template <class T>
int run_quantize(const QuantizeParams& p, const Stream& stream);

// Measures wgmma m64nNk16, N = columns, 36 of them `rounds` times in two warpgroups of each block; `source` is 64 KB. held:
// weights in registers, 64 columns.
int matrix_rate_hopper(int columns, bool held, const void* source, int rounds, int blocks, const Stream& stream);

}  // namespace srfast
