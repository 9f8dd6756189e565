// Layers as they are asked for. Their check is the border: what passes it cannot make a kernel read or write past its memory.
#pragma once

#include "program.h"

#include <optional>
#include <utility>
#include <vector>

namespace srfast {

// Float32 values of the caller, which are copied.
struct FloatView {
    const float* data = nullptr;
    std::size_t count = 0;
};

// target = clamp(shuffle(curve(conv(sources) + bias)) * gain + residual)
struct ConvSpec {
    std::vector<int> inputs;  // activations whose channels in a row are read
    int output = 0;
    std::optional<int> residual;
    int residual_factor = 1;
    FloatView weight, bias;  // [O, C, k, k], [O]
    Curve curve = Curve::none;
    FloatView slope;  // of a prelu, [1 or O]; of others [0]
    int out_channels = 0, kernel = 0, shuffle = 1, stride = 1, offset = 0;
    double gain = 1.0, low = 0.0, high = 0.0;  // low and high infinite: no clamp
    Algorithm algorithm = Algorithm::direct;
    double input_inverse = 1.0;  // of 8-bit inputs, which are round(x * input_inverse) + input_zero
    int input_zero = 0;
};

// Any other operation; Node says what its fields mean.
struct NodeSpec {
    std::vector<int> inputs;
    int output = 0;
    Operation operation = Operation::none;
    int factor = 1, offset = 0, reach = 0;
    Curve curve = Curve::prelu;
    double low = 0.0, high = 0.0, eps = 0.0;
    std::pair<int, int> channels{0, 0};  // of a slice: the first and their number
    int groups = 1;
    std::pair<int, int> inset{0, 0};
    bool centred = true, contrast = false, hard = false;
    double shift = 0.0;
    std::vector<FloatView> tensors;
};

// The layer with its weights packed. Throws std::invalid_argument, whose text begins with the field that is wrong.
Program::Layer make_layer(const Program& program, const ConvSpec& spec);
Program::Layer make_layer(const Program& program, const NodeSpec& spec);

}  // namespace srfast
