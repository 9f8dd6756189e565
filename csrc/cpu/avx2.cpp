#include "conv_impl.h"

namespace srfast {

const Kernels& avx2_kernels() {
    static const Kernels kernels{"avx2", Vec::width, kPanel, kScratch, run, run_node};
    return kernels;
}

}  // namespace srfast
