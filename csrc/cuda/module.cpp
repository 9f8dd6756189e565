// Python's view of the kernels, as srfast/_cuda.pyi has it: addresses, sizes and a stream. srfast/kernels/cuda/ checks the
// tensors whose addresses come here.
#include "hopper.h"
#include "trunk.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace py = pybind11;
using namespace py::literals;
using namespace srfast;

#ifndef SRFAST_MODULE
#define SRFAST_MODULE _cuda
#endif

namespace {

[[noreturn]] void fail(const std::string& field, const std::string& what) {
    throw std::invalid_argument(field + ": " + what);
}

void check_positive(const char* field, int value) {
    if (value < 1) fail(field, "it is at least 1, not " + std::to_string(value));
}

template <class V>
V* pointer(std::uintptr_t address) {
    return reinterpret_cast<V*>(address);
}

View view(std::uintptr_t address, long long image_stride, long long row_stride, int pixel_stride) {
    return {pointer<void>(address), image_stride, row_stride, pixel_stride};
}

Epilogue epilogue(std::uintptr_t bias, std::uintptr_t slope, const std::optional<View>& residual, int residual_factor,
                  const View& out, OutType out_type, float steps, std::uintptr_t flag, Act act, int channels,
                  int shuffle, float gain, const std::optional<std::pair<float, float>>& clamp) {
    check_positive("channels", channels);
    check_positive("shuffle", shuffle);
    check_positive("residual_factor", residual_factor);
    if (channels % (shuffle * shuffle))
        fail("channels", std::to_string(channels) + " cannot be shuffled by " + std::to_string(shuffle));
    if (out_type != OutType::same && !flag) fail("flag", "integer outputs need one");
    Epilogue e{};
    e.bias = pointer<const float>(bias);
    e.slope = pointer<const float>(slope);
    if (residual) e.residual = *residual;
    e.out = out;
    e.flag = pointer<int>(flag);
    e.act = act;
    e.out_type = out_type;
    e.channels = channels;
    e.shuffle = shuffle;
    e.residual_factor = residual_factor;
    e.clamp = clamp.has_value();
    e.gain = gain;
    e.low = clamp ? clamp->first : 0.f;
    e.high = clamp ? clamp->second : 0.f;
    e.steps = steps;
    return e;
}

ConvParams conv_params(const View& x, std::uintptr_t weight, const Epilogue& end, int images, int height, int width,
                       int kernel, int blocks_c, int in_channels) {
    check_positive("images", images);
    check_positive("height", height);
    check_positive("width", width);
    check_positive("blocks_c", blocks_c);
    check_positive("in_channels", in_channels);
    if (kernel < 1 || kernel % 2 == 0) fail("kernel", "it is odd and at least 1, not " + std::to_string(kernel));
    ConvParams p{};
    p.x = x;
    p.weight = pointer<const void>(weight);
    p.end = end;
    p.images = images;
    p.height = height;
    p.width = width;
    p.kernel = kernel;
    p.blocks_c = blocks_c;
    p.in_channels = in_channels;
    return p;
}

// How many tiles cover the image; the kernels number their blocks by them.
ConvParams in_tiles(ConvParams p, int tile_h, int tile_w) {
    check_positive("tile_h", tile_h);
    check_positive("tile_w", tile_w);
    p.tiles_y = (p.height + tile_h - 1) / tile_h;
    p.tiles_x = (p.width + tile_w - 1) / tile_w;
    return p;
}

ByteView byte_view(const std::optional<View>& at, double scale, int zero) {
    if (!(scale > 0)) fail("scale", "it is positive, not " + std::to_string(scale));
    if (zero < 0 || zero > 255) fail("zero", "it is a byte, not " + std::to_string(zero));
    return {at.value_or(View{}), static_cast<float>(1 / (255 * scale)), static_cast<float>(zero / 255.0)};
}

FrameParams frame_params(const View& frame, const std::optional<View>& chroma, const View& image, bool wide, int shift,
                         int images, int height, int width, int channels, bool swap, const std::array<float, 9>& matrix,
                         const std::array<float, 3>& offset, float gain, float peak, std::uintptr_t flag) {
    check_positive("images", images);
    check_positive("height", height);
    check_positive("width", width);
    check_positive("channels", channels);
    if (shift < 0 || shift > 15) fail("shift", "it is 0 to 15, not " + std::to_string(shift));
    FrameParams p{};
    p.frame = frame;
    if (chroma) p.chroma = *chroma;
    p.image = image;
    p.wide = wide;
    p.shift = shift;
    p.images = images;
    p.height = height;
    p.width = width;
    p.channels = channels;
    p.swap = swap;
    std::copy(matrix.begin(), matrix.end(), p.matrix);
    std::copy(offset.begin(), offset.end(), p.offset);
    p.gain = gain;
    p.peak = peak;
    p.flag = pointer<int>(flag);
    return p;
}

template <class F>
int by_type(DType dtype, const F& run) {
    return dtype == DType::float16 ? run(Half{}) : run(Bfloat16{});
}

// Prepared launches: everything is read from Python once. Several threads may run one at a time, as ``run`` lets go of the
// interpreter: it is const, and what differs from run to run goes into a copy.

class ConvLaunch {
public:
    ConvLaunch(DType dtype, const Variant& variant, const ConvParams& params)
        : dtype_(dtype), variant_(variant), params_(in_tiles(params, variant.tile_h, variant.tile_w)) {
        shared_bytes(variant, params.kernel, params.blocks_c);  // refuses a variant that is not compiled
    }

