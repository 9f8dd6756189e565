// AVX-512 with AMX: the float32 kernels of AVX-512, and bfloat16 or 8-bit ones on tiles of 16 pixels x 64 bytes x 16 outputs.
//
// The kernel is a template over the tile unit. The emulated one follows the operation of each instruction as Intel's manual
// gives it, so that the kernel can be tested on any CPU with AVX-512.
#include "bf16.h"
#include "conv_impl.h"
#include "int8.h"

namespace {

constexpr int kTileRows = 16, kTileBytes = 64;

struct alignas(64) TileConfig {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t bytes[16] = {};
    std::uint8_t rows[16] = {};
};

// The CPU's tiles, configured as long as the object lives.
struct HardwareTiles {
    HardwareTiles() {
        TileConfig config;
        for (int t = 0; t < 8; ++t) {
            config.bytes[t] = kTileBytes;
            config.rows[t] = kTileRows;
        }
        _tile_loadconfig(&config);
    }
    ~HardwareTiles() { _tile_release(); }
    HardwareTiles(const HardwareTiles&) = delete;
    HardwareTiles& operator=(const HardwareTiles&) = delete;

    // Tile numbers are parts of the instructions; gcc's intrinsics take literals only, not template parameters.
    template <int T>
    void zero() const {
        __asm__ volatile("tilezero %%tmm%c0" ::"i"(T));
    }
    template <int T>
    void load(const void* from, std::ptrdiff_t stride) const {
        __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(T) : "memory");
    }
    template <int T>
    void store(void* to, std::ptrdiff_t stride) const {
        __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(T) : "memory");
    }
    template <int C, int A, int B>
    void multiply() const {
        __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
    }
    template <int C, int A, int B>
    void multiply_bytes() const {
        __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
    }
};

float flush(float x) { return std::fabs(x) < 1.17549435e-38f ? std::copysign(0.0f, x) : x; }

struct EmulatedTiles {
    mutable std::uint8_t tiles[8][kTileRows][kTileBytes];

    template <int T>
    void zero() const {
        std::memset(tiles[T], 0, sizeof tiles[T]);
    }
    template <int T>
    void load(const void* from, std::ptrdiff_t stride) const {
        for (int r = 0; r < kTileRows; ++r)
            std::memcpy(tiles[T][r], static_cast<const std::uint8_t*>(from) + r * stride, kTileBytes);
    }
    template <int T>
    void store(void* to, std::ptrdiff_t stride) const {
        for (int r = 0; r < kTileRows; ++r)
            std::memcpy(static_cast<std::uint8_t*>(to) + r * stride, tiles[T][r], kTileBytes);
    }
    static float element(const std::uint8_t (&row)[kTileBytes], int i) {
        std::uint16_t half;
        std::memcpy(&half, row + 2 * i, 2);
        const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
        float value;
        std::memcpy(&value, &bits, 4);
        return flush(value);
    }
    // TDPBF16PS: even and odd products are summed apart over the row, then added to each other and to the tile; subnormal
    // numbers are zero on the way in and out, rounding is to nearest even.
    template <int C, int A, int B>
    void multiply() const {
        for (int m = 0; m < kTileRows; ++m) {
            float sums[kTileBytes / 2] = {};
            for (int k = 0; k < kTileBytes / 4; ++k)
                for (int n = 0; n < kTileBytes / 2; ++n)
                    sums[n] = flush(std::fmaf(element(tiles[A][m], 2 * k + n % 2), element(tiles[B][k], n), sums[n]));
            float row[kTileBytes / 4];
            std::memcpy(row, tiles[C][m], kTileBytes);
            for (int n = 0; n < kTileBytes / 4; ++n)
                row[n] = flush(flush(row[n]) + flush(sums[2 * n] + sums[2 * n + 1]));
            std::memcpy(tiles[C][m], row, kTileBytes);
        }
    }
    // TDPBUSD: unsigned bytes of A times signed bytes of B, four at a time, added without saturation.
    template <int C, int A, int B>
    void multiply_bytes() const {
        for (int m = 0; m < kTileRows; ++m) {
            std::int32_t row[kTileBytes / 4];
            std::memcpy(row, tiles[C][m], kTileBytes);
            for (int k = 0; k < kTileBytes; ++k)
                for (int n = 0; n < kTileBytes / 4; ++n)
                    row[n] += tiles[A][m][k] * static_cast<std::int8_t>(tiles[B][k / 4][4 * n + k % 4]);
            std::memcpy(tiles[C][m], row, kTileBytes);
        }
    }
};

template <class Tiles>
struct Bf16 : FinishedLater {
    using Element = std::uint16_t;
    using Unit = Tiles;
    static constexpr int pixels = 64, step = 32;

    static bool convert(const Conv&, const float* from, int channels, Element* to) {
        return convert_bf16(from, channels, to);
    }

    static std::ptrdiff_t group_bytes(const Conv& conv, const Group& group) { return bf16_group_bytes(conv, group); }

