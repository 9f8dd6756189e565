// Everything after the sums of a convolution: bias, activation, gain, residual, limits, shuffle and 16-byte stores.
//
// The sums go through shared memory as float32, so that a thread then has eight channels of a pixel: residual and result
// are 16-byte accesses, and this code exists once instead of once for each register.
#pragma once

#include "ptx.cuh"

namespace srfast {

// Byte offset of 16-byte chunk `chunk` of row `row`: rows of CHUNKS chunks, placed so that the eight rows that ldmatrix
// reads at a time lie in different banks.
template <int CHUNKS>
SRFAST_DEVICE uint32_t swizzled(int row, int chunk) {
    static_assert(CHUNKS == 1 || CHUNKS == 2 || CHUNKS == 4 || CHUNKS == 8, "rows of 16 to 128 bytes");
    return static_cast<uint32_t>((row * CHUNKS + (chunk ^ (row / (8 / CHUNKS) % CHUNKS))) * 16);
}

// Byte offset of the sums of a pixel's channels 8 * unit and on; [pixels][BO] float32.
template <int BO>
SRFAST_DEVICE uint32_t sums_at(int pixel, int unit) {
    constexpr int units = BO / 8, step = units < 4 ? 4 / units : 1;
    return static_cast<uint32_t>((pixel * units + (unit ^ (pixel / step % units))) * 32);
}

SRFAST_DEVICE float activate(float v, float slope, Act act) {
    if (act == Act::prelu) return v > 0.f ? v : v * slope;
    if (act == Act::sigmoid) return 1.f / (1.f + exp_fast(-v));
    if (act == Act::tanh) {
        const float small = exp_fast(v < 0.f ? v + v : -v - v), size = (1.f - small) / (1.f + small);
        return v < 0.f ? -size : size;
    }
    return v;
}

// act(sums + bias) of eight channels of a pixel.
template <int BO>
SRFAST_DEVICE void activated(float (&v)[8], uint32_t sums, int pixel, int unit, const float* bias, const float* slope,
                             Act act) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const Words4 given = lds128(sums + sums_at<BO>(pixel, unit) + half * 16);
        const Words4 b = ldg128(bias + half * 4), s = ldg128(slope + half * 4);
#pragma unroll
        for (int i = 0; i < 4; ++i)
            v[half * 4 + i] = activate(as_float(given.w[i]) + as_float(b.w[i]), as_float(s.w[i]), act);
    }
}

template <class T>
SRFAST_DEVICE Words4 pack8(const float (&v)[8]) {
    return {{pack2<T>(v[0], v[1]), pack2<T>(v[2], v[3]), pack2<T>(v[4], v[5]), pack2<T>(v[6], v[7])}};
}

SRFAST_DEVICE long long offset_of(const View& v, int image, int y, int x, int channel) {
    return image * v.image_stride + y * v.row_stride + static_cast<long long>(x) * v.pixel_stride + channel;
}

// A block's part of the image; `height` and `width` are the image's.
struct Tile {
    int image, y0, x0, height, width;
    int block_o;
};

// Eight channels that lie in one output pixel.
template <class T>
SRFAST_DEVICE void store_chunk(const Epilogue& e, int image, int y, int x, int channel, float (&v)[8]) {
    if (e.residual.data) {
        const Words4 r =
            ldg128_written(static_cast<const uint16_t*>(e.residual.data) + offset_of(e.residual, image, y, x, channel));
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const Floats2 f = unpack2<T>(r.w[i]);
            v[2 * i] = rounded_sum(v[2 * i], f.lo);
            v[2 * i + 1] = rounded_sum(v[2 * i + 1], f.hi);
        }
    }
    if (e.clamp)
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = limit(v[i], e.low, e.high);
    stg128(static_cast<uint16_t*>(e.out.data) + offset_of(e.out, image, y, x, channel), pack8<T>(v));
}

// One value of any kind, anywhere.
template <class T>
SRFAST_DEVICE void store_value(const Epilogue& e, int image, int y, int x, int channel, float v) {
    if (e.residual.data) {
        const uint16_t* source = static_cast<const uint16_t*>(e.residual.data);
        v = rounded_sum(
            v,
            unpack2<T>(source[offset_of(e.residual, image, y / e.residual_factor, x / e.residual_factor, channel)]).lo);
    }
    if (e.clamp) v = limit(v, e.low, e.high);
    const long long offset = offset_of(e.out, image, y, x, channel);
    if (e.out_type == OutType::same) {
        static_cast<uint16_t*>(e.out.data)[offset] = static_cast<uint16_t>(pack2<T>(v, 0.f));
        return;
    }
    if (!finite(v)) raise_flag(e.flag);
    const int steps = round_int(limit(v * e.steps, 0.f, e.out_type == OutType::uint8 ? 255.f : 65535.f));
    if (e.out_type == OutType::uint8)
        static_cast<uint8_t*>(e.out.data)[offset] = static_cast<uint8_t>(steps);
    else
        static_cast<uint16_t*>(e.out.data)[offset] = static_cast<uint16_t>(steps);
}

// The sums of a tile, [TILE_H * WIDTH][BO] in shared memory, to the result. Rows of sums are WIDTH pixels of which
// the first `columns` count, and `rows` of them. THREADS threads share the work; this one is number `index`.
template <class T, int BO, int WIDTH, int THREADS>
SRFAST_DEVICE void finish_tile(const Epilogue& e, const Tile& t, uint32_t sums, int rows, int columns,
                               int index = thread()) {
    constexpr int units = BO / 8;
    const int plane = e.channels / (e.shuffle * e.shuffle);
    const bool whole = e.out_type == OutType::same && plane % 8 == 0 && e.residual_factor == 1;
#pragma unroll 1
    for (int i = index; i < rows * WIDTH * units; i += THREADS) {
        const int pixel = i / units, unit = i % units, packed = t.block_o * BO + unit * 8;
        const int column = pixel % WIDTH, y = t.y0 + pixel / WIDTH, x = t.x0 + column;
        if (y >= t.height || x >= t.width || column >= columns || packed >= e.channels) continue;
        float v[8];
        activated<BO>(v, sums, pixel, unit, e.bias + packed, e.slope + packed, e.act);
#pragma unroll
        for (int c = 0; c < 8; ++c) v[c] = rounded_product(v[c], e.gain);
        if (whole) {
            const int phase = packed / plane;
            store_chunk<T>(e, t.image, y * e.shuffle + phase / e.shuffle, x * e.shuffle + phase % e.shuffle,
                           packed - phase * plane, v);
            continue;
        }
#pragma unroll 1
        for (int c = 0; c < 8 && packed + c < e.channels; ++c) {
            const int phase = (packed + c) / plane;
            store_value<T>(e, t.image, y * e.shuffle + phase / e.shuffle, x * e.shuffle + phase % e.shuffle,
                           packed + c - phase * plane, pick(v, c));
        }
    }
}

}  // namespace srfast
