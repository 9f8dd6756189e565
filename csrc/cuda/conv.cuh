// Chooses among the compiled convolutions; included by one thin source for each type.
#pragma once

#include "conv_narrow.cuh"
#include "kernels.h"

namespace srfast {

template <class T, class S>
bool try_wide(const Variant& v, const ConvParams& p, const Queue& queue, int& shared) {
    if (v.pixel || v.block_c != S::CB || v.block_o != S::BO || v.kernel != S::KERNEL || v.tile_h != S::TILE_H || v.tile_w != S::TILE_W) return false;
    const long long blocks = 1LL * p.images * p.tiles_y * p.tiles_x * ((p.end.channels + S::BO - 1) / S::BO);
    shared = launch(conv_mma<T, S>, blocks, S::THREADS, S::shared_bytes(p.kernel, p.blocks_c), queue, p);
    return true;
}

template <class T, int PIXEL, class S>
bool try_narrow(const Variant& v, const ConvParams& p, const Queue& queue, int& shared) {
    if (v.pixel != PIXEL || v.block_o != S::BO || v.tile_h != S::TILE_H || v.tile_w != S::TILE_W) return false;
    const long long blocks = 1LL * p.images * p.tiles_y * p.tiles_x * ((p.end.channels + S::BO - 1) / S::BO);
    shared = launch(conv_narrow<T, PIXEL, S>, blocks, S::THREADS, NarrowShape<PIXEL, S>::shared_bytes(p.kernel), queue, p);
    return true;
}

template <class T>
int run_conv(const Variant& v, const ConvParams& p, const Queue& q) {
    int shared = 0;
    const bool found = try_wide<T, MmaShape<64, 64, 3, 8, 16, 2, 2>>(v, p, q, shared) || try_wide<T, MmaShape<64, 64, 3, 16, 16, 4, 2>>(v, p, q, shared) ||
                       try_wide<T, MmaShape<64, 64, 0, 8, 16, 2, 2>>(v, p, q, shared) || try_wide<T, MmaShape<16, 64, 0, 8, 16, 2, 2>>(v, p, q, shared) ||
                       try_wide<T, MmaShape<64, 32, 0, 8, 16, 4, 1>>(v, p, q, shared) || try_wide<T, MmaShape<16, 32, 0, 8, 16, 4, 1>>(v, p, q, shared) ||
                       try_wide<T, MmaShape<32, 32, 0, 8, 16, 4, 1>>(v, p, q, shared) || try_wide<T, MmaShape<32, 64, 0, 8, 16, 2, 2>>(v, p, q, shared) ||
                       try_wide<T, MmaShape<64, 16, 0, 8, 16, 4, 1>>(v, p, q, shared) || try_wide<T, MmaShape<16, 16, 0, 8, 16, 4, 1>>(v, p, q, shared) ||
                       try_narrow<T, 4, MmaShape<16, 32, 0, 8, 16, 4, 1>>(v, p, q, shared) || try_narrow<T, 8, MmaShape<16, 32, 0, 8, 16, 4, 1>>(v, p, q, shared);
    if (!found) throw std::invalid_argument("no compiled convolution has these blocks and this tile");
    return shared;
}

}  // namespace srfast