    // 32 pixels x 32 outputs at a time: four tiles of sums, two of pixels, two of weights.
    static void products(const Tiles& tiles, const Conv& conv, const Element* const* rows, const std::uint8_t* weights,
                         const Group& group, int count, float* sums) {
        const int channels = conv.in_channels, advance = conv.advance();
        const std::ptrdiff_t stride = 2 * static_cast<std::ptrdiff_t>(advance), tile = kTileRows * kTileBytes;
        const std::ptrdiff_t pitch = sizeof(float) * kGroup;
        for (int v = 0; v < group.vectors; v += 2) {
            for (int p = 0; p < count; p += step) {
                tiles.template zero<0>();
                tiles.template zero<1>();
                tiles.template zero<2>();
                tiles.template zero<3>();
                const std::uint8_t* w = weights;
                for (int i = 0; i < conv.kernel; ++i)
                    for (int k = 0; k < conv.kernel * channels; k += 32, w += 2 * tile) {
                        const Element* from = rows[i] + static_cast<std::ptrdiff_t>(p) * advance + k;
                        tiles.template load<4>(from, stride);
                        tiles.template load<5>(from + 16 * advance, stride);
                        tiles.template load<6>(w, kTileBytes);
                        tiles.template load<7>(w + tile, kTileBytes);
                        tiles.template multiply<0, 4, 6>();
                        tiles.template multiply<1, 4, 7>();
                        tiles.template multiply<2, 5, 6>();
                        tiles.template multiply<3, 5, 7>();
                    }
                float* to = sums + p * kGroup + v * 16;
                tiles.template store<0>(to, pitch);
                tiles.template store<1>(to + 16, pitch);
                tiles.template store<2>(to + 16 * kGroup, pitch);
                tiles.template store<3>(to + 16 * kGroup + 16, pitch);
            }
            weights += static_cast<std::ptrdiff_t>(conv.kernel) * conv.kernel * channels * 32 * 2;
        }
    }
};

// 8-bit pixels, unsigned, and weights; the bytes of a kernel row are padded with zero weights to whole tiles.
template <class Tiles>
struct Int8 : FinishedLater {
    using Element = std::uint8_t;
    using Unit = Tiles;
    static constexpr int pixels = 64, step = 32;

    static bool convert(const Conv& conv, const float* from, int channels, Element* to) {
        return convert_int8(conv, from, channels, to);
    }

    static std::ptrdiff_t group_bytes(const Conv& conv, const Group& group) {
        return static_cast<std::ptrdiff_t>(conv.kernel) * srfast::tile_row_bytes(conv.kernel * conv.in_channels) *
               ((group.vectors + 1) / 2 * 32);
    }

    static void products(const Tiles& tiles, const Conv& conv, const Element* const* rows, const std::uint8_t* weights,
                         const Group& group, int count, float* sums) {
        const int advance = conv.advance(), bytes = srfast::tile_row_bytes(conv.kernel * conv.in_channels);
        const std::ptrdiff_t tile = kTileRows * kTileBytes, pitch = sizeof(std::int32_t) * kGroup;
        alignas(64) std::int32_t results[step * kGroup];
        for (int v = 0; v < group.vectors; v += 2) {
            for (int p = 0; p < count; p += step) {
                tiles.template zero<0>();
                tiles.template zero<1>();
                tiles.template zero<2>();
                tiles.template zero<3>();
                const std::uint8_t* w = weights;
                for (int i = 0; i < conv.kernel; ++i)
                    for (int k = 0; k < bytes; k += kTileBytes, w += 2 * tile) {
                        const Element* from = rows[i] + static_cast<std::ptrdiff_t>(p) * advance + k;
                        tiles.template load<4>(from, advance);
                        tiles.template load<5>(from + 16 * advance, advance);
                        tiles.template load<6>(w, kTileBytes);
                        tiles.template load<7>(w + tile, kTileBytes);
                        tiles.template multiply_bytes<0, 4, 6>();
                        tiles.template multiply_bytes<1, 4, 7>();
                        tiles.template multiply_bytes<2, 5, 6>();
                        tiles.template multiply_bytes<3, 5, 7>();
                    }
                tiles.template store<0>(results, pitch);
                tiles.template store<1>(results + 16, pitch);
                tiles.template store<2>(results + 16 * kGroup, pitch);
                tiles.template store<3>(results + 16 * kGroup + 16, pitch);
                const int vectors = group.vectors - v < 2 ? 1 : 2;
                for (int m = 0; m < step; ++m)
                    for (int n = 0; n < vectors; ++n)
                        store_scaled(_mm512_load_si512(results + m * kGroup + n * 16), conv, group.first + (v + n) * 16,
                                     sums + (p + m) * kGroup + (v + n) * 16);
            }
            weights += static_cast<std::ptrdiff_t>(conv.kernel) * bytes * 32;
        }
    }
};

template <class Type>
void run_with(const Conv& conv, const Task& task) {
    conv.algorithm == srfast::Algorithm::lowp ? run_lowp<Type>(conv, task) : run(conv, task);
}

}  // namespace

namespace srfast {

const Kernels& amx_kernels() {
    static const Kernels kernels{"amx",    Vec::width,        kPanel, kScratch, run_with<Bf16<HardwareTiles>>,
                                 run_node, LowPrecision::bf16};
    return kernels;
}

const Kernels& amx_int8_kernels() {
    static const Kernels kernels{
        "amx_int8", Vec::width, kPanel, kScratch, run_with<Int8<HardwareTiles>>, run_node, LowPrecision::int8_tiles};
    return kernels;
}

const Kernels& emulated_amx_kernels() {
    static const Kernels kernels{"amx_emulated", Vec::width,        kPanel, kScratch, run_with<Bf16<EmulatedTiles>>,
                                 run_node,       LowPrecision::bf16};
    return kernels;
}

const Kernels& emulated_amx_int8_kernels() {
    static const Kernels kernels{
        "amx_int8_emulated",     Vec::width, kPanel, kScratch, run_with<Int8<EmulatedTiles>>, run_node,
        LowPrecision::int8_tiles};
    return kernels;
}

}  // namespace srfast
