// AVX-512 with its bfloat16 instructions: the float32 kernels of AVX-512, and direct convolutions of 32 multiply-adds an
// instruction on the weights that AMX has.
#include "bf16.h"
#include "conv_impl.h"

namespace {

constexpr int kVectorBytes = 1024;  // of weights: 32 channels x 16 outputs

// acc + a b, two channels at a time. Not the intrinsic, for the reason in vnni.cpp.
SRFAST_INLINE __m512 multiply_add(__m512 acc, __m512i a, __m512i b) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(a), "v"(b));
    return acc;
}

// 12 pixels from rows[.] on times N vectors of outputs, whose weights are [block of 32 channels][two vectors][pair of
// channels][output][channel].
template <int M, int N>
SRFAST_INLINE void multiply_pairs(__m512 (&acc)[M][N], const Conv& conv, const std::uint16_t* const* rows,
                                  std::ptrdiff_t from, const std::uint8_t* w) {
    const std::ptrdiff_t advance = conv.advance(), taps = conv.kernel * conv.in_channels;
#pragma GCC unroll 12
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
        for (int n = 0; n < N; ++n) acc[m][n] = _mm512_setzero_ps();
    for (int i = 0; i < conv.kernel; ++i) {
        const std::uint16_t* third[M / 3];  // of every third pixel: few enough addresses for registers
        for (int m = 0; m < M / 3; ++m) third[m] = rows[i] + from + 3 * m * advance;
        for (std::ptrdiff_t block = 0; block < taps; block += 32, w += kVectorBytes)
            for (std::ptrdiff_t k = block; k < block + 32; k += 2, w += 64) {
                __m512i b[N];
#pragma GCC unroll 2
                for (int n = 0; n < N; ++n) b[n] = _mm512_load_si512(w + kVectorBytes * n);
#pragma GCC unroll 12
                for (int m = 0; m < M; ++m) {
                    int two;
                    std::memcpy(&two, third[m / 3] + m % 3 * advance + k, 4);
                    const __m512i a = _mm512_set1_epi32(two);
#pragma GCC unroll 2
                    for (int n = 0; n < N; ++n) acc[m][n] = multiply_add(acc[m][n], a, b[n]);
                }
            }
    }
}

struct Bf16 {
    using Element = std::uint16_t;
    struct Unit {};
    static constexpr int pixels = 48, step = 12;

    static bool convert(const Conv&, const float* from, int channels, Element* to) {
        __mmask32 bad = 0;
        const __m512i exponent = _mm512_set1_epi16(0x7f80);  // all ones in NaN, infinity and what rounds to it
        int c = 0;
        for (; c + 32 <= channels; c += 32) {
            const __m512i both = reinterpret_cast<__m512i>(
                _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + c + 16), _mm512_loadu_ps(from + c)));
            bad |= _mm512_cmpeq_epi16_mask(_mm512_and_si512(both, exponent), exponent);
            _mm512_storeu_si512(to + c, both);
        }
        return (c == channels || convert_bf16(from + c, channels - c, to + c)) && bad == 0;
    }

    static std::ptrdiff_t group_bytes(const Conv& conv, const Group& group) { return bf16_group_bytes(conv, group); }

    static std::ptrdiff_t pair_bytes(const Conv& conv) {
        return 2 * static_cast<std::ptrdiff_t>(conv.kernel) * conv.kernel * conv.in_channels * 32;
    }

    template <int N>
    static void panel(const Conv& conv, const Element* const* rows, const std::uint8_t* weights, int count,
                      float* sums) {
        for (int p = 0; p < count; p += step, sums += step * kGroup) {
            __m512 acc[step][N];
            multiply_pairs(acc, conv, rows, static_cast<std::ptrdiff_t>(p) * conv.advance(), weights);
#pragma GCC unroll 12
            for (int m = 0; m < step; ++m)
#pragma GCC unroll 2
                for (int n = 0; n < N; ++n) _mm512_storeu_ps(sums + m * kGroup + n * 16, acc[m][n]);
        }
    }

    static void products(const Unit&, const Conv& conv, const Element* const* rows, const std::uint8_t* weights,
                         const Group& group, int count, float* sums) {
        for (int v = 0; v < group.vectors; v += 2, weights += pair_bytes(conv))
            group.vectors - v >= 2 ? panel<2>(conv, rows, weights, count, sums + v * 16)
                                   : panel<1>(conv, rows, weights, count, sums + v * 16);
    }

    // Two vectors of outputs from `output` on, from the registers to the image.
    template <Ending Act, bool Residual>
    static void finished_pair(const Conv& conv, const Task& task, int y, int x, const Element* const* rows,
                              const std::uint8_t* weights, int output, int count) {
        const Results<Act, Residual> first(conv, task, y, x, output), second(conv, task, y, x, output + 16);
        for (int p = 0; p < count; p += step) {
            const int wide = count - p < step ? count - p : step;
            fetch_results(conv, task, y, x + p, wide, output, 1);
            fetch_results(conv, task, y, x + p, wide, output + 16, 1);
            __m512 acc[step][2];
            multiply_pairs(acc, conv, rows, static_cast<std::ptrdiff_t>(p) * conv.advance(), weights);
#pragma GCC unroll 12
            for (int m = 0; m < step; ++m)
                if (m < wide) {
                    first.store(p + m, {acc[m][0]});
                    second.store(p + m, {acc[m][1]});
                }
        }
    }

    template <Ending Act>
    static void finished_group(const Conv& conv, const Task& task, int y, int x, const Element* const* rows,
                               const std::uint8_t* weights, const Group& group, int count) {
        for (int v = 0; v < group.vectors; v += 2, weights += pair_bytes(conv)) {
            const int output = group.first + v * 16;
            task.residual ? finished_pair<Act, true>(conv, task, y, x, rows, weights, output, count)
                          : finished_pair<Act, false>(conv, task, y, x, rows, weights, output, count);
        }
    }

    static bool finished(const Unit&, const Conv& conv, const Task& task, int y, int x, const Element* const* rows,
                         const std::uint8_t* weights, const Group& group, int count) {
        if (group.vectors % 2 || !fills_vectors(conv, *task.out, group)) return false;
        switch (ending_of(conv)) {
            case Ending::plain: finished_group<Ending::plain>(conv, task, y, x, rows, weights, group, count); break;
            case Ending::prelu: finished_group<Ending::prelu>(conv, task, y, x, rows, weights, group, count); break;
            // Curves need the registers that the sums are in.
            case Ending::curve: return false;
        }
        return true;
    }
};

void run_with_bf16(const Conv& conv, const Task& task) {
    conv.algorithm == srfast::Algorithm::lowp ? run_lowp<Bf16>(conv, task) : run(conv, task);
}

}  // namespace

namespace srfast {

const Kernels& bf16_kernels() {
    static const Kernels kernels{"avx512_bf16", Vec::width,        kPanel, kScratch, run_with_bf16,
                                 run_node,      LowPrecision::bf16};
    return kernels;
}

}  // namespace srfast
