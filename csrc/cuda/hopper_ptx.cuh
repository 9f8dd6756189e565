// Hopper's own instructions (compute capability 9.0a): mbarriers, the bulk tensor copy engine, wgmma.
#pragma once

#include "ptx.cuh"

#ifdef SRFAST_EMULATE
#include "../emulation/emulated_hopper.h"
#else

namespace srfast {

// An image that the copy engine can read: a CUtensorMap.
struct alignas(64) TensorMap {
    unsigned char bytes[128];
};

SRFAST_DEVICE void mbarrier_init(uint32_t a, int count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(a), "r"(count) : "memory");
}
// After the initialisation, before the copy engine may signal.
SRFAST_DEVICE void mbarrier_publish() {
    asm volatile("fence.mbarrier_init.release.cluster;\n\tfence.proxy.async.shared::cta;" ::: "memory");
}
SRFAST_DEVICE void mbarrier_arrive(uint32_t a) {
    asm volatile("{\n\t.reg .b64 state;\n\tmbarrier.arrive.shared::cta.b64 state, [%0];\n\t}" ::"r"(a) : "memory");
}
// Arrives, and the phase also waits for `bytes` of copies.
SRFAST_DEVICE void mbarrier_expect(uint32_t a, int bytes) {
    asm volatile("{\n\t.reg .b64 state;\n\tmbarrier.arrive.expect_tx.shared::cta.b64 state, [%0], %1;\n\t}" ::"r"(a),
                 "r"(bytes)
                 : "memory");
}
// Until the phase of this parity has completed.
SRFAST_DEVICE void mbarrier_wait(uint32_t a, uint32_t parity) {
    asm volatile(
        "{\n\t.reg .pred done;\n"
        "again:\n\tmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n\t@!done bra again;\n\t}" ::"r"(a),
        "r"(parity)
        : "memory");
}
// What ordinary stores wrote is what wgmma and the copy engine read after the next barrier.
SRFAST_DEVICE void copies_see_writes() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// A box of the image to shared memory, 128 bytes a pixel, chunks swizzled; zeros outside the image.
SRFAST_DEVICE void copy_box(uint32_t dst, const TensorMap& map, uint32_t barrier, int channel, int x, int y,
                            int image) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::
            "r"(dst),
        "l"(&map), "r"(barrier), "r"(channel), "r"(x), "r"(y), "r"(image)
        : "memory");
}
SRFAST_DEVICE void copy_bulk(uint32_t dst, const void* src, int bytes, uint32_t barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(dst),
                 "l"(src), "r"(bytes), "r"(barrier)
                 : "memory");
}

// Registers of a warpgroup's threads.
template <int COUNT>
SRFAST_DEVICE void more_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT>
SRFAST_DEVICE void fewer_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
SRFAST_DEVICE void sync_group(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Two 8 x 8 matrices, as wgmma and mma leave them, transposed: lanes 0-7 and 8-15 give the addresses of their columns.
SRFAST_DEVICE void stmatrix_transposed(uint32_t a, uint32_t first, uint32_t second) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(a), "r"(first), "r"(second)
                 : "memory");
}

// Four of them.
SRFAST_DEVICE void stmatrix_x4_transposed(uint32_t a, const uint32_t (&words)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(a), "r"(words[0]),
                 "r"(words[1]), "r"(words[2]), "r"(words[3])
                 : "memory");
}

SRFAST_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
SRFAST_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int GROUPS>
SRFAST_DEVICE void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(GROUPS) : "memory");
}
// Before the first product the sums are in their registers, after the wait they are used and no earlier; without this the
// compiler serialises the products.
template <int COUNT>
SRFAST_DEVICE void wgmma_settle(float (&d)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
template <int COUNT>
SRFAST_DEVICE void wgmma_settle(int (&d)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) asm volatile("" : "+r"(d[i])::"memory");
}
template <int ROWS, int COUNT>
SRFAST_DEVICE void wgmma_settle(float (&d)[ROWS][COUNT]) {
#pragma unroll
    for (int r = 0; r < ROWS; ++r) wgmma_settle(d[r]);
}

