#include "conv.h"

#include <array>
#include <cmath>
#include <complex>

namespace srfast {
namespace {

using Matrix = std::array<std::array<double, 5>, 8>;

// G of the Winograd transform, [tile][kernel]; the points are those of transforms.h. Of a 9x9 kernel, for thirds.
Matrix weight_transform(int kernel) {
    const std::vector<double> points = kernel == 3   ? std::vector<double>{0.0, 0.75, -0.75, 1.5, -1.5}
                                       : kernel == 9 ? std::vector<double>{0.0, 1.0, -1.0, 2.0}
                                                     : std::vector<double>{0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0};
    kernel = kernel == 9 ? 3 : kernel;
    Matrix g{};
    for (std::size_t i = 0; i < points.size(); ++i) {
        double divisor = 1.0;
        for (std::size_t j = 0; j < points.size(); ++j)
            if (j != i) divisor *= points[i] - points[j];
        double power = 1.0 / divisor;
        for (int k = 0; k < kernel; ++k, power *= points[i]) g[i][k] = power;
    }
    g[points.size()][kernel - 1] = 1.0;
    return g;
}

// In float64: G w G^T, as tile x tile values; of stacked kernels w G^T (kernel rows as they are), as `tile` values a kernel row.
// `pitch` floats from one row of the kernel to the next.
std::array<double, 40> transformed(const float* w, int kernel, int pitch, int tile, bool stacked, const Matrix& g) {
    std::array<double, 40> result{};
    for (int y = 0; y < kernel; ++y)
        for (int j = 0; j < tile; ++j)
            for (int x = 0; x < kernel; ++x) {
                const double value = w[y * pitch + x] * g[j][x];
                if (stacked) {
                    result[y * tile + j] += value;
                } else {
                    for (int i = 0; i < tile; ++i) result[i * tile + j] += g[i][y] * value;
                }
            }
    return result;
}

int round_up(int n, int unit) { return (n + unit - 1) / unit * unit; }

// The weights of `fourier.h`: conjugates of the kernels' transforms, for a correlation is asked for, divided by what the transforms
// there multiply by.
void pack_fourier(Conv& conv, const float* weight) {
    constexpr int side = kFourierSide;
    constexpr double pi = 3.14159265358979323846;
    const int kernel = conv.kernel, results = round_up(conv.out_channels, 16);
    std::array<std::complex<double>, side> turns;
    for (int j = 0; j < side; ++j) turns[j] = std::polar(1.0, 2.0 * pi * j / side);
    conv.weights.assign(static_cast<std::size_t>(kFourierColumns) * side * conv.in_channels * 2 * results, 0.0f);
    for (int o = 0; o < conv.out_channels; ++o)
        for (int c = 0; c < conv.in_channels; ++c) {
            const float* w =
                weight + (static_cast<std::size_t>(conv.source_output(o)) * conv.in_channels + c) * kernel * kernel;
            for (int column = 0; column < kFourierColumns; ++column) {
                std::array<std::complex<double>, side> rows{};  // of the kernel, at this frequency
                for (int y = 0; y < kernel; ++y)
                    for (int x = 0; x < kernel; ++x)
                        rows[y] += static_cast<double>(w[y * kernel + x]) * turns[column * x % side];
                for (int row = 0; row < side; ++row) {
                    std::complex<double> value;
                    for (int y = 0; y < kernel; ++y) value += rows[y] * turns[row * y % side];
                    value /= 2.0 * side * side;
                    float* to = conv.weights.data() +
                                ((static_cast<std::size_t>(column) * side + row) * conv.in_channels + c) * 2 * results +
                                o;
                    to[0] = static_cast<float>(value.real());
                    to[results] = static_cast<float>(value.imag());
                }
            }
        }
}

}  // namespace

void pack(Conv& conv, const Kernels& kernels, const float* weight, const float* bias, const float* slope, int slopes) {
    const int taps = conv.kernel * conv.kernel, in = conv.in_channels, out = conv.out_channels;
    const bool winograd = conv.algorithm == Algorithm::winograd;
    const int slices = conv.slices(), depth = winograd ? in : in * taps,
              rows = conv.stacked() ? conv.kernel
                     : conv.split() ? 9
                                    : 1;
    const auto g = weight_transform(winograd ? conv.kernel : 3);
    std::size_t group_start = 0;
    conv.bias.assign(round_up(out, 16) + 16, 0.0f);
    conv.slope.assign(round_up(out, 16) + 16, 0.0f);
    conv.weights.clear();
    if (conv.algorithm == Algorithm::lowp || conv.algorithm == Algorithm::fourier) {
        for (int o = 0; o < out; ++o) {
            const int source = conv.source_output(o);
            conv.bias[o] = bias[source];
            conv.slope[o] = slopes ? slope[slopes == 1 ? 0 : source] : 0.0f;
        }
        return conv.algorithm == Algorithm::lowp ? pack_lowp(conv, kernels.lowp, weight) : pack_fourier(conv, weight);
    }
    for (int first = 0; first < out; first += conv.group()) {
        const int outputs = out - first < conv.group() ? out - first : conv.group();
        const int places = conv.split() ? kSplitSums : outputs;  // of the outputs of one kernel row or part
        const int columns = round_up(rows * places, kernels.width);
        conv.weights.resize(group_start + static_cast<std::size_t>(slices) * depth * columns, 0.0f);
        // Element (slice, k) of a column.
        const auto at = [&](int column, int slice, int k) -> float& {
            const int panel = column / kernels.panel_columns * kernels.panel_columns, left = columns - panel;
            const int wide = left < kernels.panel_columns ? left : kernels.panel_columns;
            return conv.weights[group_start + (static_cast<std::size_t>(slice) * columns + panel) * depth +
                                static_cast<std::size_t>(k) * wide + (column - panel)];
        };
        for (int o = 0; o < outputs; ++o) {
            const int source = conv.source_output(first + o);
            conv.bias[first + o] = bias[source];
            conv.slope[first + o] = slopes ? slope[slopes == 1 ? 0 : source] : 0.0f;
            for (int c = 0; c < in; ++c) {
                const float* w = weight + (static_cast<std::size_t>(source) * in + c) * taps;
                if (!winograd) {
                    for (int t = 0; t < taps; ++t) at(o, 0, t * in + c) = w[t];
                    continue;
                }
                if (conv.split()) {
                    for (int part = 0; part < 9; ++part) {
                        const auto u = transformed(w + part / 3 * 3 * 9 + part % 3 * 3, 3, 9, 5, false, g);
                        for (int f = 0; f < slices; ++f)
                            at((part / 3 * 3 + 2 - part % 3) * places + o, f, c) = static_cast<float>(u[f]);
                    }
                    continue;
                }
                const auto u = transformed(w, conv.kernel, conv.kernel, conv.kernel + 3, conv.stacked(), g);
                for (int r = 0; r < rows; ++r)
                    for (int f = 0; f < slices; ++f) at(r * outputs + o, f, c) = static_cast<float>(u[r * slices + f]);
            }
        }
        group_start = conv.weights.size();
    }
}

}  // namespace srfast
