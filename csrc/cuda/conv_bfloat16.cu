#include "conv.cuh"

template int srfast::run_conv<srfast::Bfloat16>(const Variant&, const ConvParams&, const Stream&);
