// Activations on rows of values, as loops that compilers turn into vectors.
#pragma once

#include "node.h"

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

using srfast::Curve;

// e^x within 2 units of the last place, limited to normal numbers: 2^n e^r with n = round(x / ln 2), and Cephes' polynomial
// for e^r. NaN stays NaN. 1.5 * 2^23 rounds to a whole number and leaves it in the low bits.
inline float exponential(float x) {
    x = x < -87.3f ? -87.3f : x;
    x = x > 88.37f ? 88.37f : x;
    const float magic = 12582912.0f, shifted = x * 1.44269504f + magic, n = shifted - magic;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    std::uint32_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits - 0x4B400000u + 127u) << 23;
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

// `count` pixels of `channels` channels through the curve.
inline void apply_curve(Curve curve, const float* slope, const float* from, float* to, std::ptrdiff_t count,
                        int channels) {
    const std::ptrdiff_t values = count * channels;
    switch (curve) {
        case Curve::prelu:
            for (std::ptrdiff_t p = 0; p < count; ++p)
                for (int c = 0; c < channels; ++c) {
                    const float x = from[p * channels + c];
                    to[p * channels + c] = x < 0.0f ? x * slope[c] : x;
                }
            break;
        case Curve::tanh:
            for (std::ptrdiff_t i = 0; i < values; ++i) to[i] = 1.0f - 2.0f / (exponential(2.0f * from[i]) + 1.0f);
            break;
        case Curve::sigmoid:
            for (std::ptrdiff_t i = 0; i < values; ++i) to[i] = sigmoid(from[i]);
            break;
        case Curve::silu:
            for (std::ptrdiff_t i = 0; i < values; ++i) to[i] = from[i] * sigmoid(from[i]);
            break;
        default:
            for (std::ptrdiff_t i = 0; i < values; ++i)
                to[i] = 0.5f * from[i] * (1.0f + std::erf(from[i] * 0.70710678f));
    }
}

}  // namespace
