// cuda/hopper_ptx.cuh on the host, as the PTX ISA states it.
//
// Modelled with confidence: mbarriers, whole swizzled tiles, stmatrix, operands in registers (the fragments of mma.sync, one
// for each warp). Modelled after the documentation alone, nothing else being at hand:
//   - a matrix descriptor may begin at any pixel of a tile swizzled by 128 bytes, because the swizzle acts on the address;
//     or else on the place in the matrix, and then a base offset says at which of eight rows it begins: the model takes
//     base offset 0 in the first sense and any other in the second;
//   - without a swizzle the leading offset leads to the next 16 bytes of channels and the stride offset to the next eight
//     pixels, and a matrix may begin at any multiple of 16 bytes; for bytes as for 16-bit values;
//   - the order in which wgmma adds is the same for operands in registers and in shared memory and for all columns. Here
//     each product of sixteen channels is summed up and then added; what the hardware does inside of one is not known.
#pragma once

#include "emulated_ptx.h"

namespace srfast {

struct alignas(64) TensorMap {
    const uint16_t* data;
    long long image_stride, row_stride;
    int pixel_stride, images, height, width, channels, box;  // box: pixels of a row that are copied at a time
};

inline void mbarrier_init(uint32_t a, int count) {
    auto& b = here().mbarriers[a];
    b.expected = b.pending = count;
    b.clock = b.completed = emulation::Clock(here().clocks[0].size());
}
inline void mbarrier_publish() {}
inline void copies_see_writes() { ++here().fences[here().warp()]; }

inline void mbarrier_complete(emulation::Mbarrier& b) {
    if (b.pending == 0 && b.bytes == 0) {
        b.pending = b.expected;
        b.completed = b.clock;
        ++b.phases;
    }
}
inline emulation::Mbarrier& mbarrier_at(uint32_t a) {
    const auto found = here().mbarriers.find(a);
    if (found == here().mbarriers.end()) throw std::runtime_error("an mbarrier is used that nothing initialised");
    return found->second;
}
inline void mbarrier_expect(uint32_t a, int bytes) {
    Block& block = here();
    auto& b = mbarrier_at(a);
    if (b.pending == 0) throw std::runtime_error("more threads arrive at an mbarrier than it was made for");
    Block::join(b.clock, block.clocks[block.warp()]);
    ++block.clocks[block.warp()][block.warp()];
    b.bytes += bytes;
    --b.pending;
    mbarrier_complete(b);
}
inline void mbarrier_arrive(uint32_t a) { mbarrier_expect(a, 0); }
inline void mbarrier_wait(uint32_t a, uint32_t parity) {
    Block& block = here();
    auto& b = mbarrier_at(a);
    while ((b.phases & 1) == parity) block.block_on(&b.phases, b.phases, "an mbarrier");
    Block::join(block.clocks[block.warp()], b.completed);
}

// Copies under way: made when every thread waits.
inline void copy_later(uint32_t dst, std::vector<char> (*gather)(const void*, const int*), const void* source,
                       const int (&at)[4], int bytes, uint32_t barrier) {
    Block& block = here();
    block.begin_copy(dst, bytes);
    std::array<int, 4> place{at[0], at[1], at[2], at[3]};
    block.background.push_back([=, &block] {
        const std::vector<char> values = gather(source, place.data());
        const uint32_t clock = ++block.copies;
        block.end_copy(dst, values.data(), bytes, emulation::kAsync, clock);
        auto& b = block.mbarriers.at(barrier);
        b.clock[emulation::kAsync] = std::max(b.clock[emulation::kAsync], clock);
        b.bytes -= bytes;
        mbarrier_complete(b);
    });
}
inline void copy_box(uint32_t dst, const TensorMap& map, uint32_t barrier, int channel, int x, int y, int image) {
    if (dst % 1024) throw std::runtime_error("a swizzled box must begin at a multiple of 1024 bytes");
    copy_later(
        dst,
        [](const void* source, const int* at) {
            const TensorMap& m = *static_cast<const TensorMap*>(source);
            std::vector<char> values(static_cast<std::size_t>(m.box) * 128, 0);
            for (int p = 0; p < m.box; ++p) {
                const int px = at[1] + p, py = at[2];
                if (px < 0 || px >= m.width || py < 0 || py >= m.height || at[3] >= m.images) continue;
                const uint16_t* from = m.data + at[3] * m.image_stride + py * m.row_stride +
                                       static_cast<long long>(px) * m.pixel_stride + at[0];
                for (int c = 0; c < 8; ++c) std::memcpy(values.data() + p * 128 + (c ^ p % 8) * 16, from + c * 8, 16);
            }
            return values;
        },
        &map, {channel, x, y, image}, map.box * 128, barrier);
}
// Of what no kernel writes meanwhile, such as weights.
inline void copy_bulk(uint32_t dst, const void* src, int bytes, uint32_t barrier) {
    if (here().global) here().global->read_constant(seer(), src, bytes);
    copy_later(
        dst,
        [](const void* source, const int* at) {
            return std::vector<char>(static_cast<const char*>(source), static_cast<const char*>(source) + at[0]);
        },
        src, {bytes, 0, 0, 0}, bytes, barrier);
}

template <int>
void more_registers() {}
template <int>
void fewer_registers() {}
inline void sync_group(int id, int threads) { here().barrier(id, threads); }

// The warpgroup's instructions under way, made at the wait: what changes in between is seen.
template <class F>
void with_warpgroup(const void* operation, void* argument, const F& all) {
    const int group = thread() / 128;
    here().collective(here().threads() / 32 + group, 128, operation, argument, thread() % 128, all);
}
inline void wgmma_fence() {}
template <class Sums>
void wgmma_settle(Sums&) {}
inline void wgmma_commit() {
    auto& pending = here().matrix[thread() / 128];
    static const char operation = 0;
    with_warpgroup(&operation, nullptr, [&](void**) {
        pending.committed.push_back(std::move(pending.open));
        pending.open.clear();
    });
}
template <int GROUPS>
void wgmma_wait() {
    auto& pending = here().matrix[thread() / 128];
    static const char operation = 0;
    with_warpgroup(&operation, nullptr, [&](void**) {
        while (pending.committed.size() > GROUPS) {
            for (auto& job : pending.committed.front()) job();
            pending.committed.erase(pending.committed.begin());
        }
    });
}

// COUNT 8 x 8 matrices of a warp, written transposed: each address is of a column.
template <int COUNT>
void store_transposed(uint32_t a, const uint32_t (&words)[COUNT]) {
    struct Lane {
        uint32_t address;
        const uint32_t* words;
    } lane{a, words};
    static const char operation = 0;
    here().collective(here().warp(), 32, &operation, &lane, thread() % 32, [](void** slots) {
        for (int l = 0; l < COUNT * 8; ++l) {
            const int column = l % 8;
            uint16_t values[8];
            for (int row = 0; row < 8; ++row) {
                const uint32_t word = static_cast<Lane*>(slots[row * 4 + column / 2])->words[l / 8];
                values[row] = static_cast<uint16_t>(column % 2 ? word >> 16 : word);
            }
            here().write(static_cast<Lane*>(slots[l])->address, values, 16);
        }
    });
}
inline void stmatrix_transposed(uint32_t a, uint32_t first, uint32_t second) {
    const uint32_t words[2] = {first, second};
    store_transposed<2>(a, words);
}
inline void stmatrix_x4_transposed(uint32_t a, const uint32_t (&words)[4]) { store_transposed<4>(a, words); }

// 32 bytes of a row of a matrix that a descriptor describes.
inline void read_bytes(uint64_t descriptor, int row, uint8_t (&to)[32]) {
    const bool swizzled = descriptor >> 62 == 1;
    const uint32_t base = static_cast<uint32_t>(descriptor >> 49 & 7);
    if (descriptor >> 62 > 1 || (base && !swizzled))
        throw std::runtime_error(
            "only descriptors with the 128-byte swizzle or none are modelled, and a base offset only with it");
    const auto field = [&](int first) { return static_cast<uint32_t>(descriptor >> first & 0x3fff) << 4; };
    for (int half = 0; half < 2; ++half) {
        uint32_t a = field(0) + static_cast<uint32_t>(row / 8) * field(32);
        a += static_cast<uint32_t>(swizzled ? row % 8 * 128 + half * 16 : row % 8 * 16) +
             (swizzled ? 0 : static_cast<uint32_t>(half) * field(16));
        if (swizzled) a ^= (base ? (static_cast<uint32_t>(row) + base) & 7 : a >> 7 & 7) << 4;
        here().read(a, to + half * 16, 16, true);
    }
}
// The row's values: sixteen, or 32 unsigned bytes.
template <class T>
void read_row(uint64_t descriptor, int row, float* to) {
    uint8_t bytes[32];
    read_bytes(descriptor, row, bytes);
    for (int i = 0; i < 16; ++i)
        to[i] = widen<T>(static_cast<uint16_t>(bytes[2 * i] | static_cast<unsigned>(bytes[2 * i + 1]) << 8));
}
template <class T>
void read_row(uint64_t descriptor, int row, int* to) {
    uint8_t bytes[32];
    read_bytes(descriptor, row, bytes);
    std::copy(bytes, bytes + 32, to);
}

// The warpgroup's product under way; read_left(values) reads the 64 x K on the left. The hardware may read at once or as late
// as the wait: here both times, so that what it reads must be there by now, and is made of what is there then.
template <class T, int N, class Sum, class F>
void multiply_later(emulation::Block::Matrix& pending, void** slots, Sum* (*sums_of)(void*), uint64_t b,
                    const F& read_left) {
    constexpr int K = std::is_same_v<Sum, int> ? 32 : 16;
    std::vector<Sum*> sums;
    for (int i = 0; i < 128; ++i) sums.push_back(sums_of(slots[i]));
    const auto read = [=](std::vector<Sum>& left, std::vector<Sum>& right) {
        left.resize(64 * K);
        right.resize(N * K);
        read_left(left.data());
        for (int r = 0; r < N; ++r) read_row<T>(b, r, right.data() + r * K);
    };
    std::vector<Sum> early_left, early_right;
    read(early_left, early_right);
    pending.open.push_back([=] {
        std::vector<Sum> left, right;
        read(left, right);
        for (int t = 0; t < 128; ++t)
            for (int i = 0; i < N / 2; ++i) {
                const int row = t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + t % 4 * 2 + i % 2;
                Sum sum = 0;
                for (int k = 0; k < K; ++k) sum += left[row * K + k] * right[column * K + k];
                sums[t][i] += sum;
            }
    });
}

template <class T, int N>
void wgmma(float (&d)[N / 2], uint64_t a, uint64_t b) {
    struct Lane {
        float* d;
        uint64_t a, b;
    } lane{d, a, b};
    static const char operation = 0;
    auto& pending = here().matrix[thread() / 128];
    with_warpgroup(&operation, &lane, [&](void** slots) {
        for (int i = 0; i < 128; ++i) {
            const Lane& l = *static_cast<Lane*>(slots[i]);
            if (l.a != a || l.b != b) throw std::runtime_error("the threads of a warpgroup give different descriptors");
        }
        multiply_later<T, N, float>(
            pending, slots, [](void* slot) { return static_cast<Lane*>(slot)->d; }, b,
            [a](float* left) {
                for (int r = 0; r < 64; ++r) read_row<T>(a, r, left + r * 16);
            });
    });
}

// From registers, which are read when the product is made: what changes in between is seen. read_word(word, left): a
// thread's neighbouring values of the 64 x K on the left, whose rows are K long.
template <class T, int N, class Sum, class F>
void multiply_held_later(Sum (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, const F& read_word) {
    struct Lane {
        Sum* d;
        const uint32_t* a;
        uint64_t b;
    } lane{d, a, b};
    static const char operation = 0;
    auto& pending = here().matrix[thread() / 128];
    with_warpgroup(&operation, &lane, [&](void** slots) {
        std::vector<const uint32_t*> held;
        for (int i = 0; i < 128; ++i) {
            const Lane& l = *static_cast<Lane*>(slots[i]);
            if (l.b != b) throw std::runtime_error("the threads of a warpgroup give different descriptors");
            held.push_back(l.a);
        }
        multiply_later<T, N, Sum>(
            pending, slots, [](void* slot) { return static_cast<Lane*>(slot)->d; }, b,
            [held, read_word](Sum* left) {
                constexpr int WORD = std::is_same_v<Sum, int> ? 4 : 2, K = 8 * WORD;  // values of a word, of a row
                for (int t = 0; t < 128; ++t)
                    for (int i = 0; i < 4; ++i) {
                        const int row = t / 32 * 16 + t % 32 / 4 + i % 2 * 8, column = t % 4 * WORD + i / 2 * K / 2;
                        read_word(held[t][i], left + row * K + column);
                    }
            });
    });
}
template <class T, int N>
void wgmma(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b) {
    multiply_held_later<T, N>(d, a, b, [](uint32_t word, float* left) {
        const Floats2 f = unpack2<T>(word);
        left[0] = f.lo, left[1] = f.hi;
    });
}
template <class T, int N>
void wgmma(int (&d)[N / 2], const uint32_t (&a)[4], uint64_t b) {
    multiply_held_later<T, N>(d, a, b, [](uint32_t word, int* left) {
        for (int i = 0; i < 4; ++i) left[i] = static_cast<int8_t>(word >> 8 * i);
    });
}

}  // namespace srfast
