// Ends that know how many pixels of three channels they store: no divisions, and what is alike for all is done once.
#pragma once

#include "ending.cuh"
#include "epilogue.cuh"

namespace srfast {

// Stores COUNT / 3 neighbouring pixels of a row from element `offset` of the result on; the arithmetic is that of store_value.
template <class T, int COUNT>
SRFAST_DEVICE void store_pixels(const Epilogue& e, long long offset, float (&v)[COUNT]) {
    if (e.clamp)
#pragma unroll
        for (int i = 0; i < COUNT; ++i) v[i] = limit(v[i], e.low, e.high);
    if (e.out_type == OutType::same) {
        uint16_t* out = static_cast<uint16_t*>(e.out.data) + offset;
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
            out[i / 3 * e.out.pixel_stride + i % 3] = static_cast<uint16_t>(pack2<T>(v[i], 0.f));
        return;
    }
    bool whole = true;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) whole = whole && finite(v[i]);
    if (!whole) raise_flag(e.flag);
    if (e.out_type == OutType::uint8) {
        uint8_t* out = static_cast<uint8_t*>(e.out.data) + offset;
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
            out[i / 3 * e.out.pixel_stride + i % 3] =
                static_cast<uint8_t>(round_int(limit(v[i] * e.steps, 0.f, 255.f)));
    } else {
        uint16_t* out = static_cast<uint16_t*>(e.out.data) + offset;
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
            out[i / 3 * e.out.pixel_stride + i % 3] =
                static_cast<uint16_t>(round_int(limit(v[i] * e.steps, 0.f, 65535.f)));
    }
}

// A convolution to 48 channels, shuffled by 4 to 3, without activation; with a residual that is enlarged by as much, or none: the
// last one of networks that enlarge fourfold in one step.
inline bool phases_of(const Epilogue& e) {
    return e.channels == 48 && e.shuffle == 4 && e.act == Act::none && (!e.residual.data || e.residual_factor == 4);
}

// The same as finish_tile for what phases_of says, of [TILE_H * WIDTH][BO] sums, a pixel of them for each thread.
template <class T, int BO, int WIDTH>
SRFAST_DEVICE void finish_phases(const Epilogue& e, const Tile& t, uint32_t sums) {
    const int pixel = thread(), y = t.y0 + pixel / WIDTH, x = t.x0 + pixel % WIDTH;
    if (y >= t.height || x >= t.width) return;
    float added[3] = {};
    if (e.residual.data) {
        const uint16_t* from = static_cast<const uint16_t*>(e.residual.data) + offset_of(e.residual, t.image, y, x, 0);
#pragma unroll
        for (int c = 0; c < 3; ++c) added[c] = unpack2<T>(from[c]).lo;
    }
#pragma unroll
    for (int row = 0; row < 4; ++row) {
        float v[12];
#pragma unroll
        for (int i = 0; i < 12; i += 4) {
            const int at = row * 12 + i;
            const Words4 given = lds128(sums + sums_at<BO>(pixel, at / 8) + at % 8 * 4), bias = ldg128(e.bias + at);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                v[i + j] = rounded_product(as_float(given.w[j]) + as_float(bias.w[j]), e.gain);
                if (e.residual.data) v[i + j] = rounded_sum(v[i + j], added[(i + j) % 3]);
            }
        }
        store_pixels<T>(e, offset_of(e.out, t.image, y * 4 + row, x * 4, 0), v);
    }
}

}  // namespace srfast
