// cuda/launch.h on the host: one block after the other.
#pragma once

#include "emulator.h"

#include <cstdlib>

namespace srfast {

struct Stream {
    int device;
    std::uintptr_t handle;
    bool programmatic;
};
constexpr Stream kNowhere{-1, 0, false};

// Returns the bytes of shared memory of a block; on device -1 that is all it does.
template <class... Params>
int launch(void (*kernel)(Params...), long long blocks, int threads, int shared, const Stream& stream,
           const Params&... params) {
    std::unordered_map<const void*, int> stored;
    for (long long b = 0; b < (stream.device < 0 ? 0 : blocks); ++b) {
        emulation::Block block(threads, static_cast<std::size_t>(shared), static_cast<int>(b),
                               static_cast<int>(blocks));
        block.stored = &stored;
        block.run([&] { kernel(params...); }, b % 2 == 1);
    }
    return shared;
}

}  // namespace srfast
