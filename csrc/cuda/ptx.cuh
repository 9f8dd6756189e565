// The instructions that the kernels are made of, one function each. Compiled for the host, csrc/emulation/emulator.h
// stands in for the GPU: kernels reach threads, shared memory and barriers through these functions only.
#pragma once

#include "params.h"

#ifdef SRFAST_EMULATE
#include "../emulation/emulated_ptx.h"
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define SRFAST_KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
#define SRFAST_PARAM const __grid_constant__
#define SRFAST_DEVICE __device__ __forceinline__
#define SRFAST_BOTH __host__ __device__

namespace srfast {

struct Floats2 {
    float lo, hi;
};
struct alignas(16) Words4 {
    uint32_t w[4];
};

SRFAST_DEVICE int thread() { return static_cast<int>(threadIdx.x); }
SRFAST_DEVICE int block() { return static_cast<int>(blockIdx.x); }
SRFAST_DEVICE int blocks() { return static_cast<int>(gridDim.x); }
// A value that is the same in all lanes of the warp, as the compiler can see. All lanes come here.
SRFAST_DEVICE int uniform(int value) { return __shfl_sync(0xffffffffu, value, 0); }
SRFAST_DEVICE void sync_block() { __syncthreads(); }
SRFAST_DEVICE void sync_warp() { __syncwarp(); }

// Address of the block's shared memory; shared addresses are 32 bits.
SRFAST_DEVICE uint32_t shared_base() {
    extern __shared__ __align__(1024) unsigned char memory[];
    return static_cast<uint32_t>(__cvta_generic_to_shared(memory));
}

template <class T>
SRFAST_DEVICE uint32_t pack2(float lo, float hi);
template <>
SRFAST_DEVICE uint32_t pack2<Half>(float lo, float hi) {
    uint32_t word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(hi), "f"(lo));
    return word;
}
template <>
SRFAST_DEVICE uint32_t pack2<Bfloat16>(float lo, float hi) {
    uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(hi), "f"(lo));
    return word;
}
template <class T>
SRFAST_DEVICE Floats2 unpack2(uint32_t word);
template <>
SRFAST_DEVICE Floats2 unpack2<Half>(uint32_t word) {
    const float2 v = __half22float2(reinterpret_cast<const __half2&>(word));
    return {v.x, v.y};
}
template <>
SRFAST_DEVICE Floats2 unpack2<Bfloat16>(uint32_t word) {
    return {__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u)};
}

SRFAST_DEVICE float as_float(uint32_t bits) { return __uint_as_float(bits); }
SRFAST_DEVICE uint32_t as_bits(float value) { return __float_as_uint(value); }
// v[i] for an index that only the running program knows: registers have no addresses.
SRFAST_DEVICE float pick(const float (&v)[8], int i) {
    float value = v[0];
#pragma unroll
    for (int j = 1; j < 8; ++j) value = i == j ? v[j] : value;
    return value;
}

// The value stays in a register: the compiler does not make it again from the kernel's parameters at each use.
SRFAST_DEVICE void keep(int& value) { asm volatile("" : "+r"(value)); }
SRFAST_DEVICE void keep(float& value) { asm volatile("" : "+f"(value)); }
SRFAST_DEVICE void keep(long long& value) { asm volatile("" : "+l"(value)); }
// Each rounded, whatever stands around them: the compiler makes no fused multiply-add of these.
SRFAST_DEVICE float rounded_product(float a, float b) { return __fmul_rn(a, b); }
SRFAST_DEVICE float rounded_sum(float a, float b) { return __fadd_rn(a, b); }
SRFAST_DEVICE float exp_fast(float x) { return __expf(x); }
SRFAST_DEVICE bool finite(float x) { return isfinite(x); }
// Rounds half to even.
SRFAST_DEVICE int round_int(float x) { return __float2int_rn(x); }
// a * b + c, rounded once.
SRFAST_DEVICE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
// The same from 0 to 1; NaN becomes 0.
SRFAST_DEVICE float fused_share(float a, float b, float c) { return __saturatef(__fmaf_rn(a, b, c)); }
// The low bytes of four words.
SRFAST_DEVICE uint32_t low_bytes(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    return __byte_perm(__byte_perm(a, b, 0x0040), __byte_perm(c, d, 0x0040), 0x5410);
}
// NaN goes through, as in torch.
SRFAST_DEVICE float limit(float x, float low, float high) { return x < low ? low : (x > high ? high : x); }

SRFAST_DEVICE uint32_t lds32(uint32_t a) {
    uint32_t v;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(a) : "memory");
    return v;
}
SRFAST_DEVICE uint32_t lds16(uint32_t a) {
    uint16_t v;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(a) : "memory");
    return v;
}
SRFAST_DEVICE Floats2 lds_floats2(uint32_t a) {
    Floats2 v;
    asm volatile("ld.shared.v2.f32 {%0,%1}, [%2];" : "=f"(v.lo), "=f"(v.hi) : "r"(a) : "memory");
    return v;
}
SRFAST_DEVICE Words4 lds128(uint32_t a) {
    Words4 v;
    asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
                 : "r"(a)
                 : "memory");
    return v;
}
SRFAST_DEVICE void sts16(uint32_t a, uint32_t v) {
    asm volatile("st.shared.u16 [%0], %1;" ::"r"(a), "h"(static_cast<uint16_t>(v)) : "memory");
}
SRFAST_DEVICE void sts32(uint32_t a, uint32_t v) {
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(a), "r"(v) : "memory");
}
SRFAST_DEVICE void sts64(uint32_t a, uint32_t lo, uint32_t hi) {
    asm volatile("st.shared.v2.u32 [%0], {%1,%2};" ::"r"(a), "r"(lo), "r"(hi) : "memory");
}
SRFAST_DEVICE void sts128(uint32_t a, Words4 v) {
    asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};" ::"r"(a), "r"(v.w[0]), "r"(v.w[1]), "r"(v.w[2]), "r"(v.w[3])
                 : "memory");
}

