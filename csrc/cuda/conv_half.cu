#include "conv.cuh"

template int srfast::run_conv<srfast::Half>(const Variant&, const ConvParams&, const Stream&);
