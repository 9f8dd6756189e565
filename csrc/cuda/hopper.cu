#include "conv_held.cuh"
#include "conv_wgmma.cuh"

template <class T>
int srfast::run_conv_hopper(const ConvParams& p, Window window, int rows, int blocks, const Stream& stream) {
    if (p.kernel != 3 || p.in_channels != 64 || rows < 1 || blocks < 1)
        throw std::invalid_argument("the Hopper kernel is a 3x3 convolution of 64 channels");
    switch (window) {
        case Window::copied: return run_window<T, Window::copied>(p, rows, blocks, stream);
        case Window::shifted: return run_window<T, Window::shifted>(p, rows, blocks, stream);
        case Window::offset: return run_window<T, Window::offset>(p, rows, blocks, stream);
        case Window::held: return run_window<T, Window::held>(p, rows, blocks, stream);
    }
    throw std::invalid_argument("the Hopper kernel has no such form");
}

template int srfast::run_conv_hopper<srfast::Half>(const ConvParams&, Window, int, int, const Stream&);
template int srfast::run_conv_hopper<srfast::Bfloat16>(const ConvParams&, Window, int, int, const Stream&);

int srfast::matrix_rate_hopper(int columns, bool held, const void* source, int rounds, int blocks,
                               const Stream& stream) {
    if (columns != 64 && (columns != 120 || held))
        throw std::invalid_argument("the matrix rate is measured for 64 or 120 columns, for held weights for 64");
    const RateParams params{source, rounds, nullptr};
    if (held) return launch(matrix_rate_held<Half>, blocks, 256, 65536, stream, params);
    return launch(columns == 64 ? matrix_rate<64> : matrix_rate<120>, blocks, 256, 65536, stream, params);
}
