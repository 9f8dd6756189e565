#include "node.h"

#include <numeric>

namespace srfast {
namespace {

bool sized(const Node& node, std::initializer_list<int> sizes) {
    if (node.tensors.size() != sizes.size()) return false;
    std::size_t i = 0;
    for (const int size : sizes)
        if (node.tensors[i++].size() != static_cast<std::size_t>(size)) return false;
    return true;
}

}  // namespace

int Node::out_channels(const std::vector<int>& channels) const {
    if (channels.empty() || factor < 1 || reach < 0) return -1;
    const int first = channels[0], square = factor * factor, taps = 2 * reach + 1;
    const bool one = channels.size() == 1;
    switch (operation) {
        case Operation::affine:
        case Operation::instance_norm: return one && sized(*this, {first, first}) ? first : -1;
        case Operation::activate:
            return one && (curve == Curve::prelu ? sized(*this, {first}) : sized(*this, {})) ? first : -1;
        case Operation::clamp:
        case Operation::average_pool:
        case Operation::max_pool: return one ? first : -1;
        case Operation::add: return channels.size() == 2 && channels[1] == first ? first : -1;
        case Operation::multiply:
            return channels.size() == 2 && (channels[1] == first || channels[1] == 1) ? first : -1;
        case Operation::concat: return std::accumulate(channels.begin(), channels.end(), 0);
        case Operation::shuffle: return one && first % square == 0 ? first / square : -1;
        case Operation::unshuffle: return one ? first * square : -1;
        case Operation::resize: return one && sized(*this, {factor * taps}) ? first : -1;
        case Operation::channel_gate: {
            const int middle = tensors.size() == 5 ? static_cast<int>(tensors[1].size()) : 0;
            return one && sized(*this, {middle * first, middle, middle * first, first, middle}) ? first : -1;
        }
        case Operation::spatial_gate: return one && sized(*this, {2 * taps * taps, 1}) ? first : -1;
        default: return -1;
    }
}

}  // namespace srfast
