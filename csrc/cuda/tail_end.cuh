// The end of a fused tail: taps of a row are added up, from neighbouring pixels of the sums in shared memory, and the few
// channels stored.
#pragma once

#include "pixels_end.cuh"

namespace srfast {

// The rows of a strip that count.
struct Band {
    int begin, end;
};

// Adds up the taps of a row and stores PIXELS pixels of a pass, whose first row is y0, from [PIXELS][64] float32. THREADS
// threads share the work; this one is number `index`.
template <class T, int COLUMNS, int PIXELS, int THREADS>
SRFAST_DEVICE void finish_part(const ConvParams& c, const Tile& t, const Band& band, int y0, uint32_t sums,
                               int index = thread()) {
    const Epilogue& e = c.end;
    const int useful = COLUMNS - c.kernel + 1, plane = e.channels / (e.shuffle * e.shuffle);
#pragma unroll 1
    for (int i = index; i < PIXELS / COLUMNS * useful * e.channels; i += THREADS) {
        const int o = i % e.channels, pixel = i / e.channels, row = pixel / useful, column = pixel % useful;
        const int y = y0 + row, x = t.x0 + column;
        if (y < band.begin || y >= band.end || x >= t.width) continue;
        float v = 0.f;
#pragma unroll 1
        for (int dx = 0, at = o; dx < c.kernel; ++dx, at += e.channels)
            v += as_float(lds32(sums + sums_at<64>(row * COLUMNS + column + dx, at / 8) + at % 8 * 4));
        v = rounded_product(activate(v + ldg_float(e.bias + o), ldg_float(e.slope + o), e.act), e.gain);
        const int phase = o / plane;
        store_value<T>(e, t.image, y * e.shuffle + phase / e.shuffle, x * e.shuffle + phase % e.shuffle,
                       o - phase * plane, v);
    }
}

// A convolution of 5x5 to 12 channels, shuffled by 2 to 3, with neither activation nor residual: the tail of the networks that
// enlarge by 2 or 4. Known sizes need no divisions; the arithmetic is that of finish_part.
inline bool few_of(const ConvParams& c) {
    return c.kernel == 5 && c.end.channels == 12 && c.end.shuffle == 2 && c.end.act == Act::none &&
           !c.end.residual.data;
}

// Stores the six values of output row PHASE, two pixels, that come of a pixel of the sums.
template <class T, int PHASE>
SRFAST_DEVICE void finish_six(const Epilogue& e, int image, int y, int x, int column, uint32_t sums) {
    float v[6] = {};
#pragma unroll
    for (int dx = 0; dx < 5; ++dx)
#pragma unroll
        for (int i = 0; i < 6; i += 2) {
            const int at = dx * 12 + PHASE * 6 + i;
            const Floats2 s = lds_floats2(sums + sums_at<64>(column + dx, at / 8) + at % 8 * 4);
            v[i] += s.lo;
            v[i + 1] += s.hi;
        }
#pragma unroll
    for (int i = 0; i < 6; ++i) v[i] = rounded_product(v[i] + ldg_float(e.bias + PHASE * 6 + i), e.gain);
    store_pixels<T>(e, offset_of(e.out, image, y * 2 + PHASE, x * 2, 0), v);
}

// The same as finish_part for what few_of says, of rows of WIDTH pixels of which `columns` count. For threads whose `index` is
// below 2 * PIXELS.
template <class T, int WIDTH, int PIXELS>
SRFAST_DEVICE void finish_few(const Epilogue& e, const Tile& t, const Band& band, int y0, int columns, uint32_t sums,
                              int index) {
    static_assert(PIXELS % 32 == 0 && WIDTH % 8 == 0, "a warp makes one of the two rows; rows of sums are alike");
    const int row = index % PIXELS / WIDTH, column = index % WIDTH, y = y0 + row, x = t.x0 + column;
    const uint32_t first = sums + row * WIDTH * 64 * 4;
    const int phase = uniform(index / PIXELS);  // an exchange between lanes: before some of them leave
    if (y < band.begin || y >= band.end || column >= columns || x >= t.width) return;
    if (phase)
        finish_six<T, 1>(e, t.image, y, x, column, first);
    else
        finish_six<T, 0>(e, t.image, y, x, column, first);
}

}  // namespace srfast
