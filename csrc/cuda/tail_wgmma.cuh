// A network's tail in one kernel for Hopper: what tail_mma does, with wgmma.
//
// A block walks down a strip of 56 columns, four rows at a pass. Weights stand on the 64 rows of a product, in the order of
// tail_mma: channels between the two, then (tap of a row, output). One thread copies their 8 KB steps to a ring, three
// warps copy rows of the input, and two warpgroups make two rows each: for each 64 channels between the two the first
// convolution's, which then are pixels of the second. Between passes nothing is moved: the rows of 64 channels take turns
// in one place more than there are, so a pass finds those of the pass before.
//
// Neither the rounding of these rows nor the end of a pass stops the matrix units: rows are rounded while the second
// convolution's products of rows that are there already are under way, a pass ends during the next one's first products.
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
    static constexpr int MIDDLE =
        (BARRIERS + Ring<STEPS>::BYTES + Ring<SOURCE_RING>::BYTES + Ring<2>::BYTES + 127) / 128 * 128;
    static_assert(STEPS + 3 <= 9, "a pass ends from the STEPS-th step of a first convolution on, in four of them");
    static_assert(N * 64 * 4 == 2 * MIDDLE_ROW, "a warpgroup's sums of a row take the place of its two rows");

    static constexpr int shared_bytes(int chunks) { return MIDDLE + (chunks + 1) * PLACE_BYTES; }
};

using TailSums = float[2][TailRowsShape::N / 2];  // of a thread, of a warpgroup's two rows

struct TailRings {
    Ring<TailRowsShape::STEPS> weights;
    Ring<TailRowsShape::SOURCE_RING> source;
    Ring<2> made;  // rows between the two convolutions, by each warpgroup
};

SRFAST_DEVICE TailRings tail_rings(uint32_t at) {
    const uint32_t source = at + Ring<TailRowsShape::STEPS>::BYTES;
    return {{at}, {source}, {source + Ring<TailRowsShape::SOURCE_RING>::BYTES}};
}

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
        // A pass needs its rows all at once.
        cp_async_commit();
        cp_async_wait<0>();
        for (; count < end; ++count) ring.publish(count);
    }
}

// A warpgroup's steps: products of 64 x 64 weights and the pixels of two rows. While one is on the way the next one begins.
template <class T>
class TailSteps {
public:
    using R = TailRowsShape;

    SRFAST_DEVICE TailSteps(uint32_t shared, const Ring<R::STEPS>& weights) : shared_(shared), weights_(weights) {}

    // sums += the next weights times pixels, on the way when it returns.
    template <int PITCH>
    SRFAST_DEVICE void begin(TailSums& sums, const uint32_t (&pixels)[2]) {
        weights_.await_full(count_);
        const uint32_t weights = shared_ + count_ % R::STEPS * R::STEP_BYTES;
        wgmma_settle(sums);
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < 4; ++k)
#pragma unroll
            for (int r = 0; r < 2; ++r)
                wgmma<T, R::N>(sums[r], matrix_at(weights + k * 32), planes_at<PITCH>(pixels[r] + k * 2 * PITCH * 16));
        wgmma_commit();
        ++count_;
    }
    // Ends the step before the last one that began.
    SRFAST_DEVICE void end_previous() const {
        wgmma_wait<1>();
        weights_.release(count_ - 2);
    }
    SRFAST_DEVICE void end_last() const {
        wgmma_wait<0>();
        weights_.release(count_ - 1);
    }

private:
    uint32_t shared_;
    Ring<R::STEPS> weights_;
    int count_ = 0;
};

// What a warpgroup makes of a strip: of each pass the rows 2 * group and 2 * group + 1. FEW: see few_of.
//
// Why nobody reads a row too early: `made` says that a group's rows of these 64 channels are there. Group 1 reads those of both,
// group 0 its own, and others only of the pass before.
//
// Why nobody overwrites what is still read, and why group 0 has the rows of the pass before: the warpgroups make the same steps,
// and the ring of their weights is short. Who has the weights of a step knows that all warps have ended the step STEPS before it
// and what they did earlier. From the STEPS-th step of a first convolution on all is over that belongs to the 64 channels before:
// the old rows that lay in the free place have been read, so the sums and then the fresh rows may take it. For the same reason a
// group is never so far ahead that `made` could be mistaken for the turn before.
template <class T, bool FEW>
class TailGroup {
public:
    using R = TailRowsShape;

