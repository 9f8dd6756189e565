// Python's view of the kernels, as srfast/_cpu.pyi has it. srfast/kernels/cpu/__init__.py checks the tensors whose addresses
// come here; spec.cpp checks everything else.
#include "caches.h"
#include "spec.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace py = pybind11;
using namespace py::literals;
using namespace srfast;

namespace {

std::vector<std::string> names(const std::vector<const Kernels*>& found) {
    std::vector<std::string> result;
    for (const Kernels* kernels : found) result.emplace_back(kernels->name);
    return result;
}

std::unique_ptr<Program> make_program(const std::string& instruction_set, std::size_t cache) {
    for (const auto& found : {usable_kernels(), lowp_kernels()})
        for (const Kernels* kernels : found)
            if (instruction_set == kernels->name) return std::make_unique<Program>(*kernels, cache);
    throw std::invalid_argument("instruction_set: this build or CPU has no kernels for '" + instruction_set + "'");
}

FloatView float_view(std::uintptr_t address, std::size_t count) {
    return {reinterpret_cast<const float*>(address), count};
}

Program::Buffer buffer(std::uintptr_t address, Program::Element element, std::ptrdiff_t row, std::ptrdiff_t column,
                       std::ptrdiff_t channel) {
    return {reinterpret_cast<void*>(address), element, row, column, channel};
}

ConvSpec conv_spec(std::vector<int> inputs, int output, std::optional<int> residual, int residual_factor,
                   FloatView weight, FloatView bias, Curve curve, FloatView slope, int out_channels, int kernel,
                   int shuffle, int stride, int offset, double gain, double low, double high, Algorithm algorithm,
                   double input_inverse, int input_zero) {
    return {std::move(inputs), output,        residual,  residual_factor, weight, bias, curve, slope,
            out_channels,      kernel,        shuffle,   stride,          offset, gain, low,   high,
            algorithm,         input_inverse, input_zero};
}

NodeSpec node_spec(std::vector<int> inputs, int output, Operation operation, int factor, int offset, int reach,
                   Curve curve, double low, double high, double eps, std::pair<int, int> channels, int groups,
                   std::pair<int, int> inset, bool centred, bool contrast, bool hard, double shift,
                   std::vector<FloatView> tensors) {
    return {std::move(inputs),
            output,
            operation,
            factor,
            offset,
            reach,
            curve,
            low,
            high,
            eps,
            channels,
            groups,
            inset,
            centred,
            contrast,
            hard,
            shift,
            std::move(tensors)};
}

// Types are the module's own: pybind11 else keeps one list for the process, where a second build of the same sources, as the
// tests' emulated one, would register them again.
void bind_enums(py::module_& m) {
    py::enum_<Algorithm>(m, "Algorithm", py::module_local(), "How a convolution is computed.")
        .value("direct", Algorithm::direct)
        .value("winograd", Algorithm::winograd)
        .value("lowp", Algorithm::lowp)
        .value("fourier", Algorithm::fourier);
    py::enum_<Operation>(m, "Operation", py::module_local(), "What a node that is no convolution does.")
        .value("affine", Operation::affine)
        .value("activate", Operation::activate)
        .value("clamp", Operation::clamp)
        .value("add", Operation::add)
        .value("multiply", Operation::multiply)
        .value("concat", Operation::concat)
        .value("slice", Operation::slice)
        .value("shuffle", Operation::shuffle)
        .value("unshuffle", Operation::unshuffle)
        .value("average_pool", Operation::average_pool)
        .value("max_pool", Operation::max_pool)
        .value("resize", Operation::resize)
        .value("pixel_norm", Operation::pixel_norm)
        .value("group_norm", Operation::group_norm)
        .value("channel_gate", Operation::channel_gate)
        .value("spatial_gate", Operation::spatial_gate)
        .value("gated_sum", Operation::gated_sum)
        .value("depthwise", Operation::depthwise);
    py::enum_<Curve>(m, "Curve", py::module_local(), "An activation function.")
        .value("prelu", Curve::prelu)
        .value("tanh", Curve::tanh)
        .value("sigmoid", Curve::sigmoid)
        .value("silu", Curve::silu)
        .value("gelu", Curve::gelu)
        .value("mish", Curve::mish)
        .value("none", Curve::none);
    py::enum_<Program::Element>(m, "Element", py::module_local(), "The type of a buffer's values.")
        .value("float32", Program::Element::float32)
        .value("uint8", Program::Element::uint8)
        .value("uint16", Program::Element::uint16);
}

void bind_structs(py::module_& m) {
    py::class_<Caches>(m, "Caches", py::module_local(), "Bytes of this machine's caches.")
        .def_readonly("second", &Caches::second, "the L2 of one core")
        .def_readonly("last", &Caches::last, "the last level, which cores share");
    py::class_<FloatView>(m, "FloatView", py::module_local(), "Float32 values of the caller; nothing keeps them alive.")
        .def(py::init(&float_view), py::kw_only(), "address"_a, "count"_a);
    py::class_<Program::Buffer>(
        m, "Buffer", py::module_local(),
        "An input or output: [H, W, C]; nothing keeps it alive. Outputs are contiguous, but for a negative channel.")
        .def(py::init(&buffer), py::kw_only(), "address"_a, "element"_a, "row"_a, "column"_a, "channel"_a);
    py::class_<Program::Step>(m, "Step", py::module_local(),
                              "Rows of a layer, or for layer -1 - i, of input i being loaded.")
        .def(py::init<int, int, int>(), "layer"_a, "first"_a, "last"_a);
    py::class_<Program::Size>(m, "Size", py::module_local(),
                              "Pixels of activations of scale 1, and the scale of every activation.")
        .def(py::init<int, int, std::vector<int>>(), py::kw_only(), "height"_a, "width"_a, "scales"_a);
    py::class_<Program::Seconds>(m, "Seconds", py::module_local(), "Of one run, on the thread that called it.")
        .def_readonly("layers", &Program::Seconds::layers)
        .def_readonly("loads", &Program::Seconds::loads)
        .def_readonly("waits", &Program::Seconds::waits);
    py::class_<ConvSpec>(m, "ConvSpec", py::module_local(), "A convolution that a program is asked for.")
        .def(py::init(&conv_spec), py::kw_only(), "inputs"_a, "output"_a, "residual"_a, "residual_factor"_a, "weight"_a,
             "bias"_a, "curve"_a, "slope"_a, "out_channels"_a, "kernel"_a, "shuffle"_a, "stride"_a, "offset"_a,
             "gain"_a, "low"_a, "high"_a, "algorithm"_a, "input_inverse"_a, "input_zero"_a);
    py::class_<NodeSpec>(m, "NodeSpec", py::module_local(), "Any other operation that a program is asked for.")
        .def(py::init(&node_spec), py::kw_only(), "inputs"_a, "output"_a, "operation"_a, "factor"_a, "offset"_a,
             "reach"_a, "curve"_a, "low"_a, "high"_a, "eps"_a, "channels"_a, "groups"_a, "inset"_a, "centred"_a,
             "contrast"_a, "hard"_a, "shift"_a, "tensors"_a);
}

}  // namespace

