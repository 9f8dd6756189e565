// Python's view of the kernels: addresses, sizes and a stream. srfast/kernels/cuda/__init__.py checks the tensors.
#include "hopper.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <tuple>
#include <vector>

namespace py = pybind11;
using namespace srfast;

#ifndef SRFAST_MODULE
#define SRFAST_MODULE _cuda
#endif

namespace {

View view(const std::array<long long, 4>& v) {  // address, image, row, pixel
    return {reinterpret_cast<void*>(v[0]), v[1], v[2], static_cast<int>(v[3])};
}

template <class V>
V* pointer(std::uintptr_t address) {
    return reinterpret_cast<V*>(address);
}

Epilogue epilogue(const py::dict& d) {
    Epilogue e{};
    e.bias = pointer<const float>(d["bias"].cast<std::uintptr_t>());
    e.slope = pointer<const float>(d["slope"].cast<std::uintptr_t>());
    e.residual = view(d["residual"].cast<std::array<long long, 4>>());
    e.out = view(d["out"].cast<std::array<long long, 4>>());
    e.flag = pointer<int>(d["flag"].cast<std::uintptr_t>());
    e.act = static_cast<Act>(d["act"].cast<int>());
    e.kind = static_cast<Out>(d["kind"].cast<int>());
    e.channels = d["channels"].cast<int>();
    e.shuffle = d["shuffle"].cast<int>();
    e.residual_up = d["residual_up"].cast<int>();
    e.clamp = d["clamp"].cast<bool>();
    e.gain = d["gain"].cast<float>();
    e.low = d["low"].cast<float>(), e.high = d["high"].cast<float>();
    e.steps = d["steps"].cast<float>();
    return e;
}

ConvParams conv_params(const py::dict& d, int tile_h, int tile_w) {
    ConvParams p{};
    p.x = view(d["x"].cast<std::array<long long, 4>>());
    p.weight = pointer<const void>(d["weight"].cast<std::uintptr_t>());
    p.end = epilogue(d);
    p.images = d["images"].cast<int>(), p.height = d["height"].cast<int>(), p.width = d["width"].cast<int>();
    p.kernel = d["kernel"].cast<int>(), p.blocks_c = d["blocks_c"].cast<int>(), p.in_channels = d["in_channels"].cast<int>();
    if (p.kernel < 1 || p.kernel % 2 == 0 || p.blocks_c < 1 || p.end.shuffle < 1 || p.end.channels % (p.end.shuffle * p.end.shuffle) || p.end.residual_up < 1)
        throw std::invalid_argument("a convolution's kernel, channels or shuffle cannot be");
    p.tiles_y = (p.height + tile_h - 1) / tile_h, p.tiles_x = (p.width + tile_w - 1) / tile_w;
    return p;
}

Queue queue(const std::tuple<int, std::uintptr_t, bool>& q) { return {std::get<0>(q), std::get<1>(q), std::get<2>(q)}; }

template <class F>
int by_type(int type, const F& run) {
    return type == 0 ? run(Half{}) : run(Bfloat16{});
}

// A prepared launch: everything is read from Python once. Several threads may run it at a time, as ``run`` lets go of the
// interpreter: it is const, and what differs from run to run goes into a copy.
class ConvLaunch {
public:
    ConvLaunch(int type, const std::array<int, 6>& v, const py::dict& given)
        : type_(type), variant_{v[0], v[1], v[2], v[3], v[4], v[5]}, params_(conv_params(given, v[3], v[4])) {}

    int run(const std::tuple<int, std::uintptr_t, bool>& where) const {
        const Queue q = queue(where);
        ConvParams params = params_;
        params.early = q.early;
        return by_type(type_, [&](auto t) { return run_conv<decltype(t)>(variant_, params, q); });
    }

private:
    int type_;
    Variant variant_;
    ConvParams params_;
};

// The Hopper convolution. The copy engine's descriptor is made at each launch, a matter of nanoseconds.
class HopperLaunch {
public:
    HopperLaunch(int type, int window, int rows, int blocks, const py::dict& given)
        : type_(type), window_(static_cast<Window>(window)), rows_(rows), blocks_(blocks), params_(conv_params(given, 1, 1)) {}

    int run(const std::tuple<int, std::uintptr_t, bool>& where) const {
        const Queue q = queue(where);
        ConvParams params = params_;
        params.early = q.early;
        return by_type(type_, [&](auto t) { return run_conv_hopper<decltype(t)>(params, window_, rows_, blocks_, q); });
    }

private:
    int type_;
    Window window_;
    int rows_, blocks_;
    ConvParams params_;
};

// blocks 0: the kernel with mma.sync, which has tiles of its own; else that of Hopper in strips of `rows` rows.
class PairLaunch {
public:
    PairLaunch(int type, int rows, int blocks, const py::dict& given) : type_(type), rows_(rows), blocks_(blocks) {
        params_.second = conv_params(given, 14, 14);
        params_.first_weight = pointer<const void>(given["first_weight"].cast<std::uintptr_t>());
        params_.first_bias = pointer<const float>(given["first_bias"].cast<std::uintptr_t>());
        params_.first_slope = pointer<const float>(given["first_slope"].cast<std::uintptr_t>());
        if (params_.second.kernel != 3 || params_.second.in_channels != 64 || params_.second.end.channels != 64)
            throw std::invalid_argument("the fused pair is of two 3x3 convolutions of 64 channels");
    }

