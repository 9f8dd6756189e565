// AVX-512 with VNNI: the float32 kernels of AVX-512, and 8-bit ones of 64 multiply-adds an instruction.
#include "conv_impl.h"
#include "int8.h"

namespace {

// acc + a (unsigned) b (signed), four channels at a time. Not the intrinsic: gcc 12 moves its sums through memory every time.
SRFAST_INLINE __m512i multiply_add(__m512i acc, __m512i a, __m512i b) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
    return acc;
}

struct Int8 : FinishedLater {
    using Element = std::uint8_t;
    struct Unit {};
    static constexpr int pixels = 48, step = 12;
    static constexpr int columns = 2;  // vectors of a panel: its weights of 3x3 taps on 64 channels stay in L1

    static bool convert(const Conv& conv, const float* from, int channels, Element* to) {
        return convert_int8(conv, from, channels, to);
    }

    static std::ptrdiff_t group_bytes(const Conv& conv, const Group& group) {
        return static_cast<std::ptrdiff_t>(conv.kernel) * conv.kernel * conv.in_channels * group.vectors * 16;
    }

    template <int N>
    static void panel(const Conv& conv, const Element* const* rows, const std::uint8_t* weights, int output, int count,
                      float* sums) {
        constexpr int M = step;
        const std::ptrdiff_t advance = conv.advance(), taps = conv.kernel * conv.in_channels;
        for (int p = 0; p < count; p += M, sums += M * kGroup) {
            __m512i acc[M][N];
#pragma GCC unroll 12
            for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
                for (int n = 0; n < N; ++n) acc[m][n] = _mm512_setzero_si512();
            const std::uint8_t* w = weights;
            for (int i = 0; i < conv.kernel; ++i) {
                const Element* from[M / 3];  // of every third pixel: few enough addresses for registers
                for (int m = 0; m < M / 3; ++m) from[m] = rows[i] + (static_cast<std::ptrdiff_t>(p) + 3 * m) * advance;
                for (std::ptrdiff_t k = 0; k < taps; k += 4, w += 64 * N) {
                    __m512i b[N];
#pragma GCC unroll 2
                    for (int n = 0; n < N; ++n) b[n] = _mm512_load_si512(w + 64 * n);
#pragma GCC unroll 12
                    for (int m = 0; m < M; ++m) {
                        int four;
                        std::memcpy(&four, from[m / 3] + m % 3 * advance + k, 4);
                        const __m512i a = _mm512_set1_epi32(four);
#pragma GCC unroll 2
                        for (int n = 0; n < N; ++n) acc[m][n] = multiply_add(acc[m][n], a, b[n]);
                    }
                }
            }
#pragma GCC unroll 12
            for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
                for (int n = 0; n < N; ++n) store_scaled(acc[m][n], conv, output + n * 16, sums + m * kGroup + n * 16);
        }
    }

    static void products(const Unit&, const Conv& conv, const Element* const* rows, const std::uint8_t* weights,
                         const Group& group, int count, float* sums) {
        const std::ptrdiff_t vector = static_cast<std::ptrdiff_t>(conv.kernel) * conv.kernel * conv.in_channels * 16;
        for (int v = 0; v < group.vectors; v += columns, weights += columns * vector) {
            const int output = group.first + v * 16;
            group.vectors - v >= 2 ? panel<2>(conv, rows, weights, output, count, sums + v * 16)
                                   : panel<1>(conv, rows, weights, output, count, sums + v * 16);
        }
    }
};

void run_with_int8(const Conv& conv, const Task& task) {
    conv.algorithm == srfast::Algorithm::lowp ? run_lowp<Int8>(conv, task) : run(conv, task);
}

}  // namespace

namespace srfast {

const Kernels& vnni_kernels() {
    static const Kernels kernels{"vnni", Vec::width, kPanel, kScratch, run_with_int8, run_node, LowPrecision::int8};
    return kernels;
}

}  // namespace srfast
