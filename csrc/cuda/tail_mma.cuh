// A network's tail in one kernel: a 3x3 convolution of 64 channels to many (bias, PReLU) and a convolution of these to few.
// What lies between, the widest activation of all, stays in shared memory, 64 of its channels at a time.
//
// A block walks down a strip of COLUMNS columns, ROWS rows at a pass. For each 64 channels between the two it makes the
// first convolution's rows and multiplies them with the second's weights, whose taps of a row are packed: the 64 columns
// of a product are (tap of the row, output), so that a row of pixels is read once for all taps. Sums of the taps of a row
// are added at the end, from neighbouring pixels. The second convolution needs rows of the pass before: each pass leaves
// its last ones behind. So only the strip's edges, `kernel - 1` columns and as many rows, are computed twice.
#pragma once

#include "kernels.h"
#include "pair_mma.cuh"
#include "tail_end.cuh"

namespace srfast {

template <int COLUMNS_>
struct TailShape {
    static constexpr int ROWS = 8, COLUMNS = COLUMNS_;
    using S = MmaShape<64, 64, 3, ROWS, COLUMNS, 4, 2>;
    static constexpr int PIXEL_BYTES = S::CB * 2, PART = S::PIXELS / 2;  // pixels of a pass that are stored at a time
    static constexpr uint32_t RING = S::halo_bytes(3), MIDDLE = RING + kStages * S::WEIGHT_BYTES,
                              CARRY = MIDDLE + S::PIXELS * PIXEL_BYTES;
    static_assert(PART * S::BO * 4 <= S::PIXELS * PIXEL_BYTES, "the sums of a part take the place of the middle");
    static_assert(PART % (S::FRAGS_P * 16) == 0, "a warp's pixels lie in one part");

