// Register blocks of matrix products, which every kernel is made of. Everything is in an unnamed namespace: two instruction
// sets must not share one inline function.
#pragma once

#include "conv.h"
#include "simd.h"

namespace {

using srfast::Conv;
using srfast::Image;
using srfast::kGroup;
using srfast::Task;

constexpr int kPanel = Vec::width * Vec::columns;

// Rows of the register block of a product with so many vectors of columns, which is a divisor of 24. With one vector every
// multiply-add has a load of its own, and with AVX-512 low blocks are a quarter faster than those that fill the registers.
constexpr int block_rows(int vectors) {
    return vectors == 1 && Vec::width == 16 ? 6 : Vec::accumulators / (vectors < Vec::columns ? vectors : Vec::columns);
}

// Memory that is fetched into L2 while a product runs: up to four pixels `step` bytes apart, 256 bytes of each, from each of
// three places. One line at a time between multiplications: in bursts, prefetches would keep loads of weights waiting.
struct Touch {
    const char *in, *out, *add;
    std::ptrdiff_t in_step, out_step;
};

template <int M, int N>
SRFAST_INLINE void multiply_step(Vec (&acc)[M][N], const float* a, std::ptrdiff_t lda, const float* b) {
    Vec row[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) row[n] = Vec::load(b + n * Vec::width);
#pragma GCC unroll 24
    for (int m = 0; m < M; ++m) {
        const Vec x = Vec::set1(a[m * lda]);
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) acc[m][n] = fma(x, row[n], acc[m][n]);
    }
}

// products[m][n] (+)= sum over k of a[m][k] b[k][n], every element in the order of k.
template <int M, int N>
SRFAST_INLINE void multiply(Vec (&acc)[M][N], const float* a, std::ptrdiff_t lda, int depth, const float* b) {
    for (int k = 0; k < depth; ++k) multiply_step(acc, a + k, lda, b + static_cast<std::ptrdiff_t>(k) * N * Vec::width);
}

template <int M, int N>
SRFAST_INLINE void clear(Vec (&acc)[M][N]) {
#pragma GCC unroll 24
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) acc[m][n] = Vec::zero();
}

// products[m][n] (+)= sum over k of a[m][k] b[k][n] for rows kGroup floats apart in both matrices; fetches `next` meanwhile.
template <int M, int N, bool Add>
void multiply_rows(int depth, const float* a, const float* b, float* out, const Touch& next) {
    const char *in = next.in, *to = next.out, *add = next.add;
    constexpr int lines = 4,
                  steps = 4;  // of a pixel that is fetched; between two lines. Depths are multiples of both together.
    Vec acc[M][N];
    if (Add) {
#pragma GCC unroll 24
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
            for (int n = 0; n < N; ++n) acc[m][n] = Vec::load(out + m * kGroup + n * Vec::width);
    } else {
        clear(acc);
    }
    for (const float* end = a + depth; a < end;) {
#pragma GCC unroll 1
        for (int line = 0; line < lines; ++line) {
            __builtin_prefetch(in + line * 64, 0, 2);
            __builtin_prefetch(to + line * 64, 1, 2);
            __builtin_prefetch(add + line * 64, 0, 2);
#pragma GCC unroll 4
            for (int i = 0; i < steps; ++i) multiply_step(acc, a + i, kGroup, b + i * N * Vec::width);
            a += steps;
            b += steps * N * Vec::width;
        }
        in += next.in_step;
        to += next.out_step;
        add += next.out_step;
    }
#pragma GCC unroll 24
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) acc[m][n].store(out + m * kGroup + n * Vec::width);
}

// For one panel of N vectors. Rows beyond `tiles` are computed from leftovers and not used. next() gives what to fetch.
template <int N, class Next>
void multiply_panel(int depth, const float* a, int tiles, const float* b, float* out, bool add, Next& next) {
    constexpr int M = block_rows(N);
    static_assert(24 % M == 0, "a block has whole row groups");
    for (int t = 0; t < tiles; t += M) {
        const float* rows = a + t * kGroup;
        float* result = out + t * kGroup;
        add ? multiply_rows<M, N, true>(depth, rows, b, result, next())
            : multiply_rows<M, N, false>(depth, rows, b, result, next());
    }
}

