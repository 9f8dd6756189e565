#include "experiments.cuh"

int srfast::read_rate(const void* data, long long bytes, int rounds, int* sink, const Stream& stream) {
    return launch(read_again, 132 * 8, 256, 0, stream, ReadParams{static_cast<const char*>(data), bytes, rounds, sink});
}
