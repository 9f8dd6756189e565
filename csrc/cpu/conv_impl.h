// The kernels, for the vector type of the including source. Everything is in an unnamed namespace: two instruction sets
// must not share one inline function.
#pragma once

#include "conv.h"
#include "simd.h"

#include <cstring>

#define SRFAST_INLINE inline __attribute__((always_inline))

namespace {

using srfast::Conv;
using srfast::Image;
using srfast::kGroup;

constexpr int kStep = 4;  // rows and columns of the outputs of a tile

// How the Winograd kernels of one tile size go through memory. A block of tiles is transformed (`chunk` input channels at a
// time), multiplied and transformed back; all of that and the weights stay in the L2 cache.
template <int Tile>
struct Blocking {
    static constexpr int planes = Tile * Tile;                  // of transformed inputs
    static constexpr int products = Tile == 6 ? 36 : kStep * 8;  // planes of sums
    static constexpr int slices = Tile == 6 ? 36 : 40;          // of weights
    static constexpr int chunk = Tile == 6 ? 64 : 16;
    static constexpr int tiles = 24;
    // Odd in cache lines, so that the frequencies of a tile fall into different sets.
    static constexpr int pitch = tiles * chunk + 16;
    static constexpr int product_pitch = tiles * kGroup + 16;
};

constexpr int kPanel = Vec::width * Vec::columns;

// products[m][n] (+)= sum over k of a[m][k] b[k][n], every element in the order of k.
template <int M, int N>
SRFAST_INLINE void multiply(Vec (&acc)[M][N], const float* a, std::ptrdiff_t lda, int depth, const float* b) {
    for (int k = 0; k < depth; ++k) {
        Vec row[N];
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) row[n] = Vec::load(b + (static_cast<std::ptrdiff_t>(k) * N + n) * Vec::width);
#pragma GCC unroll 24
        for (int m = 0; m < M; ++m) {
            const Vec x = Vec::set1(a[m * lda + k]);
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) acc[m][n] = fma(x, row[n], acc[m][n]);
        }
    }
}

template <int M, int N>
SRFAST_INLINE void clear(Vec (&acc)[M][N]) {
#pragma GCC unroll 24
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) acc[m][n] = Vec::zero();
}

// The terms of one product: `terms` pairs of rows (`a_step` apart) and weights (`b_step` apart).
struct Product {
    int depth, terms;
    std::ptrdiff_t a_step, b_step;
};

template <int M, int N, int Lda, bool Add>
void multiply_rows(const Product& product, const float* a, const float* b, float* out) {
    Vec acc[M][N];
    if (Add) {
#pragma GCC unroll 24
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) acc[m][n] = Vec::load(out + m * kGroup + n * Vec::width);
    } else {
        clear(acc);
    }
    for (int i = 0; i < product.terms; ++i) multiply(acc, a + i * product.a_step, Lda, product.depth, b + i * product.b_step);
#pragma GCC unroll 24
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) acc[m][n].store(out + m * kGroup + n * Vec::width);
}

// For one panel of N vectors. Rows beyond `tiles` are computed from leftovers and not used.
template <int N, int Lda>
void multiply_panel(const Product& product, const float* a, int tiles, const float* b, float* out, bool add) {
    constexpr int M = Vec::accumulators / N;
    static_assert(24 % M == 0, "a block has whole row groups");
    for (int t = 0; t < tiles; t += M) {
        const float* rows = a + t * Lda;
        float* result = out + t * kGroup;
        add ? multiply_rows<M, N, Lda, true>(product, rows, b, result) : multiply_rows<M, N, Lda, false>(product, rows, b, result);
    }
}

template <int Lda>
void multiply_any(int vectors, const Product& product, const float* a, int tiles, const float* b, float* out, bool add) {
    if constexpr (Vec::columns >= 4) {
        if (vectors == 4) return multiply_panel<4, Lda>(product, a, tiles, b, out, add);
        if (vectors == 3) return multiply_panel<3, Lda>(product, a, tiles, b, out, add);
    }
    if (vectors == 2) return multiply_panel<2, Lda>(product, a, tiles, b, out, add);
    return multiply_panel<1, Lda>(product, a, tiles, b, out, add);
}