// d += a * b of a warpgroup: 64 x 16 times 16 x N, K-major; b from shared memory, a from there or from registers.
template <class T, int N>
SRFAST_DEVICE void wgmma(float (&d)[N / 2], uint64_t a, uint64_t b);
template <class T, int N>
SRFAST_DEVICE void wgmma(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b);
// 64 x 32 signed bytes of registers times 32 x N unsigned ones.
template <class T, int N>
SRFAST_DEVICE void wgmma(int (&d)[N / 2], const uint32_t (&a)[4], uint64_t b);

#define SRFAST_SUMS_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SRFAST_SUMS_28                                                                                             \
    SRFAST_SUMS_4(0), SRFAST_SUMS_4(4), SRFAST_SUMS_4(8), SRFAST_SUMS_4(12), SRFAST_SUMS_4(16), SRFAST_SUMS_4(20), \
        SRFAST_SUMS_4(24)
#define SRFAST_SUMS_32 SRFAST_SUMS_28, SRFAST_SUMS_4(28)
#define SRFAST_SUMS_60                                                                                             \
    SRFAST_SUMS_32, SRFAST_SUMS_4(32), SRFAST_SUMS_4(36), SRFAST_SUMS_4(40), SRFAST_SUMS_4(44), SRFAST_SUMS_4(48), \
        SRFAST_SUMS_4(52), SRFAST_SUMS_4(56)
#define SRFAST_INTS_4(i) "+r"(d[i]), "+r"(d[i + 1]), "+r"(d[i + 2]), "+r"(d[i + 3])
#define SRFAST_INTS_32                                                                                             \
    SRFAST_INTS_4(0), SRFAST_INTS_4(4), SRFAST_INTS_4(8), SRFAST_INTS_4(12), SRFAST_INTS_4(16), SRFAST_INTS_4(20), \
        SRFAST_INTS_4(24), SRFAST_INTS_4(28)
#define SRFAST_NAMES_28 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27"
#define SRFAST_NAMES_32 SRFAST_NAMES_28 ", %28, %29, %30, %31"
#define SRFAST_NAMES_60 \
    SRFAST_NAMES_32     \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59"
// `sums` registers a thread; next, after: the numbers of the operands behind them.
#define SRFAST_WGMMA(T, kind, n, sums, next, after)                                                           \
    template <>                                                                                               \
    SRFAST_DEVICE void wgmma<T, n>(float (&d)[n / 2], uint64_t a, uint64_t b) {                               \
        asm volatile("wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." kind "." kind " {" SRFAST_NAMES_##sums \
                     "}, %" #next ", %" #after ", 1, 1, 1, 0, 0;"                                             \
                     : SRFAST_SUMS_##sums                                                                     \
                     : "l"(a), "l"(b));                                                                       \
    }
#define SRFAST_WGMMA_HELD(T, kind)                                                                    \
    template <>                                                                                       \
    SRFAST_DEVICE void wgmma<T, 64>(float (&d)[32], const uint32_t (&a)[4], uint64_t b) {             \
        asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." kind "." kind " {" SRFAST_NAMES_32 \
                     "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 0;"                                      \
                     : SRFAST_SUMS_32                                                                 \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                           \
    }
SRFAST_WGMMA(Half, "f16", 56, 28, 28, 29)
SRFAST_WGMMA(Half, "f16", 64, 32, 32, 33)
SRFAST_WGMMA(Half, "f16", 120, 60, 60, 61)
SRFAST_WGMMA(Bfloat16, "bf16", 56, 28, 28, 29)
SRFAST_WGMMA(Bfloat16, "bf16", 64, 32, 32, 33)
SRFAST_WGMMA(Bfloat16, "bf16", 120, 60, 60, 61)
SRFAST_WGMMA_HELD(Half, "f16")
SRFAST_WGMMA_HELD(Bfloat16, "bf16")
template <>
SRFAST_DEVICE void wgmma<Bytes, 64>(int (&d)[32], const uint32_t (&a)[4], uint64_t b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k32.s32.s8.u8 {" SRFAST_NAMES_32 "}, {%32, %33, %34, %35}, %36, 1;"
                 : SRFAST_INTS_32
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

}  // namespace srfast
#endif
