// Global memory between blocks that run at the same time: who wrote what, who read it, and what counters tell.
//
// An access that no barrier and no counter orders after another block's is an error, in whatever order the blocks happened to run.
// A counter's increase carries what its warp knows of all blocks, and waiting for the counter takes that over. Each warp has a
// clock for every warp of the grid: its own block's first, then those of all blocks in order (of its own unused there).
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "shared_memory.h"

namespace srfast::emulation {

class GlobalMemory {
public:
    explicit GlobalMemory(int blocks) : blocks_(blocks) {}

    uint64_t increases = 0;  // of any counter: what waits for one looks again

    // A warp, and what it knows.
    struct Seer {
        int block, warp, thread;
        Clock& clock;
    };

    void read(const Seer& seer, const void* from, int bytes) {
        each_chunk(from, bytes, [&](uintptr_t chunk, State& s) {
            check(seer, s.writer, "reads what another block wrote", chunk);
            bool known = false;
            for (Access& reader : s.readers)
                if (reader.block == seer.block && reader.warp == seer.warp)
                    reader.clock = seer.clock[seer.warp], known = true;
            if (!known) s.readers.push_back({seer.block, seer.warp, seer.clock[seer.warp]});
        });
    }
    // What the kernel promises that nobody writes while it runs.
    void read_constant(const Seer& seer, const void* from, int bytes) {
        each_chunk(from, bytes, [&](uintptr_t chunk, State& s) {
            s.constant = true;
            if (s.writer.block >= 0) fail(seer, "reads as constant what this kernel wrote", chunk);
        });
    }
    void write(const Seer& seer, const void* to, int bytes) {
        each_chunk(to, bytes, [&](uintptr_t chunk, State& s) {
            if (s.constant) fail(seer, "writes what was read as constant", chunk);
            check(seer, s.writer, "overwrites what another block wrote", chunk);
            for (const Access& reader : s.readers)
                check(seer, reader, "overwrites what another block may still read", chunk);
            s.readers.clear();
            s.writer = {seer.block, seer.warp, seer.clock[seer.warp]};
        });
    }

    // One more, of a counter that others wait for; everything before it is known to who has waited.
    void increase(const Seer& seer, uint32_t* counter) {
        auto& history = told_[counter];
        Clock told = history.empty() ? Clock(static_cast<std::size_t>(blocks_) * kClocks) : history.back().second;
        for (int block = 0; block < blocks_; ++block)
            for (int i = 0; i < kClocks; ++i)
                told[block * kClocks + i] = std::max(told[block * kClocks + i], seer.clock[place(seer, block) + i]);
        ++seer.clock[seer.warp];
        history.emplace_back(++*counter, std::move(told));
        ++increases;
    }
    // What was told until the counter had reached `least`, and no more, though it may have gone on by now.
    void learn(const Seer& seer, const uint32_t* counter, uint32_t least) {
        const auto found = told_.find(counter);
        if (found == told_.end()) return;
        const auto first = std::find_if(found->second.begin(), found->second.end(),
                                        [&](const auto& told) { return static_cast<int>(told.first - least) >= 0; });
        // Reached before the first increase: nothing is told.
        if (first == found->second.end() || static_cast<int>(first->first - 1 - least) >= 0) return;
        const Clock& told = first->second;
        for (int block = 0; block < blocks_; ++block)
            for (int i = 0; i < kClocks; ++i) {
                uint32_t& known = seer.clock[place(seer, block) + i];
                known = std::max(known, told[block * kClocks + i]);
            }
    }

private:
    struct Access {
        int block = -1, warp = 0;
        uint32_t clock = 0;
    };
    struct State {
        bool constant = false;
        Access writer;
        std::vector<Access> readers;
    };

    int blocks_;
    std::unordered_map<uintptr_t, State> state_;                                         // of 16 bytes each
    std::unordered_map<const uint32_t*, std::vector<std::pair<uint32_t, Clock>>> told_;  // by the count reached

    static int place(const Seer& seer, int block) { return block == seer.block ? 0 : kClocks * (1 + block); }

    template <class F>
    void each_chunk(const void* at, int bytes, const F& visit) {
        const auto first = reinterpret_cast<uintptr_t>(at);
        for (uintptr_t chunk = first / 16; chunk * 16 < first + static_cast<uintptr_t>(bytes); ++chunk)
            visit(chunk, state_[chunk]);
    }
    // Within a warp lanes count as ordered.
    void check(const Seer& seer, const Access& access, const char* what, uintptr_t chunk) const {
        const bool own = access.block == seer.block && access.warp == seer.warp;
        if (access.block >= 0 && !own && seer.clock[place(seer, access.block) + access.warp] < access.clock)
            fail(seer, what + std::string(access.block == seer.block ? " (its own, in another warp)" : ""), chunk);
    }
    [[noreturn]] static void fail(const Seer& seer, const std::string& what, uintptr_t chunk) {
        throw std::runtime_error("thread " + std::to_string(seer.thread) + " of block " + std::to_string(seer.block) +
                                 " " + what + " without a counter between (global chunk " + std::to_string(chunk) +
                                 ")");
    }
};

}  // namespace srfast::emulation
