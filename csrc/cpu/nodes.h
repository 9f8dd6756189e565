// The operations of `node.h`, for the vector type of the including source.
#pragma once

#include "depthwise.h"
#include "gates.h"

namespace {

// Row `i` of every square, whose pixels lie side by side in the output.
void unshuffled_row(const Node& node, const Image& in, const float* row, int i, int width, float* to) {
    const int r = node.factor, channels = in.channels;
    for (int j = 0; j < r; ++j) {
        float* pixel = to + i * r + j;
        for (int x = 0; x < width; ++x, pixel += static_cast<std::ptrdiff_t>(channels) * r * r) {
            const int column = x * r + j + node.offset;
            const bool inside = column >= 0 && column < in.width;
            const float* from = row + static_cast<std::ptrdiff_t>(inside ? column : 0) * channels;
            for (int c = 0; c < channels; ++c) pixel[static_cast<std::ptrdiff_t>(c) * r * r] = inside ? from[c] : 0.0f;
        }
    }
}

// Rows of `shrink` x `shrink` squares of the input, side by side in the output or reduced to one value.
void shrunk_row(const Node& node, const Image& in, int y, int width, float* to) {
    const int r = node.factor, channels = in.channels;
    const bool keep = node.operation == Operation::unshuffle, largest = node.operation == Operation::max_pool;
    for (int i = 0; i < r; ++i) {
        const float* row = in.row(y * r + i + node.offset);
        if (keep) {
            unshuffled_row(node, in, row, i, width, to);
            continue;
        }
        for (int x = 0; x < width; ++x)
            for (int j = 0; j < r; ++j, row += channels) {
                float* pixel = to + static_cast<std::ptrdiff_t>(x) * channels;
                if (i + j == 0)
                    for (int c = 0; c < channels; ++c) pixel[c] = row[c];
                else if (largest)
                    for (int c = 0; c < channels; ++c)
                        pixel[c] = row[c] > pixel[c] || row[c] != row[c] ? row[c] : pixel[c];
                else
                    for (int c = 0; c < channels; ++c) pixel[c] += row[c];
            }
    }
    if (node.operation != Operation::average_pool) return;
    for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(width) * channels; ++i)
        to[i] /= static_cast<float>(r * r);
}

void shuffled_row(const Node& node, const Image& in, int y, float* to) {
    const int r = node.factor, channels = in.channels / (r * r);
    const int below = y - node.offset + r, source = below / r - 1,
              phase = below % r * r;  // of numbers that are not negative
    const bool outside = source < 0 || source >= in.height;
    const float* row = in.row(source);
    for (int x = 0; x < in.width * r; ++x) {
        const int right = x - node.offset + r, column = right / r - 1;
        const bool beyond = outside || column < 0 || column >= in.width;
        const float* pixel = beyond ? node.tensors[0].data() : row + static_cast<std::ptrdiff_t>(column) * in.channels;
        const float* from = pixel + phase + right % r;
        for (int c = 0; c < channels; ++c) *to++ = from[c * r * r];
    }
}

// `count` channels of every pixel; `from` and `to` have `from_step` and `to_step` of them.
void copy_channels(const float* from, int from_step, float* to, int to_step, int count, int width) {
    for (int x = 0; x < width; ++x, from += from_step, to += to_step)
        std::memcpy(to, from, sizeof(float) * static_cast<std::size_t>(count));
}

void concat_row(const NodeTask& task, int y, float* to) {
    for (const Image& in : task.sources) {
        copy_channels(in.row(y), in.channels, to, task.out.channels, in.channels, in.width);
        to += in.channels;
    }
}

// to[i] = sum over t of weights[t] * from(t)[i], without the terms of weight 0.
template <class From>
void blend(const float* weights, int taps, std::ptrdiff_t values, float* to, From from) {
    bool none = true;
    for (int t = 0; t < taps; ++t) {
        if (weights[t] == 0.0f) continue;
        const float* row = from(t);
        const float w = weights[t];
        if (none)
            for (std::ptrdiff_t i = 0; i < values; ++i) to[i] = row[i] * w;
        else
            for (std::ptrdiff_t i = 0; i < values; ++i) to[i] += row[i] * w;
        none = false;
    }
}

