// The 3x3 convolution of 64 channels for Hopper in 8 bits: conv_held with pixels and weights of one byte and sums in int32.
//
// Pixels are unsigned, (byte - zero) * step is their value; weights are signed, with a scale for each output channel. The sums
// begin at -zero times the sum of an output channel's weights, so that they are exactly those of byte - zero; outside the image a
// pixel is `zero`. Then scale * sum is what conv_held's sum would be, and the row ends as there, in 16 bits, in bytes or in both.
//
// Both operands are K-major, the only order that wgmma has for bytes. Weights are held in registers (18 products of 32
// channels: 72 a thread): from shared memory a product of 64 pixels would read 4 KB in its 32 cycles, which is all that
// shared memory gives, and leave the endings nothing. Pixels lie as planes of 16 bytes a pixel without a swizzle, each sixteen
// channels: what a descriptor tells is in bytes, and a core matrix is eight rows of 16 bytes whatever its elements, so the layout
// and the descriptors are conv_held's with half as many planes. The leading offset leads to the next plane, the stride offset
// to the next eight pixels; a window that begins a pixel further begins 16 bytes further, which needs no swizzled tile to be
// entered inside (64 bytes a pixel would be the 64-byte swizzle, with the same two readings of a base offset as conv_wgmma's).
#pragma once

#include "bytes.cuh"
#include "conv_held.cuh"
#include "hopper.h"

namespace srfast {

using Int8Shape = PlaneShape<uint8_t, 0>;

// The sums of a row as floats, see the top; `start` of the thread's two channels.
template <class F>
SRFAST_DEVICE void multiply_int8(float (&acc)[Int8Shape::N / 2], const WeightsOf<Int8Shape>& held,
                                 const int (&start)[2], uint32_t rows_at, int slot, const F& meanwhile) {
    using H = Int8Shape;
    int sums[H::N / 2];
#pragma unroll
    for (int i = 0; i < H::N / 2; ++i) sums[i] = start[i / 2 % 2];
    wgmma_settle(sums);
    add_products<Bytes, H>(sums, held, rows_at, slot, meanwhile);
#pragma unroll
    for (int i = 0; i < H::N / 2; ++i) acc[i] = static_cast<float>(sums[i]);
}

template <class T, Ending E>
SRFAST_KERNEL(384, 1)
conv_int8(SRFAST_PARAM Int8Params p) {
    using H = Int8Shape;
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
        copy_planes<H, 1>(p.conv, p.rows, H::N, shared, ring, share, p.zero * 0x01010101u);
    } else {
        more_registers<232>();
        WeightsOf<H> held;
        hold_weights(held,
                     static_cast<const char*>(p.conv.weight) + static_cast<long long>(block_o) * H::STEPS * 128 * 16);
        const int t = thread() % 128, channel = block_o * 64 + t / 32 * 16 + t % 32 / 4, group = role - 1;
        const int start[2] = {ldg_int(p.start + channel), ldg_int(p.start + channel + 8)};
        if (p.conv.programmatic) wait_for_kernel_in_front();
        const uint32_t buffers = shared + H::SUMS + group * H::SUMS_BYTES;
        BytesEnd<T, E, H::N> end(p.conv.end, p.scale, p.bytes, block_o, buffers, group, 2);
        Ring<H::RING>::Turn first;
        for (int item = share.first; item < share.items; item += share.step)
            make_strip<T, H, E>(
                p.conv, end, strip_of(p.conv, p.rows, H::N, item), buffers, ring, first, block_o, group,
                [&](float (&acc)[H::N / 2], int slot, const auto& meanwhile) {
                    multiply_int8(acc, held, start, shared, slot, meanwhile);
                },
                [] {});
    }
    if (p.conv.programmatic) let_next_kernel_start();
}

template <class T>
int run_conv_int8(const Int8Params& given, int blocks, const Stream& stream) {
    Int8Params p = given;
    const long long launched = cut_strips(p.conv, Int8Shape::N, p.rows, blocks);
    const auto run = [&](auto ending) {
        return launch(conv_int8<T, decltype(ending)::value>, launched, 384, Int8Shape::SHARED, stream, p);
    };
    switch (ending_of(p.conv.end)) {
        case Ending::plain: return run(std::integral_constant<Ending, Ending::plain>{});
        case Ending::prelu: return run(std::integral_constant<Ending, Ending::prelu>{});
        case Ending::residual: return run(std::integral_constant<Ending, Ending::residual>{});
        case Ending::prelu_residual: return run(std::integral_constant<Ending, Ending::prelu_residual>{});
        default: throw std::invalid_argument("convolutions in 8 bits have no general ending");
    }
}

template <class T>
int run_quantize(const QuantizeParams& p, const Stream& stream) {
    const long long threads = 8LL * p.images * p.height * p.width;
    return launch(quantize<T>, (threads + kQuantizeThreads - 1) / kQuantizeThreads, kQuantizeThreads, 0, stream, p);
}

}  // namespace srfast