// Part `index` of `count` of 0..total, in whole units.
struct Range {
    long first, last;
};
inline Range part(long total, long unit, int index, int count) {
    const long units = (total + unit - 1) / unit;
    const long first = units * index / count * unit, last = units * (index + 1) / count * unit;
    return {first < total ? first : total, last < total ? last : total};
}

// The outputs group * kGroup.. of one pass.
struct Group {
    int first, outputs, vectors;
};
inline Group group_of(const Conv& conv, int index) {
    const int first = index * kGroup;
    const int outputs = conv.out_channels - first < kGroup ? conv.out_channels - first : kGroup;
    return {first, outputs, (outputs + Vec::width - 1) / Vec::width};
}
inline int groups(const Conv& conv) { return (conv.out_channels + kGroup - 1) / kGroup; }

// ---- epilogue ----

// Pixels x..x + pixels of row y; sums[pixel][kGroup] are the convolution without bias.
template <bool Prelu, bool Residual>
SRFAST_INLINE void finish_vectors(const Conv& conv, const Image* residual, const Image& out, int y, int x, int pixels,
                                  const float* sums, const Group& group) {
    const int run = conv.row_run();
    const Vec gain = Vec::set1(conv.gain), low = Vec::set1(conv.low), high = Vec::set1(conv.high);
    for (int v = 0; v < group.vectors; ++v) {
        const int output = group.first + v * Vec::width;
        const int row = y * conv.shuffle + output / run;
        const std::ptrdiff_t offset = static_cast<std::ptrdiff_t>(x) * run + output % run;
        const Vec bias = Vec::load(&conv.bias[output]);
        const Vec slope = Vec::load(&conv.slope[output]);
        const float* add = Residual ? residual->row(row) + offset : nullptr;
        float* to = out.base + (row % out.ring) * out.pitch + offset;
        for (int p = 0; p < pixels; ++p) {
            Vec value = Vec::load(sums + p * kGroup + v * Vec::width) + bias;
            if (Prelu) value = prelu(value, slope);
            if (conv.gain != 1.0f) value = value * gain;
            if (Residual) value = value + Vec::load(add + static_cast<std::ptrdiff_t>(p) * run);
            if (conv.clamp) value = clamp(value, low, high);
            value.store(to + static_cast<std::ptrdiff_t>(p) * run);
        }
    }
}

inline std::uint8_t to_byte(float value) {
    value = value > 0.0f ? value : 0.0f;
    value = value < 255.0f ? value : 255.0f;
    return static_cast<std::uint8_t>(std::lrintf(value));
}

// The general form, for outputs that do not fill vectors, for enlarged residuals and for bytes.
void finish_scalars(const Conv& conv, const Image* residual, const Image& out, int y, int x, int pixels, float* sums,
                    const Group& group) {
    const int run = conv.row_run(), channels = out.channels, factor = conv.residual_factor;
    for (int p = 0; p < pixels; ++p, sums += kGroup) {
        for (int v = 0; v < group.vectors; ++v) {
            const int output = group.first + v * Vec::width;
            Vec value = Vec::load(sums + v * Vec::width) + Vec::load(&conv.bias[output]);
            if (conv.prelu) value = prelu(value, Vec::load(&conv.slope[output]));
            if (conv.gain != 1.0f) value = value * Vec::set1(conv.gain);
            value.store(sums + v * Vec::width);
        }
        int output = group.first, left = group.outputs;
        const float* value = sums;
        while (left > 0) {
            const int offset = output % run, row = y * conv.shuffle + output / run;
            const int length = run - offset < left ? run - offset : left;
            if (residual) {
                const float* add = residual->row(row / factor);
                int column = (x + p) * conv.shuffle + offset / channels, channel = offset % channels;
                for (int i = 0; i < length; ++i) {
                    sums[value - sums + i] += add[static_cast<std::ptrdiff_t>(column / factor) * channels + channel];
                    if (++channel == channels) channel = 0, ++column;
                }
            }
            if (conv.clamp)
                for (int i = 0; i < length; ++i) {
                    float& f = sums[value - sums + i];
                    f = f < conv.low ? conv.low : (f > conv.high ? conv.high : f);
                }
            const std::ptrdiff_t at = (row % out.ring) * out.pitch + static_cast<std::ptrdiff_t>(x + p) * run + offset;
            if (out.bytes)
                for (int i = 0; i < length; ++i) out.bytes[at + i] = to_byte(value[i]);
            else
                std::memcpy(out.base + at, value, sizeof(float) * static_cast<std::size_t>(length));
            output += length, value += length, left -= length;
        }
    }
}

