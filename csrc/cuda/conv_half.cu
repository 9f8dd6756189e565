#include "conv.cuh"

template void srfast::run_conv<srfast::Half>(const Variant&, const ConvParams&, const Queue&);
