// 5x5 convolutions, and 3x3 ones to few outputs, by the Winograd transform along the rows only. Every row of the input is
// transformed and multiplied once, by all kernel rows at a time (their outputs lie side by side in the products), and added to the
// rows of results that it belongs to. Sums of rows that are not complete stay in the layer's carry for the next task.
#pragma once

#include "epilogue.h"
#include "transforms.h"

namespace {

constexpr int kLineBlock = 24;  // tiles of a block, at most
constexpr int kLinePitch = kLineBlock * kGroup + 16;
constexpr int kCarried = 16;  // floats of a pixel in the carry, for one group

// Pixels of a tile that are read, for kernels of so many rows.
constexpr int line_of(int rows) { return rows + kStep - 1; }

template <int Rows>
SRFAST_INLINE void line_in(const Piece& piece, int y, int x, int count, float* to) {
    const std::ptrdiff_t channels = piece.image->channels;
    constexpr int kLine = line_of(Rows);
    const float* from = piece.image->row(y) + (x - Rows / 2) * channels + piece.channel;
    for (int t = 0; t < count; ++t, from += kStep * channels, to += kGroup)
        for (int c = 0; c < piece.depth; c += Vec::width) {
            Vec d[kLine], result[kLine];
#pragma GCC unroll 8
            for (int j = 0; j < kLine; ++j) d[j] = Vec::load(from + j * channels + c);
            transform_in(d, result);
#pragma GCC unroll 8
            for (int j = 0; j < kLine; ++j) result[j].store(to + j * kLinePitch + c);
        }
}

// Adds the products of one tile of row y to the rows that it belongs to; `carry` is its first pixel in slot 0.
template <int Rows>
SRFAST_INLINE void line_out(const Group& group, int vectors, int y, int height, const float* products, float* carry,
                            std::ptrdiff_t slot) {
    constexpr int kLine = line_of(Rows);
    alignas(64) float sums[kStep][kGroup + kCarried];
    for (int v = 0; v < vectors; ++v) {
        Vec m[kLine], result[kStep];
#pragma GCC unroll 8
        for (int j = 0; j < kLine; ++j) m[j] = Vec::load(products + j * kLinePitch + v * Vec::width);
        transform_out(m, result);
#pragma GCC unroll 4
        for (int p = 0; p < kStep; ++p) result[p].store(sums[p] + v * Vec::width);
    }
    for (int r = 0; r < Rows; ++r) {
        const int row = y + Rows / 2 - r;  // the kernel's row r reads row + r - Rows / 2
        if (row < 0 || row >= height) continue;
        const bool first = r == 0 || y == 0;
        float* to = carry + row % Rows * slot;
        for (int p = 0; p < kStep; ++p)
            for (int v = 0; v < group.vectors; ++v) {
                float* at = to + p * kCarried + v * Vec::width;
                const Vec value = Vec::load(sums[p] + r * group.outputs + v * Vec::width);
                (first ? value : Vec::load(at) + value).store(at);
            }
    }
}

// Fetches the channels that the next transform reads.
struct FetchLine {
    const char* idle;
    const Piece next;
    int y, x, count;
    int call = 0;

    Touch operator()() {
        Touch touch{idle, idle, idle, 0, 0};
        if (call < count) {
            const Image& image = *next.image;
            touch.in = reinterpret_cast<const char*>(
                image.row(y) + static_cast<std::ptrdiff_t>(x + call * kStep + 2) * image.channels + next.channel);
            touch.in_step = static_cast<std::ptrdiff_t>(sizeof(float)) * image.channels;
        }
        ++call;
        return touch;
    }
};

// Row y of `count` tiles from column x: products, and their sums in the carry.
template <int Rows>
void line(const Conv& conv, const Task& task, const Group& group, int y, int x, int count, const float* weights,
          float* carry, std::ptrdiff_t slot) {
    constexpr int kLine = line_of(Rows);
    float *transformed = task.scratch, *products = task.scratch + kLine * kLinePitch;
    const int vectors = (Rows * group.outputs + Vec::width - 1) / Vec::width;
    const std::ptrdiff_t slice = static_cast<std::ptrdiff_t>(vectors) * Vec::width * conv.in_channels;
    const char* idle = reinterpret_cast<const char*>(conv.bias.data());
    for (int chunk = 0; chunk < conv.in_channels; chunk += kGroup) {
        const int depth = conv.in_channels - chunk < kGroup ? conv.in_channels - chunk : kGroup;
        each_piece(task, chunk, depth,
                   [&](const Piece& piece, int at) { line_in<Rows>(piece, y, x, count, transformed + at); });
        const bool last = chunk + depth == conv.in_channels;
        const bool more = !last || y + 1 < task.sources[0].height;
        FetchLine next{idle, first_piece(task, last ? 0 : chunk + depth), y + last, x, more ? count : 0};
        for (int f = 0; f < kLine; ++f)
            multiply_block(vectors, depth, transformed + f * kLinePitch, count, weights + f * slice, conv.in_channels,
                           chunk, products + f * kLinePitch, next);
    }
    for (int t = 0; t < count; ++t)
        line_out<Rows>(group, vectors, y, task.sources[0].height, products + t * kGroup, carry + t * kStep * kCarried,
                       slot);
}

template <int Rows>
void run_stacked(const Conv& conv, const Task& task) {
    constexpr int half = Rows / 2;
    const int width = task.sources[0].width, height = task.sources[0].height, columns = (width + kStep - 1) / kStep;
    const std::ptrdiff_t slot = static_cast<std::ptrdiff_t>(columns) * kStep * kCarried;
    constexpr int unit = Vec::accumulators / Vec::columns;
    const int begin = task.first == 0 ? 0 : task.first + half;
    const int end = task.last + half < height ? task.last + half : height;
    const int whole = (Rows * group_of(conv, 0).outputs + Vec::width - 1) / Vec::width;
    const std::ptrdiff_t group_weights =
        static_cast<std::ptrdiff_t>(line_of(Rows)) * whole * Vec::width * conv.in_channels;
    // Parts are columns, so that the thread that begins a row's sums finishes them.
    const auto share_of = [&](int index) {
        return GroupedParts(Parts(columns, unit, kLineBlock, index, task.count), groups(conv));
    };
    each_part(task, share_of, [&](const GroupedParts& share, int p) {
        const int g = share.group(p);
        const Group group = group_of(conv, g);
        const Range block = share.at(p);
        const int x = static_cast<int>(block.first) * kStep, count = static_cast<int>(block.last - block.first);
        const int pixels = x + count * kStep <= width ? count * kStep : width - x;
        float* column = task.carry + g * Rows * slot + static_cast<std::ptrdiff_t>(x) * kCarried;
        int done = task.first;
        for (int y = begin; y < end; ++y) {
            line<Rows>(conv, task, group, y, x, count, conv.weights.data() + g * group_weights, column, slot);
            for (const int ready = y + 1 == height ? height : y + 1 - half; done < ready; ++done)
                finish(conv, task, done, x, pixels, column + done % Rows * slot, kCarried, group);
        }
    });
}

constexpr std::size_t kStackedScratch = 2 * line_of(5) * kLinePitch;

}  // namespace
