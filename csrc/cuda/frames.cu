#include "frames.cuh"

template void srfast::run_frames<srfast::Half>(FrameJob, const FrameParams&, const Queue&);
template void srfast::run_frames<srfast::Bfloat16>(FrameJob, const FrameParams&, const Queue&);
