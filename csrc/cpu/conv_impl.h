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
using srfast::kChunk;
using srfast::kGroup;

constexpr int kFrequencies = 36;
constexpr int kTiles = 24;               // tiles of a block: input transforms and products stay in the L2 cache
constexpr int kPitch = kTiles * kChunk + 16;  // odd in cache lines, so that the frequencies of a tile fall into different sets
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

template <int M, int N, bool Add>
void multiply_rows(const float* a, int depth, const float* b, float* out) {
    Vec acc[M][N];
    if (Add) {
#pragma GCC unroll 24
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) acc[m][n] = Vec::load(out + m * kGroup + n * Vec::width);
    } else {
        clear(acc);
    }
    multiply(acc, a, kChunk, depth, b);
#pragma GCC unroll 24
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) acc[m][n].store(out + m * kGroup + n * Vec::width);
}

// The product of one frequency for one panel of N vectors. Rows beyond `tiles` are computed from leftovers and not used.
template <int N>
void multiply_panel(const float* a, int tiles, int depth, const float* b, float* out, bool add) {
    constexpr int M = Vec::accumulators / N;
    static_assert(kTiles % M == 0, "a block has whole row groups");
    for (int t = 0; t < tiles; t += M) {
        const float* rows = a + t * kChunk;
        float* result = out + t * kGroup;
        add ? multiply_rows<M, N, true>(rows, depth, b, result) : multiply_rows<M, N, false>(rows, depth, b, result);
    }
}

void multiply_any(int vectors, const float* a, int tiles, int depth, const float* b, float* out, bool add) {
    if constexpr (Vec::columns >= 4) {
        if (vectors == 4) return multiply_panel<4>(a, tiles, depth, b, out, add);
        if (vectors == 3) return multiply_panel<3>(a, tiles, depth, b, out, add);
    }
    if (vectors == 2) return multiply_panel<2>(a, tiles, depth, b, out, add);
    return multiply_panel<1>(a, tiles, depth, b, out, add);
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

// ---- Winograd: Y = A^T [(G g G^T) * (B^T d B)] A for the points 0, +-3/4, +-3/2 and infinity ----
// (Lavin and Gray 2016, https://arxiv.org/abs/1509.09308; these points are exact in binary and err half as much as
// 0, +-1, +-2.) F(4x4, 3x3) and F(2x2, 5x5) share B.

constexpr float kA = 0.75f, kB = 1.5f;
constexpr float kA2 = kA * kA, kB2 = kB * kB;

SRFAST_INLINE void transform_in(const Vec (&d)[6], Vec (&t)[6]) {
    const Vec a2 = Vec::set1(kA2), b2 = Vec::set1(kB2), sum = Vec::set1(kA2 + kB2), product = Vec::set1(kA2 * kB2);
    const Vec a = Vec::set1(kA), b = Vec::set1(kB);
    const Vec even_a = fnma(b2, d[2], d[4]), odd_a = fnma(b2, d[1], d[3]);
    const Vec even_b = fnma(a2, d[2], d[4]), odd_b = fnma(a2, d[1], d[3]);
    t[0] = fma(product, d[0], fnma(sum, d[2], d[4]));
    t[1] = fma(a, odd_a, even_a);
    t[2] = fnma(a, odd_a, even_a);
    t[3] = fma(b, odd_b, even_b);
    t[4] = fnma(b, odd_b, even_b);
    t[5] = fma(product, d[1], fnma(sum, d[3], d[5]));
}

template <int Step>
SRFAST_INLINE void transform_out(const Vec (&m)[6], Vec (&y)[Step]) {
    const Vec sum_a = m[1] + m[2], difference_a = m[1] - m[2], sum_b = m[3] + m[4], difference_b = m[3] - m[4];
    const Vec a = Vec::set1(kA), b = Vec::set1(kB);
    y[0] = m[0] + (sum_a + sum_b);
    if constexpr (Step == 2) {
        y[1] = fma(a, difference_a, fma(b, difference_b, m[5]));
    } else {
        y[1] = fma(a, difference_a, b * difference_b);
        y[2] = fma(Vec::set1(kA2), sum_a, Vec::set1(kB2) * sum_b);
        y[3] = fma(Vec::set1(kA2 * kA), difference_a, fma(Vec::set1(kB2 * kB), difference_b, m[5]));
    }
}

// One vector of channels of one tile: frequencies go to `to`, kPitch apart.
SRFAST_INLINE void tile_in(const float* const (&rows)[6], std::ptrdiff_t offset, std::ptrdiff_t channels, float* to) {
    Vec t[6][6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) {
        const float* from = rows[i] + offset;
        const Vec d[6] = {Vec::load(from),
                          Vec::load(from + channels),
                          Vec::load(from + 2 * channels),
                          Vec::load(from + 3 * channels),
                          Vec::load(from + 4 * channels),
                          Vec::load(from + 5 * channels)};
        transform_in(d, t[i]);
    }
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) {
        const Vec d[6] = {t[0][j], t[1][j], t[2][j], t[3][j], t[4][j], t[5][j]};
        Vec result[6];
        transform_in(d, result);
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) result[i].store(to + (i * 6 + j) * kPitch);
    }
}

