// The fused convolution y = clamp(shuffle(act(conv(x) + bias)) * gain + residual) on NHWC float32 images:
// what the sources of all instruction sets share.
#pragma once

#include "shares.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace srfast {

// Memory for `bytes` bytes at a cache line; large blocks on huge pages where the system has them.
void* allocate_lines(std::size_t bytes);
void free_lines(void* block, std::size_t bytes);

// Vectors begin at a cache line.
template <class T>
struct CacheLines {
    using value_type = T;
    CacheLines() = default;
    template <class U>
    CacheLines(const CacheLines<U>&) {}
    T* allocate(std::size_t n) { return static_cast<T*>(allocate_lines(n * sizeof(T))); }
    void deallocate(T* p, std::size_t n) { free_lines(p, n * sizeof(T)); }
    bool operator==(const CacheLines&) const { return true; }
    bool operator!=(const CacheLines&) const { return false; }
};
using Floats = std::vector<float, CacheLines<float>>;
using Bytes = std::vector<std::uint8_t, CacheLines<std::uint8_t>>;

// White of 16 bits, as a multiple of white of 8 bits.
constexpr float kWord = 257.0f;

// Rows of an image in memory; rows outside the image read as zeros.
// Every row has zeroed columns left and right of the image, as many as its readers reach for.
struct Image {
    float* base = nullptr;
    std::uint8_t* bytes = nullptr;          // instead of base: results are stored rounded and saturated
    std::uint16_t* words = nullptr;         // instead of base: the same, kWord times as large
    const std::ptrdiff_t* slots = nullptr;  // of every row: values from base, bytes or words to its column 0
    const float* zeros = nullptr;           // column 0 of a row of zeros
    int height = 0, width = 0, channels = 0;

    const float* row(int y) const { return y < 0 || y >= height ? zeros : base + slots[y]; }
};

// Activations; none is for convolutions only.
enum class Curve { none, prelu, tanh, sigmoid, silu, gelu, mish };

// lowp: direct, on inputs converted to the low-precision type of the instruction set.
enum class Algorithm { direct = 0, winograd = 1, lowp = 2, fourier = 3 };
// int8_tiles: 8 bits in tiles of 64 bytes.
enum class LowPrecision { none, int8, int8_tiles, bf16 };

// The low-precision kernels convert as many pixels of as many rows as fit into so many bytes.
constexpr int kLowpBytes = 96 << 10, kMaxKernel = 9, kLowpStep = 32;

// Outputs that are computed together.
constexpr int kGroup = 64;

// Outputs of a 3x3 kernel that is transformed along the rows only, at most.
constexpr int kFewOutputs = 4;

// Of 9x9 kernels in nine parts: pixels from tile to tile, sums of a pixel, and floats from one row of sums to the next.
constexpr int kSplitStep = 3, kSplitSums = 3;
constexpr std::ptrdiff_t split_pitch(int tiles) {
    return static_cast<std::ptrdiff_t>(tiles) * kSplitStep * kSplitSums + 16;
}

// Tiles of the Fourier transform, of whose columns the others are mirror images.
constexpr int kFourierSide = 32, kFourierColumns = kFourierSide / 2 + 1, kFourierChannels = 32;

struct Conv {
    Algorithm algorithm = Algorithm::direct;
    int in_channels = 0, out_channels = 0, kernel = 0, shuffle = 1;
    // Beyond 1 it is the kernel's side too: results read squares side by side, the first of which begins at pixel `offset`.
    int stride = 1, offset = 0;
    Curve curve = Curve::none;
    bool clamp = false;
    float gain = 1.0f, low = 0.0f, high = 0.0f;
    int residual_factor = 1;  // the residual is enlarged this often by nearest neighbour
    // Outputs are ordered (row phase, column phase, channel), so that those of one pixel and row phase are neighbours in memory.
    // Panels of up to panel_columns outputs: [group][frequency or 1][panel][k][columns], missing outputs zero. Outputs of a
    // stacked kernel are (kernel row, output) there, those of a 9x9 kernel (third of its rows, third of its columns from
    // the last to the first, output). Those of a Fourier transform: see fourier.h.
    Floats weights;
    // int8 inputs are round(x * input_inverse) + input_zero; sums are multiplied by `scale` of their output.
    Bytes lowp_weights;
    Floats scale;
    float input_inverse = 1.0f;
    int input_zero = 0;
    Floats bias, slope;  // padded, for vectors that begin at any output

