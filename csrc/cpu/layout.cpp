#include "layout.h"

#include <iterator>
#include <limits>

namespace srfast {

std::ptrdiff_t Arena::take(std::ptrdiff_t size) {
    for (auto gap = gaps_.begin(); gap != gaps_.end(); ++gap) {
        const auto [first, last] = *gap;
        // The last gap grows if it must.
        if (last - first < size && last != size_) continue;
        gaps_.erase(gap);
        if (last - first > size) gaps_[first + size] = last;
        if (size_ < first + size) size_ = first + size;
        return first;
    }
    size_ += size;
    return size_ - size;
}

void Arena::give(std::ptrdiff_t at, std::ptrdiff_t size) {
    auto after = gaps_.lower_bound(at);
    std::ptrdiff_t last = at + size;
    if (after != gaps_.end() && after->first == last) {
        last = after->second;
        after = gaps_.erase(after);
    }
    if (after != gaps_.begin() && std::prev(after)->second == at)
        std::prev(after)->second = last;
    else
        gaps_[at] = last;
}

Layout lay_out(const std::vector<Storage>& activations, const std::vector<Access>& steps) {
    constexpr int kNever = -1, kEnd = std::numeric_limits<int>::max();
    Layout result;
    std::vector<std::vector<int>> last_read;
    for (const Storage& storage : activations) {
        last_read.emplace_back(storage.rows, storage.kept ? kEnd : kNever);
        result.slots.emplace_back(storage.rows, 0);
    }
    for (int t = 0; t < static_cast<int>(steps.size()); ++t)
        for (const Rows& rows : steps[t].reads)
            for (int y = rows.first; y < rows.last; ++y)
                if (last_read[rows.activation][y] != kEnd) last_read[rows.activation][y] = t;
    Arena arena;
    for (int t = 0; t < static_cast<int>(steps.size()); ++t) {
        const Rows& written = steps[t].writes;
        const std::ptrdiff_t floats = activations[written.activation].row_floats;
        for (int y = written.first; y < written.last && floats; ++y) {
            const int from = steps[t].replaces;
            std::ptrdiff_t& slot = result.slots[written.activation][y];
            if (from >= 0 && last_read[from][y] == t) {
                slot = result.slots[from][y];
                last_read[from][y] = kNever;  // the memory is not free
            } else {
                slot = arena.take(floats);
            }
        }
        const auto release = [&](const Rows& rows, int read) {
            for (int y = rows.first; y < rows.last; ++y) {
                if (last_read[rows.activation][y] != read) continue;
                arena.give(result.slots[rows.activation][y], activations[rows.activation].row_floats);
                last_read[rows.activation][y] = kNever;
            }
        };
        for (const Rows& rows : steps[t].reads) release(rows, t);
        if (floats) release(written, kNever);
    }
    result.floats = arena.size();
    return result;
}

}  // namespace srfast
