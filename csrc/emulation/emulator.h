// A GPU's thread block on the host: threads as fibers, shared memory that knows who wrote what, and barriers.
//
// Copies that the hardware makes in the background are made as late as the code allows, so what reads too early reads
// bytes that count as unwritten.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "global_memory.h"
#include "shared_memory.h"

#ifdef __x86_64__
extern "C" void srfast_switch(void** from, void* to);
#else
#include <ucontext.h>
#endif

namespace srfast::emulation {

constexpr std::size_t kStack = 128 << 10;

// What a fiber waits for: that *word differs from value.
struct Wait {
    const uint64_t* word = nullptr;
    uint64_t value = 0;
    const char* what = "";
};

struct Fiber {
    int index;
    std::unique_ptr<char[]> stack;
    void* pointer = nullptr;
#ifndef __x86_64__
    ucontext_t context;
#endif
    Wait wait;
    bool done = false;
    std::vector<std::vector<std::function<void()>>> groups;  // committed cp.async groups
    std::vector<std::function<void()>> open;                 // copies not committed yet
};

// A collective of a warp (or of four): the last to arrive computes for all.
struct Collective {
    uint64_t generation = 0;
    int arrived = 0;
    const void* operation = nullptr;
    void* slots[128];
};

struct Barrier {
    uint64_t generation = 0;
    int arrived = 0;
};

struct Mbarrier {
    uint64_t phases = 0;
    int expected = 0, pending = 0;
    long long bytes = 0;
    Clock clock, completed;
};

class Block {
public:
    // global: of blocks that run at the same time; without it nothing watches over global memory.
    Block(int threads, std::size_t shared, int index, int count, GlobalMemory* global = nullptr)
        : index(index),
          count(count),
          global(global),
          threads_(threads),
          warps_((threads + 31) / 32),
          shared_(shared, warps_, global ? count : 0, [this] {
              return "thread " + std::to_string(running_) + " of block " + std::to_string(this->index);
          }) {
        collectives.resize(warps_ * 2);
        matrix.resize(warps_ / 4 + 1);
    }

    int index, count;
    GlobalMemory* global;
    std::vector<Collective> collectives;  // of each warp, then of each warpgroup
    std::map<uint32_t, Mbarrier> mbarriers;
    std::map<int, Barrier> barriers;
    struct Matrix {
        std::vector<std::function<void()>> open;
        std::vector<std::vector<std::function<void()>>> committed;
    };
    std::vector<Matrix> matrix;                    // products under way, of each warpgroup
    uint32_t copies = 0;                           // made in the background
    std::deque<std::function<void()>> background;  // copies of the engines, made when nothing else can go on

    // Of a launch, where that is watched: which block stored 16 bytes to an address. Their order is no order on a GPU.
    std::unordered_map<const void*, int>* stored = nullptr;
    void note_store(const void* to) {
        if (!stored) return;
        const int other = stored->emplace(to, index).first->second;
        if (other != index)
            throw std::runtime_error("blocks " + std::to_string(other) + " and " + std::to_string(index) +
                                     " store to the same place");
    }

    static Block*& current() {
        static thread_local Block* block = nullptr;
        return block;
    }
    Fiber& fiber() { return *fibers_[running_]; }
    int warp() const { return running_ / 32; }
    int threads() const { return threads_; }

    // Runs a kernel's body in all threads. reverse: warps are tried in the opposite order.
    void run(const std::function<void()>& body, bool reverse) {
        begin(body, reverse);
        while (!done())
            if (!advance()) deadlock();
        finish();
    }

    // The parts of `run`, for blocks that run at the same time.
    void begin(const std::function<void()>& body, bool reverse) {
        body_ = &body;
        reverse_ = reverse;
        for (int i = 0; i < threads_; ++i) fibers_.push_back(start(i));
        left_ = threads_;
    }
    bool done() const { return left_ == 0; }
    // Goes on until every thread waits; false if no thread could go on at all.
    bool advance() {
        current() = this;
        bool progress = false;
        for (int w = 0; w < warps_ && !error_; ++w) progress |= run_warp(reverse_ ? warps_ - 1 - w : w, left_);
        if (!progress && !error_ && !background.empty()) {
            progress = true;
            auto job = background.front();
            background.pop_front();
            try {
                job();
            } catch (...) {
                error_ = std::current_exception();
            }
        }
        current() = nullptr;
        if (error_) std::rethrow_exception(error_);
        return progress;
    }
    void finish() const {
        if (!background.empty())
            throw std::runtime_error("the kernel ended with copies under way that nothing waited for");
        for (const auto& f : fibers_)
            if (!f->open.empty() || !f->groups.empty())
                for (const auto& group : f->groups)
                    if (!group.empty())
                        throw std::runtime_error("the kernel ended with cp.async copies that nothing waited for");
    }

    // The running fiber stops until *word differs from value.
    void block_on(const uint64_t* word, uint64_t value, const char* what) {
        fiber().wait = {word, value, what};
        if (*word == value) leave();
        fiber().wait = {};
    }

