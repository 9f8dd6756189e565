// 3x3 convolutions by the Winograd transform in both directions. A block of tiles is transformed, multiplied and transformed
// back; all of that and the weights stay in the L2 cache.
#pragma once

#include "epilogue.h"
#include "transforms.h"

namespace {

constexpr int kTile = 6;        // pixels of a tile that are read, along each side
constexpr int kPlanes = 36;     // frequencies
constexpr int kChunk = kGroup;  // input channels at a time
constexpr int kBlock = 24;      // tiles of a block, at most
constexpr int kBand = 12;
// Odd in cache lines, so that the frequencies of a tile fall into different sets.
constexpr int kPitch = kBlock * kChunk + 16;

// Tiles in the order in which they are computed: bands of `kBand` columns of tiles from top to bottom, so that the rows that
// neighbours above and below both read are still in the cache.
struct Walk {
    int top, rows, columns;  // first pixel row; tiles

    long total() const { return static_cast<long>(rows) * columns; }
};

// The tiles of a block: first pixels of their results. Divisions are slow.
struct Places {
    int count;
    int y[kBlock], x[kBlock];

    Places(const Walk& walk, long first, int size) : count(size) {
        if (size == 0) return;
        const int band = static_cast<int>(first / (static_cast<long>(kBand) * walk.rows));
        int left = band * kBand, wide = walk.columns - left < kBand ? walk.columns - left : kBand;
        const int in_band = static_cast<int>(first - static_cast<long>(left) * walk.rows);
        int row = in_band / wide, column = in_band % wide;
        for (int t = 0; t < size; ++t) {
            y[t] = walk.top + row * kStep;
            x[t] = (left + column) * kStep;
            if (++column < wide) continue;
            column = 0;
            if (++row < walk.rows) continue;
            row = 0;
            left += kBand;
            wide = walk.columns - left < kBand ? walk.columns - left : kBand;
        }
    }
};

void block_in(const Piece& piece, const Places& places, float* to) {
    const float* rows[kTile];
    const std::ptrdiff_t channels = piece.image->channels;
    for (int t = 0; t < places.count; ++t) {
        if (t == 0 || places.y[t] != places.y[t - 1])
            for (int i = 0; i < kTile; ++i) rows[i] = piece.image->row(places.y[t] - 1 + i) + piece.channel;
        for (int c = 0; c < piece.depth; c += Vec::width)
            tile_in<kTile, kPitch>(rows, (places.x[t] - 1) * channels + c, channels, to + t * kChunk + c);
    }
}

constexpr int kVectors = kGroup / Vec::width;

// Where the vectors of a group go: column 0 of the rows of one row of tiles.
struct Targets {
    float* to[kVectors][kStep];
    const float* add[kVectors][kStep];