    // Of a block; throws where no kernel is compiled for the variant.
    static int shared_bytes(const Variant& variant, int kernel, int blocks_c) {
        ConvParams p{};
        p.kernel = kernel;
        p.blocks_c = blocks_c;
        return run_conv<Half>(variant, p, kNowhere);
    }

    int run(const Stream& stream) const {
        ConvParams params = params_;
        params.programmatic = stream.programmatic;
        return by_type(dtype_, [&](auto t) { return run_conv<decltype(t)>(variant_, params, stream); });
    }

private:
    DType dtype_;
    Variant variant_;
    ConvParams params_;
};

// The copy engine's descriptor is made at each launch, a matter of nanoseconds.
class HopperLaunch {
public:
    HopperLaunch(DType dtype, Window window, int rows, int blocks, const ConvParams& params)
        : dtype_(dtype), window_(window), rows_(rows), blocks_(blocks), params_(in_tiles(params, 1, 1)) {
        check_positive("rows", rows);
        check_positive("blocks", blocks);
    }

    int run(const Stream& stream) const {
        ConvParams params = params_;
        params.programmatic = stream.programmatic;
        return by_type(dtype_,
                       [&](auto t) { return run_conv_hopper<decltype(t)>(params, window_, rows_, blocks_, stream); });
    }

private:
    DType dtype_;
    Window window_;
    int rows_, blocks_;
    ConvParams params_;
};

class Int8Launch {
public:
    Int8Launch(DType dtype, int rows, int blocks, const ConvParams& conv, bool halves, std::uintptr_t scale,
               std::uintptr_t start, int zero, const ByteView& bytes)
        : dtype_(dtype), blocks_(blocks) {
        check_positive("rows", rows);
        check_positive("blocks", blocks);
        if (conv.kernel != 3 || conv.in_channels != 64) fail("conv", "it is a 3x3 convolution of 64 channels");
        if (zero < 0 || zero > 255) fail("zero", "it is a byte, not " + std::to_string(zero));
        if (!halves && !bytes.view.data) fail("bytes", "without 16-bit values the result is in bytes");
        params_.conv = in_tiles(conv, 1, 1);
        if (!halves) params_.conv.end.out.data = nullptr;
        params_.scale = pointer<const float>(scale);
        params_.start = pointer<const int>(start);
        params_.zero = zero;
        params_.bytes = bytes;
        params_.rows = rows;
        by_type(dtype, [&](auto t) { return run_conv_int8<decltype(t)>(params_, blocks, kNowhere); });  // or refuses
    }

