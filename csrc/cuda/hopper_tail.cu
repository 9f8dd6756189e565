#include "hopper.cuh"

template int srfast::run_tail_hopper<srfast::Half>(const TailParams&, const Stream&);
template int srfast::run_tail_hopper<srfast::Bfloat16>(const TailParams&, const Stream&);
