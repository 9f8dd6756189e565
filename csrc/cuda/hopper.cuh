// Launches of the Hopper kernels.
#pragma once

#include "conv_wgmma.cuh"
#include "tail_wgmma.cuh"

#include <type_traits>

#ifndef SRFAST_EMULATE
#include <cuda.h>
#endif

namespace srfast {

// x as the copy engine reads it: 64 channels, `box` pixels of a row at a time.
#ifdef SRFAST_EMULATE
inline TensorMap tensor_map(const ConvParams& p, bool, int box) {
    return {static_cast<const uint16_t*>(p.x.data),
            p.x.image_stride,
            p.x.row_stride,
            p.x.pixel_stride,
            p.images,
            p.height,
            p.width,
            64,
            box};
}
#else
inline TensorMap tensor_map(const ConvParams& p, bool bfloat16, int box) {
    static_assert(sizeof(CUtensorMap) == sizeof(TensorMap), "the driver's descriptor");
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result;
    // By the runtime: the module needs no driver library to load.
#if CUDART_VERSION >= 12050
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result),
          "cuTensorMapEncodeTiled");
#else
    check(cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &result),
          "cuTensorMapEncodeTiled");
#endif
    if (!found)
        throw std::runtime_error("this driver has no cuTensorMapEncodeTiled; the Hopper kernels need one for CUDA 12");
    const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found);
    const cuuint64_t sizes[4] = {64, static_cast<cuuint64_t>(p.width), static_cast<cuuint64_t>(p.height),
                                 static_cast<cuuint64_t>(p.images)};
    const cuuint64_t strides[3] = {static_cast<cuuint64_t>(p.x.pixel_stride) * 2,
                                   static_cast<cuuint64_t>(p.x.row_stride) * 2,
                                   static_cast<cuuint64_t>(p.x.image_stride) * 2};
    const cuuint32_t extent[4] = {64, static_cast<cuuint32_t>(box), 1, 1}, steps[4] = {1, 1, 1, 1};
    TensorMap map;
    const CUresult error =
        encode(reinterpret_cast<CUtensorMap*>(&map),
               bfloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 4, p.x.data, sizes,
               strides, extent, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (error != CUDA_SUCCESS)
        throw std::runtime_error("cuTensorMapEncodeTiled failed with error " + std::to_string(error));
    return map;
}
#endif

template <class T, Window WINDOW>
int run_window(const ConvParams& given, int rows, int blocks, const Stream& stream) {
    return by_ending(ending_of(given.end), [&](auto ending) {
        constexpr Ending end = decltype(ending)::value;
        if constexpr (WINDOW == Window::held) {
            HeldParams p{given, rows};
            const long long launched = cut_strips(p.conv, HeldShape::N, rows, blocks);
            return launch(conv_held<T, end>, launched, 384, HeldShape::SHARED, stream, p);
        } else {
            using W = WgmmaShape<WINDOW>;
            HopperParams p{{}, given, rows};
            const long long launched = cut_strips(p.conv, W::N, rows, blocks);
            if (stream.device >= 0) p.map = tensor_map(p.conv, std::is_same_v<T, Bfloat16>, W::BOX);
            return launch(conv_wgmma<T, WINDOW, end>, launched, 384, W::SHARED, stream, p);
        }
    });
}

template <class T>
int run_pair_hopper(const PairParams& given, int rows, int blocks, const Stream& stream) {
    if (rows < 1 || blocks < 1) throw std::invalid_argument("a strip has rows, and there are blocks to make them");
    PairRowsParams p{given, rows};
    const long long launched = cut_strips(p.pair.second, PairRowsShape::COLUMNS, rows, blocks);
    return by_ending(ending_of(p.pair.second.end), [&](auto ending) {
        return launch(pair_wgmma<T, decltype(ending)::value>, launched, 384, PairRowsShape::SHARED, stream, p);
    });
}

template <class T, bool FEW>
int launch_tail_hopper(const TailParams& given, const Stream& stream) {
    TailParams p = given;
    ConvParams& c = p.second;
    const int useful = TailRowsShape::N - c.kernel + 1;
    c.tiles_x = (c.width + useful - 1) / useful;
    c.tiles_y = (c.height + p.rows - 1) / p.rows;
    return launch(tail_wgmma<T, FEW>, 1LL * c.images * c.tiles_y * c.tiles_x, 384,
                  TailRowsShape::shared_bytes(p.chunks), stream, p);
}

template <class T>
int run_tail_hopper(const TailParams& p, const Stream& stream) {
    // Four rows are kept between passes; and a row of taps needs none of a warpgroup's own.
    if (p.second.kernel != 3 && p.second.kernel != 5)
        throw std::invalid_argument("the fused tail's second convolution is 3x3 or 5x5 on Hopper, not " +
                                    std::to_string(p.second.kernel) + "x" + std::to_string(p.second.kernel));
    return few_of(p.second) ? launch_tail_hopper<T, true>(p, stream) : launch_tail_hopper<T, false>(p, stream);
}

}  // namespace srfast
