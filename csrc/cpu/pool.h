// Worker threads that stay between calls, and a barrier for the steps of one call.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace srfast {

// Waits for all of `count` threads; spins first, since the steps of a network take about as long on each of them.
class Barrier {
public:
    explicit Barrier(int count) : count_(count) {}
    void wait();

private:
    const int count_;
    std::atomic<int> arrived_{0};
    std::atomic<unsigned> round_{0};
};

// One per process. Calls from several threads run one after the other.
class Pool {
public:
    // The pool of this process: a forked child gets its own.
    static Pool& instance();

    // Calls job(index) for every index below `count`, each on a thread of its own; index 0 on the caller's.
    void run(int count, const std::function<void(int)>& job);

private:
    void work(int index, unsigned seen);

    std::mutex callers_, mutex_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> workers_;
    const std::function<void(int)>* job_ = nullptr;
    unsigned round_ = 0;
    int wanted_ = 0, running_ = 0;
};

}  // namespace srfast
