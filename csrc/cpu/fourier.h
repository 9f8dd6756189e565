// Convolutions with large kernels on few channels by the Fourier transform: of tiles of 32x32 pixels, every one by itself, as many
// results are kept as the kernel leaves whole. Channels lie side by side in the vectors, so that a transform takes no shuffles.
//
// Rows are transformed in pairs, as the real and the imaginary part of one row, which are told apart afterwards; of the columns
// only the 17 are kept whose mirror images are the others. Weights: [column][row][input][real, imaginary][outputs in 16s].
#pragma once

#include "epilogue.h"

namespace {

using srfast::kFourierColumns;
using srfast::kFourierSide;

// Floats of the transformed tiles of a block: eight of 16 channels, or four of 32.
constexpr int kFourierBlock = 8 * 16 * kFourierSide * kFourierColumns * 2;
constexpr int kFourierColumn = 8 * 16 * kFourierSide * 2;  // of one column of them
constexpr int kFourierRow = kFourierSide * 32;             // of one row of results

struct Complex {
    Vec re, im;
};
SRFAST_INLINE Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
SRFAST_INLINE Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
SRFAST_INLINE Complex minus_i(Complex a) { return {a.im, Vec::zero() - a.re}; }
SRFAST_INLINE Complex swapped(Complex a) { return {a.im, a.re}; }

// cos(2 pi j / 32), 0 <= j.
constexpr float cosine(int j) {
    constexpr float quarter[] = {1.0f,         0.980785280f, 0.923879533f, 0.831469612f, 0.707106781f,
                                 0.555570233f, 0.382683432f, 0.195090322f, 0.0f};
    j %= 32;
    j = j > 16 ? 32 - j : j;
    return j <= 8 ? quarter[j] : -quarter[16 - j];
}
constexpr float sine(int j) { return cosine(j + 24); }

struct Turns {
    float cos[22] = {}, sin[22] = {};
    constexpr Turns() {
        for (int j = 0; j < 22; ++j) {
            cos[j] = cosine(j);
            sin[j] = sine(j);
        }
    }
};
constexpr Turns kTurns;

// a exp(-2 pi i j / 32)
SRFAST_INLINE Complex turned(Complex a, int j) {
    const Vec c = Vec::set1(kTurns.cos[j]), s = Vec::set1(kTurns.sin[j]);
    return {fma(a.im, s, a.re * c), fnma(a.re, s, a.im * c)};
}

SRFAST_INLINE void transform4(Complex (&x)[4]) {
    const Complex s0 = x[0] + x[2], s1 = x[0] - x[2], s2 = x[1] + x[3], s3 = minus_i(x[1] - x[3]);
    x[0] = s0 + s2;
    x[1] = s1 + s3;
    x[2] = s0 - s2;
    x[3] = s1 - s3;
}

// Results k of the DFT of 32 values, in natural order: four apart, eight at a time (Cooley and Tukey 1965, 32 = 4 x 8).
template <class Load, class Store>
SRFAST_INLINE void transform32(Load load, Store store) {
    Complex parts[4][8];
    for (int n = 0; n < 8; ++n) {
        Complex x[4] = {load(n), load(n + 8), load(n + 16), load(n + 24)};
        transform4(x);
        parts[0][n] = x[0];
#pragma GCC unroll 4
        for (int k = 1; k < 4; ++k) parts[k][n] = turned(x[k], n * k);
    }
    for (int k = 0; k < 4; ++k) {
        const Complex(&p)[8] = parts[k];
        Complex even[4] = {p[0], p[2], p[4], p[6]}, odd[4] = {p[1], p[3], p[5], p[7]};
        transform4(even);
        transform4(odd);
        odd[1] = turned(odd[1], 4);
        odd[2] = minus_i(odd[2]);
        odd[3] = turned(odd[3], 12);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
            store(k + 4 * j, even[j] + odd[j]);
            store(k + 4 * (j + 4), even[j] - odd[j]);
        }
    }
}

