// A network's tail in one kernel for Hopper: what tail_mma does, with wgmma.
//
// A block walks down a strip of 56 columns, four rows at a pass. Weights stand on the 64 rows of a product, in the order of
// tail_mma: channels between the two, then (tap of a row, output). One thread copies their 8 KB steps to a ring, three
// warps copy rows of the input, and two warpgroups make two rows each: for each 64 channels between the two the first
// convolution's, which then are pixels of the second. Between passes nothing is moved: the rows of 64 channels take turns
// in one place more than there are, so a pass finds those of the pass before.
#pragma once

#include "pair_wgmma.cuh"
#include "tail_mma.cuh"

namespace srfast {

struct TailRowsShape {
    static constexpr int N = 56, ROWS = 4;         // pixels of an instruction, columns of a strip; rows of a pass
    static constexpr int BOX = N + 2, PITCH = 59;  // of the input
    static constexpr int ROW_BYTES = PITCH * 128, SOURCE_RING = ROWS + 2;
    static constexpr int STEP_BYTES = 64 * 64 * 2, STEPS = 5;
    static constexpr int MIDDLE_ROW = N * 128, PLACE_BYTES = ROWS * MIDDLE_ROW;
    static constexpr int SOURCE = STEPS * STEP_BYTES, BARRIERS = SOURCE + SOURCE_RING * ROW_BYTES;
    static constexpr int MIDDLE = (BARRIERS + Ring<STEPS>::BYTES + Ring<SOURCE_RING>::BYTES + 127) / 128 * 128;
    static_assert(STEPS < 9, "a group is never a whole first convolution ahead of the other");
    static_assert(N * 64 * 4 == 2 * MIDDLE_ROW, "a warpgroup's sums of a row take the place of its two rows");

    static constexpr int shared_bytes(int chunks) { return MIDDLE + (chunks + 1) * PLACE_BYTES; }
};

// A block's part of the image.
struct TailStrip {
    Tile tile;  // x0: of the result
    Band band;
    int passes;
};
SRFAST_DEVICE TailStrip tail_strip(const TailParams& p) {
    const ConvParams& c = p.second;
    const Strip s = strip_of(c, p.rows, TailRowsShape::N - c.kernel + 1, block());
    const int passes = (s.rows + c.kernel - 1 + TailRowsShape::ROWS - 1) / TailRowsShape::ROWS;
    return {{s.image, s.y0, s.x0, c.height, c.width, 0}, {s.y0, s.y0 + s.rows}, passes};
}

SRFAST_DEVICE void copy_steps(const TailParams& p, int passes, uint32_t shared,
                              const Ring<TailRowsShape::STEPS>& ring) {
    using R = TailRowsShape;
    const int steps = p.chunks * (9 + p.second.kernel);
    int step = 0;
    for (int count = 0; count < passes * steps; ++count) {
        ring.await_empty(count);
        mbarrier_expect(ring.full(count), R::STEP_BYTES);
        copy_bulk(shared + count % R::STEPS * R::STEP_BYTES,
                  static_cast<const char*>(p.second.weight) + step * R::STEP_BYTES, R::STEP_BYTES, ring.full(count));
        if (++step == steps) step = 0;
    }
}

SRFAST_DEVICE void copy_source(const TailParams& p, const TailStrip& s, uint32_t rows_at,
                               const Ring<TailRowsShape::SOURCE_RING>& ring) {
    using R = TailRowsShape;
    const ConvParams& c = p.second;
    const int half = c.kernel / 2;
    int count = 0;
    for (int pass = 0; pass < s.passes; ++pass) {
        const int end = (pass + 1) * R::ROWS + 2;
        for (int row = count; row < end; ++row) {
            ring.await_empty(row);
            fetch_planes<R::PITCH, 96, R::BOX>(c.x, s.tile.image, s.tile.y0 - half - 1 + row, s.tile.x0 - half - 1,
                                               c.height, c.width, rows_at + row % R::SOURCE_RING * R::ROW_BYTES,
                                               thread() - 32);
        }
        // A pass frees and needs its rows all at once.
        cp_async_commit();
        cp_async_wait<0>();
        for (; count < end; ++count) ring.publish(count);
    }
}

// acc += the step's weights times the pixels of two rows, on the way when it returns.
template <class T, int PITCH>
SRFAST_DEVICE void multiply_step(float (&acc)[2][TailRowsShape::N / 2], uint32_t weights, const uint32_t (&pixels)[2]) {
    wgmma_settle(acc);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; ++k)
#pragma unroll
        for (int r = 0; r < 2; ++r)
            wgmma<T, TailRowsShape::N>(acc[r], matrix_at(weights + k * 32),
                                       planes_at<PITCH>(pixels[r] + k * 2 * PITCH * 16));
    wgmma_commit();
}

// `steps` steps, whose pixels at(step, row) are; `count` numbers the steps of the block.
template <class T, int PITCH, class F>
SRFAST_DEVICE void multiply_steps(float (&acc)[2][TailRowsShape::N / 2], int steps, uint32_t shared,
                                  const Ring<TailRowsShape::STEPS>& ring, int& count, const F& at) {
    using R = TailRowsShape;
    const auto multiply = [&](int step) {
        ring.await_full(count);
        multiply_step<T, PITCH>(acc, shared + count % R::STEPS * R::STEP_BYTES, {at(step, 0), at(step, 1)});
        ++count;
    };
    multiply(0);
#pragma unroll 1
    for (int step = 1; step < steps; ++step) {
        multiply(step);
        wgmma_wait<1>();
        wgmma_settle(acc);
        ring.release(count - 2);
    }
    wgmma_wait<0>();
    wgmma_settle(acc);
    ring.release(count - 1);
}

