#include "spec.h"

#include <cmath>
#include <stdexcept>
#include <string>

namespace srfast {
namespace {

[[noreturn]] void fail(const std::string& field, const std::string& what) {
    throw std::invalid_argument(field + ": " + what);
}

std::string text(long long value) { return std::to_string(value); }

// Channels of an activation that a field names.
int channels(const Program& program, const std::string& field, int activation) {
    if (activation < 0 || activation >= program.activations())
        fail(field, "there is no activation " + text(activation) + " among " + text(program.activations()));
    return program.channels(activation);
}

void check_positive(const std::string& field, int value) {
    if (value < 1) fail(field, "it is at least 1, not " + text(value));
}

void check_count(const std::string& field, const FloatView& values, std::size_t expected) {
    if (values.count != expected)
        fail(field, "it has " + text(static_cast<long long>(expected)) + " values, not " +
                        text(static_cast<long long>(values.count)));
}

// What only some kernels can do.
void check_algorithm(const Program& program, const ConvSpec& spec, int in_channels) {
    const std::string shape = text(spec.kernel) + "x" + text(spec.kernel) + " on " + text(in_channels) + " channels";
    if (spec.algorithm == Algorithm::direct) return;
    for (const int input : spec.inputs)
        if (program.channels(input) % 16)
            fail("inputs", "only direct convolutions read other than multiples of 16 channels, such as " +
                               text(program.channels(input)));
    if (spec.algorithm == Algorithm::lowp) {
        if (program.kernels().lowp == LowPrecision::none)
            fail("algorithm", "this instruction set has no low-precision convolutions");
        if (!lowp_fits(spec.kernel, in_channels, spec.stride))
            fail("algorithm", "no low-precision kernel for " + shape);
        return;
    }
    if (spec.stride > 1) fail("stride", "only direct convolutions have one of more than 1");
    if (spec.algorithm == Algorithm::fourier) {
        if (spec.kernel >= kFourierSide || in_channels > kFourierChannels || spec.out_channels > kFourierChannels)
            fail("algorithm", "no Fourier kernel for " + shape + " and " + text(spec.out_channels) + " outputs");
        return;
    }
    const bool fits = spec.kernel == 3 || spec.kernel == 5 || (spec.kernel == 9 && spec.out_channels <= kSplitSums);
    if (!fits || in_channels % 16) fail("algorithm", "no Winograd kernel for " + shape);
}

}  // namespace

Program::Layer make_layer(const Program& program, const ConvSpec& spec) {
    if (spec.inputs.empty()) fail("inputs", "a convolution reads at least 1 activation");
    int in_channels = 0;
    for (const int input : spec.inputs) in_channels += channels(program, "inputs", input);
    const int result = channels(program, "output", spec.output);
    check_positive("out_channels", spec.out_channels);
    check_positive("shuffle", spec.shuffle);
    check_positive("residual_factor", spec.residual_factor);
    check_positive("stride", spec.stride);
    check_positive("kernel", spec.kernel);
    if (spec.stride == 1 ? spec.kernel % 2 == 0 : spec.kernel != spec.stride)
        fail("kernel", "it is odd, or the stride of more than 1, not " + text(spec.kernel));
    if (std::abs(spec.offset) >= spec.stride)
        fail("offset",
             "it is less than the stride " + text(spec.stride) + " in either direction, not " + text(spec.offset));
    if (result * spec.shuffle * spec.shuffle != spec.out_channels)
        fail("out_channels", text(spec.out_channels) + " shuffled by " + text(spec.shuffle) +
                                 " do not make the output's " + text(result) + " channels");
    if (spec.residual && channels(program, "residual", *spec.residual) != result)
        fail("residual", "it has " + text(program.channels(*spec.residual)) + " channels, the output " + text(result));
    const auto out = static_cast<std::size_t>(spec.out_channels);
    check_count("weight", spec.weight,
                out * static_cast<std::size_t>(in_channels) * static_cast<std::size_t>(spec.kernel) *
                    static_cast<std::size_t>(spec.kernel));
    check_count("bias", spec.bias, out);
    const auto slopes = static_cast<long long>(spec.slope.count);
    if (spec.curve != Curve::prelu && slopes) fail("slope", "only a prelu has slopes, not " + text(slopes));
    if (spec.curve == Curve::prelu && slopes != 1 && slopes != spec.out_channels)
        fail("slope", "it has 1 or " + text(spec.out_channels) + " values, not " + text(slopes));
    check_algorithm(program, spec, in_channels);

    Program::Layer layer{{}, spec.inputs, spec.output, spec.residual.value_or(-1), {}};
    Conv& conv = layer.conv;
    conv.algorithm = spec.algorithm;
    conv.in_channels = in_channels;
    conv.out_channels = spec.out_channels;
    conv.kernel = spec.kernel;
    conv.shuffle = spec.shuffle;
    conv.stride = spec.stride;
    conv.offset = spec.offset;
    conv.residual_factor = spec.residual_factor;
    conv.curve = spec.curve;
    conv.gain = static_cast<float>(spec.gain);
    conv.low = static_cast<float>(spec.low);
    conv.high = static_cast<float>(spec.high);
    conv.clamp = std::isfinite(spec.low) || std::isfinite(spec.high);
    conv.input_inverse = static_cast<float>(spec.input_inverse);
    conv.input_zero = spec.input_zero;
    pack(conv, program.kernels(), spec.weight.data, spec.bias.data, spec.slope.data,
         static_cast<int>(spec.slope.count));
    return layer;
}

Program::Layer make_layer(const Program& program, const NodeSpec& spec) {
    Program::Layer layer{{}, spec.inputs, spec.output, -1, {}};
    Node& node = layer.node;
    node.operation = spec.operation;
    node.curve = spec.curve;
    node.factor = spec.factor;
    node.offset = spec.offset;
    node.reach = spec.reach;
    node.low = static_cast<float>(spec.low);
    node.high = static_cast<float>(spec.high);
    node.eps = static_cast<float>(spec.eps);
    node.first = spec.channels.first;
    node.length = spec.channels.second;
    node.groups = spec.groups;
    node.centred = spec.centred;
    node.contrast = spec.contrast;
    node.hard = spec.hard;
    node.shift = static_cast<float>(spec.shift);
    node.before = spec.inset.first;
    node.after = spec.inset.second;
    if (node.before < 0 || node.after < 0) fail("inset", "it is not negative");
    for (const FloatView& values : spec.tensors) node.tensors.emplace_back(values.data, values.data + values.count);
    std::vector<int> given;
    for (const int input : spec.inputs) given.push_back(channels(program, "inputs", input));
    if (node.out_channels(given) != channels(program, "output", spec.output))
        fail(
            "operation",
            "with these inputs, factor, offset, reach, channels, groups and tensors it does not fit the output's channels");
    return layer;
}

}  // namespace srfast
