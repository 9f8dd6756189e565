#include "frames.cuh"

template int srfast::run_frames<srfast::Half>(FrameJob, const FrameParams&, const Stream&);
template int srfast::run_frames<srfast::Bfloat16>(FrameJob, const FrameParams&, const Stream&);