// Whether the outputs of a group are whole vectors in memory, of float32, and a residual of the same size is added.
inline bool fills_vectors(const Conv& conv, const Image& out, const Group& group) {
    return conv.row_run() % Vec::width == 0 && group.outputs % Vec::width == 0 && !out.bytes && conv.residual_factor == 1;
}

SRFAST_INLINE void finish(const Conv& conv, const Image* residual, const Image& out, int y, int x, int pixels, float* sums,
                          const Group& group) {
    if (!fills_vectors(conv, out, group))
        finish_scalars(conv, residual, out, y, x, pixels, sums, group);
    else if (conv.prelu)
        residual ? finish_vectors<true, true>(conv, residual, out, y, x, pixels, sums, group)
                 : finish_vectors<true, false>(conv, residual, out, y, x, pixels, sums, group);
    else
        residual ? finish_vectors<false, true>(conv, residual, out, y, x, pixels, sums, group)
                 : finish_vectors<false, false>(conv, residual, out, y, x, pixels, sums, group);
}

// ---- Winograd: Y = A^T [(G g G^T) * (B^T d B)] A (Lavin and Gray 2016, https://arxiv.org/abs/1509.09308) ----
// 3x3 kernels on tiles of 6x6 pixels at the points 0, +-3/4, +-3/2 and infinity, which err half as much as the usual
// 0, +-1, +-2; 5x5 kernels on rows of 8 pixels at 0, +-1/2, +-1, +-2 and infinity, in that direction only: with the few
// outputs that they have in practice, a transform in both directions costs more than it saves. Both give 4x4 outputs.

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

// One vector of channels of one tile, whose rows begin at rows[i] + offset.
template <int Tile>
SRFAST_INLINE void tile_in(const float* const (&rows)[Tile], std::ptrdiff_t offset, std::ptrdiff_t channels, float* to) {
    Vec t[Tile][Tile];
#pragma GCC unroll 8
    for (int i = 0; i < Tile; ++i) {
        Vec d[Tile];
#pragma GCC unroll 8
        for (int j = 0; j < Tile; ++j) d[j] = Vec::load(rows[i] + offset + j * channels);
        transform_in(d, t[i]);
    }
    if constexpr (Tile == 8) {
#pragma GCC unroll 8
        for (int i = 0; i < Tile; ++i)
#pragma GCC unroll 8
            for (int j = 0; j < Tile; ++j) t[i][j].store(to + (i * Tile + j) * Blocking<Tile>::pitch);
        return;
    }
#pragma GCC unroll 8
    for (int j = 0; j < Tile; ++j) {
        Vec d[Tile], result[Tile];
#pragma GCC unroll 8
        for (int i = 0; i < Tile; ++i) d[i] = t[i][j];
        transform_in(d, result);
#pragma GCC unroll 8
        for (int i = 0; i < Tile; ++i) result[i].store(to + (i * Tile + j) * Blocking<Tile>::pitch);
    }
}