// One vector of outputs of one tile: gives store(row, column, value) the sums.
template <int Step, class Store>
SRFAST_INLINE void tile_out(const float* from, Store store) {
    Vec t[6][Step];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) {
        const float* row = from + i * 6 * kPitch;
        const Vec m[6] = {Vec::load(row),
                          Vec::load(row + kPitch),
                          Vec::load(row + 2 * kPitch),
                          Vec::load(row + 3 * kPitch),
                          Vec::load(row + 4 * kPitch),
                          Vec::load(row + 5 * kPitch)};
        transform_out<Step>(m, t[i]);
    }
#pragma GCC unroll 4
    for (int x = 0; x < Step; ++x) {
        const Vec m[6] = {t[0][x], t[1][x], t[2][x], t[3][x], t[4][x], t[5][x]};
        Vec y[Step];
        transform_out<Step>(m, y);
#pragma GCC unroll 4
        for (int i = 0; i < Step; ++i) store(i, x, y[i]);
    }
}

// Tiles of one call, numbered along the rows.
struct Tiles {
    int first_row, last_row, step, columns;

    int y(long tile) const { return first_row + static_cast<int>(tile / columns) * step; }
    int x(long tile) const { return static_cast<int>(tile % columns) * step; }
    long count() const { return static_cast<long>((last_row - first_row + step - 1) / step) * columns; }
};

void block_in(const Conv& conv, const Image& in, const Tiles& tiles, long first, int count, int chunk, int depth, float* to) {
    const int half = conv.kernel / 2;
    for (int t = 0; t < count; ++t) {
        const int y = tiles.y(first + t) - half;
        const std::ptrdiff_t offset = static_cast<std::ptrdiff_t>(tiles.x(first + t) - half) * in.channels + chunk;
        const float* const rows[6] = {in.row(y), in.row(y + 1), in.row(y + 2), in.row(y + 3), in.row(y + 4), in.row(y + 5)};
        for (int c = 0; c < depth; c += Vec::width) tile_in(rows, offset + c, in.channels, to + t * kChunk + c);
    }
}

// Every output of a whole tile, finished in registers.
template <int Step, bool Prelu, bool Residual>
void whole_tile_out(const Conv& conv, const Image* residual, const Image& out, int y, int x, const Group& group, const float* from) {
    const int run = conv.row_run();
    for (int v = 0; v < group.vectors; ++v) {
        const int output = group.first + v * Vec::width, phase = output / run;
        const std::ptrdiff_t offset = static_cast<std::ptrdiff_t>(x) * run + output % run;
        const Vec bias = Vec::load(&conv.bias[output]), slope = Vec::load(&conv.slope[output]);
        float* to[Step];
        const float* add[Step];
        for (int i = 0; i < Step; ++i) {
            const int row = (y + i) * conv.shuffle + phase;
            to[i] = out.base + (row % out.ring) * out.pitch + offset;
            add[i] = Residual ? residual->row(row) + offset : nullptr;
        }
        tile_out<Step>(from + v * Vec::width, [&](int i, int j, Vec value) {
            value = value + bias;
            if (Prelu) value = prelu(value, slope);
            if (Residual) value = value + Vec::load(add[i] + static_cast<std::ptrdiff_t>(j) * run);
            value.store(to[i] + static_cast<std::ptrdiff_t>(j) * run);
        });
    }
}

template <int Step>
void block_out(const Conv& conv, const Image* residual, const Image& out, const Tiles& tiles, long first, int count,
               const Group& group, const float* from) {
    alignas(64) float sums[Step * Step * kGroup];
    const int width = out.width / conv.shuffle;
    const bool plain = fills_vectors(conv, out, group) && conv.gain == 1.0f && !conv.clamp;
    for (int t = 0; t < count; ++t, from += kGroup) {
        const int y = tiles.y(first + t), x = tiles.x(first + t);
        if (plain && x + Step <= width && y + Step <= tiles.last_row) {
            if (conv.prelu)
                residual ? whole_tile_out<Step, true, true>(conv, residual, out, y, x, group, from)
                         : whole_tile_out<Step, true, false>(conv, residual, out, y, x, group, from);
            else
                residual ? whole_tile_out<Step, false, true>(conv, residual, out, y, x, group, from)
                         : whole_tile_out<Step, false, false>(conv, residual, out, y, x, group, from);
            continue;
        }
        for (int v = 0; v < group.vectors; ++v)
            tile_out<Step>(from + v * Vec::width,
                           [&](int i, int j, Vec value) { value.store(sums + (i * Step + j) * kGroup + v * Vec::width); });
        const int wide = x + Step <= width ? Step : width - x;
        for (int i = 0; i < Step && y + i < tiles.last_row; ++i)
            finish(conv, residual, out, y + i, x, wide, sums + i * Step * kGroup, group);
    }
}

