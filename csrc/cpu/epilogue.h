// From sums to results: bias, activation, gain, residual, clamp, pixel shuffle, bytes.
#pragma once

#include "curves.h"
#include "multiply.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace {

// What is known of the activation when the kernels are compiled; curves are told apart as they run.
enum class Ending { plain, prelu, curve };

inline Ending ending_of(const Conv& conv) {
    if (conv.curve == Curve::none) return Ending::plain;
    return conv.curve == Curve::prelu ? Ending::prelu : Ending::curve;
}

// One vector of outputs, from `output` on, of pixels from x on in row y: what it takes to turn sums into results, and where these go.
template <Ending Act, bool Residual>
struct Results {
    const Conv& conv;
    const int run, row;
    const std::ptrdiff_t offset;
    const Vec bias, slope, gain, low, high;
    const float* add;
    float* to;

    SRFAST_INLINE Results(const Conv& of, const Task& task, int y, int x, int output)
        : conv(of),
          run(of.row_run()),
          row(y * of.shuffle + output / run),
          offset(static_cast<std::ptrdiff_t>(x) * run + output % run),
          bias(Vec::load(&of.bias[output])),
          slope(Vec::load(&of.slope[output])),
          gain(Vec::set1(of.gain)),
          low(Vec::set1(of.low)),
          high(Vec::set1(of.high)),
          add(Residual ? task.residual->row(row) + offset : nullptr),
          to(task.out->base + task.out->slots[row] + offset) {}

    // `sum` is the convolution of pixel x + p without bias.
    SRFAST_INLINE void store(int p, Vec sum) const {
        Vec value = sum + bias;
        if (Act == Ending::prelu) value = prelu(value, slope);
        if (Act == Ending::curve) value = curve_of(conv.curve, value);
        if (Residual)
            value = fma(value, gain, Vec::load(add + static_cast<std::ptrdiff_t>(p) * run));
        else if (conv.gain != 1.0f)
            value = value * gain;
        if (conv.clamp) value = clamp(value, low, high);
        value.store(to + static_cast<std::ptrdiff_t>(p) * run);
    }
};

// Pixels x..x + pixels of row y; sums, `pitch` floats a pixel, are the convolution without bias.
template <Ending Act, bool Residual>
SRFAST_INLINE void finish_vectors(const Conv& conv, const Task& task, int y, int x, int pixels, const float* sums,
                                  int pitch, const Group& group) {
    for (int v = 0; v < group.vectors; ++v) {
        const Results<Act, Residual> results(conv, task, y, x, group.first + v * Vec::width);
        for (int p = 0; p < pixels; ++p) results.store(p, Vec::load(sums + p * pitch + v * Vec::width));
    }
}

// Rounded to even and saturated; NaN is 0.
template <class T>
inline T to_integer(float value) {
    constexpr float most = std::numeric_limits<T>::max();
    value = value > 0.0f ? value : 0.0f;
    value = value < most ? value : most;
    return static_cast<T>(std::lrintf(value));
}

// Results to bytes or words, `at` values from the first. False where one of them was NaN or infinite.
inline bool store_integers(const Image& out, std::ptrdiff_t at, const float* values, int count) {
    bool finite = true;
    for (int i = 0; i < count; ++i) finite &= values[i] - values[i] == 0.0f;
    if (out.bytes)
        for (int i = 0; i < count; ++i) out.bytes[at + i] = to_integer<std::uint8_t>(values[i]);
    else
        for (int i = 0; i < count; ++i) out.words[at + i] = to_integer<std::uint16_t>(values[i] * srfast::kWord);
    return finite;
}

// The general form, for outputs that do not fill vectors, for enlarged residuals and for integers.
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
            if (out.base)
                std::memcpy(out.base + at, value, sizeof(float) * static_cast<std::size_t>(length));
            else
                finite &= store_integers(out, at, value, length);
            output += length;
            value += length;
            left -= length;
        }
    }
    if (!finite) *task.bad = true;
}

// Whether the outputs of a group are whole vectors in memory, of float32, and a residual of the same size is added.
inline bool fills_vectors(const Conv& conv, const Image& out, const Group& group) {
    return conv.row_run() % Vec::width == 0 && group.outputs % Vec::width == 0 && out.base && conv.residual_factor == 1;
}

// Fetches into L2, while sums are formed, where the results of a few pixels will be stored and what will be added to them: outputs
// from `output` on, as many vectors as lie side by side. For groups that fill vectors.
inline void fetch_results(const Conv& conv, const Task& task, int y, int x, int pixels, int output, int vectors) {
    const int run = conv.row_run(), row = y * conv.shuffle + output / run;
    const std::ptrdiff_t offset = static_cast<std::ptrdiff_t>(x) * run + output % run;
    const float* to = task.out->base + task.out->slots[row] + offset;
    const float* add = task.residual ? task.residual->row(row) + offset : nullptr;
    constexpr int line = 16;
    for (int p = 0; p < pixels; ++p)
        for (int i = 0; i < vectors * Vec::width; i += line) {
            __builtin_prefetch(to + static_cast<std::ptrdiff_t>(p) * run + i, 1, 2);
            if (add) __builtin_prefetch(add + static_cast<std::ptrdiff_t>(p) * run + i, 0, 2);
        }
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
