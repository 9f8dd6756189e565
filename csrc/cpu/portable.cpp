#include "conv_impl.h"

namespace srfast {

const Kernels& portable_kernels() {
    static const Kernels kernels{"portable", Vec::width, kPanel, kScratch, run, run_node};
    return kernels;
}

}  // namespace srfast
