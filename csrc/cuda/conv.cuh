// Chooses among the compiled convolutions; included by one thin source for each type.
#pragma once

#include "conv_few_channels.cuh"
#include "kernels.h"

namespace srfast {

template <class T, class S>
bool try_many_channels(const Variant& v, const ConvParams& p, const Stream& stream, int& shared) {
    if (v.pixel_stride || v.block_c != S::CB || v.block_o != S::BO || v.kernel != S::KERNEL || v.tile_h != S::TILE_H ||
        v.tile_w != S::TILE_W)
        return false;
    const long long blocks = 1LL * p.images * p.tiles_y * p.tiles_x * ((p.end.channels + S::BO - 1) / S::BO);
    const auto run = [&](auto ending) {
        return launch(conv_mma<T, S, decltype(ending)::value>, blocks, S::THREADS,
                      S::shared_bytes(p.kernel, p.blocks_c), stream, p);
    };
    if constexpr (S::ENDS)
        shared = S::TILE_H == 8 && phases_of(p.end)
                     ? run(std::integral_constant<Ending, S::TILE_H == 8 ? Ending::phases : Ending::general>{})
                     : by_ending(stream.device < 0 ? Ending::general : ending_of(p.end), run);
    else
        shared = run(std::integral_constant<Ending, Ending::general>{});
    return true;
}

template <class T, int PIXEL, class S>
bool try_few_channels(const Variant& v, const ConvParams& p, const Stream& stream, int& shared) {
    if (v.pixel_stride != PIXEL || v.block_o != S::BO || v.tile_h != S::TILE_H || v.tile_w != S::TILE_W) return false;
    const long long blocks = 1LL * p.images * p.tiles_y * p.tiles_x * ((p.end.channels + S::BO - 1) / S::BO);
    shared = launch(conv_few_channels<T, PIXEL, S>, blocks, S::THREADS,
                    FewChannelsShape<PIXEL, S>::shared_bytes(p.kernel), stream, p);
    return true;
}

template <class T>
int run_conv(const Variant& v, const ConvParams& p, const Stream& q) {
    int shared = 0;
    const bool found = try_many_channels<T, MmaShape<64, 64, 3, 8, 16, 2, 2>>(v, p, q, shared) ||
                       try_many_channels<T, MmaShape<64, 64, 3, 16, 16, 4, 2>>(v, p, q, shared) ||
                       try_many_channels<T, MmaShape<64, 64, 0, 8, 16, 2, 2>>(v, p, q, shared) ||
                       try_many_channels<T, MmaShape<16, 64, 0, 8, 16, 2, 2>>(v, p, q, shared) ||
                       try_many_channels<T, MmaShape<64, 32, 0, 8, 16, 4, 1>>(v, p, q, shared) ||
                       try_many_channels<T, MmaShape<16, 32, 0, 8, 16, 4, 1>>(v, p, q, shared) ||
                       try_many_channels<T, MmaShape<32, 32, 0, 8, 16, 4, 1>>(v, p, q, shared) ||
                       try_many_channels<T, MmaShape<32, 64, 0, 8, 16, 2, 2>>(v, p, q, shared) ||
                       try_many_channels<T, MmaShape<64, 16, 0, 8, 16, 4, 1>>(v, p, q, shared) ||
                       try_many_channels<T, MmaShape<16, 16, 0, 8, 16, 4, 1>>(v, p, q, shared) ||
                       try_few_channels<T, 4, MmaShape<16, 32, 0, 8, 16, 4, 1>>(v, p, q, shared) ||
                       try_few_channels<T, 8, MmaShape<16, 32, 0, 8, 16, 4, 1>>(v, p, q, shared);
    if (!found) throw std::invalid_argument("no compiled convolution has these blocks and this tile");
    return shared;
}

}  // namespace srfast