// What no kernel writes while this one runs, nor the one in front of it.
SRFAST_DEVICE Words4 ldg128(const void* p) {
    const uint4 v = __ldg(static_cast<const uint4*>(p));
    return {{v.x, v.y, v.z, v.w}};
}
// What the kernel in front or this one may write.
SRFAST_DEVICE Words4 ldg128_written(const void* p) {
    Words4 v;
    asm volatile("ld.global.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
                 : "l"(p)
                 : "memory");
    return v;
}
// By way of the L2 cache only, every time.
SRFAST_DEVICE Words4 ldg128_cached(const void* p) {
    Words4 v;
    asm volatile("ld.global.cg.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
                 : "l"(p));
    return v;
}
SRFAST_DEVICE float ldg_float(const float* p) { return __ldg(p); }
SRFAST_DEVICE int ldg_int(const int* p) { return __ldg(p); }
SRFAST_DEVICE void stg128(void* p, Words4 v) {
    asm volatile("st.global.v4.u32 [%0], {%1,%2,%3,%4};" ::"l"(p), "r"(v.w[0]), "r"(v.w[1]), "r"(v.w[2]), "r"(v.w[3])
                 : "memory");
}
SRFAST_DEVICE void stg128_if(bool condition, void* p, Words4 v) {
    asm volatile(
        "{\n\t.reg .pred yes;\n\tsetp.ne.s32 yes, %0, 0;\n\t@yes st.global.v4.u32 [%1], {%2,%3,%4,%5};\n\t}" ::"r"(
            static_cast<int>(condition)),
        "l"(p), "r"(v.w[0]), "r"(v.w[1]), "r"(v.w[2]), "r"(v.w[3])
        : "memory");
}
SRFAST_DEVICE void stg64_if(bool condition, void* p, uint32_t lo, uint32_t hi) {
    asm volatile("{\n\t.reg .pred yes;\n\tsetp.ne.s32 yes, %0, 0;\n\t@yes st.global.v2.u32 [%1], {%2,%3};\n\t}" ::"r"(
                     static_cast<int>(condition)),
                 "l"(p), "r"(lo), "r"(hi)
                 : "memory");
}
SRFAST_DEVICE void raise_flag(int* p) { atomicExch(p, 1); }

// One more, of a counter for which other blocks wait. They then see what this thread wrote before, and what the threads wrote
// that were at a barrier with it.
SRFAST_DEVICE void count_up(uint32_t* counter) {
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
}
// What was written before the counter came so far is read by loads after this one, and by other threads' behind a barrier.
SRFAST_DEVICE uint32_t counted(const uint32_t* counter) {
    uint32_t count;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(count) : "l"(counter) : "memory");
    return count;
}
// Until a counter has reached `least`; counters go on from the largest number to zero.
SRFAST_DEVICE void await_count(const uint32_t* counter, uint32_t least) {
    while (static_cast<int>(counted(counter) - least) < 0) {
    }
}

// Copies BYTES from global to shared memory; writes zeros if not valid.
template <int BYTES>
SRFAST_DEVICE void cp_async(uint32_t dst, const void* src, bool valid) {
    const int size = valid ? BYTES : 0;
    if constexpr (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(size) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(dst), "l"(src), "n"(BYTES), "r"(size)
                     : "memory");
}
SRFAST_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int GROUPS>
SRFAST_DEVICE void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
}

SRFAST_DEVICE void ldmatrix_x4(uint32_t (&r)[4], uint32_t a) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(a)
                 : "memory");
}

// The same matrices transposed: each address is of a column of what the lanes get.
SRFAST_DEVICE void ldmatrix_x4_transposed(uint32_t (&r)[4], uint32_t a) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(a)
                 : "memory");
}
// Two matrices, at the addresses of lanes 0-15.
SRFAST_DEVICE void ldmatrix_x2_transposed(uint32_t (&r)[2], uint32_t a) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(a)
                 : "memory");
}

// Four matrices of 8 x 8 values as mma leaves them, to rows of 16 bytes. `row`: of lanes 0-7 the rows of the first matrix, and so
// on; `places`: where the lane's two values of each matrix go, for GPUs without stmatrix (before compute capability 9.0).
SRFAST_DEVICE void store_matrices(uint32_t row, const uint32_t (&places)[4], const uint32_t (&words)[4]) {
#if __CUDA_ARCH__ >= 900
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(row), "r"(words[0]),
                 "r"(words[1]), "r"(words[2]), "r"(words[3])
                 : "memory");
#else
#pragma unroll
    for (int i = 0; i < 4; ++i) sts32(places[i], words[i]);
#endif
}

// d += a * b: 16 x 16 times 16 x 8, float32 sums.
template <class T>
SRFAST_DEVICE void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <>
SRFAST_DEVICE void mma<Half>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
SRFAST_DEVICE void mma<Bfloat16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Programmatic dependent launch: before the wait, only memory that no earlier kernel writes may be read.
SRFAST_DEVICE void wait_for_kernel_in_front() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
SRFAST_DEVICE void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace srfast
#endif
