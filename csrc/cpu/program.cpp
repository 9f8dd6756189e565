#include "program.h"

#include "pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace srfast {
namespace {

[[noreturn]] void fail(const std::string& what) { throw std::invalid_argument(what); }

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

int Program::add_activation(int channels, bool input, bool output) {
    activations_.push_back({channels, input, output});
    return static_cast<int>(activations_.size()) - 1;
}

bool Program::Layer::reads(int activation) const {
    return std::find(inputs.begin(), inputs.end(), activation) != inputs.end();
}

bool Program::direct_output(int activation) const {
    if (!activations_[activation].output) return false;
    for (const Layer& layer : layers_)
        if (layer.reads(activation) || layer.residual == activation) return false;
    return true;
}

// The activation of external input `input`; -1 for none.
int Program::input_activation(int input) const {
    for (int i = 0, n = 0; i < static_cast<int>(activations_.size()); ++i)
        if (activations_[i].input && n++ == input) return i;
    return -1;
}

Image Program::image(int activation) const {
    Image image;
    int before, after;
    reach(activation, before, after);
    const std::ptrdiff_t start = static_cast<std::ptrdiff_t>(before) * channels(activation);
    const int scale = size_.scales[activation];
    image.base = const_cast<float*>(arena_.data()) + start;
    image.slots = layout_.slots[activation].data();
    image.zeros = zeros_.data() + start;
    image.height = size_.height * scale;
    image.width = size_.width * scale;
    image.channels = channels(activation);
    return image;
}

bool Program::run(const std::vector<Buffer>& inputs, const std::vector<Buffer>& outputs, int threads) {
    if (steps_.empty()) fail("a program needs a layout before it runs");
    std::vector<Image> images;
    std::vector<bool> reversed;
    std::size_t given = 0, taken = 0;
    for (std::size_t i = 0; i < activations_.size(); ++i) {
        images.push_back(image(static_cast<int>(i)));
        reversed.push_back(false);
        taken += activations_[i].input;
        if (!activations_[i].output) continue;
        if (given == outputs.size()) fail("an output is missing");
        const Buffer& to = outputs[given++];
        Image& out = images.back();
        reversed.back() = to.channel < 0;
        if (!direct_output(static_cast<int>(i))) {
            if (to.element != Element::float32) fail("an output that is also read must be float32");
            continue;
        }
        const std::ptrdiff_t begin = to.channel < 0 ? (out.channels - 1) * to.channel : 0;
        out.base = to.element == Element::float32 ? static_cast<float*>(to.data) + begin : nullptr;
        out.bytes = to.element == Element::uint8 ? static_cast<std::uint8_t*>(to.data) + begin : nullptr;
        out.words = to.element == Element::uint16 ? static_cast<std::uint16_t*>(to.data) + begin : nullptr;
    }
    if (given != outputs.size() || taken != inputs.size()) fail("wrong number of inputs or outputs");
    threads = std::max(threads, 1);
    while (static_cast<int>(scratch_.size()) < threads) scratch_.emplace_back(kernels_.scratch);
    Barrier barrier(threads);
    Shared shared{images, reversed, {}, inputs, barrier, {Shares(threads), Shares(threads)}};
    for (const Layer& layer : layers_) {
        shared.sources.emplace_back();
        for (const int input : layer.inputs) shared.sources.back().push_back(images[input]);
    }
    std::atomic<bool> finite{true};
    seconds_ = {std::vector<double>(layers_.size(), 0.0)};
    Pool::instance().run(threads, [&](int index) {
        if (!work(shared, index, threads)) finite = false;
    });
    given = 0;
    for (std::size_t i = 0; i < activations_.size(); ++i) {
        if (!activations_[i].output) continue;
        const Buffer& to = outputs[given++];
        if (!direct_output(static_cast<int>(i))) store(images[i], to);
    }
    return finite;
}

bool Program::work(Shared& shared, int index, int count) {
    const std::vector<Image>& images = shared.images;
    bool bad = false;
    unsigned turn = 0;
    for (const Step& step : steps_) {
        // Nobody uses those of the step before: a barrier lies between.
        Shares &shares = shared.shares[turn], &next = shared.shares[turn ^= 1];
        next.reset(index);
        const double start = index == 0 ? now() : 0.0;
        if (step.layer < 0) {
            const int target = input_activation(-1 - step.layer), rows = step.last - step.first;
            const int first = step.first + rows * index / count, last = step.first + rows * (index + 1) / count;
            clear_borders(images[target], target, first, last);
            load(shared.inputs[-1 - step.layer], images[target], first, last);
        } else {
            const Layer& layer = layers_[step.layer];
            const int r = layer.grow(), rows = (step.last - step.first) * r;
            if (!direct_output(layer.output))
                clear_borders(images[layer.output], layer.output, step.first * r + rows * index / count,
                              step.first * r + rows * (index + 1) / count);
            run_layer(shared, step, shares, index, count, &bad);
        }
        const double end = index == 0 ? now() : 0.0;
        shared.barrier.wait();
        const double met = index == 0 ? now() : 0.0;
        if (step.layer >= 0) reverse_results(shared, step, index, count);
        if (index > 0) continue;
        const double spent = end - start + (now() - met);
        (step.layer < 0 ? seconds_.loads : seconds_.layers[static_cast<std::size_t>(step.layer)]) += spent;
        seconds_.waits += met - end;
    }
    return !bad;
}

void Program::run_layer(Shared& shared, const Step& step, Shares& shares, int index, int count, bool* bad) {
    const Layer& layer = layers_[step.layer];
    const std::vector<Image>& sources = shared.sources[step.layer];
    const Image& out = shared.images[layer.output];
    float* carry = carries_[step.layer].data();
    if (layer.is_node())
        return kernels_.run_node(layer.node,
                                 {sources, out, step.first, step.last, index, count, carry, shared.barrier, bad});
    const Image* residual = layer.residual < 0 ? nullptr : &shared.images[layer.residual];
    kernels_.run(layer.conv, {sources.data(), residual, &out, step.first, step.last, index, count,
                              scratch_[index].data(), carry, &shares, bad, cache_});
}

namespace {

// The channels of every pixel, from the last to the first.
template <class T>
void reverse_channels(T* values, std::ptrdiff_t pixels, int channels) {
    if (channels == 3) {
        for (std::ptrdiff_t i = 0; i < pixels; ++i) std::swap(values[3 * i], values[3 * i + 2]);
        return;
    }
    for (std::ptrdiff_t i = 0; i < pixels; ++i) std::reverse(values + i * channels, values + (i + 1) * channels);
}

}  // namespace

// Of an output that is wanted with its channels turned round: the rows of a step, which nobody reads, while they are in a cache.
void Program::reverse_results(const Shared& shared, const Step& step, int index, int count) const {
    const Layer& layer = layers_[step.layer];
    if (!shared.reversed[static_cast<std::size_t>(layer.output)] || !direct_output(layer.output)) return;
    const Image& out = shared.images[static_cast<std::size_t>(layer.output)];
    const int r = layer.grow(), rows = (step.last - step.first) * r;
    const int first = step.first * r + rows * index / count, last = step.first * r + rows * (index + 1) / count;
    for (int y = first; y < last; ++y) {
        const std::ptrdiff_t at = out.slots[y];
        if (out.bytes)
            reverse_channels(out.bytes + at, out.width, out.channels);
        else if (out.words)
            reverse_channels(out.words + at, out.width, out.channels);
        else
            reverse_channels(out.base + at, out.width, out.channels);
    }
}

// The columns left and right of the image, in rows first..last: other activations may have used the memory.
void Program::clear_borders(const Image& image, int activation, int first, int last) const {
    int before, after;
    reach(activation, before, after);
    const std::size_t left = sizeof(float) * static_cast<std::size_t>(before * image.channels);
    const std::ptrdiff_t end = static_cast<std::ptrdiff_t>(image.width) * image.channels;
    const std::size_t right =
        sizeof(float) * static_cast<std::size_t>(row_floats(activation, image.width) - end) - left;
    for (int y = first; y < last; ++y) {
        float* row = image.base + image.slots[y];
        if (left) std::memset(reinterpret_cast<char*>(row) - left, 0, left);
        if (right) std::memset(row + end, 0, right);
    }
}

void Program::store(const Image& from, const Buffer& to) const {
    const std::ptrdiff_t values = static_cast<std::ptrdiff_t>(from.width) * from.channels;
    float* row = static_cast<float*>(to.data) + (to.channel < 0 ? (from.channels - 1) * to.channel : 0);
    for (int y = 0; y < from.height; ++y, row += values) {
        std::memcpy(row, from.row(y), sizeof(float) * static_cast<std::size_t>(values));
        if (to.channel < 0) reverse_channels(row, from.width, from.channels);
    }
}

namespace {

float as_float(float value) { return value; }
float as_float(std::uint8_t value) { return value; }
float as_float(std::uint16_t value) { return value * (1.0f / kWord); }

// Row `y` of an input as float32 values, pixel by pixel.
template <class T>
void load_row(const Program::Buffer& from, int y, int width, int channels, float* to) {
    const T* row = static_cast<const T*>(from.data) + y * from.row;
    if (from.channel == 1 && from.column == channels) {
        for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(width) * channels; ++i) to[i] = as_float(row[i]);
        return;
    }
    for (int c = 0; c < channels; ++c)
        for (int x = 0; x < width; ++x)
            to[static_cast<std::ptrdiff_t>(x) * channels + c] = as_float(row[x * from.column + c * from.channel]);
}

}  // namespace

void Program::load(const Buffer& from, const Image& to, int first, int last) const {
    const auto load = from.element == Element::float32 ? load_row<float>
                      : from.element == Element::uint8 ? load_row<std::uint8_t>
                                                       : load_row<std::uint16_t>;
    for (int y = first; y < last; ++y) load(from, y, to.width, to.channels, to.base + to.slots[y]);
}

}  // namespace srfast
