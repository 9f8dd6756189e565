#include "pool.h"

#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace srfast {
namespace {

void pause_briefly() {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

constexpr int kSpins = 4000;  // some 50 to 200 microseconds

}  // namespace

void Barrier::wait() {
    const unsigned round = round_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
        arrived_.store(0, std::memory_order_relaxed);
        round_.store(round + 1, std::memory_order_release);
        return;
    }
    for (int i = 0; round_.load(std::memory_order_acquire) == round; ++i)
        i < kSpins ? pause_briefly() : std::this_thread::yield();
}

Pool& Pool::instance() {
    static std::mutex mutex;
    static Pool* pool = nullptr;
    static pid_t owner = 0;
    // Never deleted: its threads sleep until the process ends, and those of a parent are not ours to join.
    const std::lock_guard<std::mutex> lock(mutex);
    if (pool == nullptr || owner != getpid()) {
        pool = new Pool;
        owner = getpid();
    }
    return *pool;
}

void Pool::run(int count, const std::function<void(int)>& job) {
    if (count <= 1) return job(0);
    const std::lock_guard<std::mutex> caller(callers_);
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        while (static_cast<int>(workers_.size()) < count - 1)
            workers_.emplace_back(&Pool::work, this, static_cast<int>(workers_.size()) + 1, round_);
        job_ = &job;
        wanted_ = count;
        running_ = count - 1;
        ++round_;
    }
    wake_.notify_all();
    job(0);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return running_ == 0; });
}

void Pool::work(int index, unsigned seen) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        wake_.wait(lock, [&] { return round_ != seen; });
        seen = round_;
        if (index >= wanted_) continue;
        const std::function<void(int)>& job = *job_;
        lock.unlock();
        job(index);
        lock.lock();
        if (--running_ == 0) done_.notify_one();
    }
}

}  // namespace srfast