    int run(const std::tuple<int, std::uintptr_t, bool>& where) const {
        const Queue q = queue(where);
        PairParams params = params_;
        params.second.early = q.early;
        return by_type(type_, [&](auto t) { return blocks_ ? run_pair_hopper<decltype(t)>(params, rows_, blocks_, q) : run_pair<decltype(t)>(params, q); });
    }

private:
    int type_;
    int rows_, blocks_;
    PairParams params_{};
};

class TailLaunch {
public:
    TailLaunch(int type, bool wide, bool hopper, int rows, const py::dict& given) : type_(type), wide_(wide), hopper_(hopper) {
        params_.second = conv_params(given, 1, 1);
        params_.first_bias = pointer<const float>(given["first_bias"].cast<std::uintptr_t>());
        params_.first_slope = pointer<const float>(given["first_slope"].cast<std::uintptr_t>());
        params_.chunks = params_.second.blocks_c, params_.rows = rows;
        if (rows < 1 || params_.second.kernel > 7 || params_.second.kernel * params_.second.end.channels > 64)
            throw std::invalid_argument("a fused tail's second convolution has at most 64 taps of a row times outputs");
    }

    int run(const std::tuple<int, std::uintptr_t, bool>& where) const {
        const Queue q = queue(where);
        TailParams params = params_;
        params.second.early = q.early;
        return by_type(type_, [&](auto t) { return hopper_ ? run_tail_hopper<decltype(t)>(params, q) : run_tail<decltype(t)>(params, wide_, q); });
    }

private:
    int type_;
    bool wide_, hopper_;
    TailParams params_{};
};

class FrameLaunch {
public:
    FrameLaunch(int type, int job, const py::dict& d) : type_(type), job_(static_cast<FrameJob>(job)) {
        params_.frame = view(d["frame"].cast<std::array<long long, 4>>());
        params_.chroma = view(d["chroma"].cast<std::array<long long, 4>>());
        params_.image = view(d["image"].cast<std::array<long long, 4>>());
        params_.wide = d["wide"].cast<bool>(), params_.shift = d["shift"].cast<int>();
        params_.images = d["images"].cast<int>(), params_.height = d["height"].cast<int>(), params_.width = d["width"].cast<int>();
        params_.channels = d["channels"].cast<int>(), params_.swap = d["swap"].cast<bool>();
        const auto matrix = d["matrix"].cast<std::array<float, 9>>();
        const auto offset = d["offset"].cast<std::array<float, 3>>();
        std::copy(matrix.begin(), matrix.end(), params_.matrix);
        std::copy(offset.begin(), offset.end(), params_.offset);
        params_.gain = d["gain"].cast<float>(), params_.peak = d["peak"].cast<float>();
        params_.flag = pointer<int>(d["flag"].cast<std::uintptr_t>());
    }

    int run(const std::tuple<int, std::uintptr_t, bool>& where) const {
        return by_type(type_, [&](auto t) { return run_frames<decltype(t)>(job_, params_, queue(where)); });
    }

private:
    int type_;
    FrameJob job_;
    FrameParams params_{};
};

}  // namespace

PYBIND11_MODULE(SRFAST_MODULE, m) {
    m.doc() = "Compiled CUDA kernels; use srfast.kernels.cuda, which checks what it passes.";
#ifdef SRFAST_EMULATE
    m.attr("emulated") = true;
    m.attr("architectures") = "";
    m.attr("toolkit") = 0;
#else
    m.attr("emulated") = false;
    m.attr("architectures") = SRFAST_ARCHITECTURES;
    m.attr("toolkit") = CUDART_VERSION;
#endif
    py::class_<ConvLaunch>(m, "Conv")
        .def(py::init<int, const std::array<int, 6>&, const py::dict&>(), py::arg("type"), py::arg("variant"), py::arg("params"))
        .def("run", &ConvLaunch::run, py::arg("queue"), py::call_guard<py::gil_scoped_release>());
    py::class_<PairLaunch>(m, "Pair")
        .def(py::init<int, int, int, const py::dict&>(), py::arg("type"), py::arg("rows"), py::arg("blocks"), py::arg("params"))
        .def("run", &PairLaunch::run, py::arg("queue"), py::call_guard<py::gil_scoped_release>());
    py::class_<TailLaunch>(m, "Tail")
        .def(py::init<int, bool, bool, int, const py::dict&>(), py::arg("type"), py::arg("wide"), py::arg("hopper"), py::arg("rows"), py::arg("params"))
        .def("run", &TailLaunch::run, py::arg("queue"), py::call_guard<py::gil_scoped_release>());
    py::class_<FrameLaunch>(m, "Frames")
        .def(py::init<int, int, const py::dict&>(), py::arg("type"), py::arg("job"), py::arg("params"))
        .def("run", &FrameLaunch::run, py::arg("queue"), py::call_guard<py::gil_scoped_release>());
    py::class_<HopperLaunch>(m, "Hopper")
        .def(py::init<int, int, int, int, const py::dict&>(), py::arg("type"), py::arg("window"), py::arg("rows"), py::arg("blocks"), py::arg("params"))
        .def("run", &HopperLaunch::run, py::arg("queue"), py::call_guard<py::gil_scoped_release>());
    m.def("read_rate", [](std::uintptr_t data, long long bytes, int rounds, std::uintptr_t sink, const std::tuple<int, std::uintptr_t, bool>& where) {
        return read_rate(pointer<const void>(data), bytes, rounds, pointer<int>(sink), queue(where));
    });
    m.def("matrix_rate", [](int columns, bool held, std::uintptr_t source, int rounds, int blocks, const std::tuple<int, std::uintptr_t, bool>& where) {
        return matrix_rate_hopper(columns, held, pointer<const void>(source), rounds, blocks, queue(where));
    });
}
