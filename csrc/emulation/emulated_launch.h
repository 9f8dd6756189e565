// cuda/launch.h on the host: one block after the other, or all at the same time.
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

// All blocks at the same time, each as far as it can go before the next.
template <class... Params>
int launch_together(void (*kernel)(Params...), long long blocks, int threads, int shared, const Stream& stream,
                    const Params&... params) {
    if (stream.device < 0) return shared;
    emulation::GlobalMemory global(static_cast<int>(blocks));
    const std::function<void()> body = [&] { kernel(params...); };
    std::vector<std::unique_ptr<emulation::Block>> running;
    for (int b = 0; b < blocks; ++b) {
        running.push_back(std::make_unique<emulation::Block>(threads, static_cast<std::size_t>(shared), b,
                                                             static_cast<int>(blocks), &global));
        running.back()->begin(body, b % 2 == 1);
    }
    for (bool all = false; !all;) {
        bool progress = false;
        all = true;
        for (const auto& block : running) {
            while (!block->done() && block->advance()) progress = true;
            all = all && block->done();
        }
        for (const auto& block : running)
            if (!progress && !block->done()) block->deadlock();
    }
    for (const auto& block : running) block->finish();
    return shared;
}

// There are as many multiprocessors as anyone asks for, each with room for a block; but with SRFAST_EMULATED_SHARED only for one
// that needs at most so many bytes of shared memory.
template <class... Params>
int resident_blocks(void (*)(Params...), int, int shared, const Stream&) {
    const char* most = std::getenv("SRFAST_EMULATED_SHARED");
    return most && shared > std::atoi(most) ? 0 : 1 << 16;
}

}  // namespace srfast
