// The 3x3 convolution of 64 channels for Hopper: persistent, weights resident in shared memory, wgmma, bulk tensor copies.
//
// A block walks down strips of N columns. Rows of pixels come through a ring in shared memory; weights stand on the 64
// rows of the matrix product, a row's pixels on its columns. One thread of warpgroup 0 copies, warpgroups 1 and 2 make
// the rows in turn: while one stores, the other multiplies. Two ways to shift the window across:
//   shifted: a row is copied once with two pixels more; a tap begins 0, 1 or 2 pixels into it, inside the swizzled tile.
//   offset: the same, and the matrix descriptors say how far into the tile they begin.
//   copied: a row is copied three times, shifted by a pixel: every matrix begins where its tile begins.
#pragma once

#include "hopper.h"
#include "strips.cuh"

namespace srfast {

struct alignas(64) HopperParams {
    TensorMap map;
    ConvParams conv;
    int rows;  // of a strip
};

template <Window WINDOW>
struct WgmmaShape {
    static constexpr bool SHIFTED = WINDOW != Window::copied, OFFSET = WINDOW == Window::offset;
    static constexpr int N = SHIFTED ? 120 : 64;     // pixels of an instruction, columns of a strip
    static constexpr int BOX = SHIFTED ? N + 2 : N;  // pixels of a copy
    static constexpr int COPIES = SHIFTED ? 1 : 3;
    static constexpr int COPY_BYTES = (BOX * 128 + 1023) / 1024 * 1024;
    static constexpr int ROW_BYTES = COPIES * COPY_BYTES;
    static constexpr int RING = SHIFTED ? 7 : 5;
    static constexpr int TAP_BYTES = 64 * 64 * 2, WEIGHT_BYTES = 9 * TAP_BYTES;
    static constexpr int PART = 64;                   // pixels of a row that are stored at a time
    static constexpr int SUMS_BYTES = PART * 64 * 4;  // of one warpgroup
    static constexpr int ROWS = WEIGHT_BYTES, SUMS = ROWS + RING * ROW_BYTES, BARRIERS = SUMS + 2 * SUMS_BYTES;
    static constexpr int SHARED = BARRIERS + Ring<RING>::BYTES + 8;
    static_assert(SHARED <= 232448, "the shared memory of a block on Hopper");
};

template <class W>
SRFAST_DEVICE void copy_rows(const HopperParams& p, uint32_t rows_at, const Ring<W::RING>& ring, const Share& share) {
    int count = 0;  // rows copied so far
    for (int item = share.first; item < share.items; item += share.step) {
        const Strip s = strip_of(p.conv, p.rows, W::N, item);
        for (int row = -1; row <= s.rows; ++row, ++count) {
            ring.await_empty(count);
            mbarrier_expect(ring.full(count), W::COPIES * W::BOX * 128);
#pragma unroll
            for (int c = 0; c < W::COPIES; ++c)
                copy_box(rows_at + count % W::RING * W::ROW_BYTES + c * W::COPY_BYTES, p.map, ring.full(count), 0,
                         s.x0 - 1 + c, s.y0 + row, s.image);
        }
    }
}

// The sums of the row whose window is the ring's row `slot` and the two behind it. Calls meanwhile() while the products are
// under way.
template <class T, class W, class F>
SRFAST_DEVICE void multiply_row(float (&acc)[W::N / 2], uint32_t weights, uint32_t rows_at, int slot,
                                const F& meanwhile) {
    clear_sums(acc);
    wgmma_fence();
#pragma unroll
    for (int dy = 0; dy < 3; ++dy) {
        const uint32_t pixels = rows_at + Ring<W::RING>::behind(slot, dy) * W::ROW_BYTES;
#pragma unroll
        for (int dx = 0; dx < 3; ++dx) {
            const uint32_t window = pixels + dx * (W::SHIFTED ? 128 : W::COPY_BYTES),
                           tap = weights + (dy * 3 + dx) * W::TAP_BYTES;
#pragma unroll
            for (int k = 0; k < 4; ++k)
                wgmma<T, W::N>(acc, matrix_at(tap + k * 32), matrix_at<W::OFFSET>(window + k * 32));
        }
    }
    wgmma_commit();
    meanwhile();
    wgmma_wait<0>();
    wgmma_settle(acc);
}

template <class T, Window WINDOW, Ending E>
SRFAST_KERNEL(384, 1)
conv_wgmma(SRFAST_PARAM HopperParams p) {
    using W = WgmmaShape<WINDOW>;
    const uint32_t shared = shared_base(), rows_at = shared + W::ROWS;
    const Ring<W::RING> ring{shared + W::BARRIERS};
    const uint32_t loaded = ring.barriers + Ring<W::RING>::BYTES;  // the mbarrier of the weights
    const int blocks_o = (p.conv.end.channels + 63) / 64, block_o = block() % blocks_o;
    const Share share = share_of(p.conv, block() / blocks_o, blocks() / blocks_o);
    if (thread() == 0) {
        ring.init(1, 8);  // the thread that copies; a thread of each warp that multiplies
        mbarrier_init(loaded, 1);
        mbarrier_publish();
        mbarrier_expect(loaded, W::WEIGHT_BYTES);
        copy_bulk(shared, static_cast<const char*>(p.conv.weight) + static_cast<long long>(block_o) * W::WEIGHT_BYTES,
                  W::WEIGHT_BYTES, loaded);
    }
    sync_block();
    if (p.conv.programmatic) wait_for_kernel_in_front();
    const int role = uniform(thread() / 128);
    if (role == 0) {
        fewer_registers<40>();
        if (thread() == 0) copy_rows<W>(p, rows_at, ring, share);
    } else {
        more_registers<232>();
        mbarrier_wait(loaded, 0);
        const auto multiply = [&](float (&acc)[W::N / 2], int slot, const auto& meanwhile) {
            multiply_row<T, W>(acc, shared, rows_at, slot, meanwhile);
        };
        make_rows<T, W, E>(p.conv, p.rows, shared + W::SUMS + (role - 1) * W::SUMS_BYTES, ring, share, block_o,
                           role - 1, multiply);
    }
    if (p.conv.programmatic) let_next_kernel_start();
}

// The matrix units alone: two warpgroups, both operands from shared memory that stays as it is.
template <int N>
SRFAST_KERNEL(256, 1)
matrix_rate(SRFAST_PARAM RateParams p) {
    const uint32_t shared = shared_base();
    for (int i = thread(); i < 4096; i += 256)
        sts128(shared + i * 16, ldg128(static_cast<const char*>(p.source) + i * 16));
    copies_see_writes();
    sync_block();
    const uint32_t pixels = shared + 8192 + uniform(thread() / 128) * 16384;
    float acc[N / 2];
    clear_sums(acc);
#pragma unroll 1
    for (int round = 0; round < p.rounds; ++round) {
        wgmma_fence();
#pragma unroll
        for (int i = 0; i < 36; ++i)
            wgmma<Half, N>(acc, matrix_at(shared + i % 4 * 32), matrix_at(pixels + i % 4 * 32));
        wgmma_commit();
        wgmma_wait<0>();
    }
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < N / 2; ++i) sum += acc[i];
    if (sum == 0.123f) *p.sink = sum;
}

}  // namespace srfast