    SRFAST_DEVICE TailGroup(const TailParams& p, const TailStrip& s, uint32_t shared, const TailRings& rings, int group)
        : p_(p),
          s_(s),
          shared_(shared),
          source_(rings.source),
          made_(rings.made),
          steps_(shared, rings.weights),
          group_(group) {}

    SRFAST_DEVICE void make() {
        clear_sums(few_[0]);
        clear_sums(few_[1]);
#pragma unroll 1
        for (int pass = 0; pass < s_.passes; ++pass) {
            source_.await_full((pass + 1) * R::ROWS + 1);  // the last of them; they come together
#pragma unroll 1
            for (int chunk = 0; chunk < p_.chunks; ++chunk, ++turn_) {
                make_first(pass, chunk);
                make_second(pass, chunk);
                old_place_ = old_place_ == p_.chunks ? 0 : old_place_ + 1;
            }
        }
        sync_group(1, 256);  // no further steps tell that nobody reads the rows whose place the sums take
#pragma unroll
        for (int quarter = 0; quarter < 4; ++quarter) end_pass(s_.passes - 1, quarter);
    }

private:
    // Rows of the second convolution's taps that need none of the group's own fresh rows: kernel - 2, at least one.
    static constexpr int EARLY = FEW ? 3 : 1;

    const TailParams& p_;
    const TailStrip& s_;
    uint32_t shared_;
    Ring<R::SOURCE_RING> source_;
    Ring<2> made_;
    TailSteps<T> steps_;
    int group_;
    int freed_ = 0;      // rows of the input so far
    int turn_ = 0;       // blocks of 64 channels so far
    int old_place_ = 0;  // of the rows of the pass before; the place behind it is free
    TailSums few_, many_;

    SRFAST_DEVICE int kernel() const { return FEW ? 5 : p_.second.kernel; }
    SRFAST_DEVICE uint32_t place(int i) const {
        return shared_ + R::MIDDLE + (i > p_.chunks ? i - p_.chunks - 1 : i) * R::PLACE_BYTES;
    }
    SRFAST_DEVICE uint32_t fresh() const { return place(old_place_ + p_.chunks); }

    // The first convolution's sums of 64 channels. Beside those of the first 64 the pass before ends.
    SRFAST_DEVICE void make_first(int pass, int chunk) {
        clear_sums(many_[0]);
        clear_sums(many_[1]);
        const bool ends = pass > 0 && chunk == 0;
        begin_tap(pass, 0);
#pragma unroll 1
        for (int tap = 1; tap < 9; ++tap) {
            begin_tap(pass, tap);
            if (ends) end_pass(pass - 1, tap + 1 - R::STEPS);
            steps_.end_previous();
            wgmma_settle(many_);
            // After each row of taps there is one more row of the input that the group has read for the last time.
            if (tap % 3 == 0 && chunk + 1 == p_.chunks) free_source(pass * R::ROWS + group_ * 2 + tap / 3);
        }
    }
    SRFAST_DEVICE void free_source(int end) {
        for (; freed_ < end; ++freed_) source_.release(freed_);
    }
    SRFAST_DEVICE void begin_tap(int pass, int tap) {
        const auto at = [&](int r) {
            const int row = pass * R::ROWS + group_ * 2 + r + tap / 3;
            return shared_ + R::SOURCE + row % R::SOURCE_RING * R::ROW_BYTES + tap % 3 * 16;
        };
        steps_.template begin<R::PITCH>(many_, {at(0), at(1)});
    }

