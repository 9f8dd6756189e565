// A run of 3x3 convolutions of 64 channels in one launch for Hopper (a network's trunk): blocks of threads stay and walk over
// the layers.
//
// A block has the same strips in every layer and makes them as conv_held does, so the result is that of separate launches, bit
// for bit. While a layer is made the next one's weights come to shared memory. A strip of a layer waits for the layer before it
// in itself and in the strips that touch it, and for nothing else: each strip has a counter, which each of the two warpgroups
// that make rows increases once a layer.
//
// That is enough for reads, which reach one pixel around a strip, and for writes too: whoever read what a strip overwrites in
// this layer did so in an earlier one, is one of these neighbours, and has both counted after its last read. So a layer may
// write to any image but the one that it reads; the residual's is read where it is written, by the same thread.
//
// It ends: all blocks are there at the same time (a cooperative launch), each makes the layers in order, and a layer waits for
// the one before only. A warpgroup that copies rows publishes all it has copied before it waits for another block.
#pragma once

#include "conv_held.cuh"
#include "hopper.cuh"
#include "trunk.h"

namespace srfast {

struct TrunkShape {
    using H = HeldShape;
    static constexpr int WEIGHT_BYTES = kHeldSteps * 128 * 16;
    static constexpr int WEIGHTS = H::SUMS + 2 * H::SUMS_BYTES, BARRIERS = WEIGHTS + WEIGHT_BYTES;
    static constexpr int SHARED = BARRIERS + Ring<H::RING>::BYTES + Ring<1>::BYTES;
};

// The weights of one layer in shared memory, a ring of one slot: copied by one thread, then read by two warpgroups.
struct TrunkWeights {
    uint32_t at;
    Ring<1> turns;