    template <class F>
    void collective(int slot, int size, const void* operation, void* argument, int lane, const F& all) {
        Collective& c = collectives[slot];
        if (c.arrived == 0) c.operation = operation;
        if (c.operation != operation)
            throw std::runtime_error("lanes of a warp are in different collective instructions");
        c.slots[lane] = argument;
        if (++c.arrived == size) {
            c.arrived = 0;
            all(c.slots);
            ++c.generation;
        } else {
            block_on(&c.generation, c.generation, "a warp's collective instruction");
        }
    }

    void barrier(int id, int size) {
        Barrier& b = barriers[id];
        waiting_[id].push_back(warp());
        if (++b.arrived == size) {
            b.arrived = 0;
            Clock joined(clocks[0].size());
            for (int w : waiting_[id]) join(joined, clocks[w]);
            for (int w : waiting_[id]) join(clocks[w], joined);
            std::vector<int> members = waiting_[id];
            std::sort(members.begin(), members.end());
            members.erase(std::unique(members.begin(), members.end()), members.end());
            for (int w : members) ++clocks[w][w];
            waiting_[id].clear();
            ++b.generation;
        } else {
            block_on(&b.generation, b.generation, "a barrier");
        }
    }

    static void join(Clock& into, const Clock& other) {
        for (std::size_t i = 0; i < into.size(); ++i) into[i] = std::max(into[i], other[i]);
    }

    void read(uint32_t address, void* to, int bytes, bool asynchronous = false) {
        shared_.read(warp(), address, to, bytes, asynchronous);
    }
    void write(uint32_t address, const void* from, int bytes) { shared_.write(warp(), address, from, bytes); }
    void begin_copy(uint32_t address, int bytes) { shared_.begin_copy(warp(), address, bytes); }
    void end_copy(uint32_t address, const void* from, int bytes, int writer, uint32_t clock) {
        shared_.end_copy(address, from, bytes, writer, clock);
    }
    std::vector<char>& memory() { return shared_.bytes(); }

private:
    int threads_, warps_;
    SharedMemory shared_;
    std::vector<std::unique_ptr<Fiber>> fibers_;
    std::map<int, std::vector<int>> waiting_;
    const std::function<void()>* body_ = nullptr;
    int running_ = 0, left_ = 0;
    bool reverse_ = false;
    std::exception_ptr error_;
    void* scheduler_ = nullptr;
#ifndef __x86_64__
    ucontext_t scheduler_context_;
#endif

public:
    std::vector<Clock>& clocks = shared_.clocks;
    std::vector<uint32_t>& fences = shared_.fences;

    [[noreturn]] void deadlock() const {
        for (const auto& f : fibers_)
            if (!f->done)
                throw std::runtime_error("deadlock: thread " + std::to_string(f->index) + " waits for " + f->wait.what +
                                         ", in block " + std::to_string(index));
        throw std::runtime_error("deadlock");
    }

private:
    // Runs the warp's fibers until each waits for something; whether any ran.
    bool run_warp(int warp, int& left) {
        bool ran = false, again = true;
        while (again && !error_) {
            again = false;
            for (int i = warp * 32; i < std::min(threads_, warp * 32 + 32) && !error_; ++i) {
                Fiber& f = *fibers_[i];
                if (f.done || (f.wait.word && *f.wait.word == f.wait.value)) continue;
                running_ = i;
                enter(f);
                left -= f.done;
                ran = again = true;
            }
        }
        return ran;
    }

    static void entry() {
        Block* block = current();
        try {
            (*block->body_)();
        } catch (...) {
            if (!block->error_) block->error_ = std::current_exception();
        }
        block->fiber().done = true;
        block->leave();
    }

#ifdef __x86_64__
    std::unique_ptr<Fiber> start(int i) {
        auto f = std::make_unique<Fiber>();
        f->index = i;
        f->stack.reset(new char[kStack]);
        auto top = reinterpret_cast<uintptr_t>(f->stack.get() + kStack) & ~uintptr_t{63};
        auto* frame = reinterpret_cast<void**>(top) - 8;  // six registers, then where to go; the stack as after a call
        std::fill(frame, frame + 8, nullptr);
        frame[6] = reinterpret_cast<void*>(&Block::entry);
        f->pointer = frame;
        return f;
    }
    void enter(Fiber& f) { srfast_switch(&scheduler_, f.pointer); }
    void leave() { srfast_switch(&fiber().pointer, scheduler_); }
#else
    std::unique_ptr<Fiber> start(int i) {
        auto f = std::make_unique<Fiber>();
        f->index = i;
        f->stack.reset(new char[kStack]);
        getcontext(&f->context);
        f->context.uc_stack.ss_sp = f->stack.get();
        f->context.uc_stack.ss_size = kStack;
        f->context.uc_link = nullptr;
        makecontext(&f->context, &Block::entry, 0);
        return f;
    }
    void enter(Fiber& f) { swapcontext(&scheduler_context_, &f.context); }
    void leave() { swapcontext(&fiber().context, &scheduler_context_); }
#endif
};

}  // namespace srfast::emulation
