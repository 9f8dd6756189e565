// Kernels that have special endings, the tail on Hopper and the convolution in 8 bits, once for each fault that a test plants in
// their sources: the module srfast_cuda_planted.
// `planted.h`, which the test writes, has the sources with each fault in a namespace of its own, and the list RUNS of what these
// namespaces hold; number 0 has no fault.
#define SRFAST_MODULE srfast_cuda_planted
#include "../cuda/epilogue.cuh"
#include "../cuda/hopper_ptx.cuh"
#include "../cuda/module.cpp"

#include "planted.h"

#include <type_traits>

static int planted = 0;
extern "C" __attribute__((visibility("default"))) void srfast_plant(int fault) { planted = fault; }

template <class T>
int srfast::run_conv(const Variant& v, const ConvParams& p, const Stream& stream) {
    if constexpr (std::is_same_v<T, Half>) return RUNS[planted].conv(v, p, stream);
    throw std::invalid_argument("faults are planted for float16");
}
template <class T>
int srfast::run_pair(const PairParams& p, const Stream& stream) {
    if constexpr (std::is_same_v<T, Half>) return RUNS[planted].pair(p, stream);
    throw std::invalid_argument("faults are planted for float16");
}
template <class T>
int srfast::run_conv_int8(const Int8Params& p, int blocks, const Stream& stream) {
    if constexpr (std::is_same_v<T, Half>) return RUNS[planted].int8(p, blocks, stream);
    throw std::invalid_argument("faults are planted for float16");
}
template <class T>
int srfast::run_quantize(const QuantizeParams& p, const Stream& stream) {
    if constexpr (std::is_same_v<T, Half>) return RUNS[planted].quantize(p, stream);
    throw std::invalid_argument("faults are planted for float16");
}
template <class T>
int srfast::run_tail(const TailParams& p, bool wide, const Stream& stream) {
    if constexpr (std::is_same_v<T, Half>)
        if (!wide) return RUNS[planted].tail(p, stream);
    throw std::invalid_argument("faults are planted for float16 in narrow strips");
}
template <class T>
int srfast::run_tail_hopper(const TailParams& p, const Stream& stream) {
    if constexpr (std::is_same_v<T, Half>) return RUNS[planted].tail_rows(p, stream);
    throw std::invalid_argument("faults are planted for float16");
}
template <class T>
int srfast::run_conv_hopper(const ConvParams& p, Window window, int rows, int blocks, const Stream& stream) {
    // Of the endings of rows only those have a fault that are made in registers; the general one is what they are compared with.
    const bool general = planted_0::ending_of(p.end) == planted_0::Ending::general;
    if constexpr (std::is_same_v<T, Half>) return RUNS[general ? 0 : planted].rows(p, window, rows, blocks, stream);
    throw std::invalid_argument("faults are planted for float16");
}

// What the bindings also name.
[[noreturn]] static void absent() { throw std::invalid_argument("no faults are planted in this kernel"); }
template <class T>
int srfast::run_frames(FrameJob, const FrameParams&, const Stream&) {
    absent();
}
template <class T>
int srfast::run_pair_hopper(const PairParams&, int, int, const Stream&) {
    absent();
}
template <class T>
int srfast::run_trunk(const TrunkParams&, int, const Stream&) {
    absent();
}
template <class T>
int srfast::resident_trunk_blocks(const Stream&) {
    absent();
}
int srfast::read_rate(const void*, long long, int, int*, const Stream&) { absent(); }
int srfast::matrix_rate_hopper(int, bool, const void*, int, int, const Stream&) { absent(); }
