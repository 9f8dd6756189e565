// The fused convolution with mma.sync, for Ampere and later: an implicit GEMM over a halo tile in shared memory.
//
// A block makes a tile of pixels times BO output channels. The tile with its halo is copied to shared memory once for
// each block of CB input channels; a tap is another address into it. The taps' weights stream through a ring of STAGES.
// The order of the sums is (block of channels, tap, channel) for every pixel, so results do not depend on the tiling.
#pragma once

#include "pixels_end.cuh"
#include "tile_end.cuh"

namespace srfast {

constexpr int kStages = 3;

// KERNEL 0: known at run time. WARPS_P x WARPS_O warps share the tile's pixels and output channels.
template <int CB_, int BO_, int KERNEL_, int TILE_H_, int TILE_W_, int WARPS_P_, int WARPS_O_>
struct MmaShape {
    static constexpr int CB = CB_, BO = BO_, KERNEL = KERNEL_, TILE_H = TILE_H_, TILE_W = TILE_W_;
    static constexpr int WARPS_P = WARPS_P_, WARPS_O = WARPS_O_, THREADS = WARPS_P * WARPS_O * 32;
    static constexpr int PIXELS = TILE_H * TILE_W, CHUNKS = CB / 8;
    static constexpr int FRAGS_P = PIXELS / WARPS_P / 16, FRAGS_O = BO / WARPS_O / 8;
    static constexpr int WEIGHT_BYTES = BO * CB * 2;
    static_assert(FRAGS_O % 2 == 0 && FRAGS_P * WARPS_P * 16 == PIXELS, "whole fragments, columns in pairs");
    static_assert((FRAGS_O & (FRAGS_O - 1)) == 0, "a warp's fragments differ in bits of their address");

    static constexpr int SUMS_BYTES = PIXELS * BO * 4;
    // Whether there are instances for special endings: their results go where the first two stages were, which the last two
    // steps do not need, and what is beyond these stages behind the ring (of larger tiles a chip has one block anyway).
    static constexpr bool ENDS = KERNEL == 3 && CB == 64 && BO == 64;
    static constexpr int BEHIND = ENDS && PIXELS > 128 ? (PIXELS - 128) * BO * 2 : 0;
    static_assert(!ENDS || (kStages == 3 && 2 * WEIGHT_BYTES == 128 * BO * 2),
                  "nine taps go whole times round the ring");

