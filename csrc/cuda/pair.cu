#include "pair_mma.cuh"

template void srfast::run_pair<srfast::Half>(const PairParams&, const Queue&);
template void srfast::run_pair<srfast::Bfloat16>(const PairParams&, const Queue&);
