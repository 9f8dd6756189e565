// Shared memory that knows who wrote what: every access is checked against a vector clock of the block's warps.
//
// Reading bytes that nothing wrote, and two warps' accesses that no barrier orders, are errors. Within a warp lanes count
// as ordered.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace srfast::emulation {

constexpr int kMaxWarps = 32, kAsync = kMaxWarps, kClocks = kMaxWarps + 1;  // the last clock: copies in the background
using Clock = std::vector<uint32_t>;

class SharedMemory {
public:
    // who: names the running thread, for errors.
    // others: blocks of the grid whose clocks stand behind the block's own.
    SharedMemory(std::size_t bytes, int warps, int others, std::function<std::string()> who)
        : clocks(warps + 1, Clock(kClocks * (1 + others))),
          fences(kClocks),
          memory_(bytes),
          state_(bytes),
          who_(std::move(who)) {
        for (int w = 0; w < warps; ++w) clocks[w][w] = 1;
    }

    std::vector<Clock> clocks;
    std::vector<uint32_t> fences;  // proxy fences that each warp has made

    void read(int w, uint32_t address, void* to, int bytes, bool asynchronous) {
        check_range(address, bytes, "read");
        for (int i = 0; i < bytes; ++i) {
            State& s = state_[address + i];
            if (!s.written) fail("reads shared memory that nothing wrote", address + i);
            if (s.writer != w && clocks[w][s.writer] < s.write_clock)
                fail("reads what another warp wrote without a barrier between", address + i);
            if (asynchronous && s.writer != kAsync && fences[s.writer] <= s.fence)
                fail("is read by the asynchronous proxy without a proxy fence", address + i);
            note_read(s, w);
        }
        std::memcpy(to, memory_.data() + address, bytes);
    }

    void write(int w, uint32_t address, const void* from, int bytes) {
        check_write(w, address, bytes);
        for (int i = 0; i < bytes; ++i) settle(state_[address + i], w, clocks[w][w]);
        std::memcpy(memory_.data() + address, from, bytes);
    }

    // A copy in the background begins: the bytes count as unwritten until it ends.
    void begin_copy(int w, uint32_t address, int bytes) {
        check_write(w, address, bytes);
        for (int i = 0; i < bytes; ++i) state_[address + i].written = false;
    }
    void end_copy(uint32_t address, const void* from, int bytes, int writer, uint32_t clock) {
        for (int i = 0; i < bytes; ++i) settle(state_[address + i], writer, clock);
        std::memcpy(memory_.data() + address, from, bytes);
    }

    std::vector<char>& bytes() { return memory_; }

private:
    struct State {
        bool written = false;
        uint8_t writer = 0;
        uint8_t reader = 255;  // of the last read; other readers are in `readers`
        uint32_t write_clock = 0, fence = 0, read_clock = 0;
        std::unique_ptr<std::map<int, uint32_t>> readers;
    };

    std::vector<char> memory_;
    std::vector<State> state_;
    std::function<std::string()> who_;

    void note_read(State& s, int w) {
        if (s.reader != 255 && s.reader != w) {
            if (!s.readers) s.readers = std::make_unique<std::map<int, uint32_t>>();
            (*s.readers)[s.reader] = s.read_clock;
        }
        s.reader = static_cast<uint8_t>(w);
        s.read_clock = clocks[w][w];
    }

    void settle(State& s, int writer, uint32_t clock) {
        s.written = true;
        s.writer = static_cast<uint8_t>(writer);
        s.write_clock = clock;
        s.fence = fences[writer];
        s.reader = 255;
        s.readers.reset();
    }

    void check_write(int w, uint32_t address, int bytes) {
        check_range(address, bytes, "written");
        for (int i = 0; i < bytes; ++i) {
            const State& s = state_[address + i];
            const auto unordered = [&](int other, uint32_t clock) { return other != w && clocks[w][other] < clock; };
            if (s.write_clock && unordered(s.writer, s.write_clock))
                fail("overwrites what another warp wrote without a barrier between", address + i);
            if (s.reader != 255 && unordered(s.reader, s.read_clock))
                fail("overwrites what another warp may still read", address + i);
            if (s.readers)
                for (const auto& [other, clock] : *s.readers)
                    if (unordered(other, clock)) fail("overwrites what another warp may still read", address + i);
        }
    }

    void check_range(uint32_t address, int bytes, const char* verb) {
        if (address + static_cast<std::size_t>(bytes) > memory_.size())
            throw std::runtime_error("shared address " + std::to_string(address) + " is " + verb + ", the block has " +
                                     std::to_string(memory_.size()));
        if (address % static_cast<uint32_t>(std::min(bytes, 16)))
            throw std::runtime_error("shared address " + std::to_string(address) + " is not aligned to " +
                                     std::to_string(bytes) + " bytes");
    }

    [[noreturn]] void fail(const std::string& what, uint32_t address) {
        throw std::runtime_error(who_() + " " + what + " (shared byte " + std::to_string(address) + ")");
    }
};

}  // namespace srfast::emulation