template <class Next>
void multiply_any(int vectors, int depth, const float* a, int tiles, const float* b, float* out, bool add, Next& next) {
    if constexpr (Vec::columns >= 4) {
        if (vectors == 4) return multiply_panel<4>(depth, a, tiles, b, out, add, next);
        if (vectors == 3) return multiply_panel<3>(depth, a, tiles, b, out, add, next);
    }
    if (vectors == 2) return multiply_panel<2>(depth, a, tiles, b, out, add, next);
    return multiply_panel<1>(depth, a, tiles, b, out, add, next);
}

// All panels of `vectors` vectors: a block of rows times weights [panel][k of `stride`][columns], from row k on.
template <class Next>
void multiply_block(int vectors, int depth, const float* a, int tiles, const float* weights, int stride, int k,
                    float* out, Next& next) {
    for (int v = 0; v < vectors; v += Vec::columns) {
        const int wide = vectors - v < Vec::columns ? vectors - v : Vec::columns;
        const float* panel =
            weights + (static_cast<std::ptrdiff_t>(v) * stride + static_cast<std::ptrdiff_t>(k) * wide) * Vec::width;
        multiply_any(wide, depth, a, tiles, panel, out + v * Vec::width, k > 0, next);
    }
}

// How often such a product calls next().
inline int calls_of(int vectors, int tiles) {
    const int rows = block_rows(vectors);
    return (vectors + Vec::columns - 1) / Vec::columns * ((tiles + rows - 1) / rows);
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

// A thread's share of `total` things, in parts of at most about `size` of them and of whole units.
struct Parts {
    Range range;
    long unit;
    int count;

    Parts(long total, long whole, long size, int index, int threads)
        : range(part(total, whole, index, threads)),
          unit(whole),
          count(static_cast<int>((range.last - range.first + size - 1) / size)) {}

    Range at(int p) const {
        const Range within = part(range.last - range.first, unit, p, count);
        return {range.first + within.first, range.first + within.last};
    }
};

// The same parts once for every group of outputs.
struct GroupedParts {
    Parts parts;
    int count;

    GroupedParts(const Parts& each, int groups) : parts(each), count(groups * each.count) {}
    int group(int p) const { return p / parts.count; }
    Range at(int p) const { return parts.at(p % parts.count); }
};

// Calls use(share_of(index), p) for the parts p of this thread's share, in order, then for those that slower threads have left.
template <class ShareOf, class Use>
SRFAST_INLINE void each_part(const Task& task, ShareOf share_of, Use use) {
    for (int i = 0; i < task.count; ++i) {
        const int owner = (task.index + i) % task.count;
        const auto share = share_of(owner);
        for (int p; (p = task.shares->take(owner)) < share.count;) use(share, p);
    }
}

// Outputs that are computed together.
struct Group {
    int first, outputs, vectors;
};
inline Group group_of(const Conv& conv, int index) {
    const int size = conv.group(), first = index * size;
    const int outputs = conv.out_channels - first < size ? conv.out_channels - first : size;
    return {first, outputs, (outputs + Vec::width - 1) / Vec::width};
}
inline int groups(const Conv& conv) { return (conv.out_channels + conv.group() - 1) / conv.group(); }

// The part of channels first..first + depth that lies in one source.
struct Piece {
    const Image* image;
    int channel, depth;
};
// Calls use(piece, channels before it) for the pieces of channels first..first + depth of all sources in a row.
template <class Use>
SRFAST_INLINE void each_piece(const Task& task, int first, int depth, Use use) {
    int start = 0;
    for (const Image* image = task.sources; start < first + depth; start += image++->channels) {
        const int from = first > start ? first : start, end = start + image->channels;
        const int to = first + depth < end ? first + depth : end;
        if (from < to) use(Piece{image, from - start, to - from}, from - first);
    }
}
inline Piece first_piece(const Task& task, int first) {
    const Image* image = task.sources;
    for (; first >= image->channels; ++image) first -= image->channels;
    return {image, first, image->channels - first};
}

}  // namespace
