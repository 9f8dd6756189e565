// Winograd transforms: Y = A^T [(G g G^T) * (B^T d B)] A (Lavin and Gray 2016, https://arxiv.org/abs/1509.09308).
// 3x3 kernels on tiles of 6x6 pixels at the points 0, +-3/4, +-3/2 and infinity, which err half as much as the usual
// 0, +-1, +-2; 5x5 kernels on rows of 8 pixels at 0, +-1/2, +-1, +-2 and infinity, in that direction only: with the few
// outputs that they have in practice, a transform in both directions costs more than it saves.
#pragma once

#include "multiply.h"

namespace {

constexpr int kStep = 4;  // pixels of a row of results that one tile gives

SRFAST_INLINE void transform_in(const Vec (&d)[6], Vec (&t)[6]) {
    const Vec a = Vec::set1(0.75f), b = Vec::set1(1.5f), a2 = Vec::set1(0.5625f), b2 = Vec::set1(2.25f);
    const Vec sum = Vec::set1(2.8125f), product = Vec::set1(1.265625f);  // of a2 and b2
    const Vec even_a = fnma(b2, d[2], d[4]), odd_a = fnma(b2, d[1], d[3]);
    const Vec even_b = fnma(a2, d[2], d[4]), odd_b = fnma(a2, d[1], d[3]);
    t[0] = fma(product, d[0], fnma(sum, d[2], d[4]));
    t[1] = fma(a, odd_a, even_a);
    t[2] = fnma(a, odd_a, even_a);
    t[3] = fma(b, odd_b, even_b);
    t[4] = fnma(b, odd_b, even_b);
    t[5] = fma(product, d[1], fnma(sum, d[3], d[5]));
}

SRFAST_INLINE void transform_out(const Vec (&m)[6], Vec (&y)[kStep]) {
    const Vec sum_a = m[1] + m[2], difference_a = m[1] - m[2], sum_b = m[3] + m[4], difference_b = m[3] - m[4];
    y[0] = m[0] + (sum_a + sum_b);
    y[1] = fma(Vec::set1(0.75f), difference_a, Vec::set1(1.5f) * difference_b);
    y[2] = fma(Vec::set1(0.5625f), sum_a, Vec::set1(2.25f) * sum_b);
    y[3] = fma(Vec::set1(0.421875f), difference_a, fma(Vec::set1(3.375f), difference_b, m[5]));
}

SRFAST_INLINE void transform_in(const Vec (&d)[8], Vec (&t)[8]) {
    const Vec half = Vec::set1(0.5f), two = Vec::set1(2.0f), quarter = Vec::set1(0.25f), four = Vec::set1(4.0f);
    const Vec c5 = Vec::set1(5.0f), c525 = Vec::set1(5.25f), c425 = Vec::set1(4.25f), c125 = Vec::set1(1.25f);
    const Vec even_a = fma(four, d[2], fnma(c5, d[4], d[6])), odd_a = fma(four, d[1], fnma(c5, d[3], d[5]));
    const Vec even_b = fnma(c425, d[4], d[2] + d[6]), odd_b = fnma(c425, d[3], d[1] + d[5]);
    const Vec even_c = fma(quarter, d[2], fnma(c125, d[4], d[6])), odd_c = fma(quarter, d[1], fnma(c125, d[3], d[5]));
    t[0] = fma(c525, d[2] - d[4], d[6] - d[0]);
    t[1] = fma(half, odd_a, even_a);
    t[2] = fnma(half, odd_a, even_a);
    t[3] = even_b + odd_b;
    t[4] = even_b - odd_b;
    t[5] = fma(two, odd_c, even_c);
    t[6] = fnma(two, odd_c, even_c);
    t[7] = fma(c525, d[3] - d[5], d[7] - d[1]);
}

SRFAST_INLINE void transform_out(const Vec (&m)[8], Vec (&y)[kStep]) {
    const Vec sum_a = m[1] + m[2], difference_a = m[1] - m[2], sum_b = m[3] + m[4], difference_b = m[3] - m[4];
    const Vec sum_c = m[5] + m[6], difference_c = m[5] - m[6];
    y[0] = (m[0] + sum_a) + (sum_b + sum_c);
    y[1] = fma(Vec::set1(0.5f), difference_a, fma(Vec::set1(2.0f), difference_c, difference_b));
    y[2] = fma(Vec::set1(0.25f), sum_a, fma(Vec::set1(4.0f), sum_c, sum_b));
    y[3] = fma(Vec::set1(0.125f), difference_a, fma(Vec::set1(8.0f), difference_c, difference_b)) + m[7];
}

// 9x9 kernels in thirds on tiles of 5x5 pixels, at 0, +-1, 2 and infinity.
SRFAST_INLINE void transform_in(const Vec (&d)[5], Vec (&t)[5]) {
    const Vec two = Vec::set1(2.0f), even = d[3] - d[2], odd = d[3] - d[1];
    t[0] = fma(two, d[0] - d[2], odd);
    t[1] = fnma(two, d[1], even);
    t[2] = fma(two, d[1] - d[2], even);
    t[3] = odd;
    t[4] = fnma(two, odd, d[4] - d[2]);
}

SRFAST_INLINE void transform_out(const Vec (&m)[5], Vec (&y)[3]) {
    const Vec sum = m[1] + m[2];
    y[0] = (m[0] + sum) + m[3];
    y[1] = fma(Vec::set1(2.0f), m[3], m[1] - m[2]);
    y[2] = fma(Vec::set1(4.0f), m[3], sum) + m[4];
}

// In both directions: one vector of channels of one tile, whose rows begin at rows[i] + offset; frequencies `Pitch` floats apart.
template <int Tile, int Pitch>
SRFAST_INLINE void tile_in(const float* const (&rows)[Tile], std::ptrdiff_t offset, std::ptrdiff_t channels,
                           float* to) {
    Vec t[Tile][Tile];
#pragma GCC unroll 8
    for (int i = 0; i < Tile; ++i) {
        Vec d[Tile];
#pragma GCC unroll 8
        for (int j = 0; j < Tile; ++j) d[j] = Vec::load(rows[i] + offset + j * channels);
        transform_in(d, t[i]);
    }
#pragma GCC unroll 8
    for (int j = 0; j < Tile; ++j) {
        Vec d[Tile], result[Tile];
#pragma GCC unroll 8
        for (int i = 0; i < Tile; ++i) d[i] = t[i][j];
        transform_in(d, result);
#pragma GCC unroll 8
        for (int i = 0; i < Tile; ++i) result[i].store(to + (i * Tile + j) * Pitch);
    }
}

// And back: one vector of outputs of one tile; gives store(row, column, value) the sums.
template <int Tile, int Step, int Pitch, class Store>
SRFAST_INLINE void tile_out(const float* from, Store store) {
    Vec t[Tile][Step];
#pragma GCC unroll 8
    for (int i = 0; i < Tile; ++i) {
        Vec m[Tile];
#pragma GCC unroll 8
        for (int j = 0; j < Tile; ++j) m[j] = Vec::load(from + (i * Tile + j) * Pitch);
        transform_out(m, t[i]);
    }
#pragma GCC unroll 4
    for (int x = 0; x < Step; ++x) {
        Vec m[Tile], y[Step];
#pragma GCC unroll 8
        for (int i = 0; i < Tile; ++i) m[i] = t[i][x];
        transform_out(m, y);
#pragma GCC unroll 4
        for (int i = 0; i < Step; ++i) store(i, x, y[i]);
    }
}

}  // namespace
