// Where nodes write their rows, in float32 or in bytes.
#pragma once

#include "epilogue.h"
#include "node.h"

namespace {

class RowWriter {
public:
    explicit RowWriter(const srfast::NodeTask& task) : out_(task.out), bad_(task.bad) {
        if (out_.bytes) row_.resize(static_cast<std::size_t>(out_.width) * static_cast<std::size_t>(out_.channels));
    }
    // Where row y goes...
    float* begin(int y) { return out_.bytes ? row_.data() : out_.base + out_.slots[y]; }
    // ... and that it is there.
    void end(int y) {
        if (!out_.bytes) return;
        std::uint8_t* to = out_.bytes + out_.slots[y];
        for (const float value : row_) {
            *to++ = to_byte(value);
            if (value - value != 0.0f) *bad_ = true;
        }
    }

private:
    const srfast::Image& out_;
    bool* bad_;
    std::vector<float> row_;
};

}  // namespace
