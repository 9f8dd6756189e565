// The sizes, order and memory of a program.
#include "program.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace srfast {
namespace {

[[noreturn]] void fail(const std::string& what) { throw std::invalid_argument(what); }

}  // namespace

void Program::reach(int activation, int& before, int& after) const {
    before = after = 0;
    for (const Layer& layer : layers_) {
        if (layer.is_node() || !layer.reads(activation)) continue;  // nodes keep to the image
        const int half = layer.reach();
        before = std::max(before, half);
        // Kernels compute whole tiles and whole groups of pixels, of which they drop what lies beyond the image.
        after = std::max(after, half + (layer.conv.tiled() ? layer.conv.step() - 1 : 23) * layer.conv.stride);
    }
}

std::ptrdiff_t Program::row_floats(int activation, int width) const {
    int before, after;
    reach(activation, before, after);
    const std::ptrdiff_t floats = static_cast<std::ptrdiff_t>(before + width + after) * channels(activation);
    return (floats + 15) / 16 * 16;
}

void Program::layout(Size size, std::vector<Step> steps) {
    Layout laid_out = plan(size, steps);
    std::size_t widest = 0;
    for (std::size_t i = 0; i < activations_.size(); ++i) {
        const int activation = static_cast<int>(i), width = size.width * size.scales[i];
        widest = std::max(widest, static_cast<std::size_t>(row_floats(activation, width)));
        if (!direct_output(activation)) continue;
        const std::ptrdiff_t pitch = static_cast<std::ptrdiff_t>(width) * channels(activation);
        for (std::size_t y = 0; y < laid_out.slots[i].size(); ++y)
            laid_out.slots[i][y] = static_cast<std::ptrdiff_t>(y) * pitch;
    }
    std::vector<Floats> carries;
    for (const Layer& layer : layers_) {
        const int input = layer.inputs.front(), scale = size.scales[input];
        carries.emplace_back(layer.is_node() ? layer.node.carry(size.height * scale, channels(input))
                                             : layer.conv.carry(size.width * scale));
    }
    if (arena_.size() < static_cast<std::size_t>(laid_out.floats))
        arena_ = Floats(static_cast<std::size_t>(laid_out.floats));
    if (zeros_.size() < widest) zeros_ = Floats(widest);
    // Only now: where there was no memory, the layout before goes on in its own.
    carries_ = std::move(carries);
    layout_ = std::move(laid_out);
    size_ = std::move(size);
    steps_ = std::move(steps);
}

std::size_t Program::working_bytes(const Size& size, const std::vector<Step>& steps) const {
    return sizeof(float) * static_cast<std::size_t>(plan(size, steps).floats);
}

std::vector<Storage> Program::storage(const Size& size) const {
    std::vector<Storage> result;
    for (std::size_t i = 0; i < activations_.size(); ++i) {
        const int activation = static_cast<int>(i), scale = size.scales[i];
        const bool direct = direct_output(activation);
        result.push_back(
            {size.height * scale, direct ? 0 : row_floats(activation, size.width * scale), activations_[i].output});
    }
    return result;
}

Layout Program::plan(const Size& size, const std::vector<Step>& steps) const {
    if (size.height < 1 || size.width < 1) fail("an image has at least one pixel");
    if (size.scales.size() != activations_.size()) fail("every activation needs a scale");
    if (*std::min_element(size.scales.begin(), size.scales.end()) < 1) fail("a scale must be positive");
    std::vector<int> written(activations_.size(), 0);
    std::vector<Access> accesses;
    for (const Step& step : steps) {
        accesses.push_back(access(size, step));
        const Access& now = accesses.back();
        for (const Rows& rows : now.reads)
            if (rows.last > written[rows.activation]) fail("a step reads rows that are not in memory");
        const Rows& rows = now.writes;
        if (rows.first < 0 || rows.last <= rows.first || rows.last > size.height * size.scales[rows.activation] ||
            rows.first != written[rows.activation])
            fail("steps of a layer must follow each other");
        written[rows.activation] = rows.last;
    }
    for (std::size_t i = 0; i < activations_.size(); ++i)
        if (written[i] != size.height * size.scales[i])
            fail("activation " + std::to_string(i) + " is not written to its end");
    return lay_out(storage(size), accesses);
}

Access Program::access(const Size& size, const Step& step) const {
    if (step.layer < 0) {
        const int input = input_activation(-1 - step.layer);
        if (input < 0) fail("a step loads no input");
        return {{}, {input, step.first, step.last}, -1};
    }
    if (step.layer >= static_cast<int>(layers_.size())) fail("a step names no layer");
    const Layer& layer = layers_[step.layer];
    // Steps count rows of this scale.
    const int shrink = layer.shrink(), grow = layer.grow(), scale = size.scales[layer.inputs.front()] / shrink;
    const int rows = size.height * scale, unit = layer.step(), half = layer.reach();
    if (step.first % unit || (step.last != rows && step.last % unit)) fail("a step cuts a tile");
    if (size.scales[layer.output] != scale * grow) fail("a layer's scales do not fit");
    Access result{{}, {layer.output, step.first * grow, step.last * grow}, replaced(size, layer)};
    const int tiles_end = step.first + (step.last - step.first + unit - 1) / unit * unit;
    const bool whole = layer.node.whole() && step.first == 0;
    for (const int input : layer.inputs) {
        if (size.scales[input] != scale * shrink) fail("a layer's scales do not fit");
        const int end = size.height * size.scales[input];
        result.reads.push_back({input, whole ? 0 : std::max(step.first * shrink - half, 0),
                                whole ? end : std::min(tiles_end * shrink + half, end)});
    }
    if (layer.residual >= 0) {
        const int factor = layer.conv.residual_factor;
        if (size.scales[layer.residual] * factor != size.scales[layer.output]) fail("a residual's scale does not fit");
        result.reads.push_back({layer.residual, result.writes.first / factor, (result.writes.last - 1) / factor + 1});
    }
    return result;
}

// The residual that a layer's results may overwrite, pixel upon pixel; -1 for none.
int Program::replaced(const Size& size, const Layer& layer) const {
    if (layer.residual < 0 || layer.conv.residual_factor != 1 || layer.reads(layer.residual)) return -1;
    const int width = size.width * size.scales[layer.output];
    int before[2], after;
    reach(layer.residual, before[0], after);
    reach(layer.output, before[1], after);
    const bool equal = before[0] == before[1] && row_floats(layer.residual, width) == row_floats(layer.output, width);
    return equal && !direct_output(layer.output) && !direct_output(layer.residual) ? layer.residual : -1;
}

}  // namespace srfast