// Where the values of a block lie.
struct FourierPlaces {
    int channels, results;            // whole vectors of inputs and outputs
    std::ptrdiff_t value, row, tile;  // floats from the next to the next: value [real, imaginary][channel] of a column

    explicit FourierPlaces(const Conv& conv) : channels(conv.in_channels), results((conv.out_channels + 15) / 16 * 16) {
        value = 2 * (channels > results ? channels : results);
        row = value * kFourierColumns;
        tile = row * kFourierSide;
    }
    int tiles() const { return static_cast<int>(kFourierBlock / tile); }
};

SRFAST_INLINE Complex complex_at(const float* p, int apart) { return {Vec::load(p), Vec::load(p + apart)}; }
SRFAST_INLINE void store_complex(float* p, int apart, Complex z) {
    z.re.store(p);
    z.im.store(p + apart);
}

// Two rows of a tile from column x, `stride` floats a pixel: twice their transforms, in columns 0 to 16.
SRFAST_INLINE void rows_in(const float* first, const float* second, std::ptrdiff_t stride, const FourierPlaces& at,
                           float* to) {
    Complex z[kFourierSide];
    transform32([&](int n) { return Complex{Vec::load(first + n * stride), Vec::load(second + n * stride)}; },
                [&](int k, Complex value) { z[k] = value; });
    for (int k = 0; k < kFourierColumns; ++k) {
        const Complex a = z[k], b = z[(kFourierSide - k) % kFourierSide];
        store_complex(to + k * at.value, at.channels, {a.re + b.re, a.im - b.im});
        store_complex(to + k * at.value + at.row, at.channels, {a.im + b.im, b.re - a.re});
    }
}

// Two rows of results from their transforms, `results` floats a pixel.
SRFAST_INLINE void rows_out(const float* from, const FourierPlaces& at, int pixels, float* first, float* second) {
    const auto load = [&](int k) {
        const float* p = from + (k < kFourierColumns ? k : kFourierSide - k) * at.value;
        const Complex a = complex_at(p, at.results), b = complex_at(p + at.row, at.results);
        return k < kFourierColumns ? Complex{a.im + b.re, a.re - b.im} : Complex{b.re - a.im, a.re + b.im};
    };
    transform32(load, [&](int x, Complex z) {
        if (x >= pixels) return;
        z.im.store(first + x * at.results);
        z.re.store(second + x * at.results);
    });
}

// One frequency of M tiles: every output is the sum over the inputs of input times weight.
template <int M>
SRFAST_INLINE void multiply_frequency(const FourierPlaces& at, const float* in, std::ptrdiff_t in_tile,
                                      const float* weights, float* out, std::ptrdiff_t out_tile) {
    for (int v = 0; v < at.results; v += Vec::width) {
        Vec re[M], im[M];
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) re[m] = im[m] = Vec::zero();
        const float* w = weights + v;
        for (int i = 0; i < at.channels; ++i, w += 2 * at.results) {
            const Vec wr = Vec::load(w), wi = Vec::load(w + at.results);
#pragma GCC unroll 8
            for (int m = 0; m < M; ++m) {
                const Vec xr = Vec::set1(in[m * in_tile + i]), xi = Vec::set1(in[m * in_tile + at.channels + i]);
                re[m] = fnma(xi, wi, fma(xr, wr, re[m]));
                im[m] = fma(xi, wr, fma(xr, wi, im[m]));
            }
        }
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) store_complex(out + m * out_tile + v, at.results, {re[m], im[m]});
    }
}

