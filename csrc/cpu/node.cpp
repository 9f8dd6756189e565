#include "node.h"

#include <cstdlib>
#include <numeric>

namespace srfast {
namespace {

// Larger ones have weights that no memory holds, and products that no number does.
constexpr int kMostReach = 1 << 12;

bool sized(const Node& node, std::initializer_list<long long> sizes) {
    if (node.tensors.size() != sizes.size()) return false;
    std::size_t i = 0;
    for (const long long size : sizes)
        if (node.tensors[i++].size() != static_cast<std::size_t>(size)) return false;
    return true;
}

}  // namespace

int Node::out_channels(const std::vector<int>& channels) const {
    if (channels.empty() || factor < 1 || reach < 0 || reach > kMostReach) return -1;
    const int given = channels[0], square = factor * factor;
    const long long taps = 2 * reach + 1;
    const bool one = channels.size() == 1;
    switch (operation) {
        case Operation::affine:
        case Operation::pixel_norm: return one && sized(*this, {given, given}) ? given : -1;
        case Operation::group_norm:
            return one && groups > 0 && given % groups == 0 && sized(*this, {given, given}) ? given : -1;
        case Operation::slice: return one && first >= 0 && length > 0 && length <= given - first ? length : -1;
        case Operation::activate:
            return one && curve != Curve::none && (curve == Curve::prelu ? sized(*this, {given}) : sized(*this, {}))
                       ? given
                       : -1;
        case Operation::clamp:
        case Operation::average_pool:
        case Operation::max_pool: return one ? given : -1;
        case Operation::gated_sum:
            return channels.size() == 2 && channels[1] == given && curve != Curve::prelu && sized(*this, {}) ? given
                                                                                                             : -1;
        case Operation::add: return channels.size() == 2 && channels[1] == given ? given : -1;
        case Operation::multiply:
            return channels.size() == 2 && (channels[1] == given || channels[1] == 1) ? given : -1;
        case Operation::concat: return std::accumulate(channels.begin(), channels.end(), 0);
        case Operation::shuffle: {
            const bool whole = offset == 0 || (std::abs(offset) < factor && reach > 0 && sized(*this, {given}));
            return one && whole && given % square == 0 ? given / square : -1;
        }
        case Operation::unshuffle:
            return one && std::abs(offset) < factor && reach >= std::abs(offset) ? given * square : -1;
        case Operation::resize: return one && sized(*this, {factor * taps}) ? given : -1;
        case Operation::channel_gate: {
            const long long middle = tensors.size() == 5 ? static_cast<long long>(tensors[1].size()) : 0;
            return one && sized(*this, {middle * given, middle, middle * given, given, middle}) ? given : -1;
        }
        case Operation::depthwise: {
            const bool fits = curve == Curve::prelu ? sized(*this, {taps * taps * given, given, given})
                                                    : sized(*this, {taps * taps * given, given});
            return one && fits ? given : -1;
        }
        case Operation::spatial_gate: return one && sized(*this, {2 * taps * taps, 1}) ? given : -1;
        default: return -1;
    }
}

}  // namespace srfast