    SRFAST_BOTH static constexpr int shared_bytes(int kernel, int chunks) {
        return static_cast<int>(CARRY) + chunks * (kernel - 1) * COLUMNS * PIXEL_BYTES;
    }
};

// The middle's rows: 0 and on are those of this pass, ROWS and on those left behind, `carried` for each 64 channels.
// Row `row` of the window that begins with the ones left behind:
template <class P>
SRFAST_DEVICE int window_row(int row, int chunk, int carried) {
    return row < carried ? P::ROWS + chunk * carried + row : row - carried;
}

// Leaves the last rows of the middle for the next pass.
template <class P>
SRFAST_DEVICE void leave_rows(uint32_t middle, int chunk, int carried) {
    const int pixels = carried * P::COLUMNS, from = (P::ROWS - carried) * P::COLUMNS,
              to = (P::ROWS + chunk * carried) * P::COLUMNS;
    for (int i = thread(); i < pixels * P::S::CHUNKS; i += P::S::THREADS) {
        const int pixel = i / P::S::CHUNKS, part = i % P::S::CHUNKS;
        sts128(middle + swizzled<P::S::CHUNKS>(to + pixel, part),
               lds128(middle + swizzled<P::S::CHUNKS>(from + pixel, part)));
    }
}

template <class S>
SRFAST_DEVICE void clear(float (&acc)[S::FRAGS_P][S::FRAGS_O][4]) {
#pragma unroll
    for (int i = 0; i < S::FRAGS_P; ++i)
#pragma unroll
        for (int j = 0; j < S::FRAGS_O; ++j)
#pragma unroll
            for (int v = 0; v < 4; ++v) acc[i][j][v] = 0.f;
}

// FEW: see few_of.
template <class T, class P, bool FEW>
SRFAST_KERNEL(P::S::THREADS, 1)
tail_mma(SRFAST_PARAM TailParams p) {
    using S = typename P::S;
    const ConvParams& c = p.second;
    const int half = c.kernel / 2, carried = c.kernel - 1, steps = p.chunks * (9 + c.kernel);
    int rest = block();
    const int x0 = rest % c.tiles_x * (P::COLUMNS - carried);
    rest /= c.tiles_x;
    const int y0 = rest % c.tiles_y * p.rows, left = c.height - y0;
    const Tile tile{rest / c.tiles_y, y0, x0, c.height, c.width, 0};
    const Band band{y0, y0 + (left < p.rows ? left : p.rows)};
    const int passes = (band.end - band.begin + carried + P::ROWS - 1) / P::ROWS;
    const uint32_t halo = shared_base(), ring = halo + P::RING, middle = halo + P::MIDDLE;

    int step = 0, slot = 0;  // of the weights to copy next
    const auto fetch_step = [&] {
        fetch_weights<S::WEIGHT_BYTES, S::THREADS>(static_cast<const char*>(c.weight) + step * S::WEIGHT_BYTES,
                                                   ring + static_cast<uint32_t>(slot * S::WEIGHT_BYTES));
        if (++step == steps) step = 0;
        if (++slot == kStages) slot = 0;
    };
    const auto fetch_pass = [&](int pass) {
        fetch_halo<S::CHUNKS, S::THREADS>(c.x, tile.image, y0 - half + pass * P::ROWS - 1, x0 - half - 1, P::ROWS + 2,
                                          P::COLUMNS + 2, c.height, c.width, 0, 64, halo);
    };
    fetch_step();
    if (c.programmatic) wait_for_kernel_in_front();
    fetch_pass(0);
    cp_async_commit();
    fetch_step();
    cp_async_commit();
    for (int i = thread(); i < p.chunks * carried * P::COLUMNS * S::CHUNKS; i += S::THREADS)
        sts128(halo + P::CARRY + i * 16, Words4{{0u, 0u, 0u, 0u}});

    const int warp = thread() / 32, lane = thread() % 32;
    const int first_p = warp / S::WARPS_O * S::FRAGS_P * 16, first_o = warp % S::WARPS_O * S::FRAGS_O * 8;
    uint32_t weights = 0;  // place of the step's weights in the ring
    // Copies of later steps go on while this one multiplies; the last ones are of no use and harm nothing.
    const auto next_step = [&] {
        cp_async_wait<kStages - 2>();
        sync_block();
        fetch_step();
    };
    const auto turn_ring = [&] {
        weights = weights == (kStages - 1) * S::WEIGHT_BYTES ? 0 : weights + S::WEIGHT_BYTES;
    };
    float few[S::FRAGS_P][S::FRAGS_O][4], many[S::FRAGS_P][S::FRAGS_O][4];
    int pixels[S::FRAGS_P];
#pragma unroll 1
    for (int pass = 0; pass < passes; ++pass) {
        clear<S>(few);
#pragma unroll 1
        for (int chunk = 0; chunk < p.chunks; ++chunk) {
            clear<S>(many);
#pragma unroll 1
            for (int tap = 0; tap < 9; ++tap) {
                next_step();
                cp_async_commit();
                if (tap == 0 && chunk > 0) leave_rows<P>(middle, chunk - 1, carried);
#pragma unroll
                for (int i = 0; i < S::FRAGS_P; ++i) {
                    const int pixel = first_p + i * 16 + lane % 16;
                    pixels[i] = (pixel / P::COLUMNS + tap / 3) * (P::COLUMNS + 2) + pixel % P::COLUMNS + tap % 3;
                }
                multiply_tap<T, S>(many, pixels, halo, ring + weights, first_o);
                turn_ring();
            }
            const Tile here{tile.image, y0 - half + pass * P::ROWS, x0 - half, c.height, c.width, 0};
            fill_middle<T, S>(many, p.first_bias + chunk * 64, p.first_slope + chunk * 64, here, middle, first_p,
                              first_o);
#pragma unroll 1
            for (int dy = 0; dy < c.kernel; ++dy) {
                next_step();
                if (dy == 0 && chunk + 1 == p.chunks && pass + 1 < passes) fetch_pass(pass + 1);
                cp_async_commit();
#pragma unroll
                for (int i = 0; i < S::FRAGS_P; ++i) {
                    const int pixel = first_p + i * 16 + lane % 16;
                    pixels[i] =
                        window_row<P>(pixel / P::COLUMNS + dy, chunk, carried) * P::COLUMNS + pixel % P::COLUMNS;
                }
                multiply_tap<T, S>(few, pixels, middle, ring + weights, first_o);
                turn_ring();
            }
        }
        sync_block();
        leave_rows<P>(middle, p.chunks - 1, carried);
        if (c.programmatic && pass + 1 == passes) let_next_kernel_start();
#pragma unroll 1
        for (int part = 0; part < 2; ++part) {
            sync_block();
            if (first_p / P::PART == part) spread_sums<S>(few, middle, first_p - part * P::PART, first_o);
            sync_block();
            const int y = y0 + pass * P::ROWS - carried + part * (P::PART / P::COLUMNS);
            if constexpr (!FEW)
                finish_part<T, P::COLUMNS, P::PART, S::THREADS>(c, tile, band, y, middle);
            else if (uniform(warp) < 2 * P::PART / 32)
                finish_few<T, P::COLUMNS, P::PART>(c.end, tile, band, y, P::COLUMNS - 4, middle, thread());
        }
    }
    cp_async_wait<0>();
}

template <class T, class P>
int launch_tail(TailParams p, const Stream& stream) {
    ConvParams& c = p.second;
    const int useful = P::COLUMNS - c.kernel + 1;
    c.tiles_x = (c.width + useful - 1) / useful;
    c.tiles_y = (c.height + p.rows - 1) / p.rows;
    const auto run = [&](auto kernel) {
        return launch(kernel, 1LL * c.images * c.tiles_y * c.tiles_x, P::S::THREADS,
                      P::shared_bytes(c.kernel, p.chunks), stream, p);
    };
    // Wide strips have no registers left for the other ending (sm_90 would spill).
    if constexpr (P::COLUMNS == 16)
        if (few_of(c)) return run(tail_mma<T, P, true>);
    return run(tail_mma<T, P, false>);
}

template <class T>
int run_tail(const TailParams& p, bool wide, const Stream& stream) {
    return wide ? launch_tail<T, TailShape<32>>(p, stream) : launch_tail<T, TailShape<16>>(p, stream);
}

}  // namespace srfast
