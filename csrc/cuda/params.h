// What the kernels are given: addresses, strides in elements, sizes. Plain data, the same on the host and on the GPU.
#pragma once

#include <cstdint>

namespace srfast {

// Tags of the two 16-bit types; values travel as their bits. Bytes: products of 8 bits.
struct Half {};
struct Bfloat16 {};
struct Bytes {};

// An image batch, channels side by side.
struct View {
    void* data;
    long long image_stride, row_stride;  // elements from one to the next
    int pixel_stride;
};

enum class Act : int { none = 0, prelu = 1, tanh = 2, sigmoid = 3 };
enum class OutType : int { same = 0, uint8 = 1, uint16 = 2 };

struct Epilogue {
    const float* bias;   // [blocks_o * BO]
    const float* slope;  // the same
    View residual;       // data null: none; enlarged residual_factor times by nearest neighbour
    View out;
    int* flag;  // set to 1 where an integer output is not finite
    Act act;
    OutType out_type;
    int channels;  // before the shuffle, in the order (row phase, column phase, channel)
    int shuffle;
    int residual_factor;
    int clamp;
    float gain, low, high;
    float steps;  // integer steps per unit
};

// clamp(shuffle(act(conv(x) + bias)) * gain + residual)
struct ConvParams {
    View x;
    const void* weight;  // [blocks_o][blocks_c][taps][BO][CB], each row's 16-byte chunks swizzled
    Epilogue end;
    int images, height, width;
    int kernel;
    int blocks_c;  // of CB input channels
    int in_channels;
    int tiles_y, tiles_x;
    int programmatic;  // launched before the kernel in front has ended (programmatic dependent launch)
};

// Values as bytes: round(255 * (value * gain + offset)), from 0 to 255; see bytes.cuh.
struct ByteView {
    View view;  // data null: none
    float gain, offset;
};

// What a convolution in 8 bits has beside ConvParams, whose x is then of bytes and whose weight of [blocks_o][18][128][16].
struct Int8Params {
    ConvParams conv;     // end.out without data: the result is wanted in bytes only
    const float* scale;  // [blocks_o * 64]: what a sum of an output channel is multiplied by
    const int* start;    // the same: sums begin there, which makes x less its zero of x
    int zero;            // of x
    ByteView bytes;      // the result once more
    int rows;            // of a strip
};

// 16-bit values to bytes.
struct QuantizeParams {
    View x;
    ByteView bytes;
    int images, height, width;
};

// Two convolutions, the first with bias and PReLU only.
struct PairParams {
    ConvParams second;  // x, images, height, width and tiles are those of the pair
    const void* first_weight;
    const float* first_bias;
    const float* first_slope;
};

// Two convolutions, the first of 3x3 and 64 channels with bias and PReLU, the second to few channels; see tail_mma.cuh.
struct TailParams {
    ConvParams
        second;  // x, images, height and width are the tail's; weight: [chunks][9 + kernel][64][64], both convolutions'
    const float* first_bias;
    const float* first_slope;
    int chunks;  // of 64 channels between the two
    int rows;    // that a strip makes
};

// Frames to an image of 16-bit values and back. With `chroma`: luma in `frame`, pairs (u, v) of half the size in `chroma`.
struct FrameParams {
    View frame, chroma;  // of uint8 or uint16
    View image;
    int wide;   // frames are uint16
    int shift;  // P010: the value is in the upper bits
    int images, height, width, channels;
    int swap;         // BGR frames
    float matrix[9];  // of what is converted, after the offset on the way in, before it on the way out
    float offset[3];
    float gain, peak;  // gain: of packed frames for each of their steps, of planes the image's white
    int* flag;
};

}  // namespace srfast
