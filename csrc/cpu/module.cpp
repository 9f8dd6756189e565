// Python's view of the kernels: addresses and sizes only. srfast/kernels/cpu/__init__.py checks the tensors.
#include "caches.h"
#include "program.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>

namespace py = pybind11;
using namespace srfast;

namespace {

std::vector<std::string> names(const std::vector<const Kernels*>& found) {
    std::vector<std::string> result;
    for (const Kernels* kernels : found) result.emplace_back(kernels->name);
    return result;
}

const Kernels& find(const std::string& name) {
    for (const auto& found : {usable_kernels(), narrow_kernels()})
        for (const Kernels* kernels : found)
            if (name == kernels->name) return *kernels;
    throw std::invalid_argument("this build or CPU has no kernels for '" + name + "'");
}

const float* floats(std::uintptr_t address) { return reinterpret_cast<const float*>(address); }

void add_conv(Program& program, const std::vector<int>& inputs, int output, int residual, int residual_factor, std::uintptr_t weight,
              std::uintptr_t bias, std::uintptr_t slope, int slopes, int out_channels, int kernel, int shuffle, double gain,
              double low, double high, int algorithm, double input_inverse, int input_zero) {
    Program::Layer layer{{}, inputs, output, residual, {}};
    Conv& conv = layer.conv;
    conv.algorithm = static_cast<Algorithm>(algorithm);
    conv.input_inverse = static_cast<float>(input_inverse), conv.input_zero = input_zero;
    const bool winograd = conv.algorithm == Algorithm::winograd, direct = conv.algorithm == Algorithm::direct;
    if (conv.algorithm == Algorithm::narrow && program.kernels().narrow == Narrow::none)
        throw std::invalid_argument("this instruction set has no narrow convolutions");
    for (const int input : inputs) conv.in_channels += program.channels(input);
    conv.out_channels = out_channels;
    conv.kernel = kernel, conv.shuffle = shuffle, conv.residual_factor = residual_factor;
    if (inputs.empty() || (inputs.size() > 1 && direct))
        throw std::invalid_argument("a direct convolution has one input, others have some");
    for (const int input : inputs)
        if (!direct && program.channels(input) % 16)
            throw std::invalid_argument("only direct convolutions read other than multiples of 16 channels");
    const bool fits = kernel == 3 || kernel == 5 || (kernel == 9 && out_channels <= kSplitSums);
    if (winograd && (!fits || conv.in_channels % 16))
        throw std::invalid_argument("the Winograd kernels are 3x3, 5x5 or 9x9 to three channels, on a multiple of 16 channels");
    if (!winograd && !direct && !narrow_fits(kernel, conv.in_channels))
        throw std::invalid_argument("no narrow kernel for such a convolution");
    if (shuffle < 1 || program.channels(output) * shuffle * shuffle != out_channels || residual_factor < 1 || kernel % 2 == 0)
        throw std::invalid_argument("a convolution's channels do not fit its output");
    if (residual >= 0 && program.channels(residual) != program.channels(output))
        throw std::invalid_argument("a residual has other channels than its output");
    conv.prelu = slopes > 0;
    conv.gain = static_cast<float>(gain), conv.low = static_cast<float>(low), conv.high = static_cast<float>(high);
    conv.clamp = std::isfinite(low) || std::isfinite(high);
    pack(conv, program.kernels(), floats(weight), floats(bias), floats(slope), slopes);
    program.add_layer(std::move(layer));
}

void add_node(Program& program, const std::vector<int>& inputs, int output, int operation, int factor, int reach, int curve,
              double low, double high, double eps, std::pair<int, int> inset,
              const std::vector<std::pair<std::uintptr_t, std::size_t>>& tensors) {
    Program::Layer layer{{}, inputs, output, -1, {}};
    Node& node = layer.node;
    if (operation <= 0 || operation >= static_cast<int>(Operation::count) || curve < 0 || curve >= static_cast<int>(Curve::count))
        throw std::invalid_argument("there is no such operation");
    node.operation = static_cast<Operation>(operation), node.curve = static_cast<Curve>(curve);
    node.factor = factor, node.reach = reach;
    node.low = static_cast<float>(low), node.high = static_cast<float>(high), node.eps = static_cast<float>(eps);
    node.before = inset.first, node.after = inset.second;
    if (node.before < 0 || node.after < 0) throw std::invalid_argument("an inset is not negative");
    for (const auto& [address, size] : tensors) node.tensors.emplace_back(floats(address), floats(address) + size);
    std::vector<int> channels;
    for (const int input : inputs) channels.push_back(program.channels(input));
    if (node.out_channels(channels) != program.channels(output)) throw std::invalid_argument("a node does not fit its activations");
    program.add_layer(std::move(layer));
}

using Steps = std::vector<std::array<int, 3>>;

std::vector<Program::Step> in_order(const Steps& steps) {
    std::vector<Program::Step> order;
    for (const auto& s : steps) order.push_back({s[0], s[1], s[2]});
    return order;
}

void layout(Program& program, int height, int width, const std::vector<int>& scales, const Steps& steps) {
    program.layout({height, width, scales}, in_order(steps));
}

std::size_t working_bytes(const Program& program, int height, int width, const std::vector<int>& scales, const Steps& steps) {
    return program.working_bytes({height, width, scales}, in_order(steps));
}

using Address = std::pair<std::uintptr_t, bool>;  // of a tensor, and whether it is uint8 rather than float32

std::vector<Program::External> externals(const std::vector<Address>& addresses) {
    std::vector<Program::External> result;
    for (const auto& [address, bytes] : addresses)
        result.push_back({reinterpret_cast<void*>(address), bytes ? Program::Type::uint8 : Program::Type::float32});
    return result;
}

bool run(Program& program, const std::vector<Address>& inputs, const std::vector<Address>& outputs, int threads) {
    return program.run(externals(inputs), externals(outputs), threads);
}

}  // namespace