    // The first row and column that the first result reads.
    int begin() const { return stride > 1 ? offset : -(kernel / 2); }
    // Values of an input row from what one result reads to what the next does.
    int advance() const { return stride * in_channels; }
    // Rows and columns that results of `count` in a row read.
    int reads(int count) const { return count * stride + kernel - stride; }
    // Transformed along the rows only, which takes fewer multiplications where a vector has room for all rows of the kernel.
    bool stacked() const {
        return algorithm == Algorithm::winograd && (kernel == 5 || (kernel == 3 && out_channels <= kFewOutputs));
    }
    bool split() const { return algorithm == Algorithm::winograd && kernel == 9; }
    // Outputs that are computed together; with all rows of a stacked kernel at most kGroup.
    int group() const { return stacked() ? kGroup / kernel : kGroup; }
    // Weight matrices of the transform.
    int slices() const {
        if (algorithm != Algorithm::winograd) return 1;
        return stacked() ? kernel + 3 : kernel == 3 ? 36 : 25;
    }
    int step() const {
        if (algorithm == Algorithm::fourier) return kFourierSide + 1 - kernel;
        return algorithm != Algorithm::winograd ? 1 : kernel == 9 ? kSplitStep : 4;
    }
    // Whether whole tiles are computed.
    bool tiled() const { return algorithm == Algorithm::winograd || algorithm == Algorithm::fourier; }
    // Floats that a layer keeps between tasks, for rows of this many pixels.
    std::size_t carry(int width) const {
        if (split())
            return static_cast<std::size_t>(3 * kSplitStep * split_pitch((width + kSplitStep - 1) / kSplitStep));
        return stacked() ? static_cast<std::size_t>((out_channels + group() - 1) / group()) * kernel * 16 *
                               ((width + 3) / 4 * 4)
                         : 0;
    }
    // Where output `index` of the kernels' order (row phase, column phase, channel) is in PyTorch's (channel, phases).
    int source_output(int index) const {
        const int phases = shuffle * shuffle, channels = out_channels / phases;
        return index % channels * phases + index / channels;
    }
    int row_run() const {
        return out_channels / shuffle;
    }  // floats that one pixel writes into one output row: r * channels
};

// Rows first..last of a convolution's results (before the shuffle), for thread `index` of `count`; results do not depend on the split.
struct Task {
    const Image* sources;   // whose channels in a row are the input
    const Image* residual;  // null for none
    const Image* out;
    int first, last, index, count;
    float* scratch;     // of the thread
    float* carry;       // of the layer: carry(width) floats, for tasks that follow each other
    Shares* shares;     // of the threads
    bool* bad;          // set where a value that was stored as a byte was NaN or infinite
    std::size_t cache;  // bytes of the L2 of one core
};

struct Node;
struct NodeTask;

// One instruction set.
struct Kernels {
    const char* name;
    int width;            // floats of a vector
    int panel_columns;    // outputs of a full panel
    std::size_t scratch;  // floats that run() needs for itself
    void (*run)(const Conv&, const Task&);
    void (*run_node)(const Node&, const NodeTask&);
    LowPrecision lowp = LowPrecision::none;  // the type of its low-precision convolutions
};

const Kernels& portable_kernels();
const Kernels& avx2_kernels();  // only where the build has SRFAST_X86
const Kernels& avx512_kernels();
const Kernels& vnni_kernels();
const Kernels& bf16_kernels();
const Kernels& amx_kernels();
const Kernels& amx_int8_kernels();
const Kernels& emulated_amx_kernels();  // need AVX-512 only; slow, for tests
const Kernels& emulated_amx_int8_kernels();

// What this build has and this CPU runs in float32, fastest first.
std::vector<const Kernels*> usable_kernels();
// The same for those with low-precision convolutions, which need to be asked for.
std::vector<const Kernels*> lowp_kernels();

// Orders, transforms and pads `weight` [O, C, k, k], `bias` [O] and `slope` [slopes] (0, 1 or O) for the kernels. The other
// fields of `conv` are set before.
void pack(Conv& conv, const Kernels& kernels, const float* weight, const float* bias, const float* slope, int slopes);
// Whether the low-precision kernels have room for such a convolution.
bool lowp_fits(int kernel, int in_channels, int stride);
// Bytes of a row of 8-bit taps in whole tiles.
constexpr int tile_row_bytes(int taps) { return (taps + 63) / 64 * 64; }
// Rounds the weights to the low-precision type: int8 with a scale for every output, whose bias makes up for input_zero, or bfloat16.
void pack_lowp(Conv& conv, LowPrecision type, const float* weight);

}  // namespace srfast
