#include "hopper.cuh"

template int srfast::run_window<srfast::Half, srfast::Window::shifted>(const ConvParams&, int, int, const Stream&);
template int srfast::run_window<srfast::Bfloat16, srfast::Window::shifted>(const ConvParams&, int, int, const Stream&);
