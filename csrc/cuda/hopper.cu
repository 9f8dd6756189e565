#include "hopper.cuh"

template int srfast::run_conv_hopper<srfast::Half>(const ConvParams&, Window, int, int, const Queue&);
template int srfast::run_conv_hopper<srfast::Bfloat16>(const ConvParams&, Window, int, int, const Queue&);

int srfast::matrix_rate_hopper(int columns, bool held, const void* source, int rounds, int blocks, const Queue& queue) {
    if (columns != 64 && (columns != 120 || held)) throw std::invalid_argument("the matrix rate is measured for 64 or 120 columns, for held weights for 64");
    const RateParams params{source, rounds, nullptr};
    if (held) return launch(matrix_rate_held<Half>, blocks, 256, 65536, queue, params);
    return launch(columns == 64 ? matrix_rate<64> : matrix_rate<120>, blocks, 256, 65536, queue, params);
}