// Share f of the kFrequencies of fetching what the next transform reads: `depth` channels of every new pixel of the tiles.
template <int Step>
SRFAST_INLINE void prefetch_in(const Conv& conv, const Image& in, const Tiles& tiles, long first, int count, int chunk, int depth,
                               int f) {
    const int half = conv.kernel / 2;
    for (int unit = count * 6 * f / kFrequencies, end = count * 6 * (f + 1) / kFrequencies; unit < end; ++unit) {
        const long tile = first + unit / 6;
        const float* from = in.row(tiles.y(tile) - half + unit % 6) +
                            static_cast<std::ptrdiff_t>(tiles.x(tile) + 5 - Step - half) * in.channels + chunk;
        for (int x = 0; x < Step; ++x)
            for (int c = 0; c < depth; c += 16) __builtin_prefetch(from + static_cast<std::ptrdiff_t>(x) * in.channels + c, 0, 2);
    }
}

// The same for what the results overwrite and are added to.
template <int Step>
SRFAST_INLINE void prefetch_out(const Conv& conv, const Image* residual, const Image& out, const Tiles& tiles, long first,
                                int count, const Group& group, int f) {
    const int run = conv.row_run(), phase = group.first / run;
    for (int unit = count * Step * f / kFrequencies, end = count * Step * (f + 1) / kFrequencies; unit < end; ++unit) {
        const long tile = first + unit / Step;
        const int row = (tiles.y(tile) + unit % Step) * conv.shuffle + phase;
        if (row >= out.height) continue;
        const std::ptrdiff_t offset = static_cast<std::ptrdiff_t>(tiles.x(tile)) * run + group.first % run;
        const float* to = out.base + (row % out.ring) * out.pitch + offset;
        for (int x = 0; x < Step; ++x)
            for (int c = 0; c < group.outputs; c += 16) {
                const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(x) * run + c;
                __builtin_prefetch(to + at, 1, 2);
                if (residual) __builtin_prefetch(residual->row(row) + offset + at, 0, 2);
            }
    }
}

template <int Step>
void run_winograd(const Conv& conv, const Image& in, const Image* residual, const Image& out, int first, int last, int index,
                  int count, float* scratch) {
    const Tiles tiles{first, last, Step, (in.width + Step - 1) / Step};
    const float* weights = conv.weights.data();
    for (int g = 0; g < groups(conv); ++g) {
        const Group group = group_of(conv, g);
        // Blocks of whole row groups of the products, the fewest above 8 tiles: small enough to leave L2 to the weights.
        const int unit = Vec::accumulators / (group.vectors < Vec::columns ? group.vectors : Vec::columns);
        const int most = (11 / unit + 1) * unit;
        const Range range = part(tiles.count(), unit, index, count);
        const int blocks = static_cast<int>((range.last - range.first + most - 1) / most);
        // With one panel and one chunk, products overwrite the transforms they are made from.
        const bool in_place = group.vectors <= Vec::columns && conv.in_channels <= kChunk;
        float* products = in_place ? scratch : scratch + kFrequencies * kPitch;
        const std::ptrdiff_t panels = static_cast<std::ptrdiff_t>(group.vectors) * Vec::width;
        const bool prefetch_results = fills_vectors(conv, out, group);
        for (int b = 0; b < blocks; ++b) {
            const Range block = part(range.last - range.first, unit, b, blocks);
            const long tile = range.first + block.first;
            const int size = static_cast<int>(block.last - block.first);
            for (int chunk = 0; chunk < conv.in_channels; chunk += kChunk) {
                const int depth = conv.in_channels - chunk < kChunk ? conv.in_channels - chunk : kChunk;
                block_in(conv, in, tiles, tile, size, chunk, depth, scratch);
                const bool last_chunk = chunk + depth == conv.in_channels;
                const long next = last_chunk ? tile + size : tile;
                const int next_chunk = last_chunk ? 0 : chunk + depth;
                const int next_size = static_cast<int>(next + size <= range.last ? size : range.last - next);
                for (int f = 0; f < kFrequencies; ++f) {
                    prefetch_in<Step>(conv, in, tiles, next, next_size, next_chunk, depth, f);
                    if (last_chunk && prefetch_results) prefetch_out<Step>(conv, residual, out, tiles, tile, size, group, f);
                    for (int v = 0; v < group.vectors; v += Vec::columns) {
                        const int vectors = group.vectors - v < Vec::columns ? group.vectors - v : Vec::columns;
                        const float* panel = weights + static_cast<std::ptrdiff_t>(f) * conv.in_channels * panels +
                                             static_cast<std::ptrdiff_t>(v) * Vec::width * conv.in_channels +
                                             static_cast<std::ptrdiff_t>(chunk) * vectors * Vec::width;
                        multiply_any(vectors, scratch + f * kPitch, size, depth, panel, products + f * kPitch + v * Vec::width,
                                     chunk > 0);
                    }
                }
            }
            block_out<Step>(conv, residual, out, tiles, tile, size, group, products);
        }
        weights += kFrequencies * conv.in_channels * panels;
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
        run_winograd<4>(conv, in, residual, out, first, last, index, count, scratch);
    else
        run_winograd<2>(conv, in, residual, out, first, last, index, count, scratch);
}

constexpr std::size_t kScratch = 2 * kFrequencies * kPitch;

}  // namespace
