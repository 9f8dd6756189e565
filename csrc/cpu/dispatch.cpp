#include "conv.h"

#if defined(SRFAST_X86)
#include <cpuid.h>
#endif
#if defined(SRFAST_X86) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace srfast {
namespace {

#if defined(SRFAST_X86)
// __builtin_cpu_supports also asks whether the operating system saves the registers.
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24, kAmxInt8 = 1u << 25;

// AMX-TILE and another feature (a bit of EDX) in CPUID, tile registers that the system saves (XCR0), and its permission to use
// them: Linux gives the large tile state only to processes that ask for it.
bool has_amx(unsigned feature) {
#if defined(__linux__)
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & kAmxTile) || !(d & feature)) return false;
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    constexpr unsigned tile_state = 3u << 17;
    constexpr int request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return (low & tile_state) == tile_state && syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
    return false;
#endif
}
#endif

}  // namespace

std::vector<const Kernels*> usable_kernels() {
    std::vector<const Kernels*> found;
#if defined(SRFAST_X86)
    __builtin_cpu_init();
    if (has_avx512()) found.push_back(&avx512_kernels());
    if (has_avx2()) found.push_back(&avx2_kernels());
#endif
    found.push_back(&portable_kernels());
    return found;
}

std::vector<const Kernels*> lowp_kernels() {
    std::vector<const Kernels*> found;
#if defined(SRFAST_X86)
    __builtin_cpu_init();
    if (has_avx512() && has_amx(kAmxBf16)) found.push_back(&amx_kernels());
    if (has_avx512() && __builtin_cpu_supports("avx512bf16")) found.push_back(&bf16_kernels());
    if (has_avx512() && has_amx(kAmxInt8)) found.push_back(&amx_int8_kernels());
    if (has_avx512() && __builtin_cpu_supports("avx512vnni")) found.push_back(&vnni_kernels());
    if (has_avx512()) found.insert(found.end(), {&emulated_amx_kernels(), &emulated_amx_int8_kernels()});
#endif
    return found;
}

}  // namespace srfast
