#include "conv_impl.h"

namespace srfast {

const Kernels& avx512_kernels() {
    static const Kernels kernels{"avx512", Vec::width, kPanel, kScratch, run, run_node};
    return kernels;
}

}  // namespace srfast
