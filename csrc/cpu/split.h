// 9x9 convolutions to at most three channels, as nine 3x3 convolutions that read the same transformed tiles: tiles of 5x5 pixels
// lie three pixels apart, so that the tile which one third of the kernel reads for some pixels is the tile which another third
// reads for pixels three further on. Every tile is transformed and multiplied once, by all nine at a time (their outputs lie
// side by side in the products), and added to the nine tiles of results that it belongs to. Sums of rows that are not complete
// stay in the layer's carry for the next task.
#pragma once

#include "epilogue.h"
#include "transforms.h"

namespace {

using srfast::kSplitStep;
using srfast::kSplitSums;

constexpr int kFive = 5;  // pixels of a tile that are read, along each side
constexpr int kSplitPlanes = 25;
constexpr int kSplitBlock = 24;  // tiles of a block, at most
constexpr int kSplitPitch = kSplitBlock * kGroup + 16;
constexpr int kThird = kSplitStep * kSplitSums;  // sums of one tile in a row; outputs of one third of the kernel's rows
constexpr int kLanes = 3 * kThird + Vec::width;  // of a pixel, with room for whole vectors

// `count` tiles from tile `x` of row `y` of tiles: tile 0 begins four pixels before the image.
void split_in(const Piece& piece, int y, int x, int count, float* to) {
    const std::ptrdiff_t channels = piece.image->channels;
    const float* rows[kFive];
    for (int i = 0; i < kFive; ++i) rows[i] = piece.image->row(y * kSplitStep - 4 + i) + piece.channel;
    for (int t = 0; t < count; ++t)
        for (int c = 0; c < piece.depth; c += Vec::width)
            tile_in<kFive, kSplitPitch>(rows, ((x + t) * kSplitStep - 4) * channels + c, channels, to + t * kGroup + c);
}

// The products of one tile as 3x3 pixels of kLanes values.
SRFAST_INLINE void split_tile_out(const float* from, int vectors, float* to) {
    for (int v = 0; v < vectors; ++v)
        tile_out<kFive, kSplitStep, kSplitPitch>(from + v * Vec::width, [&](int i, int x, Vec value) {
            value.store(to + (i * kSplitStep + x) * kLanes + v * Vec::width);
        });
}

// Adds three pixels of one third of the kernel's rows, [pixel][tile, channel], to three tiles of sums, [tile][pixel][channel].
SRFAST_INLINE void add_three_tiles(const float* from, float* to) {
#if defined(__AVX512F__)
    // Of sums 0..15 and 16..26: the value's place in the first two pixels (16 more for the second), or in the third.
    const __m512i first = _mm512_setr_epi32(0, 1, 2, 16, 17, 18, 0, 0, 0, 3, 4, 5, 19, 20, 21, 0);
    const __m512i third = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 3);
    const __m512i first_rest = _mm512_setr_epi32(0, 0, 6, 7, 8, 22, 23, 24, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m512i third_rest = _mm512_setr_epi32(4, 5, 0, 0, 0, 0, 0, 0, 6, 7, 8, 0, 0, 0, 0, 0);
    const __m512 a = _mm512_loadu_ps(from), b = _mm512_loadu_ps(from + kLanes), c = _mm512_loadu_ps(from + 2 * kLanes);
    const __m512 sums = _mm512_mask_permutexvar_ps(_mm512_permutex2var_ps(a, first, b), 0x81c0, third, c);
    const __m512 rest = _mm512_mask_permutexvar_ps(_mm512_permutex2var_ps(a, first_rest, b), 0x0703, third_rest, c);
    _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), sums));
    const __mmask16 left = (1 << 11) - 1;
    _mm512_mask_storeu_ps(to + 16, left, _mm512_add_ps(_mm512_maskz_loadu_ps(left, to + 16), rest));
#else
    for (int tile = 0; tile < 3; ++tile)
        for (int x = 0; x < kSplitStep; ++x)
            for (int c = 0; c < kSplitSums; ++c)
                to[(tile * kSplitStep + x) * kSplitSums + c] += from[x * kLanes + tile * kSplitSums + c];
#endif
}

// The same for tiles `from_tile` .. `to_tile` of the three.
inline void add_some_tiles(const float* from, int from_tile, int to_tile, float* to) {
    for (int tile = from_tile; tile < to_tile; ++tile)
        for (int x = 0; x < kSplitStep; ++x)
            for (int c = 0; c < kSplitSums; ++c)
                to[(tile * kSplitStep + x) * kSplitSums + c] += from[x * kLanes + tile * kSplitSums + c];
}

// Rows of sums in the carry: a ring of three rows of tiles.
struct Sums {
    float* base;
    std::ptrdiff_t pitch;
    float* row(int tile_row, int line) const { return base + (tile_row % 3 * kSplitStep + line) * pitch; }
};

