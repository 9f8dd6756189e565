// Where the rows of a program's activations lie in memory.
#pragma once

#include <cstddef>
#include <map>
#include <vector>

namespace srfast {

// Blocks of one piece of memory that come and go, each in the lowest gap with room for it. Sizes in floats.
class Arena {
public:
    std::ptrdiff_t take(std::ptrdiff_t size);
    void give(std::ptrdiff_t at, std::ptrdiff_t size);
    // That all blocks needed at once.
    std::ptrdiff_t size() const { return size_; }

private:
    std::map<std::ptrdiff_t, std::ptrdiff_t> gaps_;  // from where to where; never two beside each other
    std::ptrdiff_t size_ = 0;
};

// Rows first..last of an activation.
struct Rows {
    int activation, first, last;
};

// What one step does to memory.
struct Access {
    std::vector<Rows> reads;
    Rows writes;
    int replaces;  // the activation whose rows the written ones may overwrite, each its own; -1 for none
};

// An activation's memory. Rows without floats lie elsewhere.
struct Storage {
    int rows;
    std::ptrdiff_t row_floats;
    bool kept;  // to the end
};

struct Layout {
    std::vector<std::vector<std::ptrdiff_t>> slots;  // of every activation and row: floats from the start of the arena
    std::ptrdiff_t floats = 0;
};

// Gives every row memory from the step that writes it to the last step that reads it.
Layout lay_out(const std::vector<Storage>& activations, const std::vector<Access>& steps);

}  // namespace srfast
