// The fused convolution of images with at most 8 channels: a row of taps is contiguous in memory, so it is one long
// vector of products per row of the kernel, 16 at a time. All weights stay in shared memory.
#pragma once

#include "conv_mma.cuh"

namespace srfast {

// PIXEL elements from pixel to pixel, 4 or 8. S::CB is 16: the products of one mma.
template <int PIXEL, class S>
struct FewChannelsShape {
    static constexpr int PIXEL_BYTES = PIXEL * 2;
    SRFAST_BOTH static constexpr int slices(int kernel) { return (kernel * PIXEL + 15) / 16; }
    // Columns of the halo tile: the last slice may reach beyond the kernel's row, times weights that are 0.
    SRFAST_BOTH static constexpr int pitch(int kernel) { return S::TILE_W - 1 + slices(kernel) * 16 / PIXEL; }
    SRFAST_BOTH static constexpr int halo_bytes(int kernel) {
        return ((S::TILE_H + kernel - 1) * pitch(kernel) * PIXEL_BYTES + 127) & ~127;
    }
    SRFAST_BOTH static constexpr int shared_bytes(int kernel) {
        const int bytes = halo_bytes(kernel) + kernel * slices(kernel) * S::WEIGHT_BYTES;
        return bytes > S::SUMS_BYTES ? bytes : S::SUMS_BYTES;
    }
};

template <class T, int PIXEL, class S>
SRFAST_KERNEL(S::THREADS, 2)
conv_few_channels(SRFAST_PARAM ConvParams p) {
    using N = FewChannelsShape<PIXEL, S>;
    const int kernel = p.kernel, slices = N::slices(kernel), pitch = N::pitch(kernel), rows = S::TILE_H + kernel - 1;
    const Tile tile = tile_of<S::TILE_H, S::TILE_W>(p, (p.end.channels + S::BO - 1) / S::BO);
    const uint32_t halo = shared_base(), weights = halo + static_cast<uint32_t>(N::halo_bytes(kernel));
    const int weight_bytes = kernel * slices * S::WEIGHT_BYTES;
    const char* source = static_cast<const char*>(p.weight) + static_cast<long long>(tile.block_o) * weight_bytes;
    for (int i = thread(); i < weight_bytes / 16; i += S::THREADS)
        cp_async<16>(weights + static_cast<uint32_t>(i * 16), source + i * 16, true);
    if (p.programmatic) wait_for_kernel_in_front();
    const uint16_t* base = static_cast<const uint16_t*>(p.x.data) + tile.image * p.x.image_stride;
    for (int i = thread(); i < rows * pitch; i += S::THREADS) {
        const int y = tile.y0 - kernel / 2 + i / pitch, x = tile.x0 - kernel / 2 + i % pitch;
        const bool valid = y >= 0 && y < p.height && x >= 0 && x < p.width;
        cp_async<N::PIXEL_BYTES>(halo + static_cast<uint32_t>(i * N::PIXEL_BYTES),
                                 valid ? base + y * p.x.row_stride + static_cast<long long>(x) * PIXEL : base, valid);
    }
    cp_async_commit();

    const int warp = thread() / 32, lane = thread() % 32;
    const int first_p = warp / S::WARPS_O * S::FRAGS_P * 16, first_o = warp % S::WARPS_O * S::FRAGS_O * 8;
    uint32_t low[S::FRAGS_P], high[S::FRAGS_P];  // addresses of the lane's two pixels of a fragment
    float acc[S::FRAGS_P][S::FRAGS_O][4];
#pragma unroll
    for (int i = 0; i < S::FRAGS_P; ++i) {
        const int pixel = first_p + i * 16 + lane / 4;
        low[i] = halo +
                 static_cast<uint32_t>((pixel / S::TILE_W * pitch + pixel % S::TILE_W) * N::PIXEL_BYTES + lane % 4 * 4);
        high[i] =
            halo + static_cast<uint32_t>(((pixel + 8) / S::TILE_W * pitch + (pixel + 8) % S::TILE_W) * N::PIXEL_BYTES +
                                         lane % 4 * 4);
#pragma unroll
        for (int j = 0; j < S::FRAGS_O; ++j)
#pragma unroll
            for (int v = 0; v < 4; ++v) acc[i][j][v] = 0.f;
    }
    cp_async_wait<0>();
    sync_block();
#pragma unroll 1
    for (int step = 0; step < kernel * slices; ++step) {
        const uint32_t shift = static_cast<uint32_t>(step / slices * pitch * N::PIXEL_BYTES + step % slices * 32);
        uint32_t b[S::FRAGS_O / 2][4];
#pragma unroll
        for (int j = 0; j < S::FRAGS_O / 2; ++j)
            ldmatrix_x4(b[j], weights + static_cast<uint32_t>(step * S::WEIGHT_BYTES) +
                                  swizzled<2>(first_o + j * 16 + lane % 8 + lane / 16 * 8, lane / 8 % 2));
#pragma unroll
        for (int i = 0; i < S::FRAGS_P; ++i) {
            const uint32_t a[4] = {lds32(low[i] + shift), lds32(high[i] + shift), lds32(low[i] + shift + 16),
                                   lds32(high[i] + shift + 16)};
#pragma unroll
            for (int j = 0; j < S::FRAGS_O; ++j) mma<T>(acc[i][j], a, b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
        }
    }
    if (p.programmatic) let_next_kernel_start();
    sync_block();
    spread_sums<S>(acc, halo, first_p, first_o);
    sync_block();
    finish_tile<T, S::BO, S::TILE_W, S::THREADS>(p.end, tile, halo, S::TILE_H, S::TILE_W);
}

}  // namespace srfast
