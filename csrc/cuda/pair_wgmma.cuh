// Two 3x3 convolutions of 64 channels in one kernel (a residual block) for Hopper: what lies between stays in shared memory.
//
// A block walks down strips of 62 columns. One warpgroup copies rows of the input to a ring, the next makes rows of the
// first convolution into a second ring, the third makes the result's rows from there: both have all weights of theirs in
// registers, and one multiplies while the other rounds or stores. Sums are made in the order of conv_held and conv_wgmma and
// rounded where they round, so the result is that of two launches, bit for bit.
#pragma once

#include "conv_held.cuh"

namespace srfast {

struct PairRowsParams {
    PairParams pair;  // weights as HeldParams has them
    int rows;         // of a strip
};

struct PairRowsShape {
    using H = HeldShape;
    static constexpr int COLUMNS = H::N - 2;  // of the 64 that a product has: the second window ends there
    static constexpr int MIDDLE = H::RING * H::ROW_BYTES, SUMS = 2 * MIDDLE, BARRIERS = SUMS + H::SUMS_BYTES;
    static constexpr int SHARED = BARRIERS + 2 * Ring<H::RING>::BYTES;
};

// A thread's channels of a first convolution: c and c + 8.
struct MiddleEpilogue {
    float bias[2], slope[2];
};
SRFAST_DEVICE MiddleEpilogue middle_epilogue(const float* bias, const float* slope) {
    const int t = thread() % 128, c = t / 32 * 16 + t % 32 / 4;
    return {{ldg_float(bias + c), ldg_float(bias + c + 8)}, {ldg_float(slope + c), ldg_float(slope + c + 8)}};
}

// bias and PReLU of a warpgroup's sums of a row, rounded, to planes; zeros outside the image, where the second one pads. The
// first pixel is (y, x0) of an image of height x width.
template <class T, int PITCH, int REGISTERS>
SRFAST_DEVICE void fill_planes(const float (&acc)[REGISTERS], const MiddleEpilogue& e, int y, int x0, int height,
                               int width, uint32_t to) {
    const int t = thread() % 128, lane = t % 32;
    // Lanes 0-15 address eight pixels of the warp's first eight channels and eight of the others.
    const uint32_t column = to + ((t / 32 * 2 + lane / 8 % 2) * PITCH + lane % 8) * 16;
    const uint32_t row_inside = y >= 0 && y < height ? ~0u : 0;
#pragma unroll
    for (int i = 0; i < REGISTERS / 4; ++i) {
        // Ones for the pixels of the image, two in a word. A predicate for each would leave one for all the slopes.
        const int x = x0 + i * 8 + lane % 4 * 2;
        const uint32_t inside = (x >= 0 && x < width ? 0xffffu : 0) | (x >= -1 && x + 1 < width ? 0xffff0000u : 0);
        uint32_t words[2];
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            float v[2];
#pragma unroll
            for (int j = 0; j < 2; ++j) v[j] = activate(acc[i * 4 + h * 2 + j] + e.bias[h], e.slope[h], Act::prelu);
            words[h] = pack2<T>(v[0], v[1]) & inside & row_inside;
        }
        stmatrix_transposed(column + i * 8 * 16, words[0], words[1]);
    }
}

template <class T>
SRFAST_DEVICE void make_middle(const PairRowsParams& p, uint32_t rows_at, const Ring<HeldShape::RING>& source,
                               uint32_t middle_at, const Ring<HeldShape::RING>& middle, const Share& share) {
    using H = HeldShape;
    const ConvParams& c = p.pair.second;
    HeldWeights held;
    hold_weights(held, p.pair.first_weight);
    const MiddleEpilogue epilogue = middle_epilogue(p.pair.first_bias, p.pair.first_slope);
    int read = 0, made = 0;  // rows so far
    for (int item = share.first; item < share.items; item += share.step) {
        const Strip s = strip_of(c, p.rows, PairRowsShape::COLUMNS, item);
        for (int row = -1; row <= s.rows; ++row, ++made) {
            float acc[H::N / 2];
#pragma unroll
            for (int dy = 0; dy < 3; ++dy) source.await_full(read + dy);
            multiply_held<T>(acc, held, rows_at, read % H::RING, [] {});
            source.release(read++);
            middle.await_empty(made);
            fill_planes<T, H::PITCH>(acc, epilogue, s.y0 + row, s.x0 - 1, c.height, c.width,
                                     middle_at + made % H::RING * H::ROW_BYTES);
            middle.publish(made);
        }
        for (int last = 0; last < 2; ++last) source.release(read++);
    }
}