// Fetches what the next transform reads.
struct FetchTiles {
    const char* idle;
    const Piece next;
    int y, x, count;
    int call = 0;

    Touch operator()() {
        Touch touch{idle, idle, idle, 0, 0};
        if (call < count * kSplitStep) {  // three new rows of every tile, three new pixels in each
            const Image& image = *next.image;
            touch.in = reinterpret_cast<const char*>(
                image.row(y * kSplitStep - 2 + call % kSplitStep) +
                static_cast<std::ptrdiff_t>((x + call / kSplitStep) * kSplitStep - 2) * image.channels + next.channel);
            touch.in_step = static_cast<std::ptrdiff_t>(sizeof(float)) * image.channels;
        }
        ++call;
        return touch;
    }
};

// Tiles x .. x + count of row y, added to the sums of tiles first .. last of the rows of tiles above.
void split_block(const Conv& conv, const Task& task, int y, int x, int count, const Range& range, int tile_rows,
                 const Sums& sums) {
    const int vectors = (3 * kThird + Vec::width - 1) / Vec::width;
    const bool in_place = vectors <= Vec::columns && conv.in_channels <= kGroup;
    float *transformed = task.scratch, *products = in_place ? transformed : transformed + kSplitPlanes * kSplitPitch;
    const std::ptrdiff_t slice = static_cast<std::ptrdiff_t>(vectors) * Vec::width * conv.in_channels;
    const char* idle = reinterpret_cast<const char*>(conv.bias.data());
    for (int chunk = 0; chunk < conv.in_channels; chunk += kGroup) {
        const int depth = conv.in_channels - chunk < kGroup ? conv.in_channels - chunk : kGroup;
        each_piece(task, chunk, depth,
                   [&](const Piece& piece, int at) { split_in(piece, y, x, count, transformed + at); });
        const bool last = chunk + depth == conv.in_channels;
        const int after = static_cast<int>(range.last) + 2 - (x + count);
        FetchTiles next{idle, first_piece(task, last ? 0 : chunk + depth), y, x + count,
                        last ? (after < count ? after : count) : 0};
        for (int f = 0; f < kSplitPlanes; ++f)
            multiply_block(vectors, depth, transformed + f * kSplitPitch, count, conv.weights.data() + f * slice,
                           conv.in_channels, chunk, products + f * kSplitPitch, next);
    }
    alignas(64) float pixels[kSplitStep * kSplitStep * kLanes + Vec::width];
    for (int t = 0; t < count; ++t) {
        const int tile = x + t;  // adds to tiles of results tile - 2 .. tile
        const int from = tile - 2 < range.first ? static_cast<int>(range.first) - (tile - 2) : 0;
        const int to = tile >= range.last ? static_cast<int>(range.last) - (tile - 2) : 3;
        split_tile_out(products + t * kGroup, vectors, pixels);
        for (int i = 0; i < 3; ++i) {
            if (y - i < 0 || y - i >= tile_rows) continue;
            for (int line = 0; line < kSplitStep; ++line) {
                const float* value = pixels + line * kSplitStep * kLanes + i * kThird;
                float* sum = sums.row(y - i, line) + static_cast<std::ptrdiff_t>(tile - 2) * kThird;
                from == 0 && to == 3 ? add_three_tiles(value, sum) : add_some_tiles(value, from, to, sum);
            }
        }
    }
}

// Bias and activation of a run of sums that begins with output 0 of a pixel.
struct Finish {
    const Conv& conv;
    float bias[kSplitSums + Vec::width],
        slope[kSplitSums + Vec::width];  // of the outputs that follow each other in memory

    explicit Finish(const Conv& c) : conv(c) {
        for (int i = 0; i < kSplitSums + Vec::width; ++i) {
            bias[i] = c.bias[i % kSplitSums];
            slope[i] = c.slope[i % kSplitSums];
        }
    }

    SRFAST_INLINE Vec operator()(Vec sums, int output) const {
        Vec value = sums + Vec::load(bias + output);
        value = activated(conv.curve, value, Vec::load(slope + output));
        if (conv.gain != 1.0f) value = value * Vec::set1(conv.gain);
        return conv.clamp ? clamp(value, Vec::set1(conv.low), Vec::set1(conv.high)) : value;
    }
};

inline void store_results(Vec value, float* to) { value.store(to); }
inline void store_results(Vec value, std::uint8_t* to) { store_bytes(value, to); }
inline void store_results(Vec value, std::uint16_t* to) { store_words(value * Vec::set1(srfast::kWord), to); }

