// One vector type per instruction set; the kernels are templates over it. Included by one source per instruction set only.
#pragma once

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif
#include <cmath>
#include <cstdint>

#define SRFAST_INLINE inline __attribute__((always_inline))

namespace {

#if defined(__AVX512F__)
struct Vec {
    static constexpr int width = 16;
    static constexpr int columns = 4;  // vectors of a panel, at most
    static constexpr int accumulators = 24;
    __m512 v;
    static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
    static Vec set1(float x) { return {_mm512_set1_ps(x)}; }
    static Vec zero() { return {_mm512_setzero_ps()}; }
    void store(float* p) const { _mm512_storeu_ps(p, v); }
};
inline Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }    // a * b + c
inline Vec fnma(Vec a, Vec b, Vec c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }  // c - a * b
// The bound is the second operand of min and max, so that NaN stays NaN.
inline Vec clamp(Vec x, Vec low, Vec high) { return {_mm512_min_ps(high.v, _mm512_max_ps(low.v, x.v))}; }
inline Vec prelu(Vec x, Vec slope) {
    return {_mm512_mask_mul_ps(x.v, _mm512_cmp_ps_mask(x.v, _mm512_setzero_ps(), _CMP_LT_OQ), x.v, slope.v)};
}
inline Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec maximum(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec where_negative(Vec x, Vec then, Vec otherwise) {
    return {_mm512_mask_mov_ps(otherwise.v, _mm512_cmp_ps_mask(x.v, _mm512_setzero_ps(), _CMP_LT_OQ), then.v)};
}
// x 2^n for whole numbers n, where that is a normal number.
inline Vec times_power(Vec x, Vec n) { return {_mm512_scalef_ps(x.v, n.v)}; }
inline Vec round_even(Vec x) { return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
// Rounded to even and saturated; NaN is 0.
inline void store_bytes(Vec x, std::uint8_t* to) {
    const __m512 value = _mm512_min_ps(_mm512_max_ps(x.v, _mm512_setzero_ps()), _mm512_set1_ps(255.0f));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(value)));
}
inline void store_words(Vec x, std::uint16_t* to) {
    const __m512 value = _mm512_min_ps(_mm512_max_ps(x.v, _mm512_setzero_ps()), _mm512_set1_ps(65535.0f));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(value)));
}
#elif defined(__AVX2__)
struct Vec {
    static constexpr int width = 8;
    static constexpr int columns = 2;
    static constexpr int accumulators = 12;
    __m256 v;
    static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
    static Vec set1(float x) { return {_mm256_set1_ps(x)}; }
    static Vec zero() { return {_mm256_setzero_ps()}; }
    void store(float* p) const { _mm256_storeu_ps(p, v); }
};
inline Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec fnma(Vec a, Vec b, Vec c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
inline Vec clamp(Vec x, Vec low, Vec high) { return {_mm256_min_ps(high.v, _mm256_max_ps(low.v, x.v))}; }
inline Vec prelu(Vec x, Vec slope) {
    return {_mm256_blendv_ps(x.v, _mm256_mul_ps(x.v, slope.v), _mm256_cmp_ps(x.v, _mm256_setzero_ps(), _CMP_LT_OQ))};
}
inline Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
inline Vec maximum(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Vec where_negative(Vec x, Vec then, Vec otherwise) {
    return {_mm256_blendv_ps(otherwise.v, then.v, _mm256_cmp_ps(x.v, _mm256_setzero_ps(), _CMP_LT_OQ))};
}
inline Vec times_power(Vec x, Vec n) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
    return {_mm256_mul_ps(x.v, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)))};
}
inline Vec round_even(Vec x) { return {_mm256_round_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline void store_bytes(Vec x, std::uint8_t* to) {
    const __m256 value = _mm256_min_ps(_mm256_max_ps(x.v, _mm256_setzero_ps()), _mm256_set1_ps(255.0f));
    const __m256i whole = _mm256_cvtps_epi32(value);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(words, words));
}
inline void store_words(Vec x, std::uint16_t* to) {
    const __m256 value = _mm256_min_ps(_mm256_max_ps(x.v, _mm256_setzero_ps()), _mm256_set1_ps(65535.0f));
    const __m256i whole = _mm256_cvtps_epi32(value);
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), words);
}
#else
struct Vec {
    static constexpr int width = 4;
    static constexpr int columns = 2;
    static constexpr int accumulators = 8;
    float v[4];
    static Vec load(const float* p) { return {{p[0], p[1], p[2], p[3]}}; }
    static Vec set1(float x) { return {{x, x, x, x}}; }
    static Vec zero() { return set1(0.0f); }
    void store(float* p) const {
        for (int i = 0; i < 4; ++i) p[i] = v[i];
    }
};
template <class F>
inline Vec each(F f) {
    return {{f(0), f(1), f(2), f(3)}};
}
inline Vec operator+(Vec a, Vec b) {
    return each([&](int i) { return a.v[i] + b.v[i]; });
}
inline Vec operator-(Vec a, Vec b) {
    return each([&](int i) { return a.v[i] - b.v[i]; });
}
inline Vec operator*(Vec a, Vec b) {
    return each([&](int i) { return a.v[i] * b.v[i]; });
}
inline Vec fma(Vec a, Vec b, Vec c) {
    return each([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}
inline Vec fnma(Vec a, Vec b, Vec c) {
    return each([&](int i) { return c.v[i] - a.v[i] * b.v[i]; });
}
inline Vec clamp(Vec x, Vec low, Vec high) {
    return each([&](int i) { return x.v[i] < low.v[i] ? low.v[i] : (x.v[i] > high.v[i] ? high.v[i] : x.v[i]); });
}
inline Vec prelu(Vec x, Vec slope) {
    return each([&](int i) { return x.v[i] < 0 ? x.v[i] * slope.v[i] : x.v[i]; });
}
inline Vec operator/(Vec a, Vec b) {
    return each([&](int i) { return a.v[i] / b.v[i]; });
}
inline Vec maximum(Vec a, Vec b) {
    return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Vec where_negative(Vec x, Vec then, Vec otherwise) {
    return each([&](int i) { return x.v[i] < 0.0f ? then.v[i] : otherwise.v[i]; });
}
inline Vec times_power(Vec x, Vec n) {
    return each([&](int i) { return n.v[i] == n.v[i] ? std::ldexp(x.v[i], static_cast<int>(n.v[i])) : n.v[i]; });
}
inline Vec round_even(Vec x) {
    return each([&](int i) { return std::nearbyintf(x.v[i]); });
}
inline void store_bytes(Vec x, std::uint8_t* to) {
    for (int i = 0; i < Vec::width; ++i)
        to[i] = static_cast<std::uint8_t>(x.v[i] > 0.0f ? std::lrintf(x.v[i] < 255.0f ? x.v[i] : 255.0f) : 0);
}
inline void store_words(Vec x, std::uint16_t* to) {
    for (int i = 0; i < Vec::width; ++i)
        to[i] = static_cast<std::uint16_t>(x.v[i] > 0.0f ? std::lrintf(x.v[i] < 65535.0f ? x.v[i] : 65535.0f) : 0);
}
#endif

}  // namespace