    void set(const Conv& conv, const Task& task, const Group& group, int y) {
        const int run = conv.row_run();
        const Image& out = *task.out;
        for (int v = 0; v < group.vectors; ++v) {
            const int output = group.first + v * Vec::width, phase = output / run, offset = output % run;
            for (int i = 0; i < kStep; ++i) {
                const int row = (y + i) * conv.shuffle + phase;
                if (row >= out.height) return;  // not a whole tile
                to[v][i] = out.base + out.slots[row] + offset;
                add[v][i] = task.residual ? task.residual->row(row) + offset : nullptr;
            }
        }
    }
};

// Every output of a whole tile, finished in registers; `at` is its first column's offset.
template <bool Prelu, bool Residual>
void whole_tile_out(const Conv& conv, const Targets& targets, std::ptrdiff_t at, const Group& group,
                    const float* from) {
    const std::ptrdiff_t run = conv.row_run();
    const Vec gain = Vec::set1(conv.gain);
    for (int v = 0; v < group.vectors; ++v) {
        const Vec bias = Vec::load(&conv.bias[group.first + v * Vec::width]);
        const Vec slope = Vec::load(&conv.slope[group.first + v * Vec::width]);
        tile_out<kTile, kStep, kPitch>(from + v * Vec::width, [&](int i, int j, Vec value) {
            value = value + bias;
            if (Prelu) value = prelu(value, slope);
            if (Residual) value = fma(value, gain, Vec::load(targets.add[v][i] + at + j * run));
            value.store(targets.to[v][i] + at + j * run);
        });
    }
}

void block_out(const Conv& conv, const Task& task, const Places& places, const Group& group, const float* from) {
    alignas(64) float sums[kStep * kStep * kGroup];
    const int width = task.out->width / conv.shuffle;
    // Others go through memory, which costs curves little beside themselves.
    const bool plain = fills_vectors(conv, *task.out, group) && (conv.gain == 1.0f || task.residual) && !conv.clamp &&
                       ending_of(conv) != Ending::curve;
    Targets targets;
    for (int t = 0; t < places.count; ++t) {
        const int y = places.y[t], x = places.x[t];
        if (plain && (t == 0 || y != places.y[t - 1])) targets.set(conv, task, group, y);
        const float* tile = from + t * kGroup;
        if (plain && x + kStep <= width && y + kStep <= task.last) {
            const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(x) * conv.row_run();
            if (conv.curve == Curve::prelu)
                task.residual ? whole_tile_out<true, true>(conv, targets, at, group, tile)
                              : whole_tile_out<true, false>(conv, targets, at, group, tile);
            else
                task.residual ? whole_tile_out<false, true>(conv, targets, at, group, tile)
                              : whole_tile_out<false, false>(conv, targets, at, group, tile);
            continue;
        }
        for (int v = 0; v < group.vectors; ++v)
            tile_out<kTile, kStep, kPitch>(tile + v * Vec::width, [&](int i, int j, Vec value) {
                value.store(sums + (i * kStep + j) * kGroup + v * Vec::width);
            });
        const int wide = x + kStep <= width ? kStep : width - x;
        for (int i = 0; i < kStep && y + i < task.last; ++i)
            finish(conv, task, y + i, x, wide, sums + i * kStep * kGroup, kGroup, group);
    }
}

// What the products of one chunk fetch meanwhile: what the next transform reads, and with the last chunk what the results
// overwrite and are added to. As late as possible: the weights that pass through L2 after it would drive it out again.
struct Fetch {
    const Piece next;
    const Places& in;  // tiles of the next transform
    const Conv& conv;
    const Task& task;
    const Places* out;  // tiles of the results, if they are fetched
    const Group& group;
    int left;  // calls

    Touch operator()() {
        const char* idle = reinterpret_cast<const char*>(conv.bias.data());
        Touch touch{idle, idle, idle, 0, 0};
        if (left <= in.count * kTile) fetch_tile(in.count * kTile - left, touch);
        if (out && left <= out->count * kStep) fetch_results(out->count * kStep - left, touch);
        --left;
        return touch;
    }

    void fetch_tile(int index, Touch& touch) const {
        const int t = index / kTile;
        const Image& image = *next.image;
        touch.in =
            reinterpret_cast<const char*>(image.row(in.y[t] - 1 + index % kTile) +
                                          static_cast<std::ptrdiff_t>(in.x[t] + 1) * image.channels + next.channel);
        touch.in_step = static_cast<std::ptrdiff_t>(sizeof(float)) * image.channels;
    }