    SRFAST_DEVICE void bring(const TrunkParams& p, int layer) const {
        turns.await_empty(layer);
        mbarrier_expect(turns.full(layer), TrunkShape::WEIGHT_BYTES);
        copy_bulk(at,
                  static_cast<const char*>(p.conv.weight) + static_cast<long long>(layer) * TrunkShape::WEIGHT_BYTES,
                  TrunkShape::WEIGHT_BYTES, turns.full(layer));
    }
    SRFAST_DEVICE void hold(HeldWeights& held, int layer) const {
        turns.await_full(layer);
        const uint32_t from = at + thread() % 128 * 16;
#pragma unroll
        for (int i = 0; i < kHeldSteps; ++i) held.step[i] = lds128(from + i * 128 * 16);
        sync_warp();
        turns.release(layer);
    }
};

// Until the strip and all that touch it have `least` on their counters; by a warpgroup whose threads are numbered from 0.
SRFAST_DEVICE void await_neighbours(const TrunkParams& p, int item, uint32_t least) {
    const ConvParams& c = p.conv;
    const int t = thread(), right = t % 3 - 1, down = t / 3 - 1;
    const int x = item % c.tiles_x + right, y = item / c.tiles_x % c.tiles_y + down;
    if (t < 9 && x >= 0 && x < c.tiles_x && y >= 0 && y < c.tiles_y)
        await_count(p.counters + item + down * c.tiles_x + right, least);
    sync_group(3, 128);
}

// The rows of all layers to the ring, by one warpgroup, whose first thread brings the weights. before: what counters had at first.
SRFAST_DEVICE void copy_layers(const TrunkParams& p, uint32_t shared, const Ring<HeldShape::RING>& ring,
                               const TrunkWeights& weights, const Share& share, uint32_t before) {
    const bool first = thread() == 0;
    if (first) weights.bring(p, 0);
    PlaneRows<HeldShape> copies(shared, ring);
    View x = p.conv.x;
    for (int layer = 0; layer < p.count; ++layer) {
        x.data = p.images[p.layers[layer].from];
        for (int item = share.first; item < share.items; item += share.step) {
            Strip s = strip_of(p.conv, p.rows, HeldShape::N, item);
            // Made before the wait, not behind it.
            keep(s.image);
            keep(s.y0);
            keep(s.rows);
            keep(s.x0);
            if (layer > 0) {
                copies.finish();
                await_neighbours(p, item, before + 2 * layer);
            }
            copies.copy<1>(p.conv, x, s);
            if (first && item == share.first && layer + 1 < p.count) weights.bring(p, layer + 1);
        }
    }
    copies.finish();
}

// A layer's rows by one of two warpgroups. `first`: the next row of the ring.
template <class T, Ending E>
SRFAST_DEVICE void make_layer(const TrunkParams& p, int layer, const HeldWeights& held, uint32_t shared,
                              const Ring<HeldShape::RING>& ring, Ring<HeldShape::RING>::Turn& first, const Share& share,
                              int group) {
    using H = HeldShape;
    const uint32_t buffers = shared + H::SUMS + group * H::SUMS_BYTES;
    Epilogue e{};
    e.bias = p.conv.end.bias + layer * 64;
    e.slope = p.conv.end.slope + layer * 64;
    e.out = e.residual = p.conv.x;
    e.channels = 64;
    e.shuffle = 1;
    e.gain = p.layers[layer].gain;
    RowEndOf<T, H, E> end(e, 0, buffers, group, 2);
    for (int item = share.first; item < share.items; item += share.step) {
        // Looked up for each strip: in between the registers are for weights and sums.
        int again = layer;
        keep(again);
        e.out.data = p.images[p.layers[again].to];
        if (kHasResidual<E>) e.residual.data = p.images[p.layers[again].residual];
        make_strip<T, H, E>(
            p.conv, end, strip_of(p.conv, p.rows, H::N, item), buffers, ring, first, 0, group,
            [&](float (&acc)[H::N / 2], int slot, const auto& meanwhile) {
                multiply_held<T>(acc, held, shared, slot, meanwhile);
            },
            [&] {
                // All of the group have stored; and the buffers are free for the next layer.
                sync_group(1 + group, 128);
                if (thread() % 128 == 0) count_up(p.counters + item);
            });
    }
}

template <class T>
SRFAST_DEVICE void make_layers(const TrunkParams& p, uint32_t shared, const Ring<HeldShape::RING>& ring,
                               const TrunkWeights& weights, const Share& share, int group) {
    Ring<HeldShape::RING>::Turn first;
    for (int layer = 0; layer < p.count; ++layer) {
        HeldWeights held;
        weights.hold(held, layer);
        if (p.layers[layer].residual >= kTrunkImages)
            make_layer<T, Ending::prelu>(p, layer, held, shared, ring, first, share, group);
        else if (p.layers[layer].prelu)
            make_layer<T, Ending::prelu_residual>(p, layer, held, shared, ring, first, share, group);
        else
            make_layer<T, Ending::residual>(p, layer, held, shared, ring, first, share, group);
    }
}

template <class T>
SRFAST_KERNEL(384, 1)
trunk_wgmma(SRFAST_PARAM TrunkParams p) {
    using S = TrunkShape;
    const uint32_t shared = shared_base();
    const Ring<HeldShape::RING> ring{shared + S::BARRIERS};
    const TrunkWeights weights{shared + S::WEIGHTS, {ring.barriers + Ring<HeldShape::RING>::BYTES}};
    const Share share = share_of(p.conv, block(), blocks());
    // Only this block increases this counter, behind the barrier; of all strips as many layers were made.
    const uint32_t before = counted(p.counters + share.first);
    if (thread() == 0) {
        ring.init(4, 8);
        weights.turns.init(1, 8);
        mbarrier_publish();
    }
    sync_block();
    const int role = uniform(thread() / 128);
    if (role == 0) {
        fewer_registers<56>();
        copy_layers(p, shared, ring, weights, share, before);
    } else {
        more_registers<224>();
        make_layers<T>(p, shared, ring, weights, share, role - 1);
    }
}

template <class T>
int run_trunk(const TrunkParams& given, int blocks, const Stream& stream) {
    TrunkParams p = given;
    const long long launched = cut_strips(p.conv, HeldShape::N, p.rows, blocks);
    return launch_together(trunk_wgmma<T>, launched, 384, TrunkShape::SHARED, stream, p);
}

template <class T>
int resident_trunk_blocks(const Stream& stream) {
    return resident_blocks(trunk_wgmma<T>, 384, TrunkShape::SHARED, stream);
}

}  // namespace srfast