    // Fresh rows of the first convolution's sums, and the second convolution's products with these 64 channels.
    SRFAST_DEVICE void make_second(int pass, int chunk) {
        const MiddleEpilogue epilogue = middle_epilogue(p_.first_bias + chunk * 64, p_.first_slope + chunk * 64);
        const ConvParams& c = p_.second;
        const int y0 = s_.tile.y0 - kernel() / 2 + pass * R::ROWS, x0 = s_.tile.x0 - kernel() / 2;
        const auto fill = [&](int r) {
            const int row = group_ * 2 + r;
            fill_planes<T, R::N>(many_[r], epilogue, y0 + row, x0, c.height, c.width, fresh() + row * R::MIDDLE_ROW);
        };
        if (EARLY == 1 && group_ == 1) made_.await_full(turn_ * 2);
        begin_row(0);
        steps_.end_previous();
        wgmma_settle(many_);
        if (chunk + 1 == p_.chunks) free_source((pass + 1) * R::ROWS);
        if constexpr (EARLY == 1) {
            fill(0);
            fill(1);
        } else {
            if (group_ == 1) made_.await_full(turn_ * 2);
            begin_row(1);
            fill(0);
            steps_.end_previous();
            begin_row(2);
            fill(1);
            steps_.end_previous();
        }
        made_.publish(turn_ * 2 + group_);
        made_.await_full(turn_ * 2 + group_);
#pragma unroll 1
        for (int dy = EARLY; dy < kernel(); ++dy) {
            begin_row(dy);
            steps_.end_previous();
            wgmma_settle(few_);
        }
        // With a step on the way around the loop the compiler would serialise all of them.
        steps_.end_last();
        wgmma_settle(few_);
    }

    // Row dy of the second convolution's taps.
    SRFAST_DEVICE void begin_row(int dy) {
        const auto at = [&](int r) {
            const int row = group_ * 2 + r + dy - kernel() + 1;
            return row < 0 ? place(old_place_) + (R::ROWS + row) * R::MIDDLE_ROW : fresh() + row * R::MIDDLE_ROW;
        };
        steps_.template begin<R::N>(few_, {at(0), at(1)});
    }

    // A quarter of a pass's end, if there is such a one: a row's sums to shared memory, or from there to the result.
    SRFAST_DEVICE void end_pass(int pass, int quarter) {
        if (quarter < 0 || quarter > 3) return;
        const uint32_t sums = fresh() + group_ * 2 * R::MIDDLE_ROW;
        const int y = s_.tile.y0 + pass * R::ROWS - kernel() + 1 + group_ * 2 + quarter / 2;
        if (quarter == 0)
            spread(few_[0], sums);
        else if (quarter == 2)
            spread(few_[1], sums);
        else if constexpr (FEW)
            finish_few<T, 64, 64>(p_.second.end, s_.tile, s_.band, y, R::N - 4, sums, thread() % 128);
        else
            finish_part<T, R::N, R::N, 128>(p_.second, s_.tile, s_.band, y, sums, thread() % 128);
        sync_group(2 + group_, 128);
    }
    SRFAST_DEVICE static void spread(float (&sums_of_row)[R::N / 2], uint32_t sums) {
        spread_pixels<0, R::N>(sums_of_row, sums);
        clear_sums(sums_of_row);
    }
};

template <class T, bool FEW>
SRFAST_KERNEL(384, 1)
tail_wgmma(SRFAST_PARAM TailParams p) {
    using R = TailRowsShape;
    const uint32_t shared = shared_base();
    const TailRings rings = tail_rings(shared + R::BARRIERS);
    const TailStrip s = tail_strip(p);
    if (thread() == 0) {
        rings.weights.init(1, 8);
        rings.source.init(3, 8);
        rings.made.init(4, 8);
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
        if (thread() == 0) copy_steps(p, s.passes, shared, rings.weights);
        if (thread() >= 32) copy_source(p, s, shared + R::SOURCE, rings.source);
    } else {
        more_registers<232>();
        if (p.second.programmatic) wait_for_kernel_in_front();
        TailGroup<T, FEW>(p, s, shared, rings, role - 1).make();
    }
    if (p.second.programmatic) let_next_kernel_start();
}

}  // namespace srfast