// One vector of outputs of one tile: gives store(row, column, value) the sums.
template <int Tile, class Store>
SRFAST_INLINE void tile_out(const float* from, int pitch, Store store) {
    constexpr int rows = Tile == 6 ? Tile : kStep;
    Vec t[rows][kStep];
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
        Vec m[Tile];
#pragma GCC unroll 8
        for (int j = 0; j < Tile; ++j) m[j] = Vec::load(from + (i * Tile + j) * pitch);
        transform_out(m, t[i]);
    }
#pragma GCC unroll 4
    for (int x = 0; x < kStep; ++x) {
        Vec y[kStep];
        if constexpr (Tile == 6) {
            Vec m[Tile];
#pragma GCC unroll 8
            for (int i = 0; i < Tile; ++i) m[i] = t[i][x];
            transform_out(m, y);
        } else {
#pragma GCC unroll 4
            for (int i = 0; i < kStep; ++i) y[i] = t[i][x];
        }
#pragma GCC unroll 4
        for (int i = 0; i < kStep; ++i) store(i, x, y[i]);
    }
}

// Tiles of one call, numbered along the rows.
struct Tiles {
    int first_row, last_row, columns;

    int y(long tile) const { return first_row + static_cast<int>(tile / columns) * kStep; }
    int x(long tile) const { return static_cast<int>(tile % columns) * kStep; }
    long count() const { return static_cast<long>((last_row - first_row + kStep - 1) / kStep) * columns; }
};

// Calls row(y) for each row of tiles and tile(t, y, x) for each tile of a block: divisions are slow.
template <class Row, class Tile>
SRFAST_INLINE void each_tile(const Tiles& tiles, long first, int count, Row row, Tile tile) {
    int y = tiles.y(first), x = tiles.x(first);
    row(y);
    for (int t = 0; t < count; ++t) {
        tile(t, y, x);
        x += kStep;
        if (x >= tiles.columns * kStep && t + 1 < count) row(y += kStep), x = 0;
    }
}

template <int Tile>
void block_in(const Conv& conv, const Image& in, const Tiles& tiles, long first, int count, int chunk, int depth, float* to) {
    const int half = conv.kernel / 2;
    const float* rows[Tile];
    const auto row = [&](int y) {
        for (int i = 0; i < Tile; ++i) rows[i] = in.row(y - half + i) + chunk;
    };
    each_tile(tiles, first, count, row, [&](int t, int, int x) {
        const std::ptrdiff_t offset = static_cast<std::ptrdiff_t>(x - half) * in.channels;
        for (int c = 0; c < depth; c += Vec::width) tile_in<Tile>(rows, offset + c, in.channels, to + t * Blocking<Tile>::chunk + c);
    });
}

constexpr int kVectors = kGroup / Vec::width;

// Where the vectors of a group go: column 0 of the rows of one row of tiles.
struct Targets {
    float* to[kVectors][kStep];
    const float* add[kVectors][kStep];

    void set(const Conv& conv, const Image* residual, const Image& out, const Group& group, int y) {
        const int run = conv.row_run();
        for (int v = 0; v < group.vectors; ++v) {
            const int output = group.first + v * Vec::width, phase = output / run, offset = output % run;
            for (int i = 0; i < kStep; ++i) {
                const int row = (y + i) * conv.shuffle + phase;
                to[v][i] = out.base + (row % out.ring) * out.pitch + offset;
                add[v][i] = residual ? residual->row(row) + offset : nullptr;
            }
        }
    }
};