    int run(const Stream& stream) const {
        Int8Params params = params_;
        params.conv.programmatic = stream.programmatic;
        return by_type(dtype_, [&](auto t) { return run_conv_int8<decltype(t)>(params, blocks_, stream); });
    }

private:
    DType dtype_;
    int blocks_;
    Int8Params params_{};
};

class QuantizeLaunch {
public:
    QuantizeLaunch(DType dtype, const View& x, const ByteView& bytes, int images, int height, int width)
        : dtype_(dtype), params_{x, bytes, images, height, width} {
        check_positive("images", images);
        check_positive("height", height);
        check_positive("width", width);
        if (!bytes.view.data) fail("bytes", "there must be a place for them");
    }

    int run(const Stream& stream) const {
        return by_type(dtype_, [&](auto t) { return run_quantize<decltype(t)>(params_, stream); });
    }

private:
    DType dtype_;
    QuantizeParams params_;
};

// The kernel with mma.sync has tiles of its own; that of Hopper goes in strips of `rows` rows.
class PairLaunch {
public:
    PairLaunch(DType dtype, PairForm form, int rows, int blocks, const ConvParams& second, std::uintptr_t first_weight,
               std::uintptr_t first_bias, std::uintptr_t first_slope)
        : dtype_(dtype), form_(form), rows_(rows), blocks_(blocks) {
        if (second.kernel != 3) fail("kernel", "the fused pair is of two 3x3 convolutions");
        if (second.in_channels != 64) fail("in_channels", "the fused pair is of two convolutions of 64 channels");
        if (second.end.channels != 64) fail("channels", "the fused pair is of two convolutions of 64 channels");
        if (form == PairForm::pair_wgmma) {
            check_positive("rows", rows);
            check_positive("blocks", blocks);
        }
        params_.second = in_tiles(second, 14, 14);
        params_.first_weight = pointer<const void>(first_weight);
        params_.first_bias = pointer<const float>(first_bias);
        params_.first_slope = pointer<const float>(first_slope);
    }

    int run(const Stream& stream) const {
        PairParams params = params_;
        params.second.programmatic = stream.programmatic;
        return by_type(dtype_, [&](auto t) {
            return form_ == PairForm::pair_wgmma ? run_pair_hopper<decltype(t)>(params, rows_, blocks_, stream)
                                                 : run_pair<decltype(t)>(params, stream);
        });
    }

private:
    DType dtype_;
    PairForm form_;
    int rows_, blocks_;
    PairParams params_{};
};

TrunkLayer trunk_layer(int source, int out, std::optional<int> residual, bool prelu, float gain) {
    const auto number = [](const char* field, int image) {
        if (image < 0 || image >= kTrunkImages)
            fail(field, "images are numbered from 0 to " + std::to_string(kTrunkImages - 1));
        return static_cast<unsigned char>(image);
    };
    if (source == out) fail("out", "a layer cannot overwrite the image that it reads");
    if (!residual && (!prelu || gain != 1.f))
        fail("prelu", "a layer without a residual ends in a PReLU and has no gain");
    const unsigned char none = kTrunkImages;
    return {number("source", source), number("out", out), residual ? number("residual", *residual) : none, prelu, gain};
}

class TrunkLaunch {
public:
    TrunkLaunch(DType dtype, int rows, int blocks, const ConvParams& conv, const std::vector<std::uintptr_t>& images,
                std::uintptr_t counters, const std::vector<TrunkLayer>& layers)
        : dtype_(dtype), blocks_(blocks) {
        check_positive("rows", rows);
        check_positive("blocks", blocks);
        if (conv.kernel != 3 || conv.in_channels != 64 || conv.end.channels != 64)
            fail("conv", "a trunk is of 3x3 convolutions of 64 channels");
        if (images.size() > kTrunkImages) fail("images", "a trunk has at most " + std::to_string(kTrunkImages));
        if (layers.empty() || layers.size() > kTrunkLayers)
            fail("layers",
                 "a trunk has 1 to " + std::to_string(kTrunkLayers) + ", not " + std::to_string(layers.size()));
        params_.conv = in_tiles(conv, 1, 1);
        for (std::size_t i = 0; i < images.size(); ++i) params_.images[i] = pointer<void>(images[i]);
        for (const TrunkLayer& l : layers)
            for (const int image : {l.from, l.to, l.residual})
                if (image != kTrunkImages && image >= static_cast<int>(images.size()))
                    fail("layers", "one names image " + std::to_string(image) + " of " + std::to_string(images.size()));
        std::copy(layers.begin(), layers.end(), params_.layers);
        params_.count = static_cast<int>(layers.size());
        params_.counters = pointer<std::uint32_t>(counters);
        params_.rows = rows;
    }

