// A network as a list of convolutions and other nodes over numbered activations, and its execution in steps of a few rows.
#pragma once

#include "layout.h"
#include "node.h"

#include <vector>

namespace srfast {

class Program {
public:
    // `cache` bytes of the L2 of one core.
    Program(const Kernels& kernels, std::size_t cache) : kernels_(kernels), cache_(cache) {}

    struct Layer {
        Conv conv;
        std::vector<int> inputs;  // activations whose channels in a row are read
        int output, residual;     // residual -1 for none
        Node node;                // instead of the convolution

        bool is_node() const { return node.operation != Operation::none; }
        bool reads(int activation) const;
        // Steps count rows of which each is made of `shrink` rows of the inputs and becomes `grow` rows of the output.
        int shrink() const { return is_node() ? node.shrink() : conv.stride; }
        int grow() const { return is_node() ? node.grow() : conv.shuffle; }
        // Rows that are read beyond those of the results, at most, on each side.
        int reach() const { return is_node() ? node.reach : conv.stride > 1 ? std::abs(conv.offset) : conv.kernel / 2; }
        int step() const { return is_node() ? 1 : conv.step(); }
    };
    // Rows first..last of a layer, or for layer -1 - i, of input i being loaded.
    struct Step {
        int layer, first, last;
    };
    // Pixels of activations of scale 1, and the scale of every activation.
    struct Size {
        int height = 0, width = 0;
        std::vector<int> scales;
    };
    // Integers of 16 bits stand for a kWord-th part: white is 255 in every type.
    enum class Element { float32, uint8, uint16 };
    // The caller's memory of an input or output.
    struct Buffer {
        void* data;  // [H, W, C], where the first value is
        Element element;
        // Values from each to the next; outputs are contiguous, in the order of their channels or, where `channel` is
        // negative, from the last to the first.
        std::ptrdiff_t row = 0, column = 0, channel = 0;
    };
    // Of one run, on the caller's thread.
    struct Seconds {
        std::vector<double> layers;       // each one's work
        double loads = 0.0, waits = 0.0;  // loading inputs; waiting for other threads
    };

    int add_activation(int channels, bool input, bool output);
    void add_layer(Layer layer) { layers_.push_back(std::move(layer)); }
    const Kernels& kernels() const { return kernels_; }
    int activations() const { return static_cast<int>(activations_.size()); }
    int channels(int activation) const { return activations_.at(activation).channels; }

    // Floats of one row of an activation `width` pixels wide, with the columns beyond its borders.
    std::ptrdiff_t row_floats(int activation, int width) const;

    // Fixes image size, memory and order of execution. Throws std::invalid_argument where a step reads what is not there yet.
    void layout(Size size, std::vector<Step> steps);
    // The memory that such a layout needs for its activations.
    std::size_t working_bytes(const Size& size, const std::vector<Step>& steps) const;

    // Inputs and outputs in the order in which their activations were added.
    // False if a value that was stored as an integer was NaN or infinite.
    bool run(const std::vector<Buffer>& inputs, const std::vector<Buffer>& outputs, int threads);

    // Of the last run.
    const Seconds& seconds() const { return seconds_; }

private:
    struct Activation {
        int channels;
        bool input, output;
    };

    // Written to the caller's memory as it is computed; an output that layers read is copied there at the end.
    bool direct_output(int activation) const;
    void reach(int activation, int& before, int& after) const;
    int input_activation(int input) const;
    // Checks the steps.
    Layout plan(const Size& size, const std::vector<Step>& steps) const;
    std::vector<Storage> storage(const Size& size) const;
    Access access(const Size& size, const Step& step) const;
    int replaced(const Size& size, const Layer& layer) const;
    Image image(int activation) const;
    void clear_borders(const Image& image, int activation, int first, int last) const;
    void store(const Image& from, const Buffer& to) const;
    void load(const Buffer& from, const Image& to, int first, int last) const;
    // What the threads of one run share.
    struct Shared {
        const std::vector<Image>& images;
        const std::vector<bool>& reversed;        // of every activation
        std::vector<std::vector<Image>> sources;  // of every layer
        const std::vector<Buffer>& inputs;
        Barrier& barrier;
        Shares shares[2];  // of this step, and of the one before it, to be reset
    };
    bool work(Shared& shared, int index, int count);
    void reverse_results(const Shared& shared, const Step& step, int index, int count) const;
    void run_layer(Shared& shared, const Step& step, Shares& shares, int index, int count, bool* bad);

    const Kernels& kernels_;
    const std::size_t cache_;
    std::vector<Activation> activations_;
    std::vector<Layer> layers_;
    Size size_;
    std::vector<Step> steps_;
    Layout layout_;
    Floats arena_, zeros_;
    std::vector<Floats> scratch_;  // of every thread
    std::vector<Floats> carries_;  // of every layer
    Seconds seconds_;
};

}  // namespace srfast