// Every output of a whole tile, finished in registers; `at` is its first column's offset.
template <int Tile, bool Prelu, bool Residual>
void whole_tile_out(const Conv& conv, const Targets& targets, std::ptrdiff_t at, const Group& group, const float* from,
                    int pitch) {
    const std::ptrdiff_t run = conv.row_run();
    for (int v = 0; v < group.vectors; ++v) {
        const Vec bias = Vec::load(&conv.bias[group.first + v * Vec::width]);
        const Vec slope = Vec::load(&conv.slope[group.first + v * Vec::width]);
        tile_out<Tile>(from + v * Vec::width, pitch, [&](int i, int j, Vec value) {
            value = value + bias;
            if (Prelu) value = prelu(value, slope);
            if (Residual) value = value + Vec::load(targets.add[v][i] + at + j * run);
            value.store(targets.to[v][i] + at + j * run);
        });
    }
}

template <int Tile>
void block_out(const Conv& conv, const Image* residual, const Image& out, const Tiles& tiles, long first, int count,
               const Group& group, const float* from, int pitch) {
    alignas(64) float sums[kStep * kStep * kGroup];
    const int width = out.width / conv.shuffle;
    const bool plain = fills_vectors(conv, out, group) && conv.gain == 1.0f && !conv.clamp;
    Targets targets;
    const auto row = [&](int y) {
        if (plain) targets.set(conv, residual, out, group, y);
    };
    each_tile(tiles, first, count, row, [&](int t, int y, int x) {
        const float* tile = from + t * kGroup;
        if (plain && x + kStep <= width && y + kStep <= tiles.last_row) {
            const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(x) * conv.row_run();
            if (conv.prelu)
                residual ? whole_tile_out<Tile, true, true>(conv, targets, at, group, tile, pitch)
                         : whole_tile_out<Tile, true, false>(conv, targets, at, group, tile, pitch);
            else
                residual ? whole_tile_out<Tile, false, true>(conv, targets, at, group, tile, pitch)
                         : whole_tile_out<Tile, false, false>(conv, targets, at, group, tile, pitch);
            return;
        }
        for (int v = 0; v < group.vectors; ++v)
            tile_out<Tile>(tile + v * Vec::width, pitch,
                           [&](int i, int j, Vec value) { value.store(sums + (i * kStep + j) * kGroup + v * Vec::width); });
        const int wide = x + kStep <= width ? kStep : width - x;
        for (int i = 0; i < kStep && y + i < tiles.last_row; ++i)
            finish(conv, residual, out, y + i, x, wide, sums + i * kStep * kGroup, group);
    });
}

// Share f of fetching what the next transform reads: `depth` channels of every new pixel of the tiles.
template <int Tile>
SRFAST_INLINE void prefetch_in(const Conv& conv, const Image& in, const Tiles& tiles, long first, int count, int chunk, int depth,
                               int f) {
    constexpr int shares = Blocking<Tile>::products;
    const int half = conv.kernel / 2;
    for (int unit = count * Tile * f / shares, end = count * Tile * (f + 1) / shares; unit < end; ++unit) {
        const long tile = first + unit / Tile;
        const float* from = in.row(tiles.y(tile) - half + unit % Tile) +
                            static_cast<std::ptrdiff_t>(tiles.x(tile) + Tile - kStep - half) * in.channels + chunk;
        for (int x = 0; x < kStep; ++x)
            for (int c = 0; c < depth; c += 16) __builtin_prefetch(from + static_cast<std::ptrdiff_t>(x) * in.channels + c, 0, 2);
    }
}

// The same for what the results overwrite and are added to.
template <int Tile>
SRFAST_INLINE void prefetch_out(const Conv& conv, const Image* residual, const Image& out, const Tiles& tiles, long first,
                                int count, const Group& group, int f) {
    constexpr int shares = Blocking<Tile>::products;
    const int run = conv.row_run(), phase = group.first / run;
    for (int unit = count * kStep * f / shares, end = count * kStep * (f + 1) / shares; unit < end; ++unit) {
        const long tile = first + unit / kStep;
        const int row = (tiles.y(tile) + unit % kStep) * conv.shuffle + phase;
        if (row >= out.height) continue;
        const std::ptrdiff_t offset = static_cast<std::ptrdiff_t>(tiles.x(tile)) * run + group.first % run;
        const float* to = out.base + (row % out.ring) * out.pitch + offset;
        for (int x = 0; x < kStep; ++x)
            for (int c = 0; c < group.outputs; c += 16) {
                const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(x) * run + c;
                __builtin_prefetch(to + at, 1, 2);
                if (residual) __builtin_prefetch(residual->row(row) + offset + at, 0, 2);
            }
    }
}

