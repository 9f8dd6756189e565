// What the Hopper kernels share: strips of columns that a block walks down, rings of rows, sums out of the registers.
#pragma once

#include "epilogue.cuh"
#include "hopper_ptx.cuh"

namespace srfast {

// Of the measurements of the matrix units.
struct RateParams {
    const void* source;  // 64 KB
    int rounds;
    float* sink;
};

// A matrix of rows of 128 bytes, swizzled by 128 bytes; eight rows are 1024 bytes.
SRFAST_DEVICE uint64_t matrix_at(uint32_t address) {
    return static_cast<uint64_t>((address & 0x3ffff) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

// The part of the image of the strip that a block works on.
struct Strip {
    int image, y0, rows, x0;
};
// Strip `item`; they are `columns` wide and `rows` high.
SRFAST_DEVICE Strip strip_of(const ConvParams& c, int rows, int columns, int item) {
    const int tx = item % c.tiles_x, rest = item / c.tiles_x;
    const int y0 = rest % c.tiles_y * rows, left = c.height - y0;
    return {rest / c.tiles_y, y0, left < rows ? left : rows, tx * columns};
}

// The strips of a block: of `items` every `step`th, from `first` on.
struct Share {
    int first, items, step;
};
SRFAST_DEVICE Share share_of(const ConvParams& c, int block, int blocks) { return {block, c.images * c.tiles_y * c.tiles_x, blocks}; }

// SLOTS rows in shared memory, written and read in turn; `count` numbers rows from the first that the block copies.
template <int SLOTS>
struct Ring {
    static constexpr int BYTES = 2 * SLOTS * 8;
    uint32_t barriers;

    SRFAST_DEVICE uint32_t full(int count) const { return barriers + count % SLOTS * 8; }
    SRFAST_DEVICE uint32_t empty(int count) const { return barriers + (SLOTS + count % SLOTS) * 8; }
    // By one thread; arrivals that fill a row and that empty it.
    SRFAST_DEVICE void init(int writers, int readers) const {
        for (int i = 0; i < SLOTS; ++i) mbarrier_init(full(i), writers), mbarrier_init(empty(i), readers);
    }
    SRFAST_DEVICE void await_full(int count) const { mbarrier_wait(full(count), count / SLOTS % 2); }
    // The first turn finds the ring empty: the phase before the first counts as completed.
    SRFAST_DEVICE void await_empty(int count) const { mbarrier_wait(empty(count), (count / SLOTS + 1) % 2); }
    // The warp's part of it; wgmma has read the row.
    SRFAST_DEVICE void release(int count) const {
        if (thread() % 32 == 0) mbarrier_arrive(empty(count));
    }
    // The warp's part of it; its threads have written the row.
    SRFAST_DEVICE void publish(int count) const {
        copies_see_writes();
        sync_warp();
        if (thread() % 32 == 0) mbarrier_arrive(full(count));
    }
};

template <int COUNT>
SRFAST_DEVICE void clear_sums(float (&acc)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) acc[i] = 0.f;
}

// A warpgroup's sums of the pixels first .. first + COUNT of a row, from registers to [COUNT][64] float32.
template <int FIRST, int COUNT, int REGISTERS>
SRFAST_DEVICE void spread_pixels(const float (&acc)[REGISTERS], uint32_t sums) {
    const int t = thread() % 128, channel = t / 32 * 16 + t % 32 / 4;
#pragma unroll
    for (int i = FIRST / 2; i < (FIRST + COUNT) / 2 && i < REGISTERS; ++i) {
        const int pixel = i / 4 * 8 + t % 4 * 2 + i % 2 - FIRST, c = channel + i / 2 % 2 * 8;
        sts32(sums + sums_at<64>(pixel, c / 8) + c % 8 * 4, as_bits(acc[i]));
    }
}

// What a warpgroup, one of two that take turns, does of a 3x3 convolution: the rows group, group + 2 and on of each strip.
// multiply(acc, count) makes a row's sums of the rows count .. count + 2 of the ring. W: see WgmmaShape.
template <class T, class W, class F>
SRFAST_DEVICE void make_rows(const ConvParams& c, int rows, uint32_t sums, const Ring<W::RING>& ring, const Share& share, int block_o, int group, const F& multiply) {
    int before = 0;  // rows of the ring used up by earlier strips
    for (int item = share.first; item < share.items; item += share.step) {
        const Strip s = strip_of(c, rows, W::N, item);
        int released = 0;
        const auto release = [&](int end) {
            for (; released < end; ++released) ring.release(before + released);
        };
        for (int row = group; row < s.rows; row += 2) {
            float acc[W::N / 2];
#pragma unroll
            for (int dy = 0; dy < 3; ++dy) ring.await_full(before + row + dy);
            multiply(acc, before + row);
            release(row + 2);
#pragma unroll
            for (int part = 0; part < (W::N + W::PART - 1) / W::PART; ++part) {
                const int left = W::N - part * W::PART;
                // The other threads still read the part before.
                sync_group(1 + group, 128);
                if (part == 0)
                    spread_pixels<0, W::PART>(acc, sums);
                else
                    spread_pixels<W::PART, W::N - W::PART>(acc, sums);
                sync_group(1 + group, 128);
                const Tile here{s.image, s.y0 + row, s.x0 + part * W::PART, c.height, c.width, block_o};
                finish_tile<T, 64, W::PART, 128>(c.end, here, sums, 1, left < W::PART ? left : W::PART, thread() % 128);
            }
        }
        release(s.rows + 2);
        before += s.rows + 2;
    }
}

}  // namespace srfast
