#include "hopper.cuh"

template int srfast::run_window<srfast::Half, srfast::Window::held>(const ConvParams&, int, int, const Stream&);
template int srfast::run_window<srfast::Bfloat16, srfast::Window::held>(const ConvParams&, int, int, const Stream&);
