#include "conv.h"

namespace srfast {

std::vector<const Kernels*> usable_kernels() {
    std::vector<const Kernels*> found;
#if defined(SRFAST_X86)
    // __builtin_cpu_supports also asks whether the operating system saves the registers.
    __builtin_cpu_init();
    const bool fma = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (fma && wide) found.push_back(&avx512_kernels());
    if (fma) found.push_back(&avx2_kernels());
#endif
    found.push_back(&portable_kernels());
    return found;
}

}  // namespace srfast
