// The trunk of a network as one launch, for the bindings: see trunk_wgmma.cuh.
#pragma once

#include "kernels.h"

namespace srfast {

constexpr int kTrunkLayers = 128, kTrunkImages = 8;

// A 3x3 convolution of 64 channels. Numbers of images; residual: kTrunkImages for none.
struct TrunkLayer {
    unsigned char from, to, residual;
    unsigned char prelu;  // with a residual, whether there is a PReLU too; without one there always is
    float gain;
};

struct TrunkParams {
    // x: the strides of all images. weight: [layers][36][128][8] as HeldParams has them; end: bias and slope [layers][64].
    ConvParams conv;
    void* images[kTrunkImages];
    uint32_t* counters;  // of each strip: twice the layers made of it, in this launch and in all before it
    int rows;            // of a strip
    int count;           // of layers
    TrunkLayer layers[kTrunkLayers];
};

// blocks: of threads, at most; no more than resident_trunk_blocks.
template <class T>
int run_trunk(const TrunkParams& p, int blocks, const Stream& stream);
template <class T>
int resident_trunk_blocks(const Stream& stream);

}  // namespace srfast