// FEW: see few_of.
template <class T, bool FEW>
SRFAST_DEVICE void make_tail(const TailParams& p, const TailStrip& s, uint32_t shared,
                             const Ring<TailRowsShape::STEPS>& weights, const Ring<TailRowsShape::SOURCE_RING>& source,
                             int group) {
    using R = TailRowsShape;
    const ConvParams& c = p.second;
    const int half = c.kernel / 2, carried = c.kernel - 1, first_row = group * 2;
    int count = 0;      // steps so far
    int old_place = 0;  // of the rows of the pass before; the place behind it is free
    const auto place = [&](int i) {
        return shared + R::MIDDLE + (i > p.chunks ? i - p.chunks - 1 : i) * R::PLACE_BYTES;
    };
    float few[2][R::N / 2], many[2][R::N / 2];
#pragma unroll 1
    for (int pass = 0; pass < s.passes; ++pass) {
        clear_sums(few[0]);
        clear_sums(few[1]);
        for (int row = 0; row < R::ROWS + 2; ++row) source.await_full(pass * R::ROWS + row);
#pragma unroll 1
        for (int chunk = 0; chunk < p.chunks; ++chunk) {
            const MiddleEpilogue epilogue = middle_epilogue(p.first_bias + chunk * 64, p.first_slope + chunk * 64);
            const uint32_t old = place(old_place), fresh = place(old_place + p.chunks);
            clear_sums(many[0]);
            clear_sums(many[1]);
            multiply_steps<T, R::PITCH>(many, 9, shared, weights, count, [&](int tap, int r) {
                return shared + R::SOURCE + (pass * R::ROWS + first_row + r + tap / 3) % R::SOURCE_RING * R::ROW_BYTES +
                       tap % 3 * 16;
            });
            if (chunk + 1 == p.chunks)
                for (int row = 0; row < R::ROWS; ++row) source.release(pass * R::ROWS + row);
            // Nobody reads the free place any more: the other group is past the first of these nine steps, or their ring,
            // which is shorter, would not have let this one go so far.
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const int y = s.tile.y0 - half + pass * R::ROWS + first_row + r;
                fill_planes<T, R::N>(many[r], epilogue, y, s.tile.x0 - half, c.height, c.width,
                                     fresh + (first_row + r) * R::MIDDLE_ROW);
            }
            copies_see_writes();
            sync_group(1, 256);
            multiply_steps<T, R::N>(few, c.kernel, shared, weights, count, [&](int dy, int r) {
                const int row = first_row + r + dy - carried;
                return row < 0 ? old + (R::ROWS + row) * R::MIDDLE_ROW : fresh + row * R::MIDDLE_ROW;
            });
            old_place = old_place == p.chunks ? 0 : old_place + 1;
        }
        sync_group(1, 256);  // nobody reads the rows whose place the sums take
        const uint32_t sums = place(old_place + p.chunks) + group * 2 * R::MIDDLE_ROW;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            if (r) sync_group(2 + group, 128);
            spread_pixels<0, R::N>(few[r], sums);
            sync_group(2 + group, 128);
            if constexpr (FEW) {
                finish_few<T, 64, 64>(c.end, s.tile, s.band, s.tile.y0 + pass * R::ROWS - carried + first_row + r,
                                      R::N - 4, sums, thread() % 128);
                continue;
            }
            finish_part<T, R::N, R::N, 128>(c, s.tile, s.band, s.tile.y0 + pass * R::ROWS - carried + first_row + r,
                                            sums, thread() % 128);
        }
    }
}

template <class T, bool FEW>
SRFAST_KERNEL(384, 1)
tail_wgmma(SRFAST_PARAM TailParams p) {
    using R = TailRowsShape;
    const uint32_t shared = shared_base();
    const Ring<R::STEPS> weights{shared + R::BARRIERS};
    const Ring<R::SOURCE_RING> source{weights.barriers + Ring<R::STEPS>::BYTES};
    const TailStrip s = tail_strip(p);
    if (thread() == 0) {
        weights.init(1, 8);
        source.init(3, 8);
        mbarrier_publish();
    }
    for (int i = thread(); i < p.chunks * R::PLACE_BYTES / 16; i += 384)
        sts128(shared + R::MIDDLE + i * 16, {{0, 0, 0, 0}});
    copies_see_writes();
    sync_block();
    const int role = uniform(thread() / 128);
    if (role == 0) {
        fewer_registers<40>();
        if (p.second.programmatic) wait_for_kernel_in_front();
        if (thread() == 0) copy_steps(p, s.passes, shared, weights);
        if (thread() >= 32) copy_source(p, s, shared + R::SOURCE, source);
    } else {
        more_registers<232>();
        if (p.second.programmatic) wait_for_kernel_in_front();
        make_tail<T, FEW>(p, s, shared, weights, source, role - 1);
    }
    if (p.second.programmatic) let_next_kernel_start();
}

}  // namespace srfast
