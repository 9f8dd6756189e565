// The 3x3 convolution of 64 channels for Hopper with weights held in registers: wgmma takes them from there, and all of
// shared memory is left for pixels.
//
// Rows of pixels lie there as planes of eight channels, without a swizzle: a window that begins a pixel further begins 16
// bytes further, as any descriptor may. A warpgroup copies rows to a ring with cp.async (zeros outside the image), two
// make the rows in turn, each with all 64 x 576 weights in its registers: 144 a thread.
#pragma once

#include "hopper.h"
#include "strips.cuh"

namespace srfast {

constexpr int kHeldSteps = 36;  // products of 16 channels of a tap: 9 taps, 64 channels

struct HeldParams {
    ConvParams conv;  // weight: [blocks_o][36][128][8], a thread's weights side by side
    int rows;         // of a strip
};

// Rows of a window of 64 pixels of 64 values, planes of 16 bytes a pixel. GAP: between planes, so that the 16-byte parts of
// pixels that are written at a time, one pixel of eight parts or two of four, lie in different banks.
template <class E, int GAP>
struct PlaneShape {
    using Element = E;
    static constexpr int N = 64, BOX = N + 2, PITCH = BOX + GAP;
    static constexpr int PLANES = 64 * sizeof(E) / 16, STEPS = 9 * PLANES / 2;  // products of two planes of a tap
    static constexpr int PLANE_BYTES = PITCH * 16, ROW_BYTES = PLANES * PLANE_BYTES;
    static constexpr int RING = 8, LATE = 2;  // LATE: rows that are copied while the warp goes on
    static constexpr int PART = N, SUMS_BYTES = N * 64 * 4;
    static constexpr int SUMS = RING * ROW_BYTES, BARRIERS = SUMS + 2 * SUMS_BYTES,
                         SHARED = BARRIERS + Ring<RING>::BYTES;
    static_assert(RING >= 3 + LATE, "a window and what is under way");
    static_assert(SUMS / 8192 % 2 == 0 && SUMS % 8192 <= 7168,
                  "RowEnd finds its second buffer by a bit of the address");
};
using HeldShape = PlaneShape<uint16_t, 1>;
static_assert(HeldShape::STEPS == kHeldSteps, "weights of sixteen channels of a tap are a step");

// Two planes of PITCH pixels, from an address of a pixel in the first on: sixteen channels, or 32 of a byte each.
template <int PITCH>
SRFAST_DEVICE uint64_t planes_at(uint32_t address) {
    return static_cast<uint64_t>((address & 0x3ffff) >> 4) | static_cast<uint64_t>(PITCH) << 16 | 8ull << 32;
}

// Starts copying 64 channels of COLUMNS pixels of a row from (y, x0) on as planes. Outside the image values of 16 bits are zeros,
// and bytes those of `outside`, four of a kind. THREADS threads share the work; this one is number `index`.
template <int PITCH, int THREADS, int COLUMNS, class Element = uint16_t>
SRFAST_DEVICE void fetch_planes(const View& x, int image, int y, int x0, int height, int width, uint32_t to, int index,
                                uint32_t outside = 0) {
    constexpr int CHUNK = 16 / sizeof(Element), CHUNKS = 64 / CHUNK;  // channels of a plane, planes
    static_assert(THREADS % CHUNKS == 0, "a thread has the same plane of every pixel");
    constexpr int STEP = THREADS / CHUNKS;  // pixels
    const int chunk = index % CHUNKS, first = index / CHUNKS;
    const Element* from = static_cast<const Element*>(x.data) + image * x.image_stride + y * x.row_stride +
                          static_cast<long long>(x0 + first) * x.pixel_stride + chunk * CHUNK;
    const unsigned inside = y >= 0 && y < height ? static_cast<unsigned>(width) : 0;
    to += (chunk * PITCH + first) * 16;
#pragma unroll
    for (int pixel = 0; pixel < COLUMNS; pixel += STEP, from += STEP * x.pixel_stride) {
        if (pixel + STEP > COLUMNS && pixel + first >= COLUMNS) break;
        const bool valid = static_cast<unsigned>(x0 + first + pixel) < inside;
        if (sizeof(Element) == 1 && !valid)
            sts128(to + pixel * 16, {{outside, outside, outside, outside}});
        else
            cp_async<16>(to + pixel * 16, valid ? from : x.data, valid);
    }
}

// Rows that a warpgroup copies to a ring. They become full LATE rows later, while the warpgroup goes on; but the first window, for
// which everybody waits, as soon as it is there.
template <class H>
struct PlaneRows {
    using Rows = Ring<H::RING>;
    uint32_t rows_at;
    const Rows& ring;
    uint32_t outside;
    typename Rows::Turn begun = {}, full = {};
    int under_way = 0, missing = 3;  // missing: of the first window

    // outside: see fetch_planes.
    SRFAST_DEVICE PlaneRows(uint32_t rows_at, const Rows& ring, uint32_t outside = 0)
        : rows_at(rows_at), ring(ring), outside(outside) {}

