// The 3x3 convolution of 64 channels for Hopper: persistent, weights resident in shared memory, wgmma, bulk tensor copies.
//
// A block walks down strips of N columns. Rows of pixels come through a ring in shared memory; weights stand on the 64
// rows of the matrix product, a row's pixels on its columns. One thread of warpgroup 0 copies, warpgroups 1 and 2 make
// the rows in turn: while one stores, the other multiplies. Two ways to shift the window across:
//   SHIFTED: a row is copied once with two pixels more; a tap begins 0, 1 or 2 pixels into it, inside the swizzled tile.
//   else a row is copied three times, shifted by a pixel: every matrix begins where its tile begins.
#pragma once

#include "epilogue.cuh"
#include "hopper.h"
#include "hopper_ptx.cuh"

namespace srfast {

struct alignas(64) HopperParams {
    TensorMap map;
    ConvParams conv;
    int rows;  // of a strip
};

template <bool SHIFTED_>
struct WgmmaShape {
    static constexpr bool SHIFTED = SHIFTED_;
    static constexpr int N = SHIFTED ? 120 : 64;        // pixels of an instruction, columns of a strip
    static constexpr int BOX = SHIFTED ? N + 2 : N;     // pixels of a copy
    static constexpr int COPIES = SHIFTED ? 1 : 3;
    static constexpr int COPY_BYTES = (BOX * 128 + 1023) / 1024 * 1024;
    static constexpr int ROW_BYTES = COPIES * COPY_BYTES;
    static constexpr int RING = SHIFTED ? 7 : 5;
    static constexpr int TAP_BYTES = 64 * 64 * 2, WEIGHT_BYTES = 9 * TAP_BYTES;
    static constexpr int PART = 64;                     // pixels of a row that are stored at a time
    static constexpr int SUMS_BYTES = PART * 64 * 4;    // of one warpgroup
    static constexpr int ROWS = WEIGHT_BYTES, SUMS = ROWS + RING * ROW_BYTES, BARRIERS = SUMS + 2 * SUMS_BYTES;
    static constexpr int SHARED = BARRIERS + (2 * RING + 1) * 8;
    static_assert(SHARED <= 232448, "the shared memory of a block on Hopper");
};

// A matrix of rows of 128 bytes, swizzled by 128 bytes; eight rows are 1024 bytes.
SRFAST_DEVICE uint64_t matrix_at(uint32_t address) {
    return static_cast<uint64_t>((address & 0x3ffff) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

// The part of the image of the strip that a block works on.
struct Strip {
    int image, y0, rows, x0;
};
template <int N>
SRFAST_DEVICE Strip strip_of(const HopperParams& p, int item) {
    const int tx = item % p.conv.tiles_x, rest = item / p.conv.tiles_x;
    const int y0 = rest % p.conv.tiles_y * p.rows, left = p.conv.height - y0;
    return {rest / p.conv.tiles_y, y0, left < p.rows ? left : p.rows, tx * N};
}

template <class W>
SRFAST_DEVICE void copy_rows(const HopperParams& p, uint32_t shared, int first_item, int items, int step) {
    const uint32_t full = shared + W::BARRIERS, empty = full + W::RING * 8;
    int count = 0;  // rows copied so far
    for (int item = first_item; item < items; item += step) {
        const Strip s = strip_of<W::N>(p, item);
        for (int row = -1; row <= s.rows; ++row, ++count) {
            const int slot = count % W::RING;
            // The first turn finds the ring empty: the phase before the first counts as completed.
            mbarrier_wait(empty + slot * 8, (count / W::RING + 1) % 2);
            mbarrier_expect(full + slot * 8, W::COPIES * W::BOX * 128);
#pragma unroll
            for (int c = 0; c < W::COPIES; ++c)
                copy_box(shared + W::ROWS + slot * W::ROW_BYTES + c * W::COPY_BYTES, p.map, full + slot * 8, 0, s.x0 - 1 + c, s.y0 + row, s.image);
        }
    }
}

// The sums of a row's pixels `first` and on, from registers to [pixels][64] float32.
template <class W>
SRFAST_DEVICE void spread_part(const float (&acc)[W::N / 2], uint32_t sums, int part) {
    const int t = thread() % 128, channel = t / 32 * 16 + t % 32 / 4;
#pragma unroll
    for (int i = 0; i < W::N / 2; ++i) {
        const int pixel = i / 4 * 8 + t % 4 * 2 + i % 2, c = channel + i / 2 % 2 * 8;
        if (i / 4 * 8 / W::PART == part) sts32(sums + sums_at<64>(pixel % W::PART, c / 8) + c % 8 * 4, as_bits(acc[i]));
    }
}

template <class T, class W>
SRFAST_DEVICE void multiply_rows(const HopperParams& p, uint32_t shared, int first_item, int items, int step, int block_o, int group) {
    const uint32_t full = shared + W::BARRIERS, empty = full + W::RING * 8;
    const uint32_t sums = shared + W::SUMS + group * W::SUMS_BYTES;
    mbarrier_wait(full + 2 * W::RING * 8, 0);
    int before = 0;  // rows of the ring used up by earlier strips
    for (int item = first_item; item < items; item += step) {
        const Strip s = strip_of<W::N>(p, item);
        int released = 0;
        const auto release = [&](int end) {
            for (; released < end; ++released)
                if (thread() % 32 == 0) mbarrier_arrive(empty + (before + released) % W::RING * 8);
        };
        for (int row = group; row < s.rows; row += 2) {
            float acc[W::N / 2];
#pragma unroll
            for (int i = 0; i < W::N / 2; ++i) acc[i] = 0.f;
#pragma unroll
            for (int dy = 0; dy < 3; ++dy) mbarrier_wait(full + (before + row + dy) % W::RING * 8, (before + row + dy) / W::RING % 2);
            wgmma_fence();
#pragma unroll
            for (int dy = 0; dy < 3; ++dy) {
                const int count = before + row + dy;
                const uint32_t pixels = shared + W::ROWS + count % W::RING * W::ROW_BYTES;
#pragma unroll
                for (int dx = 0; dx < 3; ++dx) {
                    const uint32_t window = pixels + dx * (W::SHIFTED ? 128 : W::COPY_BYTES), tap = shared + (dy * 3 + dx) * W::TAP_BYTES;
#pragma unroll
                    for (int k = 0; k < 4; ++k) wgmma<T, W::N>(acc, matrix_at(tap + k * 32), matrix_at(window + k * 32));
                }
            }
            wgmma_commit();
            wgmma_wait<0>();
            release(row + 2);
            const Tile tile{s.image, s.y0 + row, s.x0, p.conv.height, p.conv.width, block_o};
#pragma unroll
            for (int part = 0; part < (W::N + W::PART - 1) / W::PART; ++part) {
                const int left = W::N - part * W::PART;
                // The other threads still read the part before.
                sync_group(1 + group, 128);
                spread_part<W>(acc, sums, part);
                sync_group(1 + group, 128);
                const Tile here{tile.image, tile.y0, tile.x0 + part * W::PART, tile.height, tile.width, block_o};
                finish_tile<T, 64, W::PART, 128>(p.conv.end, here, sums, 1, left < W::PART ? left : W::PART, thread() % 128);
            }
        }
        release(s.rows + 2);
        before += s.rows + 2;
    }
}

template <class T, bool SHIFTED>
SRFAST_KERNEL(384, 1) conv_wgmma(SRFAST_PARAM HopperParams p) {
    using W = WgmmaShape<SHIFTED>;
    const uint32_t shared = shared_base(), full = shared + W::BARRIERS, weights = full + 2 * W::RING * 8;
    const int blocks_o = (p.conv.end.channels + 63) / 64, block_o = block() % blocks_o;
    const int items = p.conv.images * p.conv.tiles_y * p.conv.tiles_x, step = blocks() / blocks_o, first = block() / blocks_o;
    if (thread() == 0) {
        for (int i = 0; i < W::RING; ++i) {
            mbarrier_init(full + i * 8, 1);
            mbarrier_init(full + (W::RING + i) * 8, 8);  // a thread of each warp that multiplies
        }
        mbarrier_init(weights, 1);
        mbarrier_publish();
        mbarrier_expect(weights, W::WEIGHT_BYTES);
        copy_bulk(shared, static_cast<const char*>(p.conv.weight) + static_cast<long long>(block_o) * W::WEIGHT_BYTES, W::WEIGHT_BYTES, weights);
    }
    sync_block();
    if (p.conv.early) wait_for_kernel_in_front();
    const int role = uniform(thread() / 128);
    if (role == 0) {
        fewer_registers<40>();
        if (thread() == 0) copy_rows<W>(p, shared, first, items, step);
    } else {
        more_registers<232>();
        multiply_rows<T, W>(p, shared, first, items, step, block_o, role - 1);
    }
    if (p.conv.early) let_next_kernel_start();
}

struct RateParams {
    const void* source;  // 64 KB
    int rounds;
    float* sink;
};

// The matrix units alone: two warpgroups, both operands from shared memory that stays as it is.
template <int N>
SRFAST_KERNEL(256, 1) matrix_rate(SRFAST_PARAM RateParams p) {
    const uint32_t shared = shared_base();
    for (int i = thread(); i < 4096; i += 256) sts128(shared + i * 16, ldg128(static_cast<const char*>(p.source) + i * 16));
    copies_see_writes();
    sync_block();
    const uint32_t pixels = shared + 8192 + uniform(thread() / 128) * 16384;
    float acc[N / 2];
#pragma unroll
    for (int i = 0; i < N / 2; ++i) acc[i] = 0.f;
#pragma unroll 1
    for (int round = 0; round < p.rounds; ++round) {
        wgmma_fence();
#pragma unroll
        for (int i = 0; i < 36; ++i) wgmma<Half, N>(acc, matrix_at(shared + i % 4 * 32), matrix_at(pixels + i % 4 * 32));
        wgmma_commit();
        wgmma_wait<0>();
    }
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < N / 2; ++i) sum += acc[i];
    if (sum == 0.123f) *p.sink = sum;
}

}  // namespace srfast