    SRFAST_BOTH static constexpr int halo_bytes(int kernel) {
        return ((TILE_H + kernel - 1) * (TILE_W + kernel - 1) * CB * 2 + 127) & ~127;
    }
    // The sums take the place of halo and weights.
    SRFAST_BOTH static constexpr int shared_bytes(int kernel, int blocks_c) {
        const int bytes = halo_bytes(kernel) * (blocks_c > 1 ? 2 : 1) + kStages * WEIGHT_BYTES + BEHIND;
        return bytes > SUMS_BYTES ? bytes : SUMS_BYTES;
    }
};

// Starts copying rows of `chunks` chunks of a halo tile whose first pixel is (y0, x0); zeros outside the image.
template <int CHUNKS, int THREADS>
SRFAST_DEVICE void fetch_halo(const View& x, int image, int y0, int x0, int rows, int columns, int height, int width,
                              int first_channel, int channels, uint32_t to) {
    const uint16_t* base = static_cast<const uint16_t*>(x.data) + image * x.image_stride + first_channel;
    for (int i = thread(); i < rows * columns * CHUNKS; i += THREADS) {
        const int chunk = i % CHUNKS, pixel = i / CHUNKS, row = pixel / columns;
        const int py = y0 + row, px = x0 + pixel - row * columns;
        const bool valid = py >= 0 && py < height && px >= 0 && px < width && first_channel + chunk * 8 < channels;
        cp_async<16>(
            to + swizzled<CHUNKS>(pixel, chunk),
            valid ? base + py * x.row_stride + static_cast<long long>(px) * x.pixel_stride + chunk * 8 : x.data, valid);
    }
}

template <int BYTES, int THREADS>
SRFAST_DEVICE void fetch_weights(const void* from, uint32_t to) {
    for (int i = thread(); i < BYTES / 16; i += THREADS)
        cp_async<16>(to + static_cast<uint32_t>(i * 16), static_cast<const char*>(from) + i * 16, true);
}

// acc += the tap's products. pixels: of each fragment, the lane's row in the halo tile at this tap.
template <class T, class S, int FRAGS_P>
SRFAST_DEVICE void multiply_tap(float (&acc)[FRAGS_P][S::FRAGS_O][4], const int (&pixels)[FRAGS_P], uint32_t halo,
                                uint32_t weights, int first_o) {
    const int lane = thread() % 32;
    // ldmatrix: lanes 0-15 address the fragment's 16 rows, 16-31 the same rows eight channels on. Of weights, lanes 0-7 and
    // 8-15 address eight channels and the eight after, 16-31 the next eight outputs. Sixteen channels on, only the bits of
    // the chunk change: addresses are kept for the first ones alone.
    uint32_t from[FRAGS_P];
#pragma unroll
    for (int i = 0; i < FRAGS_P; ++i) from[i] = halo + swizzled<S::CHUNKS>(pixels[i], lane / 16);
    const uint32_t w_from = weights + swizzled<S::CHUNKS>(first_o + lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
    for (int k = 0; k < S::CB / 16; ++k) {
        uint32_t a[FRAGS_P][4], b[S::FRAGS_O / 2][4];
#pragma unroll
        for (int j = 0; j < S::FRAGS_O / 2; ++j) ldmatrix_x4(b[j], (w_from + j * 16 * S::CB * 2) ^ (k * 32));
#pragma unroll
        for (int i = 0; i < FRAGS_P; ++i) ldmatrix_x4(a[i], from[i] ^ (k * 32));
#pragma unroll
        for (int i = 0; i < FRAGS_P; ++i)
#pragma unroll
            for (int j = 0; j < S::FRAGS_O; ++j) mma<T>(acc[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
}

// A warp's sums to shared memory.
template <class S>
SRFAST_DEVICE void spread_sums(const float (&acc)[S::FRAGS_P][S::FRAGS_O][4], uint32_t sums, int first_p, int first_o) {
    const int lane = thread() % 32;
    // The places of other fragments differ from the first one's by a constant, or in the bits of the unit.
    const uint32_t first = sums + sums_at<S::BO>(first_p + lane / 4, first_o / 8) + lane % 4 * 8;
#pragma unroll
    for (int i = 0; i < S::FRAGS_P; ++i)
#pragma unroll
        for (int j = 0; j < S::FRAGS_O; ++j)
#pragma unroll
            for (int h = 0; h < 2; ++h)
                sts64((first ^ (j * 32)) + (i * 16 + h * 8) * S::BO * 4, as_bits(acc[i][j][h * 2]),
                      as_bits(acc[i][j][h * 2 + 1]));
}

template <int TILE_H, int TILE_W>
SRFAST_DEVICE Tile tile_of(const ConvParams& p, int blocks_o) {
    int rest = block() / blocks_o;
    const int tx = rest % p.tiles_x;
    rest /= p.tiles_x;
    return {rest / p.tiles_y, rest % p.tiles_y * TILE_H, tx * TILE_W, p.height, p.width, block() % blocks_o};
}

// Sums that go through shared memory have nothing to prepare.
template <Ending E>
constexpr bool kSpreads = E == Ending::general || E == Ending::phases;
struct NoEnd {
    SRFAST_DEVICE NoEnd(const Epilogue&, const Tile&, int, int, uint32_t) {}
};
template <class T, Ending E, class S>
using EndOf = std::conditional_t<kSpreads<E>, NoEnd, TileEnd<T, E, S>>;

// Two blocks of the larger tile would have too few registers. Of the smaller one three fit into the shared memory of the largest
// GPUs, where the size of the kernel is known.
template <class T, class S, Ending E = Ending::general>
SRFAST_KERNEL(S::THREADS, S::THREADS > 128 ? 1
                          : S::ENDS        ? 3
                                           : 2)
conv_mma(SRFAST_PARAM ConvParams p) {
    const int kernel = S::KERNEL ? S::KERNEL : p.kernel, taps = kernel * kernel, pitch = S::TILE_W + kernel - 1;
    const int blocks_o = (p.end.channels + S::BO - 1) / S::BO, steps = p.blocks_c * taps;
    const Tile tile = tile_of<S::TILE_H, S::TILE_W>(p, blocks_o);
    const uint32_t halo_size = static_cast<uint32_t>(S::halo_bytes(kernel)), halos = shared_base();
    const uint32_t ring = halos + halo_size * (p.blocks_c > 1 ? 2 : 1);
    const char* weights =
        static_cast<const char*>(p.weight) + static_cast<long long>(tile.block_o) * steps * S::WEIGHT_BYTES;

    const auto fetch_block = [&](int c) {
        fetch_halo<S::CHUNKS, S::THREADS>(p.x, tile.image, tile.y0 - kernel / 2, tile.x0 - kernel / 2,
                                          S::TILE_H + kernel - 1, pitch, p.height, p.width, c * S::CB, p.in_channels,
                                          halos + (c % 2) * halo_size);
    };
    const auto fetch_step = [&](int s) {
        if (s < steps)
            fetch_weights<S::WEIGHT_BYTES, S::THREADS>(weights + static_cast<long long>(s) * S::WEIGHT_BYTES,
                                                       ring + s % kStages * S::WEIGHT_BYTES);
    };

    // Group g holds the weights of step g. Weights are nobody's result: they are read before the kernel in front ends.
    fetch_step(0);
    if (p.programmatic) wait_for_kernel_in_front();
    fetch_block(0);
    cp_async_commit();
#pragma unroll
    for (int s = 1; s < kStages - 1; ++s) {
        fetch_step(s);
        cp_async_commit();
    }

    const int warp = thread() / 32, lane = thread() % 32;
    const int first_p = warp / S::WARPS_O * S::FRAGS_P * 16, first_o = warp % S::WARPS_O * S::FRAGS_O * 8;
    int corner[S::FRAGS_P];
    float acc[S::FRAGS_P][S::FRAGS_O][4];
#pragma unroll
    for (int i = 0; i < S::FRAGS_P; ++i) {
        const int pixel = first_p + i * 16 + lane % 16;
        corner[i] = pixel / S::TILE_W * pitch + pixel % S::TILE_W;
#pragma unroll
        for (int j = 0; j < S::FRAGS_O; ++j)
#pragma unroll
            for (int v = 0; v < 4; ++v) acc[i][j][v] = 0.f;
    }

    // The place of a special ending: 64 pixels' of the ring or behind it, and when the residual may go there.
    const int part = warp / S::WARPS_O, fetched_at = steps - (part == 1 ? 1 : 2);
    const EndOf<T, E, S> end(p.end, tile, S::TILE_H, S::TILE_W, ring + (part < 2 ? part : part + 1) * S::WEIGHT_BYTES);
    int tap = 0, dx = 0, shift = 0, c = 0;
#pragma unroll 1
    for (int s = 0; s < steps; ++s) {
        // A 1x1 convolution's next tile is needed in the very next step: nothing may be left under way.
        if (taps == 1)
            cp_async_wait<0>();
        else
            cp_async_wait<kStages - 2>();
        sync_block();
        fetch_step(s + kStages - 1);
        if (tap == 0 && c + 1 < p.blocks_c) fetch_block(c + 1);
        if constexpr (kHasResidual<E>)
            if (s == fetched_at) end.fetch();
        cp_async_commit();
        int pixels[S::FRAGS_P];
#pragma unroll
        for (int i = 0; i < S::FRAGS_P; ++i) pixels[i] = corner[i] + shift;
        multiply_tap<T, S>(acc, pixels, halos + c % 2 * halo_size,
                           ring + static_cast<uint32_t>(s % kStages * S::WEIGHT_BYTES), first_o);
        ++tap;
        ++shift;
        if (++dx == kernel) {
            dx = 0;
            shift += pitch - kernel;
        }
        if (tap == taps) {
            tap = 0;
            shift = 0;
            ++c;
        }
    }
    if (p.programmatic) let_next_kernel_start();
    if constexpr (!kSpreads<E>) {
        end.finish(acc);
        return;
    }
    sync_block();
    spread_sums<S>(acc, halos, first_p, first_o);
    sync_block();
    if constexpr (E == Ending::phases) {
        static_assert(S::PIXELS == S::THREADS, "a thread stores what comes of a pixel");
        finish_phases<T, S::BO, S::TILE_W>(p.end, tile, halos);
        return;
    }
    finish_tile<T, S::BO, S::TILE_W, S::THREADS>(p.end, tile, halos, S::TILE_H, S::TILE_W);
}

}  // namespace srfast