PYBIND11_MODULE(_cpu, m) {
    m.doc() = "Compiled CPU kernels; use srfast.kernels.cpu, which checks what it passes.";
    bind_enums(m);
    bind_structs(m);
    m.def(
        "instruction_sets", [] { return names(usable_kernels()); },
        "Those of this build that this CPU runs, fastest first.");
    m.def(
        "lowp_sets", [] { return names(lowp_kernels()); },
        "Those with low-precision convolutions: amx, vnni, amx_emulated.");
    m.def("lowp_fits", &lowp_fits, "kernel"_a, "in_channels"_a, "stride"_a);
    m.def("caches", &find_caches);
    py::class_<Program>(m, "Program", py::module_local(), "A network over numbered activations.")
        .def(py::init(&make_program), py::kw_only(), "instruction_set"_a, "cache"_a)
        .def("activation", &Program::add_activation, "channels"_a, py::kw_only(), "is_input"_a, "is_output"_a)
        .def(
            "conv", [](Program& program, const ConvSpec& spec) { program.add_layer(make_layer(program, spec)); },
            "spec"_a)
        .def(
            "node", [](Program& program, const NodeSpec& spec) { program.add_layer(make_layer(program, spec)); },
            "spec"_a)
        .def("row_floats", &Program::row_floats, "activation"_a, "width"_a)
        .def("layout", &Program::layout, "size"_a, "steps"_a)
        .def("working_bytes", &Program::working_bytes, "size"_a, "steps"_a)
        .def("seconds", &Program::seconds)
        .def("run", &Program::run, py::kw_only(), "inputs"_a, "outputs"_a, "threads"_a,
             py::call_guard<py::gil_scoped_release>());
}
