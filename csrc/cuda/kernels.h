// The compiled kernels, for the bindings.
#pragma once

#include "launch.h"

namespace srfast {

enum class Type : int { half = 0, bfloat16 = 1 };

// All return the bytes of shared memory of a block, see `launch`.

// How a convolution is cut up; what exists is listed by `conv_variants`.
struct Variant {
    int block_c;  // input channels at a time; for narrow images 0
    int block_o;
    int kernel;  // 0: any
    int tile_h, tile_w;
    int pixel;   // elements of a narrow image's pixel, else 0
};

enum class FrameJob : int { packed_in = 0, packed_out = 1, yuv_in = 2, yuv_out = 3 };

template <class T>
int run_conv(const Variant& v, const ConvParams& p, const Queue& queue);
template <class T>
int run_pair(const PairParams& p, const Queue& queue);
// wide: strips of 32 columns, which need more shared memory, instead of 16.
template <class T>
int run_tail(const TailParams& p, bool wide, const Queue& queue);
template <class T>
int run_frames(FrameJob job, const FrameParams& p, const Queue& queue);

// Measurements of the GPU, see experiments.cuh: `rounds` reads of `bytes`.
int read_rate(const void* data, long long bytes, int rounds, int* sink, const Queue& queue);

}  // namespace srfast
