#include "conv_int8.cuh"

template int srfast::run_conv_int8<srfast::Half>(const Int8Params&, int, const Stream&);
template int srfast::run_conv_int8<srfast::Bfloat16>(const Int8Params&, int, const Stream&);
template int srfast::run_quantize<srfast::Half>(const QuantizeParams&, const Stream&);
template int srfast::run_quantize<srfast::Bfloat16>(const QuantizeParams&, const Stream&);