template <int Tile>
void run_winograd(const Conv& conv, const Image& in, const Image* residual, const Image& out, int first, int last, int index,
                  int count, float* scratch) {
    using Block = Blocking<Tile>;
    const Tiles tiles{first, last, (in.width + kStep - 1) / kStep};
    const float* weights = conv.weights.data();
    for (int g = 0; g < groups(conv); ++g) {
        const Group group = group_of(conv, g);
        // Blocks of whole row groups of the products: large enough for the weights' sake, small enough to leave L2 to them.
        const int unit = Vec::accumulators / (group.vectors < Vec::columns ? group.vectors : Vec::columns);
        const int most = Tile == 6 ? (11 / unit + 1) * unit : Block::tiles;
        const Range range = part(tiles.count(), unit, index, count);
        const int blocks = static_cast<int>((range.last - range.first + most - 1) / most);
        // With one panel and one chunk, products overwrite the transforms they are made from.
        const bool in_place = Block::chunk == kGroup && group.vectors <= Vec::columns && conv.in_channels <= Block::chunk;
        float* products = in_place ? scratch : scratch + Block::planes * Block::pitch;
        constexpr int product_pitch = Block::product_pitch;
        const int pitch = in_place ? Block::pitch : product_pitch;
        const std::ptrdiff_t panels = static_cast<std::ptrdiff_t>(group.vectors) * Vec::width;
        const bool prefetch_results = fills_vectors(conv, out, group);
        for (int b = 0; b < blocks; ++b) {
            const Range block = part(range.last - range.first, unit, b, blocks);
            const long tile = range.first + block.first;
            const int size = static_cast<int>(block.last - block.first);
            for (int chunk = 0; chunk < conv.in_channels; chunk += Block::chunk) {
                const int depth = conv.in_channels - chunk < Block::chunk ? conv.in_channels - chunk : Block::chunk;
                block_in<Tile>(conv, in, tiles, tile, size, chunk, depth, scratch);
                const bool last_chunk = chunk + depth == conv.in_channels;
                const long next = last_chunk ? tile + size : tile;
                const int next_chunk = last_chunk ? 0 : chunk + depth;
                const int next_size = static_cast<int>(next + size <= range.last ? size : range.last - next);
                for (int p = 0; p < Block::products; ++p) {
                    prefetch_in<Tile>(conv, in, tiles, next, next_size, next_chunk, depth, p);
                    if (last_chunk && prefetch_results) prefetch_out<Tile>(conv, residual, out, tiles, tile, size, group, p);
                    // 5x5: output row r of frequency f sums the kernel's rows; f varies slowest, so that its planes stay in L1.
                    const int f = Tile == 6 ? p : p / kStep, r = Tile == 6 ? 0 : p % kStep;
                    for (int v = 0; v < group.vectors; v += Vec::columns) {
                        const int vectors = group.vectors - v < Vec::columns ? group.vectors - v : Vec::columns;
                        const float* panel = weights + static_cast<std::ptrdiff_t>(f) * conv.in_channels * panels +
                                             static_cast<std::ptrdiff_t>(v) * Vec::width * conv.in_channels +
                                             static_cast<std::ptrdiff_t>(chunk) * vectors * Vec::width;
                        const Product product{depth, Tile == 6 ? 1 : conv.kernel, Tile * Block::pitch,
                                              Tile * conv.in_channels * panels};
                        multiply_any<Block::chunk>(vectors, product, scratch + (r * Tile + f) * Block::pitch, size, panel,
                                                   products + (r * Tile + f) * pitch + v * Vec::width, chunk > 0);
                    }
                }
            }
            block_out<Tile>(conv, residual, out, tiles, tile, size, group, products, pitch);
        }
        weights += Block::slices * conv.in_channels * panels;
    }
}

