#include "conv.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace srfast {
namespace {

std::uint16_t to_bf16(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace

bool lowp_fits(int kernel, int in_channels, int stride) {
    // bfloat16 takes two bytes, and a product covers kLowpStep pixels.
    return kernel <= kMaxKernel && in_channels % 32 == 0 &&
           2 * kernel * in_channels * (kLowpStep * stride + kernel - stride) <= kLowpBytes;
}

void pack_lowp(Conv& conv, LowPrecision type, const float* weight) {
    const int taps = conv.kernel * conv.kernel, in = conv.in_channels, out = conv.out_channels;
    const bool bytes = type != LowPrecision::bf16, tiles = type != LowPrecision::int8;
    const int joined = bytes ? 4 : 2, size = 4 / joined;  // channels side by side, bytes of a value
    // Values that lie together, vector by vector: [panel][block][vector][joined values][output][value]. Those of a row of
    // taps begin a block of 8-bit tiles.
    const int block = !tiles ? 4 : bytes ? 64 : 32, row = (conv.kernel * in + block - 1) / block * block;
    conv.scale.assign(conv.bias.size(), 1.0f);
    std::size_t start = 0;
    for (int first = 0; first < out; first += kGroup) {
        // Vectors of 16 outputs, in panels of two; tiles always come in pairs.
        const int outputs = std::min(out - first, kGroup), vectors = (outputs + 15) / 16;
        const std::size_t vector_bytes = static_cast<std::size_t>(conv.kernel) * row * 16 * size;
        const int padded = tiles ? (vectors + 1) / 2 * 2 : vectors;
        conv.lowp_weights.resize(start + padded * vector_bytes, 0);
        for (int o = 0; o < outputs; ++o) {
            const int source = conv.source_output(first + o), v = o / 16, wide = std::min(padded - v / 2 * 2, 2);
            const float* w = weight + static_cast<std::size_t>(source) * in * taps;
            float largest = 0.0f;
            for (int i = 0; i < in * taps; ++i) largest = std::max(largest, std::fabs(w[i]));
            const float scale = largest > 0.0f ? largest / 127.0f : 1.0f;
            long sum = 0;
            for (int t = 0; t < taps; ++t)
                for (int c = 0; c < in; ++c) {
                    const float value = w[c * taps + t];
                    const int k = t / conv.kernel * row + t % conv.kernel * in + c, inner = k % block;
                    std::size_t at = static_cast<std::size_t>(k / block) * wide + v % 2;
                    at = (at * (block / joined) + inner / joined) * 16 + o % 16;
                    std::uint8_t* to =
                        &conv.lowp_weights[start + v / 2 * 2 * vector_bytes + (at * joined + inner % joined) * size];
                    if (bytes) {
                        const long rounded = std::lrintf(value / scale);
                        *to = static_cast<std::uint8_t>(static_cast<std::int8_t>(rounded));
                        sum += rounded;
                    } else {
                        const std::uint16_t half = to_bf16(value);
                        std::memcpy(to, &half, 2);
                    }
                }
            if (bytes) {
                conv.scale[first + o] = scale / conv.input_inverse;
                conv.bias[first + o] -=
                    static_cast<float>(static_cast<double>(sum) * conv.input_zero * scale / conv.input_inverse);
            }
        }
        start = conv.lowp_weights.size();
    }
}

}  // namespace srfast