    // Blocks that there is room for at the same time.
    static int resident_blocks(DType dtype, const Stream& stream) {
        return by_type(dtype, [&](auto t) { return resident_trunk_blocks<decltype(t)>(stream); });
    }

    int run(const Stream& stream) const {
        return by_type(dtype_, [&](auto t) { return run_trunk<decltype(t)>(params_, blocks_, stream); });
    }

private:
    DType dtype_;
    int blocks_;
    TrunkParams params_{};
};

class TailLaunch {
public:
    TailLaunch(DType dtype, TailForm form, int rows, const ConvParams& second, std::uintptr_t first_bias,
               std::uintptr_t first_slope)
        : dtype_(dtype), form_(form) {
        check_positive("rows", rows);
        if (second.kernel > 7 || second.kernel * second.end.channels > 64)
            fail("kernel",
                 "a fused tail's second convolution is at most 7x7, with at most 64 taps of a row times outputs");
        params_.second = in_tiles(second, 1, 1);
        params_.first_bias = pointer<const float>(first_bias);
        params_.first_slope = pointer<const float>(first_slope);
        params_.chunks = second.blocks_c;
        params_.rows = rows;
    }

    // Of a block, where `chunks` times 64 channels lie between the two convolutions.
    static int shared_bytes(TailForm form, int kernel, int chunks) {
        check_positive("chunks", chunks);
        TailParams p{};
        p.second.kernel = kernel;
        p.chunks = chunks;
        p.rows = 1;
        return launch<Half>(form, p, kNowhere);
    }

    int run(const Stream& stream) const {
        TailParams params = params_;
        params.second.programmatic = stream.programmatic;
        return by_type(dtype_, [&](auto t) { return launch<decltype(t)>(form_, params, stream); });
    }

private:
    template <class T>
    static int launch(TailForm form, const TailParams& params, const Stream& stream) {
        return form == TailForm::tail_wgmma ? run_tail_hopper<T>(params, stream)
                                            : run_tail<T>(params, form == TailForm::tail_wide, stream);
    }

    DType dtype_;
    TailForm form_;
    TailParams params_{};
};

class FrameLaunch {
public:
    FrameLaunch(DType dtype, FrameJob job, const FrameParams& params) : dtype_(dtype), job_(job), params_(params) {
        const bool planes = job == FrameJob::yuv_in || job == FrameJob::yuv_out,
                   out = job == FrameJob::packed_out || job == FrameJob::yuv_out;
        if (planes != (params.chroma.data != nullptr)) fail("chroma", "planes have chroma, packed frames have not");
        if (out && !params.flag) fail("flag", "frames that are written need one");
    }