// Column `column` of `tiles` transformed tiles: along the rows into frequencies, times the weights, and back.
void fourier_column(const FourierPlaces& at, int tiles, int rows, const float* weights, float* block, float* in,
                    float* out) {
    const std::ptrdiff_t in_row = 2 * at.channels, out_row = 2 * at.results;
    const std::ptrdiff_t in_tile = in_row * kFourierSide, out_tile = out_row * kFourierSide;
    for (int t = 0; t < tiles; ++t)
        for (int c = 0; c < at.channels; c += Vec::width) {
            const float* from = block + t * at.tile + c;
            float* to = in + t * in_tile + c;
            transform32([&](int y) { return complex_at(from + y * at.row, at.channels); },
                        [&](int k, Complex z) { store_complex(to + k * in_row, at.channels, z); });
        }
    for (int k = 0; k < kFourierSide; ++k, weights += at.channels * out_row) {
        constexpr int most = Vec::accumulators / 3;  // tiles: each takes two sums, and its input two registers
        int t = 0;
        const auto run = [&](auto multiply, int count) {
            for (; t + count <= tiles; t += count)
                multiply(at, in + t * in_tile + k * in_row, in_tile, weights, out + t * out_tile + k * out_row,
                         out_tile);
        };
        if constexpr (most >= 8) run(multiply_frequency<8>, 8);
        run(multiply_frequency<4>, 4);
        run(multiply_frequency<2>, 2);
        run(multiply_frequency<1>, 1);
    }
    // The inverse is the transform with real and imaginary parts exchanged.
    for (int t = 0; t < tiles; ++t)
        for (int c = 0; c < at.results; c += Vec::width) {
            const float* from = out + t * out_tile + c;
            float* to = block + t * at.tile + c;
            transform32([&](int k) { return swapped(complex_at(from + k * out_row, at.results)); },
                        [&](int y, Complex z) {
                            if (y < rows) store_complex(to + y * at.row, at.results, swapped(z));
                        });
        }
}

void run_fourier(const Conv& conv, const Task& task) {
    const int width = task.sources[0].width, half = conv.kernel / 2, step = conv.step();
    const FourierPlaces at(conv);
    float *block = task.scratch, *in = block + kFourierBlock, *out = in + kFourierColumn, *sums = out + kFourierColumn;
    const Group group = group_of(conv, 0);
    const std::ptrdiff_t column_weights = static_cast<std::ptrdiff_t>(kFourierSide) * at.channels * 2 * at.results;
    const auto share_of = [&](int index) {
        return GroupedParts(Parts((width + step - 1) / step, 1, at.tiles(), index, task.count),
                            (task.last - task.first + step - 1) / step);
    };
    each_part(task, share_of, [&](const GroupedParts& share, int p) {
        const int top = task.first + share.group(p) * step;
        const int rows = task.last - top < step ? task.last - top : step;
        const Range range = share.at(p);
        const int tiles = static_cast<int>(range.last - range.first);
        const auto column_of = [&](int t) { return static_cast<int>(range.first + t) * step; };
        for (int t = 0; t < tiles; ++t)
            for (int y = 0; y < kFourierSide; y += 2)
                each_piece(task, 0, conv.in_channels, [&](const Piece& piece, int before) {
                    const std::ptrdiff_t stride = piece.image->channels;
                    const std::ptrdiff_t start = (column_of(t) - half) * stride + piece.channel;
                    const float* first = piece.image->row(top + y - half) + start;
                    const float* second = piece.image->row(top + y + 1 - half) + start;
                    for (int c = 0; c < piece.depth; c += Vec::width)
                        rows_in(first + c, second + c, stride, at, block + t * at.tile + y * at.row + before + c);
                });
        for (int k = 0; k < kFourierColumns; ++k)
            fourier_column(at, tiles, (rows + 1) / 2 * 2, conv.weights.data() + k * column_weights,
                           block + k * at.value, in, out);
        for (int t = 0; t < tiles; ++t) {
            const int x = column_of(t), pixels = width - x < step ? width - x : step;
            for (int y = 0; y < rows; y += 2) {
                for (int c = 0; c < at.results; c += Vec::width)
                    rows_out(block + t * at.tile + y * at.row + c, at, pixels, sums + c, sums + kFourierRow + c);
                finish(conv, task, top + y, x, pixels, sums, at.results, group);
                if (y + 1 < rows) finish(conv, task, top + y + 1, x, pixels, sums + kFourierRow, at.results, group);
            }
        }
    });
}

constexpr std::size_t kFourierScratch = kFourierBlock + 2 * kFourierColumn + 2 * kFourierRow;

}  // namespace
