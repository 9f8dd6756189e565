// From sums to results: bias, activation, gain, residual, clamp, pixel shuffle, bytes.
#pragma once

#include "curves.h"
#include "multiply.h"

#include <cmath>
#include <cstring>

namespace {

// What is known of the activation when the kernels are compiled; curves are told apart as they run.
enum class Ending { plain, prelu, curve };

inline Ending ending_of(const Conv& conv) {
    if (conv.curve == Curve::none) return Ending::plain;
    return conv.curve == Curve::prelu ? Ending::prelu : Ending::curve;
}

// Pixels x..x + pixels of row y; sums, `pitch` floats a pixel, are the convolution without bias.
template <Ending Act, bool Residual>
SRFAST_INLINE void finish_vectors(const Conv& conv, const Task& task, int y, int x, int pixels, const float* sums,
                                  int pitch, const Group& group) {
    const Image& out = *task.out;
    const Image* residual = task.residual;
    const int run = conv.row_run();
    const Vec gain = Vec::set1(conv.gain), low = Vec::set1(conv.low), high = Vec::set1(conv.high);
    for (int v = 0; v < group.vectors; ++v) {
        const int output = group.first + v * Vec::width;
        const int row = y * conv.shuffle + output / run;
        const std::ptrdiff_t offset = static_cast<std::ptrdiff_t>(x) * run + output % run;
        const Vec bias = Vec::load(&conv.bias[output]);
        const Vec slope = Vec::load(&conv.slope[output]);
        const float* add = Residual ? residual->row(row) + offset : nullptr;
        float* to = out.base + out.slots[row] + offset;
        for (int p = 0; p < pixels; ++p) {
            Vec value = Vec::load(sums + p * pitch + v * Vec::width) + bias;
            if (Act == Ending::prelu) value = prelu(value, slope);
            if (Act == Ending::curve) value = curve_of(conv.curve, value);
            if (Residual)
                value = fma(value, gain, Vec::load(add + static_cast<std::ptrdiff_t>(p) * run));
            else if (conv.gain != 1.0f)
                value = value * gain;
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
void finish_scalars(const Conv& conv, const Task& task, int y, int x, int pixels, float* sums, int pitch,
                    const Group& group) {
    const Image& out = *task.out;
    const Image* residual = task.residual;
    const int run = conv.row_run(), channels = out.channels, factor = conv.residual_factor;
    bool finite = true;
    for (int p = 0; p < pixels; ++p, sums += pitch) {
        for (int v = 0; v < group.vectors; ++v) {
            const int output = group.first + v * Vec::width;
            Vec value = Vec::load(sums + v * Vec::width) + Vec::load(&conv.bias[output]);
            value = activated(conv.curve, value, Vec::load(&conv.slope[output]));
            if (conv.gain != 1.0f) value = value * Vec::set1(conv.gain);
            value.store(sums + v * Vec::width);
        }
        int output = group.first, left = group.outputs;
        const float* value = sums;
        while (left > 0) {
            const int offset = output % run, row = y * conv.shuffle + output / run;
            const int length = run - offset < left ? run - offset : left;
            if (residual) {
                // One division for a run: for every value they would take most of the time.
                const int column = (x + p) * conv.shuffle + offset / channels;
                int channel = offset % channels, repeated = column % factor;
                const float* add =
                    residual->row(row / factor) + static_cast<std::ptrdiff_t>(column / factor) * channels;
                for (int i = 0; i < length; ++i) {
                    sums[value - sums + i] += add[channel];
                    if (++channel < channels) continue;
                    channel = 0;
                    if (++repeated == factor) {
                        repeated = 0;
                        add += channels;
                    }
                }
            }
            if (conv.clamp)
                for (int i = 0; i < length; ++i) {
                    float& f = sums[value - sums + i];
                    f = f < conv.low ? conv.low : (f > conv.high ? conv.high : f);
                }
            const std::ptrdiff_t at = out.slots[row] + static_cast<std::ptrdiff_t>(x + p) * run + offset;
            if (out.bytes)
                for (int i = 0; i < length; ++i) {
                    out.bytes[at + i] = to_byte(value[i]);
                    finite &= value[i] - value[i] == 0.0f;
                }
            else
                std::memcpy(out.base + at, value, sizeof(float) * static_cast<std::size_t>(length));
            output += length;
            value += length;
            left -= length;
        }
    }
    if (!finite) *task.bad = true;
}

// Whether the outputs of a group are whole vectors in memory, of float32, and a residual of the same size is added.
inline bool fills_vectors(const Conv& conv, const Image& out, const Group& group) {
    return conv.row_run() % Vec::width == 0 && group.outputs % Vec::width == 0 && !out.bytes &&
           conv.residual_factor == 1;
}

template <Ending Act>
SRFAST_INLINE void finish_with(const Conv& conv, const Task& task, int y, int x, int pixels, const float* sums,
                               int pitch, const Group& group) {
    task.residual ? finish_vectors<Act, true>(conv, task, y, x, pixels, sums, pitch, group)
                  : finish_vectors<Act, false>(conv, task, y, x, pixels, sums, pitch, group);
}

SRFAST_INLINE void finish(const Conv& conv, const Task& task, int y, int x, int pixels, float* sums, int pitch,
                          const Group& group) {
    if (!fills_vectors(conv, *task.out, group)) return finish_scalars(conv, task, y, x, pixels, sums, pitch, group);
    switch (ending_of(conv)) {
        case Ending::plain: return finish_with<Ending::plain>(conv, task, y, x, pixels, sums, pitch, group);
        case Ending::prelu: return finish_with<Ending::prelu>(conv, task, y, x, pixels, sums, pitch, group);
        default: return finish_with<Ending::curve>(conv, task, y, x, pixels, sums, pitch, group);
    }
}

}  // namespace
