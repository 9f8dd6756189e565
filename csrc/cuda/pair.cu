#include "pair_mma.cuh"

template int srfast::run_pair<srfast::Half>(const PairParams&, const Stream&);
template int srfast::run_pair<srfast::Bfloat16>(const PairParams&, const Stream&);