    int run(const Stream& stream) const {
        return by_type(dtype_, [&](auto t) { return run_frames<decltype(t)>(job_, params_, stream); });
    }

private:
    DType dtype_;
    FrameJob job_;
    FrameParams params_;
};

// Types are the module's own: pybind11 else keeps one list for the process, where a second build of the same sources, as the
// tests' emulated one, would register them again.
void bind_enums(py::module_& m) {
    py::enum_<DType>(m, "DType", py::module_local(), "The type of a network's values.")
        .value("float16", DType::float16)
        .value("bfloat16", DType::bfloat16);
    py::enum_<Act>(m, "Act", py::module_local(), "What follows a convolution's sums.")
        .value("none", Act::none)
        .value("prelu", Act::prelu)
        .value("tanh", Act::tanh)
        .value("sigmoid", Act::sigmoid);
    py::enum_<OutType>(m, "OutType", py::module_local(),
                       "The type of a convolution's result: the network's, or a frame's.")
        .value("same", OutType::same)
        .value("uint8", OutType::uint8)
        .value("uint16", OutType::uint16);
    py::enum_<Window>(m, "Window", py::module_local(), "How a Hopper kernel's window moves across the pixels.")
        .value("copied", Window::copied)
        .value("shifted", Window::shifted)
        .value("held", Window::held)
        .value("offset", Window::offset);
    py::enum_<PairForm>(m, "PairForm", py::module_local(), "Kernels of two fused 3x3 convolutions.")
        .value("pair", PairForm::pair)
        .value("pair_wgmma", PairForm::pair_wgmma);
    py::enum_<TailForm>(m, "TailForm", py::module_local(), "Kernels of a network's fused tail.")
        .value("tail", TailForm::tail)
        .value("tail_wide", TailForm::tail_wide)
        .value("tail_wgmma", TailForm::tail_wgmma);
    py::enum_<FrameJob>(m, "FrameJob", py::module_local(), "From frames to the network's image and back.")
        .value("packed_in", FrameJob::packed_in)
        .value("packed_out", FrameJob::packed_out)
        .value("yuv_in", FrameJob::yuv_in)
        .value("yuv_out", FrameJob::yuv_out);
}

void bind_structs(py::module_& m) {
    py::class_<View>(m, "View", py::module_local(),
                     "An image batch, channels side by side; strides in elements. Nothing keeps it alive.")
        .def(py::init(&view), py::kw_only(), "address"_a, "image_stride"_a, "row_stride"_a, "pixel_stride"_a);
    py::class_<Stream>(m, "Stream", py::module_local(),
                       "Where a kernel is launched, and whether it starts while the one in front still runs.")
        .def(py::init<int, std::uintptr_t, bool>(), py::kw_only(), "device"_a, "handle"_a, "programmatic"_a);
    py::class_<Variant>(m, "Variant", py::module_local(), "How a convolution is cut up.")
        .def(py::init<int, int, int, int, int, int>(), py::kw_only(), "block_c"_a, "block_o"_a, "kernel"_a, "tile_h"_a,
             "tile_w"_a, "pixel_stride"_a);
    py::class_<Epilogue>(m, "Epilogue", py::module_local(),
                         "What follows a convolution's sums, and where the result goes.")
        .def(py::init(&epilogue), py::kw_only(), "bias"_a, "slope"_a, "residual"_a, "residual_factor"_a, "out"_a,
             "out_type"_a, "steps"_a, "flag"_a, "act"_a, "channels"_a, "shuffle"_a, "gain"_a, "clamp"_a);
    py::class_<ConvParams>(m, "ConvParams", py::module_local(),
                           "A convolution: clamp(shuffle(act(conv(x) + bias)) * gain + residual).")
        .def(py::init(&conv_params), py::kw_only(), "x"_a, "weight"_a, "epilogue"_a, "images"_a, "height"_a, "width"_a,
             "kernel"_a, "blocks_c"_a, "in_channels"_a);
    py::class_<ByteView>(m, "ByteView", py::module_local(), "Values as bytes: round(value / scale) + zero.")
        .def(py::init(&byte_view), py::kw_only(), "view"_a, "scale"_a, "zero"_a);
    py::class_<TrunkLayer>(m, "TrunkLayer", py::module_local(), "A convolution of a trunk, images by their numbers.")
        .def(py::init(&trunk_layer), py::kw_only(), "source"_a, "out"_a, "residual"_a, "prelu"_a, "gain"_a);
    py::class_<FrameParams>(m, "FrameParams", py::module_local(), "Frames and an image of the same size.")
        .def(py::init(&frame_params), py::kw_only(), "frame"_a, "chroma"_a, "image"_a, "wide"_a, "shift"_a, "images"_a,
             "height"_a, "width"_a, "channels"_a, "swap"_a, "matrix"_a, "offset"_a, "gain"_a, "peak"_a, "flag"_a);
}

void bind_launches(py::module_& m) {
    const py::call_guard<py::gil_scoped_release> unlocked;
    py::class_<ConvLaunch>(m, "ConvLaunch", py::module_local())
        .def(py::init<DType, const Variant&, const ConvParams&>(), py::kw_only(), "dtype"_a, "variant"_a, "params"_a)
        .def_static("shared_bytes", &ConvLaunch::shared_bytes, py::kw_only(), "variant"_a, "kernel"_a, "blocks_c"_a)
        .def("run", &ConvLaunch::run, "stream"_a, unlocked);
    py::class_<HopperLaunch>(m, "HopperLaunch", py::module_local())
        .def(py::init<DType, Window, int, int, const ConvParams&>(), py::kw_only(), "dtype"_a, "window"_a, "rows"_a,
             "blocks"_a, "params"_a)
        .def("run", &HopperLaunch::run, "stream"_a, unlocked);
    py::class_<Int8Launch>(m, "Int8Launch", py::module_local())
        .def(py::init<DType, int, int, const ConvParams&, bool, std::uintptr_t, std::uintptr_t, int, const ByteView&>(),
             py::kw_only(), "dtype"_a, "rows"_a, "blocks"_a, "conv"_a, "halves"_a, "scale"_a, "start"_a, "zero"_a,
             "result"_a)
        .def("run", &Int8Launch::run, "stream"_a, unlocked);
    py::class_<QuantizeLaunch>(m, "QuantizeLaunch", py::module_local())
        .def(py::init<DType, const View&, const ByteView&, int, int, int>(), py::kw_only(), "dtype"_a, "x"_a,
             "result"_a, "images"_a, "height"_a, "width"_a)
        .def("run", &QuantizeLaunch::run, "stream"_a, unlocked);
    py::class_<PairLaunch>(m, "PairLaunch", py::module_local())
        .def(py::init<DType, PairForm, int, int, const ConvParams&, std::uintptr_t, std::uintptr_t, std::uintptr_t>(),
             py::kw_only(), "dtype"_a, "form"_a, "rows"_a, "blocks"_a, "second"_a, "first_weight"_a, "first_bias"_a,
             "first_slope"_a)
        .def("run", &PairLaunch::run, "stream"_a, unlocked);
    py::class_<TrunkLaunch>(m, "TrunkLaunch", py::module_local())
        .def(py::init<DType, int, int, const ConvParams&, const std::vector<std::uintptr_t>&, std::uintptr_t,
                      const std::vector<TrunkLayer>&>(),
             py::kw_only(), "dtype"_a, "rows"_a, "blocks"_a, "conv"_a, "images"_a, "counters"_a, "layers"_a)
        .def_static("resident_blocks", &TrunkLaunch::resident_blocks, py::kw_only(), "dtype"_a, "stream"_a)
        .def("run", &TrunkLaunch::run, "stream"_a, unlocked);
    py::class_<TailLaunch>(m, "TailLaunch", py::module_local())
        .def(py::init<DType, TailForm, int, const ConvParams&, std::uintptr_t, std::uintptr_t>(), py::kw_only(),
             "dtype"_a, "form"_a, "rows"_a, "second"_a, "first_bias"_a, "first_slope"_a)
        .def_static("shared_bytes", &TailLaunch::shared_bytes, py::kw_only(), "form"_a, "kernel"_a, "chunks"_a)
        .def("run", &TailLaunch::run, "stream"_a, unlocked);
    py::class_<FrameLaunch>(m, "FrameLaunch", py::module_local())
        .def(py::init<DType, FrameJob, const FrameParams&>(), py::kw_only(), "dtype"_a, "job"_a, "params"_a)
        .def("run", &FrameLaunch::run, "stream"_a, unlocked);
}

void bind_measurements(py::module_& m) {
    m.def(
        "read_rate",
        [](std::uintptr_t data, long long bytes, int rounds, std::uintptr_t sink, const Stream& stream) {
            return read_rate(pointer<const void>(data), bytes, rounds, pointer<int>(sink), stream);
        },
        py::kw_only(), "data"_a, "size"_a, "rounds"_a, "sink"_a, "stream"_a);
    m.def(
        "matrix_rate",
        [](int columns, bool held, std::uintptr_t source, int rounds, int blocks, const Stream& stream) {
            return matrix_rate_hopper(columns, held, pointer<const void>(source), rounds, blocks, stream);
        },
        py::kw_only(), "columns"_a, "held"_a, "source"_a, "rounds"_a, "blocks"_a, "stream"_a);
}

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
    bind_enums(m);
    bind_structs(m);
    bind_launches(m);
    bind_measurements(m);
}
