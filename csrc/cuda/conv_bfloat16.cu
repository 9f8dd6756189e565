#include "conv.cuh"

template void srfast::run_conv<srfast::Bfloat16>(const Variant&, const ConvParams&, const Queue&);
