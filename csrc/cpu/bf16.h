// From float32 to bfloat16, with AVX-512.
#pragma once

#include "lowp.h"

namespace {

// Rounded to nearest even; false where a value was NaN or infinite. `channels` are a multiple of 16.
inline bool convert_bf16(const float* from, int channels, std::uint16_t* to) {
    __mmask16 bad = 0;
    for (int c = 0; c < channels; c += 16) {
        const __m512 x = _mm512_loadu_ps(from + c);
        bad |= _mm512_cmp_ps_mask(_mm512_sub_ps(x, x), _mm512_setzero_ps(), _CMP_NEQ_UQ);
        const __m512i bits = _mm512_castps_si512(x);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + c), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
    }
    return bad == 0;
}

// Of a group's weights in tiles of 32 channels x 16 outputs, which come in pairs.
inline std::ptrdiff_t bf16_group_bytes(const Conv& conv, const Group& group) {
    return 2 * static_cast<std::ptrdiff_t>(conv.kernel) * conv.kernel * conv.in_channels *
           ((group.vectors + 1) / 2 * 32);
}

}  // namespace
