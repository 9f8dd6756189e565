// Launches of the Hopper kernels.
#pragma once

#include "conv_wgmma.cuh"

#include <type_traits>

#ifndef SRFAST_EMULATE
#include <cuda.h>
#endif

namespace srfast {

// x as the copy engine reads it: 64 channels, `box` pixels of a row at a time.
#ifdef SRFAST_EMULATE
inline TensorMap tensor_map(const ConvParams& p, bool, int box) {
    return {static_cast<const uint16_t*>(p.x.data), p.x.image, p.x.row, p.x.pixel, p.images, p.height, p.width, 64, box};
}
#else
inline TensorMap tensor_map(const ConvParams& p, bool bfloat16, int box) {
    static_assert(sizeof(CUtensorMap) == sizeof(TensorMap), "the driver's descriptor");
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result;
    // By the runtime: the module needs no driver library to load.
#if CUDART_VERSION >= 12050
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result), "cuTensorMapEncodeTiled");
#else
    check(cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &result), "cuTensorMapEncodeTiled");
#endif
    if (!found) throw std::runtime_error("this driver has no cuTensorMapEncodeTiled; the Hopper kernels need one for CUDA 12");
    const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found);
    const cuuint64_t sizes[4] = {64, static_cast<cuuint64_t>(p.width), static_cast<cuuint64_t>(p.height), static_cast<cuuint64_t>(p.images)};
    const cuuint64_t strides[3] = {static_cast<cuuint64_t>(p.x.pixel) * 2, static_cast<cuuint64_t>(p.x.row) * 2, static_cast<cuuint64_t>(p.x.image) * 2};
    const cuuint32_t extent[4] = {64, static_cast<cuuint32_t>(box), 1, 1}, steps[4] = {1, 1, 1, 1};
    TensorMap map;
    const CUresult error = encode(reinterpret_cast<CUtensorMap*>(&map), bfloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 4,
                                  p.x.data, sizes, strides, extent, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (error != CUDA_SUCCESS) throw std::runtime_error("cuTensorMapEncodeTiled failed with error " + std::to_string(error));
    return map;
}
#endif

template <class T, bool SHIFTED>
int launch_hopper(ConvParams p, bool bfloat16, int rows, int blocks, const Queue& queue) {
    using W = WgmmaShape<SHIFTED>;
    p.tiles_x = (p.width + W::N - 1) / W::N, p.tiles_y = (p.height + rows - 1) / rows;
    const HopperParams params{queue.device < 0 ? TensorMap{} : tensor_map(p, bfloat16, W::BOX), p, rows};
    const int blocks_o = (p.end.channels + 63) / 64;
    const long long items = 1LL * p.images * p.tiles_y * p.tiles_x;
    // Whole sets of the blocks of output channels: each block keeps the weights of one.
    const long long sets = blocks < blocks_o ? 1 : blocks / blocks_o;
    return launch(conv_wgmma<T, SHIFTED>, (items < sets ? items : sets) * blocks_o, 384, W::SHARED, queue, params);
}

template <class T>
int run_conv_hopper(const ConvParams& p, bool shifted, int rows, int blocks, const Queue& queue) {
    constexpr bool bfloat16 = std::is_same_v<T, Bfloat16>;
    if (p.kernel != 3 || p.in_channels != 64 || rows < 1 || blocks < 1)
        throw std::invalid_argument("the Hopper kernel is a 3x3 convolution of 64 channels");
    return shifted ? launch_hopper<T, true>(p, bfloat16, rows, blocks, queue) : launch_hopper<T, false>(p, bfloat16, rows, blocks, queue);
}

}  // namespace srfast