// ---- direct: the taps of one kernel row and their channels are one stretch of memory ----

template <int N>
SRFAST_INLINE void direct_pixels(const Conv& conv, const Image& in, int y, int x, const float* weights, float* sums) {
    constexpr int M = Vec::accumulators / N;
    const int half = conv.kernel / 2, depth = conv.kernel * conv.in_channels;
    Vec acc[M][N];
    clear(acc);
    for (int i = 0; i < conv.kernel; ++i) {
        const float* from = in.row(y + i - half) + static_cast<std::ptrdiff_t>(x - half) * in.channels;
        multiply(acc, from, in.channels, depth, weights + static_cast<std::ptrdiff_t>(i) * depth * N * Vec::width);
    }
#pragma GCC unroll 24
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) acc[m][n].store(sums + m * kGroup + n * Vec::width);
}

template <int N>
void direct_panel(const Conv& conv, const Image& in, int y, int x, int pixels, const float* weights, float* sums) {
    constexpr int M = Vec::accumulators / N;
    for (int p = 0; p < pixels; p += M) direct_pixels<N>(conv, in, y, x + p, weights, sums + p * kGroup);
}

void run_direct(const Conv& conv, const Image& in, const Image* residual, const Image& out, int first, int last, int index,
                int count, float* scratch) {
    constexpr int pixels = Vec::accumulators;
    const long columns = (in.width + pixels - 1) / pixels;
    const Range range = part((last - first) * columns, 1, index, count);
    const std::ptrdiff_t depth = static_cast<std::ptrdiff_t>(conv.kernel) * conv.kernel * conv.in_channels;
    const float* weights = conv.weights.data();
    for (int g = 0; g < groups(conv); ++g) {
        const Group group = group_of(conv, g);
        for (long i = range.first; i < range.last; ++i) {
            const int y = first + static_cast<int>(i / columns), x = static_cast<int>(i % columns) * pixels;
            const int wide = x + pixels <= in.width ? pixels : in.width - x;
            const float* panel = weights;
            for (int v = 0; v < group.vectors; v += Vec::columns) {
                const int vectors = group.vectors - v < Vec::columns ? group.vectors - v : Vec::columns;
                float* sums = scratch + v * Vec::width;
                if (vectors == 1) direct_panel<1>(conv, in, y, x, wide, panel, sums);
                if (vectors == 2) direct_panel<2>(conv, in, y, x, wide, panel, sums);
                if constexpr (Vec::columns >= 4) {
                    if (vectors == 3) direct_panel<3>(conv, in, y, x, wide, panel, sums);
                    if (vectors == 4) direct_panel<4>(conv, in, y, x, wide, panel, sums);
                }
                panel += depth * vectors * Vec::width;
            }
            finish(conv, residual, out, y, x, wide, scratch, group);
        }
        weights += depth * group.vectors * Vec::width;
    }
}

void run(const Conv& conv, const Image& in, const Image* residual, const Image& out, int first, int last, int index, int count,
         float* scratch) {
    if (conv.algorithm == srfast::Algorithm::direct)
        run_direct(conv, in, residual, out, first, last, index, count, scratch);
    else if (conv.kernel == 3)
        run_winograd<6>(conv, in, residual, out, first, last, index, count, scratch);
    else
        run_winograd<8>(conv, in, residual, out, first, last, index, count, scratch);
}

template <int Tile>
constexpr std::size_t scratch_floats() {
    return Blocking<Tile>::planes * Blocking<Tile>::pitch + Blocking<Tile>::products * Blocking<Tile>::product_pitch;
}
constexpr std::size_t kScratch = scratch_floats<6>() > scratch_floats<8>() ? scratch_floats<6>() : scratch_floats<8>();

}  // namespace