PYBIND11_MODULE(_cpu, m) {
    m.doc() = "Compiled CPU kernels; use srfast.kernels.cpu, which checks what it passes.";
    m.def("narrow_sets", [] { return names(narrow_kernels()); }, "Those with narrow convolutions: amx, vnni, amx_emulated.");
    m.def("instruction_sets", [] { return names(usable_kernels()); }, "Those of this build that this CPU runs, fastest first.");
    m.def("caches", [] { const Caches found = find_caches(); return std::make_pair(found.second, found.last); },
          "Bytes of the L2 of one core and of the last level.");
    m.def("narrow_fits", &narrow_fits, py::arg("kernel"), py::arg("in_channels"));
    py::class_<Program>(m, "Program")
        .def(py::init([](const std::string& name, std::size_t cache) { return std::make_unique<Program>(find(name), cache); }),
             py::arg("instruction_set"), py::arg("cache"))
        .def("activation", &Program::add_activation, py::arg("channels"), py::arg("input"), py::arg("output"))
        .def("conv", &add_conv, py::kw_only(), py::arg("inputs"), py::arg("output"), py::arg("residual"),
             py::arg("residual_factor"), py::arg("weight"), py::arg("bias"), py::arg("slope"), py::arg("slopes"),
             py::arg("out_channels"), py::arg("kernel"), py::arg("shuffle"), py::arg("gain"), py::arg("low"), py::arg("high"),
             py::arg("algorithm"), py::arg("input_inverse"), py::arg("input_zero"))
        .def("node", &add_node, py::kw_only(), py::arg("inputs"), py::arg("output"), py::arg("operation"), py::arg("factor"),
             py::arg("reach"), py::arg("curve"), py::arg("low"), py::arg("high"), py::arg("eps"), py::arg("inset"), py::arg("tensors"))
        .def("row_floats", &Program::row_floats, py::arg("activation"), py::arg("width"))
        .def("layout", &layout, py::kw_only(), py::arg("height"), py::arg("width"), py::arg("scales"), py::arg("steps"))
        .def("working_bytes", &working_bytes, py::kw_only(), py::arg("height"), py::arg("width"), py::arg("scales"), py::arg("steps"))
        .def("seconds", &Program::seconds)
        .def("run", &run, py::kw_only(), py::arg("inputs"), py::arg("outputs"), py::arg("threads"),
             py::call_guard<py::gil_scoped_release>());
}
