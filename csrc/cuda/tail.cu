#include "tail_mma.cuh"

template int srfast::run_tail<srfast::Half>(const TailParams&, bool, const Stream&);
template int srfast::run_tail<srfast::Bfloat16>(const TailParams&, bool, const Stream&);
