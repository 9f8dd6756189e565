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

// 1 + erf(x) for x <= 0 and, as erfc is symmetric about 1, what to take from 2 above: Press et al., Numerical Recipes, erfcc,
// whose relative error is at most 1.2e-7 everywhere.
inline float erfc_of_size(float x) {
    const float z = x < 0.0f ? -x : x, t = 1.0f / (1.0f + 0.5f * z);
    float p = 0.17087277f;
    p = p * t - 0.82215223f;
    p = p * t + 1.48851587f;
    p = p * t - 1.13520398f;
    p = p * t + 0.27886807f;
    p = p * t - 0.18628806f;
    p = p * t + 0.09678418f;
    p = p * t + 0.37409196f;
    p = p * t + 1.00002368f;
    p = p * t - 1.26551223f;
    return t * exponential(p - z * z);
}

inline float gelu(float x) {
    const float half = 0.5f * erfc_of_size(x * 0.70710678f);
    return x * (x < 0.0f ? half : 1.0f - half);
}

// x tanh(ln(1 + e^x)) without the logarithm: with n = e^x (e^x + 2) it is x n / (n + 2), of which n / (n + 2) is 1 from 20 on.
inline float mish(float x) {
    const float e = exponential(x > 20.0f ? 20.0f : x), n = e * (e + 2.0f);
    return x * (n / (n + 2.0f));
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

// `count` pixels of `channels` channels through the curve.
inline void apply_curve(Curve curve, const float* slope, const float* from, float* to, std::ptrdiff_t count,
                        int channels) {
    const std::ptrdiff_t values = count * channels;
    switch (curve) {
        case Curve::none: break;
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
        case Curve::mish:
            for (std::ptrdiff_t i = 0; i < values; ++i) to[i] = mish(from[i]);
            break;
        default:
            for (std::ptrdiff_t i = 0; i < values; ++i) to[i] = gelu(from[i]);
    }
}

}  // namespace
