// Where nodes write their rows, in float32 or in integers.
#pragma once

#include "epilogue.h"
#include "node.h"

namespace {

class RowWriter {
public:
    explicit RowWriter(const srfast::NodeTask& task) : out_(task.out), bad_(task.bad) {
        if (!out_.base) row_.resize(static_cast<std::size_t>(out_.width) * static_cast<std::size_t>(out_.channels));
    }
    // Where row y goes...
    float* begin(int y) { return out_.base ? out_.base + out_.slots[y] : row_.data(); }
    // ... and that it is there.
    void end(int y) {
        if (out_.base) return;
        if (!store_integers(out_, out_.slots[y], row_.data(), static_cast<int>(row_.size()))) *bad_ = true;
    }

private:
    const srfast::Image& out_;
    bool* bad_;
    std::vector<float> row_;
};

}  // namespace