template <class T, Ending E>
SRFAST_DEVICE void make_result(const PairRowsParams& p, uint32_t middle_at, const Ring<HeldShape::RING>& middle,
                               uint32_t sums, const Share& share) {
    using H = HeldShape;
    const ConvParams& c = p.pair.second;
    HeldWeights held;
    hold_weights(held, c.weight);
    if (c.programmatic) wait_for_kernel_in_front();
    RowEnd<T, E == Ending::general ? Ending::plain : E, H::N> end(c.end, 0, sums, 0, 1);
    static_assert(decltype(end)::SHARED <= H::SUMS_BYTES, "rows of 16-bit values take the place of the sums");
    int read = 0;
    for (int item = share.first; item < share.items; item += share.step) {
        const Strip s = strip_of(c, p.rows, PairRowsShape::COLUMNS, item);
        if (E != Ending::general) end.begin(s.image, s.y0, s.x0, PairRowsShape::COLUMNS, c.width);
        for (int row = 0; row < s.rows; ++row) {
            float acc[H::N / 2];
#pragma unroll
            for (int dy = 0; dy < 3; ++dy) middle.await_full(read + dy);
            multiply_held<T>(acc, held, middle_at, read % H::RING, [&] {
                if (E != Ending::general) end.fetch();
            });
            middle.release(read++);
            if constexpr (E != Ending::general) {
                end.finish(acc);
                continue;
            }
            // The other threads still read the row before.
            sync_group(1, 128);
            spread_pixels<0, H::N>(acc, sums);
            sync_group(1, 128);
            finish_tile<T, 64, H::N, 128>(c.end, {s.image, s.y0 + row, s.x0, c.height, c.width, 0}, sums, 1,
                                          PairRowsShape::COLUMNS, thread() % 128);
        }
        for (int last = 0; last < 2; ++last) middle.release(read++);
    }
}

template <class T, Ending E>
SRFAST_KERNEL(384, 1)
pair_wgmma(SRFAST_PARAM PairRowsParams p) {
    using P = PairRowsShape;
    using H = HeldShape;
    const ConvParams& c = p.pair.second;
    const uint32_t shared = shared_base(), middle_at = shared + P::MIDDLE;
    const Ring<H::RING> source{shared + P::BARRIERS}, middle{source.barriers + Ring<H::RING>::BYTES};
    const Share share = share_of(c, block(), blocks());
    if (thread() == 0) {
        source.init(4, 4);
        middle.init(4, 4);
        mbarrier_publish();
    }
    // Pixels 64 and 65 of the middle's rows, which only columns without use are made of.
    for (int i = thread(); i < H::RING * 8 * 2; i += 384)
        sts128(middle_at + i / 2 * H::PLANE_BYTES + (H::N + i % 2) * 16, {{0, 0, 0, 0}});
    copies_see_writes();
    sync_block();
    const int role = uniform(thread() / 128);
    if (role == 0) {
        fewer_registers<40>();
        if (c.programmatic) wait_for_kernel_in_front();
        copy_planes<H, 2>(c, p.rows, P::COLUMNS, shared, source, share);
    } else if (role == 1) {
        more_registers<232>();
        make_middle<T>(p, shared, source, middle_at, middle, share);
    } else {
        more_registers<232>();
        make_result<T, E>(p, middle_at, middle, shared + P::SUMS, share);
    }
    if (c.programmatic) let_next_kernel_start();
}

}  // namespace srfast
