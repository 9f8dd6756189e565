// What benchmarks/gpu/job.py measures of the GPU itself; only times come of these kernels.
#pragma once

#include "kernels.h"
#include "ptx.cuh"

namespace srfast {

struct ReadParams {
    const char* data;
    long long bytes;
    int rounds;
    int* sink;
};

// Reads `bytes` again and again, 16 at a time, each thread elsewhere.
SRFAST_KERNEL(256, 4) read_again(SRFAST_PARAM ReadParams p) {
    const long long step = static_cast<long long>(blocks()) * 256 * 16;
    uint32_t seen = 0;
    for (int round = 0; round < p.rounds; ++round)
        for (long long at = (static_cast<long long>(block()) * 256 + thread()) * 16; at + 16 <= p.bytes; at += step) {
            const Words4 v = ldg128_cached(p.data + at);
            seen |= v.w[0] | v.w[1] | v.w[2] | v.w[3];
        }
    if (seen == 0x12345678u) raise_flag(p.sink);
}

}  // namespace srfast
