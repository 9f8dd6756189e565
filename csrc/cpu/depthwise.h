// Depthwise convolution: each channel with a kernel of its own, as sums of vectors of channels.
#pragma once

#include "curves.h"
#include "node.h"

#include <algorithm>

namespace {

using srfast::Image;
using srfast::Node;

// Pixels whose sums are formed at once.
constexpr int kDepthwisePixels = 8;

// The taps of one pixel or several that lie in the image, the same for all of them.
struct Taps {
    int kernel, rows, first, last;  // a kernel's side; rows whose source there is; columns of the kernel
    const float* const* row;        // of each of those rows, column 0 of the image
    const float* const* weight;     // and the weights, [k, C]
};

// Sums of M pixels from column x on, of all channels. Each is formed in the same order, however many pixels there are.
template <int M>
inline void depthwise_pixels(const Taps& taps, const float* bias, int x, int channels, float* to) {
    const std::ptrdiff_t corner = static_cast<std::ptrdiff_t>(x - taps.kernel / 2) * channels;
    int c = 0;
    for (; c < channels && channels >= Vec::width; c += Vec::width) {
        // The last vector ends with the last channel: what it shares with the one before comes out the same again.
        if (c + Vec::width > channels) c = channels - Vec::width;
        Vec sums[M];
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) sums[m] = Vec::load(bias + c);
        for (int i = 0; i < taps.rows; ++i) {
            const float* weight = taps.weight[i] + c;
            const float* from = taps.row[i] + corner + c;
            for (int j = taps.first; j < taps.last; ++j) {
                const Vec w = Vec::load(weight + static_cast<std::ptrdiff_t>(j) * channels);
#pragma GCC unroll 8
                for (int m = 0; m < M; ++m)
                    sums[m] = fma(Vec::load(from + static_cast<std::ptrdiff_t>(j + m) * channels), w, sums[m]);
            }
        }
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) sums[m].store(to + static_cast<std::ptrdiff_t>(x + m) * channels + c);
    }
    for (; c < channels; ++c)  // fewer than a vector
        for (int m = 0; m < M; ++m) {
            float sum = bias[c];
            for (int i = 0; i < taps.rows; ++i)
                for (int j = taps.first; j < taps.last; ++j)
                    sum += taps.row[i][corner + static_cast<std::ptrdiff_t>(j + m) * channels + c] *
                           taps.weight[i][static_cast<std::ptrdiff_t>(j) * channels + c];
            to[static_cast<std::ptrdiff_t>(x + m) * channels + c] = sum;
        }
}

// One row. What lies beyond the image is 0 and not read: nodes have no columns of zeros beside their rows.
void depthwise_row(const Node& node, const Image& in, int y, float* to) {
    const int half = node.reach, kernel = 2 * half + 1, width = in.width, channels = in.channels;
    const float *weights = node.tensors[0].data(), *bias = node.tensors[1].data();
    std::vector<const float*> rows, weight;
    for (int i = std::max(half - y, 0); i < std::min(kernel, in.height + half - y); ++i) {
        rows.push_back(in.row(y + i - half));
        weight.push_back(weights + static_cast<std::ptrdiff_t>(i) * kernel * channels);
    }
    const int count = static_cast<int>(rows.size());
    const auto at_border = [&](int x) {
        const int first = std::max(half - x, 0), last = std::min(kernel, width + half - x);
        depthwise_pixels<1>({kernel, count, first, last, rows.data(), weight.data()}, bias, x, channels, to);
    };
    const Taps whole{kernel, count, 0, kernel, rows.data(), weight.data()};
    int x = 0;
    for (; x < std::min(half, width); ++x) at_border(x);
    for (; x + kDepthwisePixels <= width - half; x += kDepthwisePixels)
        depthwise_pixels<kDepthwisePixels>(whole, bias, x, channels, to);
    for (; x < width - half; ++x) depthwise_pixels<1>(whole, bias, x, channels, to);
    for (; x < width; ++x) at_border(x);
    if (node.curve != Curve::none)
        apply_curve(node.curve, node.tensors.size() > 2 ? node.tensors[2].data() : nullptr, to, to, width, channels);
}

}  // namespace
