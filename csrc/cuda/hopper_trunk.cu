#include "trunk_wgmma.cuh"

template int srfast::run_trunk<srfast::Half>(const TrunkParams&, int, const Stream&);
template int srfast::run_trunk<srfast::Bfloat16>(const TrunkParams&, int, const Stream&);
template int srfast::resident_trunk_blocks<srfast::Half>(const Stream&);
template int srfast::resident_trunk_blocks<srfast::Bfloat16>(const Stream&);
