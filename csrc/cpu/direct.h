// Direct convolution: the taps of one kernel row and their channels are one stretch of memory, or, where the channels are those of
// several images, as many stretches.
#pragma once

#include "epilogue.h"

namespace {

template <int N>
SRFAST_INLINE void direct_pixels(const Conv& conv, const Image* sources, int y, int x, const float* weights,
                                 float* sums) {
    constexpr int M = Vec::accumulators / N;
    const int begin = conv.begin(), depth = conv.kernel * conv.in_channels;
    const int top = y * conv.stride + begin, left = x * conv.stride + begin;
    Vec acc[M][N];
    clear(acc);
    for (int i = 0; i < conv.kernel; ++i) {
        const float* row_weights = weights + static_cast<std::ptrdiff_t>(i) * depth * N * Vec::width;
        const auto from = [&](const Image& in, int tap) {
            return in.row(top + i) + static_cast<std::ptrdiff_t>(left + tap) * in.channels;
        };
        if (sources->channels == conv.in_channels)
            multiply(acc, from(*sources, 0), sources->channels * conv.stride, depth, row_weights);
        else
            for (int tap = 0, k = 0; tap < conv.kernel; ++tap)
                for (const Image* in = sources; k < (tap + 1) * conv.in_channels; k += in++->channels)
                    multiply(acc, from(*in, tap), in->channels * conv.stride, in->channels,
                             row_weights + static_cast<std::ptrdiff_t>(k) * N * Vec::width);
    }
#pragma GCC unroll 24
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) acc[m][n].store(sums + m * kGroup + n * Vec::width);
}

// `output` is the panel's first, negative where its results are not fetched meanwhile.
template <int N>
void direct_panel(const Conv& conv, const Task& task, int y, int x, int pixels, int output, const float* weights,
                  float* sums) {
    constexpr int M = Vec::accumulators / N;
    for (int p = 0; p < pixels; p += M) {
        const int wide = pixels - p < M ? pixels - p : M;
        if (output >= 0) fetch_results(conv, task, y, x + p, wide, output, N);
        direct_pixels<N>(conv, task.sources, y, x + p, weights, sums + p * kGroup);
    }
}

void run_direct(const Conv& conv, const Task& task) {
    const int width = task.sources[0].width / conv.stride;
    float* scratch = task.scratch;
    constexpr int pixels = Vec::accumulators, few = 16;
    const long columns = (width + pixels - 1) / pixels, runs = (task.last - task.first) * columns;
    const std::ptrdiff_t depth = static_cast<std::ptrdiff_t>(conv.kernel) * conv.kernel * conv.in_channels;
    const auto share_of = [&](int index) { return GroupedParts(Parts(runs, 1, few, index, task.count), groups(conv)); };
    each_part(task, share_of, [&](const GroupedParts& share, int p) {
        const int g = share.group(p);
        const Group group = group_of(conv, g);
        const float* weights = conv.weights.data() + g * depth * group_of(conv, 0).vectors * Vec::width;
        for (long i = share.at(p).first, last = share.at(p).last; i < last; ++i) {
            const int y = task.first + static_cast<int>(i / columns), x = static_cast<int>(i % columns) * pixels;
            const int wide = x + pixels <= width ? pixels : width - x;
            const float* panel = weights;
            const bool fetch = fills_vectors(conv, *task.out, group);
            for (int v = 0; v < group.vectors; v += Vec::columns) {
                const int vectors = group.vectors - v < Vec::columns ? group.vectors - v : Vec::columns;
                float* sums = scratch + v * Vec::width;
                const int output = fetch ? group.first + v * Vec::width : -1;
                if (vectors == 1) direct_panel<1>(conv, task, y, x, wide, output, panel, sums);
                if (vectors == 2) direct_panel<2>(conv, task, y, x, wide, output, panel, sums);
                if constexpr (Vec::columns >= 4) {
                    if (vectors == 3) direct_panel<3>(conv, task, y, x, wide, output, panel, sums);
                    if (vectors == 4) direct_panel<4>(conv, task, y, x, wide, output, panel, sums);
                }
                panel += depth * vectors * Vec::width;
            }
            finish(conv, task, y, x, wide, scratch, kGroup, group);
        }
    });
}

}  // namespace
