// Direct convolutions in a low-precision type: rows are converted as they are read (float32 images stay what the layers exchange),
// and the taps are multiplied by an instruction that sums several channels at once. `Type` says how:
//   Element, the type of a converted value, and Unit, what a thread needs to multiply;
//   pixels of a segment, at most, and step, how many of them one product covers;
//   convert(conv, from, channels, to), false where a value was NaN or infinite;
//   products(unit, conv, rows, weights, group, pixels, sums), all taps from the first pixel of every kernel row;
//   group_bytes(conv, group) of weights.
#pragma once

#include "epilogue.h"

namespace {

using srfast::kMaxKernel;
using srfast::kLowpBytes;

constexpr int kReadAhead = 64;  // bytes after the last pixel that products() may read, for weights that are zero

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
    const int half = conv.kernel / 2, width = task.sources[0].width;
    // As many pixels as the converted rows have room for.
    const int room = kLowpBytes / static_cast<int>(sizeof(Element)) / conv.kernel / conv.in_channels - 2 * half;
    const int segment = room < Type::pixels ? room / Type::step * Type::step : Type::pixels;
    const std::ptrdiff_t slot = static_cast<std::ptrdiff_t>(segment + 2 * half) * conv.in_channels;
    const Range rows = part(task.last - task.first, 1, task.index, task.count);
    const int first = task.first + static_cast<int>(rows.first), last = task.first + static_cast<int>(rows.last);
    bool finite = true;
    for (int x = 0; x < width; x += segment) {
        const int pixels = x + segment <= width ? segment : width - x;
        const auto convert = [&](int y) {
            Element* to = converted + (y + conv.kernel) % conv.kernel * slot;
            finite &= convert_row<Type>(conv, task, y, x - half, pixels + 2 * half, to);
        };
        for (int y = first - half; y < first + half; ++y) convert(y);
        for (int y = first; y < last; ++y) {
            convert(y + half);
            const Element* ring[kMaxKernel];
            for (int i = 0; i < conv.kernel; ++i)
                ring[i] = converted + (y + i - half + conv.kernel) % conv.kernel * slot;
            const std::uint8_t* weights = conv.lowp_weights.data();
            for (int g = 0; g < groups(conv); ++g) {
                const Group group = group_of(conv, g);
                Type::products(unit, conv, ring, weights, group, pixels, task.scratch);
                weights += Type::group_bytes(conv, group);
                finish(conv, task, y, x, pixels, task.scratch, kGroup, group);
            }
        }
    }
    if (!finite) *task.bad = true;
}

}  // namespace