// `count` sums to results of consecutive pixels, in whole vectors. False where one of them was NaN or infinite.
template <class Result>
bool finish_run(const Finish& finished, const float* sums, int count, Result* to) {
    Vec check = Vec::zero();  // of what is zero where a value is finite
    int i = 0;
    for (; i + Vec::width <= count; i += Vec::width) {
        const Vec value = finished(Vec::load(sums + i), i % kSplitSums);
        check = check + (value - value);
        store_results(value, to + i);
    }
    float rest[Vec::width] = {};
    std::memcpy(rest, sums + i, sizeof(float) * static_cast<std::size_t>(count - i));
    const Vec value = finished(Vec::load(rest), i % kSplitSums);
    (check + (value - value)).store(rest);
    Result results[Vec::width];
    store_results(value, results);
    std::memcpy(to + i, results, sizeof(Result) * static_cast<std::size_t>(count - i));
    for (const float f : rest)
        if (f != 0.0f) return false;
    return true;
}

// The same for fewer channels and with residuals.
void finish_pixels(const Conv& conv, const Task& task, int y, int x, int end, const float* sums) {
    constexpr int most = 64, pitch = 16;
    alignas(64) float pixels[most * pitch];
    for (; x < end; x += most, sums += most * kSplitSums) {
        const int count = end - x < most ? end - x : most;
        for (int p = 0; p < count; ++p)
            for (int c = 0; c < pitch; ++c) pixels[p * pitch + c] = c < kSplitSums ? sums[p * kSplitSums + c] : 0.0f;
        finish(conv, task, y, x, count, pixels, pitch, group_of(conv, 0));
    }
}

// Three rows of complete sums to results, tiles range.first .. range.last.
void split_finish(const Conv& conv, const Task& task, int tile_row, const Range& range, const Sums& sums) {
    const int first = static_cast<int>(range.first) * kSplitStep, width = task.sources[0].width;
    const int end =
        static_cast<int>(range.last) * kSplitStep < width ? static_cast<int>(range.last) * kSplitStep : width;
    const Finish finished(conv);
    const Image& out = *task.out;
    for (int y = tile_row * kSplitStep; y < (tile_row + 1) * kSplitStep && y < task.last; ++y) {
        const float* from = sums.row(tile_row, y % kSplitStep) + static_cast<std::ptrdiff_t>(first) * kSplitSums;
        const std::ptrdiff_t at = out.slots[y] + static_cast<std::ptrdiff_t>(first) * kSplitSums;
        const int count = (end - first) * kSplitSums;
        if (conv.out_channels < kSplitSums || task.residual)
            finish_pixels(conv, task, y, first, end, from);
        else if (out.base)
            finish_run(finished, from, count, out.base + at);
        else if (!(out.bytes ? finish_run(finished, from, count, out.bytes + at)
                             : finish_run(finished, from, count, out.words + at)))
            *task.bad = true;
    }
}

// Tiles of a part: with the two beside it that the next part computes too, whole blocks.
constexpr int kSplitPart = 3 * kSplitBlock - 2;

void run_split(const Conv& conv, const Task& task) {
    const int columns = (task.sources[0].width + kSplitStep - 1) / kSplitStep;
    const int tile_rows = (task.sources[0].height + kSplitStep - 1) / kSplitStep;
    const std::ptrdiff_t pitch = srfast::split_pitch(columns);
    // Tiles -2 and -1 are never written.
    const Sums sums{task.carry, pitch};
    const int begin = task.first == 0 ? 0 : task.first / kSplitStep + 2,
              end = (task.last + kSplitStep - 1) / kSplitStep + 2;
    const auto share_of = [&](int index) {
        Parts share(columns, 1, kSplitPart, index, task.count);
        share.unit = kSplitPart;
        return share;
    };
    each_part(task, share_of, [&](const Parts& share, int p) {
        const Range range = share.at(p);
        const int tiles = static_cast<int>(range.last - range.first) + 2,
                  blocks = (tiles + kSplitBlock - 1) / kSplitBlock;
        for (int y = begin; y < end; ++y) {
            if (y < tile_rows)
                for (int line = 0; line < kSplitStep; ++line)
                    std::memset(sums.row(y, line) + range.first * kThird, 0,
                                sizeof(float) * static_cast<std::size_t>(range.last - range.first) * kThird);
            for (int b = 0; b < blocks; ++b) {
                const int first = tiles * b / blocks, last = tiles * (b + 1) / blocks;
                split_block(conv, task, y, static_cast<int>(range.first) + first, last - first, range, tile_rows, sums);
            }
            if (y >= 2) split_finish(conv, task, y - 2, range, sums);
        }
    });
}

constexpr std::size_t kSplitScratch = 2 * kSplitPlanes * kSplitPitch;

}  // namespace
