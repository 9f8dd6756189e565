// From float32 to 8 bits and from 8-bit sums back, with AVX-512.
#pragma once

#include "lowp.h"

namespace {

// round(x * input_inverse) + input_zero, saturated; false where a value was NaN or infinite.
inline bool convert_int8(const Conv& conv, const float* from, int channels, std::uint8_t* to) {
    const __m512 inverse = _mm512_set1_ps(conv.input_inverse),
                 zero = _mm512_set1_ps(static_cast<float>(conv.input_zero));
    __mmask16 bad = 0;
    for (int c = 0; c < channels; c += 16) {
        const __m512 x = _mm512_loadu_ps(from + c);
        bad |= _mm512_cmp_ps_mask(_mm512_sub_ps(x, x), _mm512_setzero_ps(), _CMP_NEQ_UQ);
        // Limited before the conversion, which has no saturation of its own.
        const __m512 q = _mm512_min_ps(_mm512_max_ps(_mm512_fmadd_ps(x, inverse, zero), _mm512_setzero_ps()),
                                       _mm512_set1_ps(255.0f));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + c), _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(q)));
    }
    return bad == 0;
}

// Sums of 8-bit products to float32.
SRFAST_INLINE void store_scaled(__m512i sums, const Conv& conv, int output, float* to) {
    const __m512 scale = _mm512_loadu_ps(&conv.scale[static_cast<std::size_t>(output)]);
    _mm512_storeu_ps(to, _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale));
}

}  // namespace
