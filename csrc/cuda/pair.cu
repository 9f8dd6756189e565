#include "pair_mma.cuh"

template int srfast::run_pair<srfast::Half>(const PairParams&, const Queue&);
template int srfast::run_pair<srfast::Bfloat16>(const PairParams&, const Queue&);
