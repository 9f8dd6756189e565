#include "hopper.cuh"

template int srfast::run_pair_hopper<srfast::Half>(const PairParams&, int, int, const Stream&);
template int srfast::run_pair_hopper<srfast::Bfloat16>(const PairParams&, int, int, const Stream&);
