// What the Hopper kernels share: strips of columns that a block walks down, rings of rows, sums out of the registers.
#pragma once

#include "row_end.cuh"

namespace srfast {

// Of the measurements of the matrix units.
struct RateParams {
    const void* source;  // 64 KB
    int rounds;
    float* sink;
};

// A matrix of rows of 128 bytes, swizzled by 128 bytes; eight rows are 1024 bytes. OFFSET: the descriptor says at which of
// these eight rows the matrix begins, see Window::offset.
template <bool OFFSET = false>
SRFAST_DEVICE uint64_t matrix_at(uint32_t address) {
    const uint64_t first = OFFSET ? address >> 7 & 7 : 0;
    return static_cast<uint64_t>((address & 0x3ffff) >> 4) | 1ull << 16 | 64ull << 32 | first << 49 | 1ull << 62;
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

// Strips for as many blocks as there are at most; each block keeps the weights of one block of output channels.
inline long long cut_strips(ConvParams& p, int columns, int rows, int blocks) {
    p.tiles_x = (p.width + columns - 1) / columns;
    p.tiles_y = (p.height + rows - 1) / rows;
    const int blocks_o = (p.end.channels + 63) / 64;
    const long long items = 1LL * p.images * p.tiles_y * p.tiles_x, sets = blocks < blocks_o ? 1 : blocks / blocks_o;
    return (items < sets ? items : sets) * blocks_o;
}

// The strips of a block: of `items` every `step`th, from `first` on.
struct Share {
    int first, items, step;
};
SRFAST_DEVICE Share share_of(const ConvParams& c, int block, int blocks) {
    return {block, c.images * c.tiles_y * c.tiles_x, blocks};
}

// SLOTS rows in shared memory, written and read in turn; `count` numbers rows from the first that the block copies.
template <int SLOTS>
struct Ring {
    static constexpr int BYTES = 2 * SLOTS * 8;
    uint32_t barriers;

    // A row's count without divisions: its slot, and whether the turn through the ring is an odd one.
    struct Turn {
        int slot = 0;
        uint32_t odd = 0;

        SRFAST_DEVICE void next() {
            const bool wraps = slot == SLOTS - 1;
            slot = wraps ? 0 : slot + 1;
            odd ^= wraps;
        }
        SRFAST_DEVICE void back() {
            const bool wraps = slot == 0;
            slot = wraps ? SLOTS - 1 : slot - 1;
            odd ^= wraps;
        }
        SRFAST_DEVICE void move(int rows) {
            odd = (odd + (slot + rows) / SLOTS) % 2;
            slot = (slot + rows) % SLOTS;
        }
    };
    // The row `rows` rows behind one, fewer than there are.
    SRFAST_DEVICE static int behind(int slot, int rows) {
        return slot + rows < SLOTS ? slot + rows : slot + rows - SLOTS;
    }
    SRFAST_DEVICE void await_full(const Turn& t) const { mbarrier_wait(barriers + t.slot * 8, t.odd); }
    SRFAST_DEVICE void await_empty(const Turn& t) const { mbarrier_wait(barriers + (SLOTS + t.slot) * 8, t.odd ^ 1); }
    SRFAST_DEVICE void release(const Turn& t) const {
        if (thread() % 32 == 0) mbarrier_arrive(barriers + (SLOTS + t.slot) * 8);
    }

    SRFAST_DEVICE uint32_t full(int count) const { return barriers + count % SLOTS * 8; }
    SRFAST_DEVICE uint32_t empty(int count) const { return barriers + (SLOTS + count % SLOTS) * 8; }
    // By one thread; arrivals that fill a row and that empty it.
    SRFAST_DEVICE void init(int writers, int readers) const {
        for (int i = 0; i < SLOTS; ++i) {
            mbarrier_init(full(i), writers);
            mbarrier_init(empty(i), readers);
        }
    }
    SRFAST_DEVICE void await_full(int count) const { mbarrier_wait(full(count), count / SLOTS % 2); }
    // The first turn finds the ring empty: the phase before the first counts as completed.
    SRFAST_DEVICE void await_empty(int count) const { mbarrier_wait(empty(count), (count / SLOTS + 1) % 2); }
    // The warp's part of it; wgmma has read the row.
    SRFAST_DEVICE void release(int count) const {
        if (thread() % 32 == 0) mbarrier_arrive(empty(count));
    }
    // The warp's part of it; its threads have written the row.
    SRFAST_DEVICE void publish(const Turn& t) const { publish_at(barriers + t.slot * 8); }
    SRFAST_DEVICE void publish(int count) const { publish_at(full(count)); }

private:
    SRFAST_DEVICE static void publish_at(uint32_t barrier) {
        copies_see_writes();
        sync_warp();
        if (thread() % 32 == 0) mbarrier_arrive(barrier);
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

// How a group's rows end; where that is by finish_tile, it is not used.
template <class T, class W, Ending E>
using RowEndOf = RowEnd<T, E == Ending::general ? Ending::plain : E, W::N>;

// What a warpgroup, one of two that take turns, does of a strip of a 3x3 convolution: the rows group, group + 2 and on.
// multiply(acc, slot, meanwhile) makes a row's sums of the ring's row `slot` and the two behind it, and calls meanwhile() while
// the products are under way. W: see WgmmaShape. end: a RowEnd. `buffers`: W::SUMS_BYTES of the group's own. `first`: of the
// strip's rows in the ring; then of the next strip's. stored() is called when the group's rows are stored, of a group without any
// when all rows of the strip have come.
template <class T, class W, Ending E, class End, class F, class G>
SRFAST_DEVICE void make_strip(const ConvParams& c, End& end, const Strip& s, uint32_t buffers,
                              const Ring<W::RING>& ring, typename Ring<W::RING>::Turn& first, int block_o, int group,
                              const F& multiply, const G& stored) {
    if (E != Ending::general) end.begin(s.image, s.y0 + group, s.x0, W::N, c.width);
    auto used = first, released = first;
    const auto release = [&](int count) {
        for (; count > 0; --count, released.next()) ring.release(released);
    };
    if (group) used.next();
    int left = s.rows + 2;  // rows of the ring to release
    ring.await_full(used);
    for (int row = group; row < s.rows; row += 2) {
        float acc[W::N / 2];
        auto seen = used;  // its row was awaited with the row before
#pragma unroll
        for (int dy = 1; dy < 3; ++dy) {
            seen.next();
            ring.await_full(seen);
        }
        multiply(acc, used.slot, [&] {
            if (E != Ending::general) end.fetch();
        });
        used.next();
        used.next();
        ring.release(released);
        released.next();
        ring.release(released);
        released.next();
        left -= 2;
        if (row == 1) {
            ring.release(released);
            released.next();
            --left;
        }
        if constexpr (E != Ending::general) {
            end.finish(acc);
        } else {
#pragma unroll
            for (int part = 0; part < (W::N + W::PART - 1) / W::PART; ++part) {
                const int columns = W::N - part * W::PART;
                // The other threads still read the part before.
                sync_group(1 + group, 128);
                if (part == 0)
                    spread_pixels<0, W::PART>(acc, buffers);
                else
                    spread_pixels<W::PART, W::N - W::PART>(acc, buffers);
                sync_group(1 + group, 128);
                const Tile here{s.image, s.y0 + row, s.x0 + part * W::PART, c.height, c.width, block_o};
                finish_tile<T, 64, W::PART, 128>(c.end, here, buffers, 1, columns < W::PART ? columns : W::PART,
                                                 thread() % 128);
            }
        }
    }
    if (group < s.rows) stored();
    first.move(s.rows + 2);
    // A group without a row in a strip must not run ahead: what it releases in a ring's next turn would count for this one.
    auto last = first;
    last.back();
    ring.await_full(last);
    release(left);
    if (group >= s.rows) stored();
}

// All strips of a block, see make_strip.
template <class T, class W, Ending E, class F>
SRFAST_DEVICE void make_rows(const ConvParams& c, int rows, uint32_t buffers, const Ring<W::RING>& ring,
                             const Share& share, int block_o, int group, const F& multiply) {
    static_assert(RowEndOf<T, W, E>::SHARED <= W::SUMS_BYTES, "rows of 16-bit values take the place of the sums");
    RowEndOf<T, W, E> end(c.end, block_o, buffers, group, 2);
    typename Ring<W::RING>::Turn first;
    for (int item = share.first; item < share.items; item += share.step)
        make_strip<T, W, E>(c, end, strip_of(c, rows, W::N, item), buffers, ring, first, block_o, group, multiply,
                            [] {});
}

}  // namespace srfast
