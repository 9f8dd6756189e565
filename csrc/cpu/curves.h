// Activations on vectors, and on rows of values.
#pragma once

#include "conv.h"
#include "simd.h"

#include <cstring>

namespace {

using srfast::Curve;

// e^x within 2 units of the last place, limited to normal numbers: 2^n e^r with n = round(x / ln 2), and Cephes' polynomial
// for e^r. NaN stays NaN.
SRFAST_INLINE Vec exponential(Vec x) {
    x = clamp(x, Vec::set1(-87.3f), Vec::set1(88.37f));
    const Vec n = round_even(x * Vec::set1(1.44269504f));
    // ln 2 in two parts, of which the first has few bits, so that its multiples are exact.
    const Vec r = fma(n, Vec::set1(2.12194440e-4f), fnma(n, Vec::set1(0.693359375f), x));
    Vec p = Vec::set1(1.9875691500e-4f);
    p = fma(p, r, Vec::set1(1.3981999507e-3f));
    p = fma(p, r, Vec::set1(8.3334519073e-3f));
    p = fma(p, r, Vec::set1(4.1665795894e-2f));
    p = fma(p, r, Vec::set1(1.6666665459e-1f));
    p = fma(p, r, Vec::set1(5.0000001201e-1f));
    return times_power(fma(p, r * r, r + Vec::set1(1.0f)), n);
}

SRFAST_INLINE Vec sigmoid(Vec x) {
    const Vec one = Vec::set1(1.0f);
    return one / (one + exponential(Vec::zero() - x));
}

SRFAST_INLINE Vec silu(Vec x) { return x / (Vec::set1(1.0f) + exponential(Vec::zero() - x)); }

SRFAST_INLINE Vec hyperbolic_tangent(Vec x) {
    const Vec one = Vec::set1(1.0f), two = Vec::set1(2.0f);
    return one - two / (exponential(two * x) + one);
}

// 1 + erf(x) for x <= 0 and, as erfc is symmetric about 1, what to take from 2 above: Press et al., Numerical Recipes, erfcc,
// whose relative error is at most 1.2e-7 everywhere.
SRFAST_INLINE Vec erfc_of_size(Vec x) {
    const Vec one = Vec::set1(1.0f), z = maximum(x, Vec::zero() - x), t = one / fma(Vec::set1(0.5f), z, one);
    Vec p = Vec::set1(0.17087277f);
    p = fma(p, t, Vec::set1(-0.82215223f));
    p = fma(p, t, Vec::set1(1.48851587f));
    p = fma(p, t, Vec::set1(-1.13520398f));
    p = fma(p, t, Vec::set1(0.27886807f));
    p = fma(p, t, Vec::set1(-0.18628806f));
    p = fma(p, t, Vec::set1(0.09678418f));
    p = fma(p, t, Vec::set1(0.37409196f));
    p = fma(p, t, Vec::set1(1.00002368f));
    p = fma(p, t, Vec::set1(-1.26551223f));
    return t * exponential(fnma(z, z, p));
}

SRFAST_INLINE Vec gelu(Vec x) {
    const Vec half = Vec::set1(0.5f) * erfc_of_size(x * Vec::set1(0.70710678f));
    return x * where_negative(x, half, Vec::set1(1.0f) - half);
}

// x tanh(ln(1 + e^x)) without the logarithm: with n = e^x (e^x + 2) it is x n / (n + 2), of which n / (n + 2) is 1 from 20 on.
SRFAST_INLINE Vec mish(Vec x) {
    const Vec two = Vec::set1(2.0f), e = exponential(clamp(x, Vec::set1(-1e30f), Vec::set1(20.0f))), n = e * (e + two);
    return x * (n / (n + two));
}

// A curve that has no slopes.
SRFAST_INLINE Vec curve_of(Curve curve, Vec x) {
    switch (curve) {
        case Curve::tanh: return hyperbolic_tangent(x);
        case Curve::sigmoid: return sigmoid(x);
        case Curve::silu: return silu(x);
        case Curve::mish: return mish(x);
        case Curve::gelu: return gelu(x);
        default: return x;
    }
}

SRFAST_INLINE Vec activated(Curve curve, Vec x, Vec slope) {
    return curve == Curve::prelu ? prelu(x, slope) : curve_of(curve, x);
}

// Calls `use` with the curve, which has no slopes, as a function: a choice within a loop would keep its constants out of
// registers.
template <class Use>
SRFAST_INLINE void with_curve(Curve curve, Use use) {
    switch (curve) {
        case Curve::tanh: return use([](Vec x) { return hyperbolic_tangent(x); });
        case Curve::sigmoid: return use([](Vec x) { return sigmoid(x); });
        case Curve::silu: return use([](Vec x) { return silu(x); });
        case Curve::mish: return use([](Vec x) { return mish(x); });
        case Curve::gelu: return use([](Vec x) { return gelu(x); });
        default: return use([](Vec x) { return x; });
    }
}

// to[i] = f(from[i]...) with vectors; the last has zeros where there are no more values.
template <class F, class... From>
SRFAST_INLINE void each_vector(float* to, std::ptrdiff_t values, F f, From... from) {
    std::ptrdiff_t i = 0;
    for (; i + Vec::width <= values; i += Vec::width) f(Vec::load(from + i)...).store(to + i);
    if (i == values) return;
    const std::size_t size = sizeof(float) * static_cast<std::size_t>(values - i);
    const auto padded = [&](const float* p) {
        float rest[Vec::width] = {};
        std::memcpy(rest, p + i, size);
        return Vec::load(rest);
    };
    float rest[Vec::width];
    f(padded(from)...).store(rest);
    std::memcpy(to + i, rest, size);
}

// `count` pixels of `channels` channels through the curve.
inline void apply_curve(Curve curve, const float* slope, const float* from, float* to, std::ptrdiff_t count,
                        int channels) {
    if (curve != Curve::prelu) return with_curve(curve, [&](auto f) { each_vector(to, count * channels, f, from); });
    for (std::ptrdiff_t p = 0; p < count; ++p)
        for (int c = 0; c < channels; ++c) {
            const float x = from[p * channels + c];
            to[p * channels + c] = x < 0.0f ? x * slope[c] : x;
        }
}

}  // namespace