    void fetch_results(int index, Touch& touch) const {
        const int t = index / kStep, run = conv.row_run();
        const int row = (out->y[t] + index % kStep) * conv.shuffle + group.first / run;
        const Image& image = *task.out;
        if (row >= image.height) return;
        const std::ptrdiff_t offset = static_cast<std::ptrdiff_t>(out->x[t]) * run + group.first % run;
        touch.out = reinterpret_cast<const char*>(image.base + image.slots[row] + offset);
        touch.out_step = static_cast<std::ptrdiff_t>(sizeof(float)) * run;
        if (task.residual) touch.add = reinterpret_cast<const char*>(task.residual->row(row) + offset);
    }
};

// Whether products overwrite the transforms they are made from: with one panel and one chunk.
bool in_place(const Conv& conv, const Group& group) {
    return group.vectors <= Vec::columns && conv.in_channels <= kChunk;
}

// One block of tiles for one group of outputs; `after` is the next one. Weights and transforms hardly fit into L2 together with
// what is fetched meanwhile. Every other block takes the weights `backwards`, those first that are still there.
void winograd_block(const Conv& conv, const Task& task, int g, const Places& here, const Places& after,
                    bool backwards) {
    const Group group = group_of(conv, g);
    const float* weights =
        conv.weights.data() + static_cast<std::ptrdiff_t>(g) * kPlanes * conv.group() * conv.in_channels;
    float *transformed = task.scratch, *products = in_place(conv, group) ? transformed : transformed + kPlanes * kPitch;
    const std::ptrdiff_t slice = static_cast<std::ptrdiff_t>(group.vectors) * Vec::width * conv.in_channels;
    const bool fetch_results = fills_vectors(conv, *task.out, group);
    for (int chunk = 0; chunk < conv.in_channels; chunk += kChunk) {
        const int depth = conv.in_channels - chunk < kChunk ? conv.in_channels - chunk : kChunk;
        each_piece(task, chunk, depth, [&](const Piece& piece, int at) { block_in(piece, here, transformed + at); });
        const bool last = chunk + depth == conv.in_channels;
        Fetch next{first_piece(task, last ? 0 : chunk + depth),
                   last ? after : here,
                   conv,
                   task,
                   last && fetch_results ? &here : nullptr,
                   group,
                   kPlanes * calls_of(group.vectors, here.count)};
        for (int i = 0; i < kPlanes; ++i) {
            const int f = backwards ? kPlanes - 1 - i : i;
            multiply_block(group.vectors, depth, transformed + f * kPitch, here.count, weights + f * slice,
                           conv.in_channels, chunk, products + f * kPitch, next);
        }
    }
    block_out(conv, task, here, group, products);
}

// Tiles of a block: as many as L2 holds beside the weights, of every tile the transform, its products and the pixels that the
// next one reads. Fewer than `few` would cost more than the misses that they save: 12 for 64 outputs, 24 for 32. Weights that do
// not fit pass through L2 whatever the block.
int block_tiles(const Conv& conv, const Group& group, std::size_t cache) {
    const long depth = conv.in_channels < kChunk ? conv.in_channels : kChunk, columns = group.vectors * Vec::width;
    const long results = in_place(conv, group) ? 0 : columns, floats = sizeof(float);
    const long tile = floats * (kPlanes * (depth + results) + kStep * kStep * depth);
    const long all = static_cast<long>(cache), left = all * 3 / 4 - floats * kPlanes * depth * columns;
    const long tiles = (left > 0 ? left : all) / tile, few = 12 * kGroup / columns;
    return static_cast<int>(tiles > kBlock || few > kBlock ? kBlock : tiles < few ? few : tiles);
}

// The blocks of one thread's share of the tiles for one group of outputs: whole row groups of its products.
Parts blocks(const Walk& walk, const Conv& conv, const Group& group, std::size_t cache, int index, int threads) {
    const int unit = block_rows(group.vectors);
    const int tiles = block_tiles(conv, group, cache) / unit * unit;
    return Parts(walk.total(), unit, tiles < unit ? unit : tiles, index, threads);
}

// One thread's share: all of its blocks once for every group of outputs, of which the last may be narrower.
struct Share {
    const Walk& walk;
    Parts whole, last;
    int groups, count;

    Share(const Conv& conv, const Walk& tiles, std::size_t cache, int index, int threads)
        : walk(tiles),
          whole(blocks(walk, conv, group_of(conv, 0), cache, index, threads)),
          last(blocks(walk, conv, group_of(conv, ::groups(conv) - 1), cache, index, threads)),
          groups(::groups(conv)),
          count((groups - 1) * whole.count + last.count) {}

    int group(int p) const { return p < (groups - 1) * whole.count ? p / whole.count : groups - 1; }
    // The tiles of block p, none after the last.
    Places block(int p) const {
        const int g = group(p), b = p - g * whole.count;
        const Parts& parts = g + 1 < groups ? whole : last;
        if (b >= parts.count) return Places(walk, 0, 0);
        const Range tiles = parts.at(b);
        return Places(walk, tiles.first, static_cast<int>(tiles.last - tiles.first));
    }
};

void run_winograd(const Conv& conv, const Task& task) {
    const Walk walk{task.first, (task.last - task.first + kStep - 1) / kStep,
                    (task.sources[0].width + kStep - 1) / kStep};
    bool backwards = false;
    each_part(
        task, [&](int index) { return Share(conv, walk, task.cache, index, task.count); },
        [&](const Share& share, int p) {
            // The next block is what this thread does next if nobody else takes it.
            winograd_block(conv, task, share.group(p), share.block(p), share.block(p + 1), backwards);
            backwards = !backwards;
        });
}

constexpr std::size_t kWinogradScratch = 2 * kPlanes * kPitch;

}  // namespace
