// Two 3x3 convolutions of 64 channels in one kernel (a residual block): what lies between stays in shared memory.
//
// A block makes 14 x 14 pixels: the first convolution gives the 16 x 16 around them, the second reads these. Sums are
// made in the order of conv_mma and rounded where it rounds, so the result is that of two launches, bit for bit.
#pragma once

#include "conv_mma.cuh"
#include "kernels.h"

namespace srfast {

struct PairShape {
    using S = MmaShape<64, 64, 3, 16, 16, 4, 2>;
    static constexpr int TILE = 14, STEPS = 18;
    static constexpr uint32_t RING = S::halo_bytes(3), MIDDLE = RING + kStages * S::WEIGHT_BYTES;
    static constexpr int SHARED = MIDDLE + S::PIXELS * S::CB * 2;
    static_assert(S::SUMS_BYTES <= static_cast<int>(MIDDLE), "the sums take the place of halo and weights");
    static_assert(S::PIXELS * S::BO * 2 <= S::halo_bytes(3), "results in 16 bits take the halo's");
};

// bias and PReLU of a warp's sums, rounded, to the middle, whose first pixel is t's; zeros outside the image, where the
// second one pads.
template <class T, class S>
SRFAST_DEVICE void fill_middle(const float (&acc)[S::FRAGS_P][S::FRAGS_O][4], const float* biases, const float* slopes,
                               const Tile& t, uint32_t middle, int first_p, int first_o) {
    const int lane = thread() % 32;
    const uint32_t first =
        middle + swizzled<S::CHUNKS>(first_p + lane / 4, first_o / 8) + lane % 4 * 4;  // see spread_sums
#pragma unroll
    for (int j = 0; j < S::FRAGS_O; ++j) {
        const int column = first_o + j * 8 + lane % 4 * 2;
        const float bias[2] = {ldg_float(biases + column), ldg_float(biases + column + 1)};
        const float slope[2] = {ldg_float(slopes + column), ldg_float(slopes + column + 1)};
#pragma unroll
        for (int i = 0; i < S::FRAGS_P; ++i)
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const int pixel = first_p + i * 16 + lane / 4 + h * 8;
                const int y = t.y0 + pixel / S::TILE_W, x = t.x0 + pixel % S::TILE_W;
                const bool within = y >= 0 && y < t.height && x >= 0 && x < t.width;
                const float lo = activate(acc[i][j][h * 2] + bias[0], slope[0], Act::prelu);
                const float hi = activate(acc[i][j][h * 2 + 1] + bias[1], slope[1], Act::prelu);
                sts32((first ^ (j * 16)) + (i * 16 + h * 8) * S::CB * 2, within ? pack2<T>(lo, hi) : 0u);
            }
    }
}

template <class T, Ending E>
SRFAST_KERNEL(256, 1)
pair_mma(SRFAST_PARAM PairParams p) {
    using P = PairShape;
    using S = P::S;
    const ConvParams& c = p.second;
    const Tile tile = tile_of<P::TILE, P::TILE>(c, 1);
    const uint32_t halo = shared_base(), ring = halo + P::RING, middle = halo + P::MIDDLE;
    const auto fetch_step = [&](int s) {
        const char* from = static_cast<const char*>(s < 9 ? p.first_weight : c.weight) + s % 9 * S::WEIGHT_BYTES;
        if (s < P::STEPS)
            fetch_weights<S::WEIGHT_BYTES, S::THREADS>(from,
                                                       ring + static_cast<uint32_t>(s % kStages * S::WEIGHT_BYTES));
    };
    fetch_step(0);
    if (c.programmatic) wait_for_kernel_in_front();
    fetch_halo<S::CHUNKS, S::THREADS>(c.x, tile.image, tile.y0 - 2, tile.x0 - 2, 18, 18, c.height, c.width, 0, 64,
                                      halo);
    cp_async_commit();
    fetch_step(1);
    cp_async_commit();

    const int warp = thread() / 32, lane = thread() % 32;
    const int first_p = warp / S::WARPS_O * S::FRAGS_P * 16, first_o = warp % S::WARPS_O * S::FRAGS_O * 8;
    // The second convolution reads the middle: the halo's place is free for results.
    const EndOf<T, E, S> end(c.end, tile, P::TILE, P::TILE, halo + warp / S::WARPS_O * 64 * S::CB * 2);
    float acc[S::FRAGS_P][S::FRAGS_O][4];
#pragma unroll 1
    for (int phase = 0; phase < 2; ++phase) {
        const int pitch = phase ? 16 : 18;
        int corner[S::FRAGS_P];
#pragma unroll
        for (int i = 0; i < S::FRAGS_P; ++i) {
            const int pixel = first_p + i * 16 + lane % 16, row = pixel / 16, column = pixel % 16;
            // The second convolution's last rows and columns are of no use: they stay inside the middle.
            corner[i] = phase && (row >= P::TILE || column >= P::TILE) ? 0 : row * pitch + column;
#pragma unroll
            for (int j = 0; j < S::FRAGS_O; ++j)
#pragma unroll
                for (int v = 0; v < 4; ++v) acc[i][j][v] = 0.f;
        }
#pragma unroll 1
        for (int tap = 0; tap < 9; ++tap) {
            const int s = phase * 9 + tap;
            cp_async_wait<kStages - 2>();
            sync_block();
            fetch_step(s + kStages - 1);
            if constexpr (kHasResidual<E>)
                if (s == P::STEPS - 2) end.fetch();  // no weights are left to copy
            cp_async_commit();
            int pixels[S::FRAGS_P];
#pragma unroll
            for (int i = 0; i < S::FRAGS_P; ++i) pixels[i] = corner[i] + tap / 3 * pitch + tap % 3;
            multiply_tap<T, S>(acc, pixels, phase ? middle : halo,
                               ring + static_cast<uint32_t>(s % kStages * S::WEIGHT_BYTES), first_o);
        }
        const Tile around{tile.image, tile.y0 - 1, tile.x0 - 1, tile.height, tile.width, 0};
        if (phase == 0) fill_middle<T, S>(acc, p.first_bias, p.first_slope, around, middle, first_p, first_o);
    }
    if (c.programmatic) let_next_kernel_start();
    if constexpr (E != Ending::general) {
        end.finish(acc);
        return;
    }
    cp_async_wait<0>();
    sync_block();
    spread_sums<S>(acc, halo, first_p, first_o);
    sync_block();
    finish_tile<T, S::BO, S::TILE_W, S::THREADS>(c.end, tile, halo, P::TILE, P::TILE);
}

template <class T>
int run_pair(const PairParams& p, const Stream& stream) {
    const ConvParams& c = p.second;
    return by_ending(stream.device < 0 ? Ending::general : ending_of(c.end), [&](auto ending) {
        return launch(pair_mma<T, decltype(ending)::value>, 1LL * c.images * c.tiles_y * c.tiles_x, 256,
                      PairShape::SHARED, stream, p);
    });
}

}  // namespace srfast
