// cuda/ptx.cuh on the host: the same functions over emulator.h, as the PTX ISA's tables of fragments state them.
#pragma once

#include "emulator.h"

#include <cmath>

#define SRFAST_KERNEL(threads, blocks) void
#define SRFAST_PARAM const
#define SRFAST_DEVICE inline
#define SRFAST_BOTH

namespace srfast {

using emulation::Block;

struct Floats2 {
    float lo, hi;
};
struct alignas(16) Words4 {
    uint32_t w[4];
};

inline Block& here() { return *Block::current(); }
inline int thread() { return here().fiber().index; }
inline int block() { return here().index; }
inline int blocks() { return here().count; }
inline void sync_block() { here().barrier(0, here().threads()); }
inline void sync_warp() {
    static const char operation = 0;
    here().collective(here().warp(), 32, &operation, nullptr, thread() % 32, [](void**) {});
}
// All lanes must come here, as to any exchange between them, and with the same value.
inline int uniform(int value) {
    static const char operation = 0;
    here().collective(here().warp(), 32, &operation, &value, thread() % 32, [](void** slots) {
        for (int l = 1; l < 32; ++l)
            if (*static_cast<int*>(slots[l]) != *static_cast<int*>(slots[0]))
                throw std::runtime_error("lanes of a warp differ in what is said to be uniform");
    });
    return value;
}
inline uint32_t shared_base() { return 0; }

inline float as_float(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
inline uint32_t as_bits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

inline float pick(const float (&v)[8], int i) { return v[i]; }

template <class T>
float widen(uint16_t bits);
template <>
inline float widen<Bfloat16>(uint16_t bits) {
    return as_float(static_cast<uint32_t>(bits) << 16);
}
template <>
inline float widen<Half>(uint16_t bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float sign = bits & 0x8000 ? -1.f : 1.f;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    return sign * (exponent ? std::ldexp(1024.f + static_cast<float>(fraction), exponent - 25)
                            : std::ldexp(static_cast<float>(fraction), -24));
}

// Rounds to nearest even.
template <class T>
uint16_t narrow(float value);
template <>
inline uint16_t narrow<Bfloat16>(float value) {
    const uint32_t bits = as_bits(value);
    if (std::isnan(value)) return 0x7fff;
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
template <>
inline uint16_t narrow<Half>(float value) {
    const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    const float size = std::fabs(value);
    if (std::isnan(value)) return 0x7fff;
    if (size >= 65520.f) return sign | 0x7c00;
    if (size < 6.103515625e-05f) return sign | static_cast<uint16_t>(std::nearbyint(std::ldexp(size, 24)));
    const uint32_t bits = as_bits(size);
    return sign | static_cast<uint16_t>((bits + 0xfff + (bits >> 13 & 1) - (112u << 23)) >> 13);
}

template <class T>
uint32_t pack2(float lo, float hi) {
    return narrow<T>(lo) | static_cast<uint32_t>(narrow<T>(hi)) << 16;
}
template <class T>
Floats2 unpack2(uint32_t word) {
    return {widen<T>(static_cast<uint16_t>(word)), widen<T>(static_cast<uint16_t>(word >> 16))};
}

inline void keep(int&) {}
inline void keep(float&) {}
inline void keep(long long&) {}
inline float rounded_product(float a, float b) { return a * b; }
inline float rounded_sum(float a, float b) { return a + b; }
inline float exp_fast(float x) { return std::exp(x); }
inline bool finite(float x) { return std::isfinite(x); }
inline int round_int(float x) { return static_cast<int>(std::nearbyint(x)); }
inline float fused(float a, float b, float c) { return std::fma(a, b, c); }
inline float fused_share(float a, float b, float c) { return std::fmin(std::fmax(std::fma(a, b, c), 0.f), 1.f); }
inline uint32_t low_bytes(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    return (a & 255) | (b & 255) << 8 | (c & 255) << 16 | d << 24;
}
inline float limit(float x, float low, float high) { return x < low ? low : (x > high ? high : x); }

template <class V>
V shared_read(uint32_t a) {
    V v;
    here().read(a, &v, sizeof v);
    return v;
}
inline Floats2 lds_floats2(uint32_t a) { return shared_read<Floats2>(a); }
inline uint32_t lds32(uint32_t a) { return shared_read<uint32_t>(a); }
inline uint32_t lds16(uint32_t a) { return shared_read<uint16_t>(a); }
inline Words4 lds128(uint32_t a) { return shared_read<Words4>(a); }
inline void sts16(uint32_t a, uint32_t v) { here().write(a, &v, 2); }
inline void sts32(uint32_t a, uint32_t v) { here().write(a, &v, 4); }
inline void sts64(uint32_t a, uint32_t lo, uint32_t hi) {
    const uint32_t v[2] = {lo, hi};
    here().write(a, v, 8);
}
inline void sts128(uint32_t a, Words4 v) { here().write(a, &v, 16); }

inline void check_aligned(const void* p) {
    if (reinterpret_cast<uintptr_t>(p) % 16)
        throw std::runtime_error("a 16-byte access to a global address that is not aligned to 16");
}
// The running warp, for what watches over global memory.
inline emulation::GlobalMemory::Seer seer() {
    Block& b = here();
    return {b.index, b.warp(), b.fiber().index, b.clocks[b.warp()]};
}
inline Words4 ldg128_written(const void* p) {
    check_aligned(p);
    if (here().global) here().global->read(seer(), p, 16);
    Words4 v;
    std::memcpy(&v, p, 16);
    return v;
}
inline Words4 ldg128(const void* p) {
    check_aligned(p);
    if (here().global) here().global->read_constant(seer(), p, 16);
    Words4 v;
    std::memcpy(&v, p, 16);
    return v;
}
inline Words4 ldg128_cached(const void* p) { return ldg128_written(p); }
inline float ldg_float(const float* p) {
    if (here().global) here().global->read_constant(seer(), p, 4);
    return *p;
}
inline int ldg_int(const int* p) {
    if (here().global) here().global->read_constant(seer(), p, 4);
    return *p;
}
inline void stg128(void* p, Words4 v) {
    check_aligned(p);
    if (here().global) here().global->write(seer(), p, 16);
    here().note_store(p);
    std::memcpy(p, &v, 16);
}
inline void stg128_if(bool condition, void* p, Words4 v) {
    if (condition) stg128(p, v);
}
inline void stg64_if(bool condition, void* p, uint32_t lo, uint32_t hi) {
    if (!condition) return;
    if (reinterpret_cast<uintptr_t>(p) % 8) throw std::runtime_error("a store of 8 bytes begins between two");
    const uint32_t words[2] = {lo, hi};
    if (here().global) here().global->write(seer(), p, 8);
    here().note_store(p);
    std::memcpy(p, words, 8);
}
inline void raise_flag(int* p) { *p = 1; }
inline void count_up(uint32_t* counter) { here().global->increase(seer(), counter); }
inline uint32_t counted(const uint32_t* counter) {
    here().global->learn(seer(), counter, *counter);
    return *counter;
}
inline void await_count(const uint32_t* counter, uint32_t least) {
    Block& b = here();
    while (static_cast<int>(*counter - least) < 0) b.block_on(&b.global->increases, b.global->increases, "a counter");
    b.global->learn(seer(), counter, least);
}

template <int BYTES>
void cp_async(uint32_t dst, const void* src, bool valid) {
    if (valid && reinterpret_cast<uintptr_t>(src) % BYTES)
        throw std::runtime_error("cp.async from an address that is not aligned to its size");
    Block& b = here();
    b.begin_copy(dst, BYTES);
    if (valid && b.global) b.global->read(seer(), src, BYTES);
    // Read when it completes: what changes in between is seen.
    b.fiber().open.push_back([=, &b] {
        const char zeros[16] = {};
        if (valid && b.global) b.global->read(seer(), src, BYTES);
        b.end_copy(dst, valid ? src : zeros, BYTES, b.warp(), b.clocks[b.warp()][b.warp()]);
    });
}
inline void cp_async_commit() {
    auto& f = here().fiber();
    f.groups.push_back(std::move(f.open));
    f.open.clear();
}
template <int GROUPS>
void cp_async_wait() {
    auto& groups = here().fiber().groups;
    while (groups.size() > GROUPS) {
        for (auto& copy : groups.front()) copy();
        groups.erase(groups.begin());
    }
}

inline void ldmatrix_x4(uint32_t (&r)[4], uint32_t a) {
    struct Lane {
        uint32_t address;
        uint32_t* result;
    } lane{a, r};
    static const char operation = 0;
    // Each lane reads its own row now, so that the check knows who reads; the exchange needs all of them.
    uint16_t row[8];
    here().read(a, row, 16);
    struct Row {
        const uint16_t* values;
        uint32_t* result;
    } given{row, lane.result};
    here().collective(here().warp(), 32, &operation, &given, thread() % 32, [](void** slots) {
        for (int l = 0; l < 32; ++l)
            for (int m = 0; m < 4; ++m) {
                const uint16_t* source = static_cast<Row*>(slots[m * 8 + l / 4])->values + l % 4 * 2;
                static_cast<Row*>(slots[l])->result[m] = source[0] | static_cast<uint32_t>(source[1]) << 16;
            }
    });
}

// COUNT matrices, transposed: a lane gets elements l / 4 of the columns l % 4 * 2 and the next.
template <int COUNT>
void ldmatrix_transposed(uint32_t (&r)[COUNT], uint32_t a) {
    static const char operation = 0;
    uint16_t column[8] = {};
    if (thread() % 32 < COUNT * 8) here().read(a, column, 16);
    struct Column {
        const uint16_t* values;
        uint32_t* result;
    } given{column, r};
    here().collective(here().warp(), 32, &operation, &given, thread() % 32, [](void** slots) {
        for (int l = 0; l < 32; ++l)
            for (int m = 0; m < COUNT; ++m) {
                const auto value = [&](int c) { return static_cast<Column*>(slots[m * 8 + c])->values[l / 4]; };
                static_cast<Column*>(slots[l])->result[m] =
                    value(l % 4 * 2) | static_cast<uint32_t>(value(l % 4 * 2 + 1)) << 16;
            }
    });
}
inline void ldmatrix_x4_transposed(uint32_t (&r)[4], uint32_t a) { ldmatrix_transposed<4>(r, a); }
inline void ldmatrix_x2_transposed(uint32_t (&r)[2], uint32_t a) { ldmatrix_transposed<2>(r, a); }

// Every second block is one of a GPU with stmatrix, whose lanes write the rows of which they have the addresses.
inline void store_matrices(uint32_t row, const uint32_t (&places)[4], const uint32_t (&words)[4]) {
    if (block() % 2 == 0) {
        for (int i = 0; i < 4; ++i) sts32(places[i], words[i]);
        return;
    }
    static const char operation = 0;
    uint16_t values[8];
    struct Lane {
        uint16_t* row;
        const uint32_t* words;
    } lane{values, words};
    here().collective(here().warp(), 32, &operation, &lane, thread() % 32, [](void** slots) {
        for (int l = 0; l < 32; ++l)
            for (int m = 0; m < 4; ++m)
                std::memcpy(static_cast<Lane*>(slots[m * 8 + l / 4])->row + l % 4 * 2,
                            static_cast<Lane*>(slots[l])->words + m, 4);
    });
    here().write(row, values, 16);
}

template <class T>
void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    struct Lane {
        float* d;
        const uint32_t* a;
        uint32_t b[2];
    } lane{d, a, {b0, b1}};
    static const char operation = 0;
    here().collective(here().warp(), 32, &operation, &lane, thread() % 32, [](void** slots) {
        float left[16][16], right[16][8];
        for (int l = 0; l < 32; ++l) {
            const Lane& v = *static_cast<Lane*>(slots[l]);
            const int g = l / 4, t = l % 4 * 2;
            for (int i = 0; i < 4; ++i) {
                const Floats2 f = unpack2<T>(v.a[i]);
                left[g + i % 2 * 8][t + i / 2 * 8] = f.lo, left[g + i % 2 * 8][t + i / 2 * 8 + 1] = f.hi;
            }
            for (int i = 0; i < 2; ++i) {
                const Floats2 f = unpack2<T>(v.b[i]);
                right[t + i * 8][g] = f.lo, right[t + i * 8 + 1][g] = f.hi;
            }
        }
        for (int l = 0; l < 32; ++l)
            for (int i = 0; i < 4; ++i) {
                const int row = l / 4 + i / 2 * 8, column = l % 4 * 2 + i % 2;
                float sum = 0;
                for (int k = 0; k < 16; ++k) sum += left[row][k] * right[k][column];
                static_cast<Lane*>(slots[l])->d[i] += sum;
            }
    });
}

inline void wait_for_kernel_in_front() {}
inline void let_next_kernel_start() {}

}  // namespace srfast