// Enlarges rows, then columns; pixels beyond the image are those at its border.
void resized_row(const Node& node, const Image& in, int y, float* blended, float* to) {
    const int r = node.factor, reach = node.reach, taps = 2 * reach + 1, channels = in.channels;
    const auto inside = [](int at, int size) { return at < 0 ? 0 : (at < size ? at : size - 1); };
    const std::ptrdiff_t values = static_cast<std::ptrdiff_t>(in.width) * channels;
    float* middle = blended + static_cast<std::ptrdiff_t>(reach) * channels;
    blend(&node.tensors[0][static_cast<std::size_t>(y % r * taps)], taps, values, middle,
          [&](int t) { return in.row(inside(y / r + t - reach, in.height)); });
    for (int i = 0; i < reach; ++i)
        for (int c = 0; c < channels; ++c) {
            blended[i * channels + c] = middle[c];
            middle[values + i * channels + c] = middle[values - channels + c];
        }
    float* column = blended + values + 2 * reach * channels;  // the pixels of one phase
    for (int phase = 0; phase < r; ++phase) {
        blend(&node.tensors[0][static_cast<std::size_t>(phase * taps)], taps, values, column,
              [&](int t) { return blended + t * channels; });
        for (int x = 0; x < in.width; ++x)
            for (int c = 0; c < channels; ++c)
                to[static_cast<std::ptrdiff_t>(x * r + phase) * channels + c] = column[x * channels + c];
    }
}

// Operations that take a row of one or two activations to a row of the same size.
void plain_row(const Node& node, const NodeTask& task, int y, float* to) {
    const Image& in = task.sources[0];
    const int channels = in.channels, width = in.width;
    const std::ptrdiff_t values = static_cast<std::ptrdiff_t>(width) * channels;
    const float* from = in.row(y);
    const auto per_channel = [&](const float* minus, const float* times, const float* plus) {
        for (int x = 0; x < width; ++x, from += channels, to += channels) {
            int c = 0;
            for (; c + Vec::width <= channels; c += Vec::width) {
                Vec value = Vec::load(from + c);
                if (minus) value = value - Vec::load(minus + c);
                value = value * Vec::load(times + c);
                if (plus) value = value + Vec::load(plus + c);
                value.store(to + c);
            }
            for (; c < channels; ++c)
                to[c] = (from[c] - (minus ? minus[c] : 0.0f)) * times[c] + (plus ? plus[c] : 0.0f);
        }
    };
    switch (node.operation) {
        case Operation::affine: return per_channel(nullptr, node.tensors[0].data(), node.tensors[1].data());
        case Operation::pixel_norm: return pixel_norm_row(node, from, to, width, channels);
        case Operation::slice: return copy_channels(from + node.first, channels, to, node.length, node.length, width);
        case Operation::group_norm: return per_channel(Moments(task).mean, Moments(task).gain, node.tensors[1].data());
        case Operation::channel_gate: return per_channel(nullptr, Moments(task).gain, nullptr);
        case Operation::activate:
            return apply_curve(node.curve, node.tensors.empty() ? nullptr : node.tensors[0].data(), from, to, width,
                               channels);
        case Operation::clamp:
            for (std::ptrdiff_t i = 0; i < values; ++i)
                to[i] = from[i] < node.low ? node.low : (from[i] > node.high ? node.high : from[i]);
            return;
        default: break;
    }
    const Image& second = task.sources[1];
    const float* other = second.row(y);
    if (node.operation == Operation::gated_sum) return gated_sum_row(node, from, other, to, values);
    if (node.operation == Operation::add)
        for (std::ptrdiff_t i = 0; i < values; ++i) to[i] = from[i] + other[i];
    else if (second.channels == channels)
        for (std::ptrdiff_t i = 0; i < values; ++i) to[i] = from[i] * other[i];
    else
        for (int x = 0; x < width; ++x)
            for (int c = 0; c < channels; ++c) to[x * channels + c] = from[x * channels + c] * other[x];
}

void run_node(const Node& node, const NodeTask& task) {
    if (node.whole() && task.first == 0) measure(node, task);
    const int grow = node.grow();
    const Range range = part(static_cast<long>(task.last - task.first) * grow, 1, task.index, task.count);
    const int first = task.first * grow + static_cast<int>(range.first),
              last = task.first * grow + static_cast<int>(range.last);
    if (node.operation == Operation::spatial_gate) return run_spatial_gate(node, task, first, last);
    const Image& in = task.sources[0];
    std::vector<float> blended;
    if (node.operation == Operation::resize)
        blended.resize(static_cast<std::size_t>(2 * (in.width + node.reach) * in.channels));
    RowWriter writer(task);
    for (int y = first; y < last; ++y) {
        float* to = writer.begin(y);
        if (node.shrinks())
            shrunk_row(node, in, y, task.out.width, to);
        else if (node.operation == Operation::shuffle)
            shuffled_row(node, in, y, to);
        else if (node.operation == Operation::concat)
            concat_row(task, y, to);
        else if (node.operation == Operation::depthwise)
            depthwise_row(node, in, y, to);
        else if (node.operation == Operation::resize)
            resized_row(node, in, y, blended.data(), to);
        else
            plain_row(node, task, y, to);
        writer.end(y);
    }
}

}  // namespace
