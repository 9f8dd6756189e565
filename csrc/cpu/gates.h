// Gates, and what else averages: over the whole image (squeeze-excitation, normalisation) and over channels (normalisation,
// spatial attention). Sums are formed in an order that does not depend on the threads.
#pragma once

#include "curves.h"
#include "rows.h"

#include <algorithm>

namespace {

using srfast::Node;
using srfast::NodeTask;
using srfast::Operation;

// What nodes that read the whole image keep in their carry.
struct Moments {
    float *rows, *mean, *gain;  // [H, C], [C], [C]

    Moments(const NodeTask& task) : rows(task.carry) {
        const Image& in = task.sources[0];
        mean = rows + static_cast<std::ptrdiff_t>(in.height) * in.channels;
        gain = mean + in.channels;
    }
};

// Sums of every row's channels, of the values or of their squared distances from the mean.
void sum_rows(const Node& node, const NodeTask& task, const Moments& moments, bool squares) {
    const Image& in = task.sources[0];
    const int channels = in.channels, first = node.before, last = in.width - node.after;
    const Range range = part(in.height - node.before - node.after, 1, task.index, task.count);
    for (long y = range.first + node.before; y < range.last + node.before; ++y) {
        const float* row = in.row(static_cast<int>(y));
        float* sums = moments.rows + y * channels;
        int c = 0;
        for (; c + Vec::width <= channels; c += Vec::width) {
            const Vec mean = squares ? Vec::load(moments.mean + c) : Vec::zero();
            Vec sum = Vec::zero();
            for (int x = first; x < last; ++x) {
                const Vec value = Vec::load(row + static_cast<std::ptrdiff_t>(x) * channels + c) - mean;
                sum = sum + (squares ? value * value : value);
            }
            sum.store(sums + c);
        }
        for (; c < channels; ++c) {
            const float mean = squares ? moments.mean[c] : 0.0f;
            sums[c] = 0.0f;
            for (int x = first; x < last; ++x) {
                const float value = row[static_cast<std::ptrdiff_t>(x) * channels + c] - mean;
                sums[c] += squares ? value * value : value;
            }
        }
    }
}

double average(const Node& node, const Image& in, const Moments& moments, int channel) {
    double sum = 0.0;
    const int outside = node.before + node.after;
    for (int y = node.before; y < in.height - node.after; ++y)
        sum += static_cast<double>(moments.rows[static_cast<std::ptrdiff_t>(y) * in.channels + channel]);
    return sum / (static_cast<double>(in.height - outside) * (in.width - outside));
}

// Calls `set` with every channel and the average over its group; the groups of a channel_gate are single channels.
template <class Set>
void each_group(const Node& node, const Image& in, const Moments& moments, Set set) {
    const int groups = node.operation == Operation::group_norm ? node.groups : in.channels, size = in.channels / groups;
    for (int first = 0; first < in.channels; first += size) {
        double sum = 0.0;
        for (int c = first; c < first + size; ++c) sum += average(node, in, moments, c);
        for (int c = first; c < first + size; ++c) set(c, sum / size);
    }
}

// The gains of a squeeze-excitation from the means, or what else of the moments it reads.
void gate_gains(const Node& node, const Moments& moments, int channels) {
    const auto& t = node.tensors;
    const int middle = static_cast<int>(t[1].size());
    std::vector<float> hidden(t[1].begin(), t[1].end());
    for (int m = 0; m < middle; ++m) {
        for (int c = 0; c < channels; ++c)
            hidden[m] += t[0][static_cast<std::size_t>(m) * channels + c] * moments.mean[c];
        hidden[m] = hidden[m] < 0.0f ? hidden[m] * t[4][m] : hidden[m];
    }
    for (int c = 0; c < channels; ++c) {
        float sum = t[3][c];
        for (int m = 0; m < middle; ++m) sum += t[2][static_cast<std::size_t>(c) * middle + m] * hidden[m];
        moments.gain[c] = node.hard ? std::min(std::max(sum + 3.0f, 0.0f), 6.0f) / 6.0f : sum;
    }
    if (!node.hard) apply_curve(Curve::sigmoid, nullptr, moments.gain, moments.gain, 1, channels);
}

// Before the first row of a node that reads the whole image: its means and gains.
void measure(const Node& node, const NodeTask& task) {
    const Image& in = task.sources[0];
    const Moments moments(task);
    sum_rows(node, task, moments, false);
    task.barrier.wait();
    if (task.index == 0)
        each_group(node, in, moments, [&](int c, double mean) { moments.mean[c] = static_cast<float>(mean); });
    const bool gate = node.operation == Operation::channel_gate;
    if (!gate || node.contrast) {
        task.barrier.wait();
        sum_rows(node, task, moments, true);
        task.barrier.wait();
        if (task.index == 0)
            each_group(node, in, moments, [&](int c, double variance) {
                if (gate)
                    moments.mean[c] += static_cast<float>(std::sqrt(variance));
                else
                    moments.gain[c] = static_cast<float>(node.tensors[0][c] / std::sqrt(variance + node.eps));
            });
    }
    if (gate && task.index == 0) gate_gains(node, moments, in.channels);
    task.barrier.wait();
}

// The sum of two rows, gated by a curve of the first.
void gated_sum_row(const Node& node, const float* from, const float* other, float* to, std::ptrdiff_t values) {
    const Vec shift = Vec::set1(node.shift);
    with_curve(node.curve, [&](auto curve) {
        each_vector(to, values, [&](Vec x, Vec y) { return (x + y) * (curve(x) + shift); }, from, other);
    });
}

// Mean and largest value of one pixel's channels.
inline void pixel_moments(const float* x, int channels, float& mean, float& largest) {
    float sum = 0.0f, most = x[0];
    int c = 0;
    if (channels >= Vec::width) {
        Vec sums = Vec::load(x), bounds = sums;
        for (c = Vec::width; c + Vec::width <= channels; c += Vec::width) {
            sums = sums + Vec::load(x + c);
            bounds = maximum(bounds, Vec::load(x + c));
        }
        alignas(64) float s[Vec::width], m[Vec::width];
        sums.store(s);
        bounds.store(m);
        for (int half = Vec::width / 2; half; half /= 2)
            for (int i = 0; i < half; ++i) {
                s[i] += s[i + half];
                m[i] = m[i + half] > m[i] ? m[i + half] : m[i];
            }
        sum = s[0];
        most = m[0];
    }
    for (; c < channels; ++c) {
        sum += x[c];
        most = x[c] > most ? x[c] : most;
    }
    mean = sum / static_cast<float>(channels);
    largest = most;
}

// Sum of one pixel's channels, or of their squared distances from `mean`.
template <bool Squares>
inline float pixel_sum(const float* x, int channels, float mean) {
    Vec sums = Vec::zero();
    const Vec middle = Vec::set1(mean);
    int c = 0;
    for (; c + Vec::width <= channels; c += Vec::width) {
        const Vec value = Squares ? Vec::load(x + c) - middle : Vec::load(x + c);
        sums = Squares ? fma(value, value, sums) : sums + value;
    }
    alignas(64) float s[Vec::width];
    sums.store(s);
    for (int half = Vec::width / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) s[i] += s[i + half];
    for (; c < channels; ++c) s[0] += Squares ? (x[c] - mean) * (x[c] - mean) : x[c];
    return s[0];
}

// A row of pixels, each normalised over its own channels.
inline void pixel_norm_row(const Node& node, const float* from, float* to, int width, int channels) {
    const float *scale = node.tensors[0].data(), *shift = node.tensors[1].data();
    const float count = static_cast<float>(channels);
    for (int x = 0; x < width; ++x, from += channels, to += channels) {
        const float mean = node.centred ? pixel_sum<false>(from, channels, 0.0f) / count : 0.0f;
        const float square = pixel_sum<true>(from, channels, mean) / count;
        const float gain = 1.0f / (node.centred ? std::sqrt(square + node.eps) : std::sqrt(square) + node.eps);
        for (int c = 0; c < channels; ++c) to[c] = (from[c] - mean) * gain * scale[c] + shift[c];
    }
}

// Rows first..last of a spatial attention: mean and maximum of each pixel's channels, in rings of kernel rows with zeros
// around the image, convolved to one gain a pixel.
void run_spatial_gate(const Node& node, const NodeTask& task, int first, int last) {
    const Image& in = task.sources[0];
    const int reach = node.reach, taps = 2 * reach + 1, width = in.width, channels = in.channels;
    const std::ptrdiff_t pitch = width + 2 * reach;
    std::vector<float> moments(static_cast<std::size_t>(2 * taps * pitch), 0.0f),
        gains(static_cast<std::size_t>(width));
    const auto slot = [&](int kind, int y) {
        return moments.data() + (kind * taps + (y + taps) % taps) * pitch + reach;
    };
    const auto fill = [&](int y) {
        float *means = slot(0, y), *largest = slot(1, y);
        const bool outside = y < 0 || y >= in.height;
        const float* row = in.row(y);
        for (int x = 0; x < width; ++x)
            if (outside)
                means[x] = largest[x] = 0.0f;
            else
                pixel_moments(row + static_cast<std::ptrdiff_t>(x) * channels, channels, means[x], largest[x]);
    };
    RowWriter writer(task);
    for (int y = first - reach; y < first + reach && first < last; ++y) fill(y);
    for (int y = first; y < last; ++y) {
        fill(y + reach);
        std::fill(gains.begin(), gains.end(), node.tensors[1][0]);
        const float* weight = node.tensors[0].data();
        for (int kind = 0; kind < 2; ++kind)
            for (int i = -reach; i <= reach; ++i) {
                const float* from = slot(kind, y + i);
                for (int j = -reach; j <= reach; ++j, ++weight)
                    for (int x = 0; x < width; ++x) gains[x] += from[x + j] * *weight;
            }
        apply_curve(Curve::sigmoid, nullptr, gains.data(), gains.data(), width, 1);
        const float* row = in.row(y);
        float* to = writer.begin(y);
        for (int x = 0; x < width; ++x, row += channels, to += channels) {
            int c = 0;
            for (; c + Vec::width <= channels; c += Vec::width)
                (Vec::load(row + c) * Vec::set1(gains[x])).store(to + c);
            for (; c < channels; ++c) to[c] = row[c] * gains[x];
        }
        writer.end(y);
    }
}

}  // namespace
