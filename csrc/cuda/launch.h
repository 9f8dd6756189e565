// How the host starts kernels: every CUDA call is checked, the device and the stream are the caller's.
#pragma once

#include "params.h"

#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

#ifdef SRFAST_EMULATE
#include "../emulation/emulated_launch.h"
#else

#include <cuda_runtime.h>

namespace srfast {

inline void check(cudaError_t error, const char* what) {
    if (error != cudaSuccess) throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(error));
}

// Where and how to launch. device -1: nowhere, only the need of shared memory is wanted. programmatic: while the kernel in
// front still runs (programmatic dependent launch, compute capability 9.0 and later); it is waited for inside the kernel.
struct Stream {
    int device;
    std::uintptr_t handle;  // cudaStream_t
    bool programmatic;
};
constexpr Stream kNowhere{-1, 0, false};

// Makes a device current for a while.
class OnDevice {
public:
    explicit OnDevice(int device) {
        check(cudaGetDevice(&before_), "cudaGetDevice");
        if (device != before_) check(cudaSetDevice(device), "cudaSetDevice");
    }
    ~OnDevice() { cudaSetDevice(before_); }
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;

private:
    int before_ = 0;
};

// Lets a kernel have as much shared memory as a block may on the current device, and returns that. Once for each kernel and
// device: were the limit set to each launch's need, a thread that launches the kernel for a small image could lower it under
// another one's feet.
inline int most_shared(const void* kernel, int device) {
    static std::mutex mutex;
    static std::map<std::pair<const void*, int>, int> allowed;
    const std::lock_guard<std::mutex> lock(mutex);
    auto found = allowed.find({kernel, device});
    if (found == allowed.end()) {
        int most = 0;
        cudaFuncAttributes fixed{};
        check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
              "cudaDeviceGetAttribute (shared memory)");
        check(cudaFuncGetAttributes(&fixed, kernel), "cudaFuncGetAttributes");
        most -= static_cast<int>(fixed.sharedSizeBytes);
        check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most),
              "cudaFuncSetAttribute (shared memory)");
        found = allowed.emplace(std::make_pair(kernel, device), most).first;
    }
    return found->second;
}
inline void allow_shared(const void* kernel, int device, int shared) {
    const int most = most_shared(kernel, device);
    if (shared > most)
        throw std::invalid_argument("the kernel needs " + std::to_string(shared) +
                                    " bytes of shared memory for a block, this GPU has " + std::to_string(most));
}

// Launches with an attribute, if one is given.
template <class... Params>
int launch_as(const cudaLaunchAttribute* attribute, void (*kernel)(Params...), long long blocks, int threads,
              int shared, const Stream& stream, const Params&... params) {
    if (stream.device < 0 || blocks < 1) return shared;
    if (blocks > 0x7fffffffLL) throw std::invalid_argument("the image has too many tiles for one launch");
    const OnDevice guard(stream.device);
    allow_shared(reinterpret_cast<const void*>(kernel), stream.device, shared);
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.dynamicSmemBytes = static_cast<std::size_t>(shared);
    config.stream = reinterpret_cast<cudaStream_t>(stream.handle);
    config.attrs = const_cast<cudaLaunchAttribute*>(attribute);
    config.numAttrs = attribute ? 1 : 0;
    check(cudaLaunchKernelEx(&config, kernel, params...), "cudaLaunchKernelEx");
    return shared;
}

// Returns the bytes of shared memory of a block; on device -1 that is all it does.
template <class... Params>
int launch(void (*kernel)(Params...), long long blocks, int threads, int shared, const Stream& stream,
           const Params&... params) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    return launch_as(stream.programmatic ? &attribute : nullptr, kernel, blocks, threads, shared, stream, params...);
}

// As `launch`, of blocks that wait for each other: CUDA refuses the launch if not all of them can be there at the same time.
template <class... Params>
int launch_together(void (*kernel)(Params...), long long blocks, int threads, int shared, const Stream& stream,
                    const Params&... params) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = 1;
    return launch_as(&attribute, kernel, blocks, threads, shared, stream, params...);
}

// Blocks of a kernel that a device has room for at the same time.
template <class... Params>
int resident_blocks(void (*kernel)(Params...), int threads, int shared, const Stream& stream) {
    const OnDevice guard(stream.device);
    if (shared > most_shared(reinterpret_cast<const void*>(kernel), stream.device)) return 0;
    int multiprocessors = 0, each = 0;
    check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, stream.device),
          "cudaDeviceGetAttribute (multiprocessors)");
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, threads, static_cast<std::size_t>(shared)),
          "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
    return each * multiprocessors;
}

}  // namespace srfast
#endif
