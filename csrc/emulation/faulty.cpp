// Small kernels that are right or wrong in one way each, to test the emulation layer itself.
#include "../cuda/hopper_ptx.cuh"
#include "emulated_launch.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <functional>
#include <map>

using namespace srfast;

namespace {

alignas(16) float source[256];
float result[4096];

void exchange(bool barrier, bool write_all) {
    const int t = thread();
    if (write_all || t != 5) sts32(static_cast<uint32_t>(t * 4), static_cast<uint32_t>(t));
    if (barrier) sync_block();
    result[t] = static_cast<float>(lds32(static_cast<uint32_t>((t + 32) % 64 * 4)));
}

// A second round that overwrites what slower warps may still read.
void reuse(bool barrier) {
    exchange(true, true);
    if (barrier) sync_block();
    sts32(static_cast<uint32_t>(thread() * 4), 7);
}

void copy(bool wait, bool barrier, bool leave) {
    const int t = thread();
    if (t < 16) cp_async<16>(static_cast<uint32_t>(t * 16), source + t * 4, true);
    cp_async_commit();
    if (leave) return;
    if (wait)
        cp_async_wait<0>();
    else
        cp_async_wait<1>();
    if (barrier) sync_block();
    result[t] = as_float(lds32(static_cast<uint32_t>(t * 4)));
}

void multiply() {
    const int lane = thread();
    for (int i = lane; i < 16 * 16; i += 32) sts16(static_cast<uint32_t>(i * 2), pack2<Half>(source[i], 0.f));
    sync_warp();
    uint32_t a[4];
    ldmatrix_x4(a, static_cast<uint32_t>(lane % 16 * 32 + lane / 16 * 16));
    // b is the identity's first eight columns: the product is a's.
    const uint32_t one = pack2<Half>(lane / 4 == lane % 4 * 2 ? 1.f : 0.f, lane / 4 == lane % 4 * 2 + 1 ? 1.f : 0.f);
    float d[4] = {0.5f, 0.5f, 0.5f, 0.5f};
    mma<Half>(d, a, one, 0);
    for (int i = 0; i < 4; ++i) result[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];
}

void diverge() {
    uint32_t a[4];
    if (thread() == 3)
        sync_warp();
    else
        ldmatrix_x4(a, static_cast<uint32_t>(thread() % 16 * 16));
}

// Pairs of a column, 8 x 8 of them in each of two matrices, stored transposed: byte offset 16 * row + 2 * column.
void transpose() {
    const int lane = thread();
    const auto at = [&](int matrix) {
        return pack2<Half>(source[matrix * 64 + lane / 4 * 8 + lane % 4 * 2],
                           source[matrix * 64 + lane / 4 * 8 + lane % 4 * 2 + 1]);
    };
    stmatrix_transposed(static_cast<uint32_t>(lane % 16 * 16), at(0), at(1));
    sync_warp();
    for (int i = lane; i < 128; i += 32) result[i] = unpack2<Half>(lds16(static_cast<uint32_t>(i * 2))).lo;
}

// Four matrices in rows of 64 bytes, side by side. halves: with those of the first two exchanged where lanes write alone.
void store(bool halves) {
    const int lane = thread();
    uint32_t words[4], places[4];
    for (int m = 0; m < 4; ++m) {
        const float* from = source + m * 64 + lane / 4 * 8 + lane % 4 * 2;
        words[m] = pack2<Half>(from[0], from[1]);
        places[m] = static_cast<uint32_t>(lane / 4 * 64 + (halves && m < 2 ? 1 - m : m) * 16 + lane % 4 * 4);
    }
    store_matrices(static_cast<uint32_t>(lane % 8 * 64 + lane / 8 * 16), places, words);
    sync_warp();
    for (int i = lane; i < 256; i += 32) result[i] = unpack2<Half>(lds16(static_cast<uint32_t>(i * 2))).lo;
}

void say_uniform(bool all, bool equal) {
    if (all || thread() % 32 != 5)
        result[thread()] = static_cast<float>(uniform(equal ? thread() / 32 : thread() / 16));
}

// 64 x 16 from registers times 16 x 64 that lie as two planes of 65 pixels, from the second pixel on.
void hold(bool fence, bool barrier, bool late_barrier = false) {
    const int t = thread();
    for (int i = t; i < 65 * 16; i += 128) {
        const int pixel = i / 16, channel = i % 16;
        sts16(static_cast<uint32_t>((channel / 8 * 65 + pixel) * 16 + channel % 8 * 2),
              pack2<Half>(source[(pixel * 3 + channel) % 256], 0.f));
    }
    if (fence) copies_see_writes();
    if (barrier) sync_block();
    uint32_t a[4];
    for (int i = 0; i < 4; ++i) {
        const int row = t / 32 * 16 + t % 32 / 4 + i % 2 * 8, column = t % 4 * 2 + i / 2 * 8;
        a[i] = pack2<Half>(source[(row + column * 5) % 256], source[(row + column * 5 + 5) % 256]);
    }
    float d[32] = {};
    wgmma_fence();
    wgmma<Half, 64>(d, a, uint64_t{1} | uint64_t{65} << 16 | uint64_t{8} << 32);
    wgmma_commit();
    if (late_barrier) sync_block();
    wgmma_wait<0>();
    wgmma_settle(d);
    for (int i = 0; i < 32; ++i)
        result[(t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8) * 64 + i / 4 * 8 + t % 4 * 2 + i % 2] = d[i];
}

// Blocks of 64 threads that exchange 16 bytes a thread by way of global memory, twice, and then overwrite what was read.
struct Passed {
    alignas(16) Words4 first[3 * 64], second[3 * 64];
    uint32_t counters[3];
} passed;

enum class Slip { none, early, no_wait, wrong_count, no_barrier, lone_wait, in_place, constant };

// Once the others have made `layers` of it, for all threads.
void await_others(Slip slip, uint32_t layers) {
    if (slip == Slip::no_wait) return;
    const uint32_t least = slip == Slip::wrong_count ? layers - 1 : layers;
    if (thread() < 3) await_count(passed.counters + thread(), least);
    if (slip != Slip::lone_wait) sync_block();
}
void told(Slip slip) {
    if (slip != Slip::no_barrier) sync_block();
    if (thread() == 0) count_up(passed.counters + block());
}
void pass_on(Slip slip) {
    const int t = block() * 64 + thread(), other = (t + 64) % 192;
    if (slip == Slip::early) told(slip);
    stg128(passed.first + t, {{static_cast<uint32_t>(t), 1, 2, 3}});
    if (slip != Slip::early) told(slip);
    await_others(slip, 1);
    Words4 got = slip == Slip::constant ? ldg128(passed.first + other) : ldg128_written(passed.first + other);
    // What a block still reads is overwritten in the next step, which the reader must have let go.
    if (slip == Slip::in_place) stg128(passed.first + t, got);
    ++got.w[0];
    stg128(passed.second + t, got);
    told(slip);
    await_others(slip, 2);
    cp_async<16>(static_cast<uint32_t>(thread() * 16), passed.second + other, true);
    cp_async_commit();
    cp_async_wait<0>();
    got = lds128(static_cast<uint32_t>(thread() * 16));
    stg128(passed.first + t, got);
    result[t] = static_cast<float>(got.w[0]);
}
void await_nothing() {
    if (thread() == 0) await_count(passed.counters, 1);
}

const std::map<std::string, std::function<void()>> together = {
    {"pass on", [] { pass_on(Slip::none); }},
    {"told before the stores", [] { pass_on(Slip::early); }},
    {"no wait", [] { pass_on(Slip::no_wait); }},
    {"a wait for too little", [] { pass_on(Slip::wrong_count); }},
    {"told without barrier", [] { pass_on(Slip::no_barrier); }},
    {"waited without barrier", [] { pass_on(Slip::lone_wait); }},
    {"overwritten while read", [] { pass_on(Slip::in_place); }},
    {"read as constant", [] { pass_on(Slip::constant); }},
    {"nobody counts", [] { await_nothing(); }},
};

const std::map<std::string, std::function<void()>> kernels = {
    {"exchange", [] { exchange(true, true); }},
    {"no barrier", [] { exchange(false, true); }},
    {"unwritten", [] { exchange(true, false); }},
    {"reuse", [] { reuse(true); }},
    {"reuse without barrier", [] { reuse(false); }},
    {"copy", [] { copy(true, true, false); }},
    {"copy without wait", [] { copy(false, true, false); }},
    {"copy without barrier", [] { copy(true, false, false); }},
    {"copy left", [] { copy(true, true, true); }},
    {"multiply", [] { multiply(); }},
    {"transpose", [] { transpose(); }},
    {"store", [] { store(false); }},
    {"store of exchanged halves", [] { store(true); }},
    {"uniform", [] { say_uniform(true, true); }},
    {"uniform of some lanes", [] { say_uniform(false, true); }},
    {"uniform of two values", [] { say_uniform(true, false); }},
    {"hold", [] { hold(true, true); }},
    {"hold without fence", [] { hold(false, true); }},
    {"hold without barrier", [] { hold(true, false); }},
    {"hold begun before the barrier", [] { hold(true, false, true); }},
    {"deadlock",
     [] {
         if (thread() != 9) sync_block();
     }},
    {"diverge",
     [] {
         for (int i = thread(); i < 256; i += 32) sts32(static_cast<uint32_t>(i * 4), 0);
         sync_warp();
         diverge();
     }},
    {"outside", [] { sts32(4096, 1); }},
    {"unaligned", [] { sts32(2, 1); }},
};

// What the blocks 0 and 1 must both give; of the second, which is one of a GPU with stmatrix, warps are tried in the opposite
// order.
std::vector<float> run(const std::string& name, int threads, const std::vector<float>& given) {
    std::copy(given.begin(), given.end(), source);
    emulation::Block block(threads, 4096, 0, 2);
    block.run(kernels.at(name), false);
    const std::vector<float> first(result, result + 4096);
    emulation::Block again(threads, 4096, 1, 2);
    again.run(kernels.at(name), true);
    if (!std::equal(first.begin(), first.end(), result)) throw std::runtime_error("two blocks have different results");
    return first;
}

// Of the running kernel of `together`; a kernel is a plain function.
const std::function<void()>* body = nullptr;
void run_body() { (*body)(); }

std::vector<float> run_together(const std::string& name) {
    passed = {};
    body = &together.at(name);
    launch_together(run_body, 3, 64, 4096, Stream{0, 0, false});
    return {result, result + 192};
}

std::vector<float> rounded(const std::vector<float>& values, bool brain) {
    std::vector<float> out;
    for (const float v : values)
        out.push_back(brain ? widen<Bfloat16>(narrow<Bfloat16>(v)) : widen<Half>(narrow<Half>(v)));
    return out;
}

}  // namespace

PYBIND11_MODULE(srfast_emulation_faults, m) {
    m.def("run", &run);
    m.def("run_together", &run_together);
    m.def("rounded", &rounded);
}
