// Operations of a network other than convolutions, on NHWC float32 images: what the sources of all instruction sets share.
#pragma once

#include "conv.h"
#include "pool.h"

namespace srfast {

enum class Operation {
    none,
    affine,
    activate,
    clamp,
    add,
    multiply,
    concat,
    slice,
    shuffle,
    unshuffle,
    average_pool,
    max_pool,
    resize,
    pixel_norm,
    group_norm,
    channel_gate,
    spatial_gate,
    gated_sum,
    depthwise,
    count
};

struct Node {
    Operation operation = Operation::none;
    int factor = 1;  // of shuffles, pools and resizes
    // Of shuffles and unshuffles: the first pixel of the enlarged image's square 0. Pixels beyond a border are 0 for an
    // unshuffle, and tensors[0] for a shuffle.
    int offset = 0;
    int reach = 0;  // rows and columns that are read beyond each pixel, on each side
    Curve curve = Curve::prelu;
    float low = 0.0f, high = 0.0f, eps = 0.0f;
    int first = 0, length = 0;  // channels of a slice
    int groups = 1;             // of channels that a group_norm takes together
    bool centred = true;    // of a pixel_norm: else it divides by the root of the mean square, to which eps is added
    bool contrast = false;  // of a channel_gate: from the deviations plus the means instead of the means
    bool hard = false;      // of a channel_gate: ends in a hard sigmoid
    float shift = 0.0f;     // of a gated_sum: (x + y) * (curve(x) + shift)
    int before = 0,
        after = 0;  // rows and columns that a channel_gate's means leave out, at the top and left, and at the others
    // affine: scale [C], shift [C]; prelu: slope [C]; shuffle with an offset: value beyond the border [C]; resize: weights [factor, 2 * reach + 1]; pixel_norm, group_norm:
    // scale [C], shift [C]; channel_gate: squeeze [M, C], its bias [M], expand [C, M], its bias [C], slope [M]; spatial_gate: weight
    // [2, k, k] with k = 2 * reach + 1, bias [1]; depthwise: weight [k, k, C], bias [C] and, for a prelu, slope [C].
    std::vector<Floats> tensors;

    // Rows are counted where `shrink` rows of the input make one and `grow` rows of the output come from one.
    bool shrinks() const {
        return operation == Operation::unshuffle || operation == Operation::average_pool ||
               operation == Operation::max_pool;
    }
    int shrink() const { return shrinks() ? factor : 1; }
    int grow() const { return operation == Operation::shuffle || operation == Operation::resize ? factor : 1; }
    // Reads all rows before it writes the first.
    bool whole() const { return operation == Operation::group_norm || operation == Operation::channel_gate; }
    // Floats that a node keeps between tasks: sums of every row, two values for every channel.
    std::size_t carry(int height, int channels) const {
        return whole() ? (static_cast<std::size_t>(height) + 2) * static_cast<std::size_t>(channels) : 0;
    }
    // Channels of the result; -1 where `channels` of the sources do not fit the operation or its tensors.
    int out_channels(const std::vector<int>& channels) const;
};

// Rows first..last of a node, part `index` of `count`; results do not depend on the split. Nodes that read the whole image
// get all of their rows in the first tasks of the threads, which meet at the barrier.
struct NodeTask {
    const std::vector<Image>& sources;
    const Image& out;
    int first, last, index, count;
    float* carry;
    Barrier& barrier;
    bool* bad;  // set where a value that was stored as a byte was NaN or infinite
};

}  // namespace srfast
