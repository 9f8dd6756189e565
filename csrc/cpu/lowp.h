// Direct convolutions in a low-precision type: rows are converted as they are read (float32 images stay what the layers exchange),
// and the taps are multiplied by an instruction that sums several channels at once. `Type` says how:
//   Element, the type of a converted value, and Unit, what a thread needs to multiply;
//   pixels of a segment, at most, and step, how many of them one product covers;
//   convert(conv, from, channels, to), false where a value was NaN or infinite;
//   products(unit, conv, rows, weights, group, pixels, sums), all taps from the first pixel of every kernel row;
//   group_bytes(conv, group) of weights;
//   finished(unit, conv, task, y, x, rows, weights, group, pixels), false where products() and finish() have to do its work.
#pragma once

#include "epilogue.h"

namespace {

using srfast::kMaxKernel;
using srfast::kLowpBytes;

constexpr int kReadAhead = 64;  // bytes after the last pixel that products() may read, for weights that are zero

// Sums that go through memory before they are finished.
struct FinishedLater {
    template <class... Arguments>
    static bool finished(const Arguments&...) {
        return false;
    }
};

template <class Type>
bool convert_row(const Conv& conv, const Task& task, int y, int x, int pixels, typename Type::Element* to) {
    bool finite = true;
    for (int p = 0; p < pixels; ++p)
        each_piece(task, 0, conv.in_channels, [&](const Piece& piece, int at) {
            const Image& image = *piece.image;
            const float* from = image.row(y) + static_cast<std::ptrdiff_t>(x + p) * image.channels;
            finite &=
                Type::convert(conv, from, image.channels, to + static_cast<std::ptrdiff_t>(p) * conv.in_channels + at);
        });
    return finite;
}

template <class Type>
void run_lowp(const Conv& conv, const Task& task) {
    using Element = typename Type::Element;
    alignas(64) static thread_local Element converted[(kLowpBytes + kReadAhead) / sizeof(Element)];
    const typename Type::Unit unit{};
    const int begin = conv.begin(), kernel = conv.kernel, width = task.sources[0].width / conv.stride;
    // As many pixels as the converted rows have room for.
    const int columns = kLowpBytes / static_cast<int>(sizeof(Element)) / kernel / conv.in_channels;
    const int room = (columns - kernel) / conv.stride + 1;
    const int segment = room < Type::pixels ? room / Type::step * Type::step : Type::pixels;
    const std::ptrdiff_t slot = static_cast<std::ptrdiff_t>(conv.reads(segment)) * conv.in_channels;
    const Range rows = part(task.last - task.first, 1, task.index, task.count);
    const int first = task.first + static_cast<int>(rows.first), last = task.first + static_cast<int>(rows.last);
    bool finite = true;
    for (int x = 0; x < width; x += segment) {
        const int pixels = x + segment <= width ? segment : width - x;
        const auto place = [&](int y) { return converted + (y + kernel) % kernel * slot; };
        int next = first * conv.stride + begin;  // the first row that is not converted
        for (int y = first; y < last; ++y) {
            const int top = y * conv.stride + begin;
            for (; next < top + kernel; ++next)
                finite &= convert_row<Type>(conv, task, next, x * conv.stride + begin, conv.reads(pixels), place(next));
            const Element* ring[kMaxKernel];
            for (int i = 0; i < kernel; ++i) ring[i] = place(top + i);
            const std::uint8_t* weights = conv.lowp_weights.data();
            for (int g = 0; g < groups(conv); ++g) {
                const Group group = group_of(conv, g);
                if (!Type::finished(unit, conv, task, y, x, ring, weights, group, pixels)) {
                    Type::products(unit, conv, ring, weights, group, pixels, task.scratch);
                    finish(conv, task, y, x, pixels, task.scratch, kGroup, group);
                }
                weights += Type::group_bytes(conv, group);
            }
        }
    }
    if (!finite) *task.bad = true;
}

}  // namespace
