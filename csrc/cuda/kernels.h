// The compiled kernels, for the bindings.
#pragma once

#include "launch.h"

namespace srfast {

enum class DType : int { float16 = 0, bfloat16 = 1 };

// All return the bytes of shared memory of a block, see `launch`.

// How a convolution is cut up; what exists is listed by `conv_variants`.
struct Variant {
    int block_c;  // input channels at a time; of images of few channels 0
    int block_o;
    int kernel;  // 0: any
    int tile_h, tile_w;
    int pixel_stride;  // of an image of at most 8 channels, in elements; else 0
};

// Kernels of two fused convolutions: with mma.sync, or for Hopper. tail_wide: strips of 32 columns instead of 16.
enum class PairForm : int { pair = 0, pair_wgmma = 1 };
enum class TailForm : int { tail = 0, tail_wide = 1, tail_wgmma = 2 };
enum class FrameJob : int { packed_in = 0, packed_out = 1, yuv_in = 2, yuv_out = 3 };

template <class T>
int run_conv(const Variant& v, const ConvParams& p, const Stream& stream);
template <class T>
int run_pair(const PairParams& p, const Stream& stream);
// wide: strips of 32 columns, which need more shared memory, instead of 16.
template <class T>
int run_tail(const TailParams& p, bool wide, const Stream& stream);
template <class T>
int run_frames(FrameJob job, const FrameParams& p, const Stream& stream);

// Measurements of the GPU, see experiments.cuh: `rounds` reads of `bytes`.
int read_rate(const void* data, long long bytes, int rounds, int* sink, const Stream& stream);

}  // namespace srfast
