// The CUDA kernels and their bindings for the host, in one piece: the module srfast_cuda_emulated of the tests.
#define SRFAST_MODULE srfast_cuda_emulated
#include "../cuda/conv_bfloat16.cu"
#include "../cuda/conv_half.cu"
#include "../cuda/experiments.cu"
#include "../cuda/frames.cu"
#include "../cuda/hopper.cu"
#include "../cuda/hopper_pair.cu"
#include "../cuda/hopper_tail.cu"
#include "../cuda/module.cpp"
#include "../cuda/pair.cu"
#include "../cuda/tail.cu"
