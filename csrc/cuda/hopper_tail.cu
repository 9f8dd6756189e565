#include "hopper.cuh"

template int srfast::run_tail_hopper<srfast::Half>(const TailParams&, const Queue&);
template int srfast::run_tail_hopper<srfast::Bfloat16>(const TailParams&, const Queue&);