    // A strip's rows of x with REACH rows and columns more on each side.
    template <int REACH>
    SRFAST_DEVICE void copy(const ConvParams& c, const View& x, const Strip& s) {
        for (int row = -REACH; row < s.rows + REACH; ++row) {
            ring.await_empty(begun);
            fetch_planes<H::PITCH, 128, H::BOX, typename H::Element>(x, s.image, s.y0 + row, s.x0 - REACH, c.height,
                                                                     c.width, rows_at + begun.slot * H::ROW_BYTES,
                                                                     thread(), outside);
            cp_async_commit();
            begun.next();
            ++under_way;
            if (--missing == 0) cp_async_wait<0>();
            cp_async_wait<H::LATE>();
            while (under_way > (missing == 0 ? 0 : H::LATE)) publish();
        }
    }
    // Waits for what is under way. Nobody may wait for another block before that, which may wait for these rows.
    SRFAST_DEVICE void finish() {
        cp_async_wait<0>();
        while (under_way > 0) publish();
        missing = 3;
    }

private:
    SRFAST_DEVICE void publish() {
        ring.publish(full);
        full.next();
        --under_way;
    }
};

// The rows of all strips of a block with REACH rows and columns more on each side, into the ring; strips are `columns` wide.
template <class H, int REACH>
SRFAST_DEVICE void copy_planes(const ConvParams& c, int rows, int columns, uint32_t rows_at, const Ring<H::RING>& ring,
                               const Share& share, uint32_t outside = 0) {
    PlaneRows<H> copies(rows_at, ring, outside);
    for (int item = share.first; item < share.items; item += share.step)
        copies.template copy<REACH>(c, c.x, strip_of(c, rows, columns, item));
    copies.finish();
}

// A thread's part of 64 x 576 weights.
template <class H>
struct WeightsOf {
    Words4 step[H::STEPS];
};
using HeldWeights = WeightsOf<HeldShape>;
template <class H>
SRFAST_DEVICE void hold_weights(WeightsOf<H>& held, const void* weight) {
    const char* from = static_cast<const char*>(weight) + thread() % 128 * 16;
#pragma unroll
    for (int i = 0; i < H::STEPS; ++i) held.step[i] = ldg128(from + i * 128 * 16);
}

// Adds the products of the row whose window is the ring's row `slot` and the two behind it, in the order of conv_wgmma. Calls
// meanwhile() while they are under way.
template <class T, class H, class Sum, class F>
SRFAST_DEVICE void add_products(Sum (&acc)[H::N / 2], const WeightsOf<H>& held, uint32_t rows_at, int slot,
                                const F& meanwhile) {
    constexpr int TAP = H::PLANES / 2, ROW = 3 * TAP;  // steps
    wgmma_fence();
#pragma unroll
    for (int dy = 0; dy < 3; ++dy) {
        const uint32_t pixels = rows_at + Ring<H::RING>::behind(slot, dy) * H::ROW_BYTES;
#pragma unroll
        for (int step = 0; step < ROW; ++step)  // tap of the row, two planes
            wgmma<T, H::N>(acc, held.step[dy * ROW + step].w,
                           planes_at<H::PITCH>(pixels + step / TAP * 16 + step % TAP * 2 * H::PLANE_BYTES));
    }
    wgmma_commit();
    meanwhile();
    wgmma_wait<0>();
    wgmma_settle(acc);
}

// The sums of that row.
template <class T, class F>
SRFAST_DEVICE void multiply_held(float (&acc)[HeldShape::N / 2], const HeldWeights& held, uint32_t rows_at, int slot,
                                 const F& meanwhile) {
    clear_sums(acc);
    add_products<T, HeldShape>(acc, held, rows_at, slot, meanwhile);
}

template <class T, Ending E>
SRFAST_KERNEL(384, 1)
conv_held(SRFAST_PARAM HeldParams p) {
    using H = HeldShape;
    const uint32_t shared = shared_base();
    const Ring<H::RING> ring{shared + H::BARRIERS};
    const int blocks_o = (p.conv.end.channels + 63) / 64, block_o = block() % blocks_o;
    const Share share = share_of(p.conv, block() / blocks_o, blocks() / blocks_o);
    if (thread() == 0) {
        ring.init(4, 8);
        mbarrier_publish();
    }
    sync_block();
    const int role = uniform(thread() / 128);
    if (role == 0) {
        fewer_registers<40>();
        if (p.conv.programmatic) wait_for_kernel_in_front();
        copy_planes<H, 1>(p.conv, p.rows, H::N, shared, ring, share);
    } else {
        more_registers<232>();
        HeldWeights held;
        hold_weights(held,
                     static_cast<const char*>(p.conv.weight) + static_cast<long long>(block_o) * kHeldSteps * 128 * 16);
        if (p.conv.programmatic) wait_for_kernel_in_front();
        const auto multiply = [&](float (&acc)[H::N / 2], int slot, const auto& meanwhile) {
            multiply_held<T>(acc, held, shared, slot, meanwhile);
        };
        make_rows<T, H, E>(p.conv, p.rows, shared + H::SUMS + (role - 1) * H::SUMS_BYTES, ring, share, block_o,
                           role - 1, multiply);
    }
    if (p.conv.programmatic) let_next_kernel_start();
}

// The matrix units alone, as matrix_rate in conv_wgmma.cuh: weights from registers, pixels as planes that stay as they are.
template <class T>
SRFAST_KERNEL(256, 1)
matrix_rate_held(SRFAST_PARAM RateParams p) {
    using H = HeldShape;
    const uint32_t shared = shared_base();
    for (int i = thread(); i < 4096; i += 256)
        sts128(shared + i * 16, ldg128(static_cast<const char*>(p.source) + i * 16));
    copies_see_writes();
    sync_block();
    HeldWeights held;
#pragma unroll
    for (int i = 0; i < kHeldSteps; ++i)
        held.step[i] = ldg128(static_cast<const char*>(p.source) + (i % 32 * 128 + thread() % 128) * 16);
    float acc[H::N / 2], sum = 0.f;
#pragma unroll 1
    for (int round = 0; round < p.rounds; ++round) {
        multiply_held<T>(acc, held, shared + uniform(thread() / 128) * 3 * H::ROW_BYTES, 0, [] {});
        sum += acc[0];
    }
    if (sum == 0.123f) *p.sink = sum;
}

}  // namespace srfast
