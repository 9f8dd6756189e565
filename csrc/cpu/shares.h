// How threads divide the parts of a step: each takes its own share first, in order, then what slower ones have left.
#pragma once

#include <atomic>
#include <vector>

namespace srfast {

class Shares {
public:
    explicit Shares(int threads) : taken_(static_cast<std::size_t>(threads)) {}

    // Before a step, of every thread for itself.
    void reset(int index) { taken_[static_cast<std::size_t>(index)].count.store(0, std::memory_order_relaxed); }

    // The next part of thread `owner`'s share; any number from the share's size on when all are taken.
    int take(int owner) {
        return taken_[static_cast<std::size_t>(owner)].count.fetch_add(1, std::memory_order_relaxed);
    }

private:
    struct alignas(64) Count {
        std::atomic<int> count{0};
    };
    std::vector<Count> taken_;
};

}  // namespace srfast
